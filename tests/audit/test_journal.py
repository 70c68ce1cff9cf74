"""The writer: whole lines, linked, signed, in segments, and going on after whatever ended the last run."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from secure_ipp import limits
from secure_ipp.audit import chain, segments
from secure_ipp.audit.record import Pruned
from secure_ipp.audit.recovery import JournalBroken
from secure_ipp.audit.retention import Keep, parse_keep
from secure_ipp.audit.segments import NoJournal
from secure_ipp.errors import EnvironmentProblem, PrivateFileError, UsageError
from secure_ipp.keys.journal_key import JournalKeyError, read_journal_key
from secure_ipp.keys.locks import LockHeld
from tests.audit.journals import START, asked, batch, checked, kinds, lines, long_journal, opened


def events(place):
    return [line["event"] for line in lines(place)]


def test_lines_are_numbered_linked_and_signed(place, issuer):
    journal = opened(place)
    journal.write([asked(1), batch(2)])
    assert journal.unsynced
    journal.sync()
    assert not journal.unsynced
    journal.close(START + 1)
    found = lines(place)
    assert [line["n"] for line in found] == list(range(len(found)))
    assert events(place) == ["genesis", "stop_asked", "tasks_ended", "checkpoint"]
    assert found[2]["tasks"][0][:2] == ["A" * 22, "t"]
    report = checked(place, issuer)
    assert (report.ok, report.notes) == (True, [])
    assert (report.last, report.sealed, report.checkpoints) == (3, 3, 1)


def test_files_are_private(place):
    long_journal(place)
    for path in [*place.journal_dir.iterdir(), place.journal_key]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.journal_dir.stat().st_mode) == 0o700


def test_a_segment_ends_before_its_bound_and_the_chain_goes_on(place, issuer):
    long_journal(place, segment_bytes=3000)
    found = sorted(place.journal_dir.iterdir())
    assert len(found) > 5
    for path in found:
        assert path.stat().st_size <= 3000 + 2000  # the lines that close it
    assert checked(place, issuer).ok


def test_a_key_that_signed_is_gone(place):
    journal, seen = opened(place), []
    for number in range(5):
        journal.write([asked(number)])
        journal.checkpoint(START)
        seen.append(read_journal_key(place.journal_key).checkpoint.text)
        text = place.journal_key.read_text()
        assert sum(key in text for key in seen) == 1
    journal.close(START)
    assert len(set(seen)) == 5
    assert "secret" not in repr(read_journal_key(place.journal_key)).lower()
    for key in seen:
        assert key not in repr(read_journal_key(place.journal_key))


def test_nothing_new_is_not_signed_again(place):
    journal = opened(place)
    journal.write([asked(1)])
    journal.checkpoint(START)
    journal.checkpoint(START)
    journal.close(START)
    assert events(place).count("checkpoint") == 1


def test_a_checkpoint_is_due_after_some_lines_or_some_time(place):
    journal = opened(place)
    assert not journal.due(START + 1e6)
    journal.write([asked(0)])
    assert not journal.due(START)
    assert journal.due(START + limits.CHECKPOINT_SECONDS)
    assert journal.due(START - 5)  # the clock was set back
    journal.write([asked(0)] * limits.CHECKPOINT_LINES)
    assert journal.due(START)
    journal.close(START)


def test_one_writer_a_cluster(place, monkeypatch):
    monkeypatch.setattr(limits, "JOURNAL_LOCK_SECONDS", 0.1)
    journal = opened(place)
    with pytest.raises(LockHeld):
        opened(place)
    journal.close(START)
    opened(place).close(START)


def test_an_orderly_end_leaves_no_gap_and_any_other_does(place, issuer):
    from secure_ipp.audit.record import HubStopped

    journal = opened(place)
    journal.write([HubStopped(at=START, pid=1, reason="asked to")])
    journal.close(START)
    opened(place).close(START)
    assert "gap" not in events(place)
    journal = opened(place)
    journal.write([asked(1)])
    journal._let_go()
    opened(place).close(START)
    assert events(place)[-3:] == ["stop_asked", "gap", "checkpoint"]
    report = checked(place, issuer)
    assert report.ok
    assert "may be missing" in report.notes[0]


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_line_is_cut_off_and_told(place, issuer, cut):
    journal = opened(place)
    journal.write([asked(1), asked(2)])
    journal._let_go()
    segment = next(place.journal_dir.iterdir())
    whole = segment.read_bytes()
    length = len(whole.splitlines()[-1]) + 1
    segment.write_bytes(whole[:-cut])
    opened(place).close(START)
    told = [line for line in lines(place) if line["event"] == "torn"]
    assert [line["bytes"] for line in told] == [length - cut]
    assert checked(place, issuer).ok


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"user-1", b"user-X"),
        lambda data: b"\n".join(data.split(b"\n")[:3] + data.split(b"\n")[4:]),
        lambda data: data[: data.rindex(b'{"n"')] + b"garbage\n",
        lambda data: data[: data[:-1].rindex(b"\n") + 1],  # the last checkpoint is cut off
        lambda data: data.split(b"\n")[0] + b"\n",
    ],
)
def test_behind_lines_that_somebody_changed_nothing_is_written(place, damage):
    journal = opened(place)
    for number in range(4):
        journal.write([asked(number)])
    journal.close(START)
    segment = next(place.journal_dir.iterdir())
    segment.write_bytes(damage(segment.read_bytes()))
    before = segment.read_bytes()
    with pytest.raises(JournalBroken) as caught:
        opened(place)
    assert "audit renew" in caught.value.advice
    assert segment.read_bytes() == before


def test_without_journal_or_key_nothing_starts(place):
    key = place.journal_key.read_bytes()
    place.journal_key.write_bytes(b"{}")
    with pytest.raises(JournalKeyError):
        opened(place)
    place.journal_key.write_bytes(key)
    next(place.journal_dir.iterdir()).unlink()
    with pytest.raises(NoJournal):
        opened(place)


def test_a_segment_open_to_others_is_refused(place):
    segment = next(place.journal_dir.iterdir())
    segment.chmod(0o644)
    with pytest.raises(PrivateFileError):
        opened(place)


def test_retention_removes_whole_segments_and_the_chain_stays_provable(place, issuer):
    long_journal(place, records=300, segment_bytes=3000, keep=Keep(segments=3))
    assert len(list(place.journal_dir.glob("segment-*"))) <= 4
    report = checked(place, issuer)
    assert report.ok, report.findings
    assert report.begins > 100
    assert "pruned by the owner's policy" in report.notes[-1]
    journal = opened(place, keep=Keep(segments=3))
    assert journal.pruned_through() == report.begins - 1
    journal.close(START)


def test_retention_by_days(place, issuer):
    long_journal(place, records=100, segment_bytes=3000)
    before = len(list(place.journal_dir.glob("segment-*")))
    journal = opened(place, START + 86400 * 9, keep=Keep(days=10))
    journal.close(START + 86400 * 9)
    assert len(list(place.journal_dir.glob("segment-*"))) == before
    opened(place, START + 86400 * 11, keep=Keep(days=10)).close(START + 86400 * 11)
    assert len(list(place.journal_dir.glob("segment-*"))) == 1
    assert checked(place, issuer).ok


def test_segments_that_nobody_said_were_pruned_are_missed(place, issuer):
    long_journal(place)
    sorted(place.journal_dir.glob("segment-*"))[0].unlink()
    assert "gap" in kinds(checked(place, issuer))


def test_s20_a_record_of_retention_that_no_writer_sealed_hides_nothing(place, issuer):
    """Somebody appends the words of retention, which anybody can link, and takes the oldest segments away."""
    long_journal(place, segment_bytes=3000)
    found = segments.segments(place.journal_dir)
    gone = [path for _, path in found[:3]]
    last = lines(place)[-1]["n"]
    before = chain.hash_of(found[-1][1].read_bytes().splitlines()[-1])
    forged = Pruned(at=START + 21, through=found[3][0] - 1, segments=3, policy="3")
    with found[-1][1].open("ab") as file:
        file.write(chain.linked([forged], chain.Place(last, before))[0])
    segments.prune(place.journal_dir, gone)
    assert "retention" in kinds(checked(place, issuer))
    opened(place).close(START + 22)
    assert "retention" in kinds(checked(place, issuer)), "nor when the next writer has sealed it with all the rest"


@pytest.mark.parametrize("text", ["all", "1", "20", "90d"])
def test_policies_read_as_they_are_written(text):
    assert str(parse_keep(text)) == text


@pytest.mark.parametrize("text", ["", "0", "0d", "-1", "1w", " 1", "1 ", "99999999", "\u0661"])
def test_what_is_no_policy(text):
    with pytest.raises(UsageError):
        parse_keep(text)


def test_hashes_of_old_lines_are_found(place):
    long_journal(place, segment_bytes=3000, keep=Keep(segments=5))
    journal = opened(place)
    paths = sorted(place.journal_dir.glob("segment-*"))
    for text in [text for path in paths for text in path.read_bytes().splitlines()]:
        assert journal.hash_at(chain.parse_line(text)["n"]) == chain.hash_of(text)
    assert journal.hash_at(journal.at.number + 1) is None
    assert journal.hash_at(3) is None  # pruned
    assert journal.hash_at(0) is not None  # carried on
    journal.close(START)


# --- disks that say no (S21) -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["write", "fsync", "ftruncate", "replace", "open", "short"])
@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8, 13, 21])
def test_s21_an_error_of_the_disk_is_said_and_passes(place, issuer, monkeypatch, call, after):
    journal = opened(place, segment_bytes=2500, keep=Keep(segments=3))
    name = "write" if call in ("short", "ftruncate") else call
    real, count = getattr(os, name), [0]

    def fails(*args, **options):
        count[0] += 1
        if after <= count[0] < after + 4:
            if call in ("short", "ftruncate") and count[0] % 2:
                return real(args[0], args[1][:7])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **options)

    truncate, truncations = os.ftruncate, [0]

    def fails_once(*args):
        truncations[0] += 1
        if truncations[0] == 1:
            raise OSError(errno.EIO, "Input/output error")
        return truncate(*args)

    monkeypatch.setattr(os, name, fails)
    if call == "ftruncate":
        monkeypatch.setattr(os, "ftruncate", fails_once)
    problems = 0
    for number in range(14):
        for step in (lambda number=number: journal.write([asked(number), batch(number)]), journal.sync,
                     lambda number=number: journal.checkpoint(START + number)):
            for _ in range(20):
                try:
                    step()
                    break
                except EnvironmentProblem as error:
                    assert error.advice
                    problems += 1
            else:
                raise AssertionError("it does not pass")
    journal.close(START + 15)
    monkeypatch.undo()
    assert problems or count[0] <= after
    report = checked(place, issuer)
    assert report.ok, report.findings
    users = [line["user"] for line in lines(place) if line["event"] == "stop_asked"]
    assert users == [f"user-{number}" for number in range(14)][-len(users):]
    opened(place, START + 16).close(START + 16)
    assert checked(place, issuer).ok
