"""kill -9 between any two of the system calls by which the journal changes the disk, and within every write (S20).

A child process does some work on a journal and kills itself at the k-th call, for every k there is.  Whatever k was:
the journal is whole by the verifier, it can be gone on with, and holds every record whose write had returned.
"""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from secure_ipp.audit.journal import Journal
from secure_ipp.audit.renewal import renew
from secure_ipp.audit.retention import Keep
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.places import ClusterPlace
from tests.audit.journals import START, asked, batch, begin, checked, lines, long_journal, opened

CALLS = ("write", "fsync", "replace", "rename", "unlink", "link", "ftruncate", "open", "mkdir")
MOST = 2000


def write_some(place: ClusterPlace, issuer: IssuerKey, said) -> None:
    """Records, checkpoints, ends of segments, retention, an orderly end, and another start."""
    for life in range(2):
        journal = Journal(place, keep=Keep(segments=2), segment_bytes=1500)
        journal.open(START + life)
        for number in range(life * 10, life * 10 + 6):
            journal.write([asked(number), batch(number)])
            said(journal.at.number)
            if number % 3 == 2:
                journal.checkpoint(START + number)
            journal.sync()
        journal.close(START + life)


def renew_it(place: ClusterPlace, issuer: IssuerKey, said) -> None:
    """The owner's way on with new keys."""
    renew(place, issuer, "lab", "A" * 22, "a test", START + 100)


def killed_at(k: int, how: str, work, *given) -> tuple[bool, list[int]]:
    """Run the work in a child that dies at its k-th call; whether it died there, and what it had said."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _arm(k, how)
            write = _REAL["write"]
            work(*given, lambda number: write(writing, b"%d\n" % number))
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = [int(line) for line in pipe]
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work failed by itself"
    return os.WIFSIGNALED(status), said


_REAL = {name: getattr(os, name) for name in CALLS}


def _arm(k: int, how: str) -> None:
    count = 0

    def wrapped(name):
        def call(*args, **options):
            nonlocal count
            if (name == "open" and not args[1] & os.O_CREAT) or (how == "within" and name != "write"):
                return _REAL[name](*args, **options)
            count += 1
            if count == k:
                if how == "within":
                    _REAL[name](args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return _REAL[name](*args, **options)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(name))


@pytest.mark.parametrize("how", ["before", "within"])
@pytest.mark.parametrize("work", [write_some, renew_it])
def test_s20_killed_at_every_write(quick, how, work):
    issuer = IssuerKey.generate()
    base = begin(quick / "base", issuer)
    long_journal(base, records=20, segment_bytes=1500)
    for k in range(1, MOST):
        home = quick / "now"
        shutil.copytree(quick / "base", home)
        place = ClusterPlace("lab", home=home)
        died, said = killed_at(k, how, work, place, issuer)
        report = checked(place, issuer)
        assert report.ok, (k, report.findings)
        if work is renew_it and died:
            renew(place, issuer, "lab", "A" * 22, "again", START + 101)
        journal = opened(place, START + 200, segment_bytes=1500)
        journal.write([asked(99)])
        journal.close(START + 200)
        report = checked(place, issuer)
        assert report.ok, (k, report.findings)
        kept = {line["n"]: line["event"] for line in lines(place)}
        assert all(kept.get(number) == "tasks_ended" for number in said if number > report.pruned), (k, said)
        shutil.rmtree(home)
        if not died:
            assert k > (10 if how == "before" else 2)
            return
    raise AssertionError("the work never ended")
