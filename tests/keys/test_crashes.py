"""The registry and the files of its identities under kill -9 at every step, and under many commands at once."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from secure_ipp import limits
from secure_ipp.errors import PolicyError
from secure_ipp.keys.accepting import accept
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.desk import Desk
from secure_ipp.keys.grants import sign_grant
from secure_ipp.keys.issuing import issue
from secure_ipp.keys.orders import make_order
from secure_ipp.keys.pending import read_pending
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import write_private
from secure_ipp.keys.registry import Registry, RegistryError, change_registry
from secure_ipp.keys.registry_mark import highest_written, mark_path
from secure_ipp.keys.renewal import renew_by_answer, renew_in_place, rotate_holder
from secure_ipp.keys.requests import approve, make_request, parse_request
from secure_ipp.keys.revoking import choose, identities, revoke
from tests.keys.desks import files, names, new_desk
from tests.keys.killing import fork, killed_at

NOW = 1_900_000_000.0
MOST_STEPS = 60
Step = Callable[[Desk, Path], object]


def give(desk: Desk, out: Path, name: str, expires: str = "never") -> object:
    return issue(desk, make_order(name, now=NOW, expires=expires), out, NOW)


STEPS: dict[str, Step] = {
    "issue": lambda desk, own: give(desk, own / "new.json", "ben"),
    "revoke": lambda desk, own: revoke(desk, choose(identities(desk), "ada")),
    "rotate": lambda desk, own: rotate_holder(desk, "ada", own / "new.json", now=NOW),
    "renew in place": lambda desk, own: renew_in_place(desk, "ada", 0, own / "ada.json", now=NOW),
    "renew by answer": lambda desk, own: renew_by_answer(desk, "ada", 0, own / "answer", now=NOW),
}


def undo_to(place: ClusterPlace, own: Path, copy: Path) -> None:
    for directory in (place.dir, own):
        shutil.rmtree(directory)
        shutil.copytree(copy / directory.name, directory)


@pytest.mark.parametrize("what", STEPS)
def test_a_kill_at_any_step_leaves_the_old_or_the_new_state(place: ClusterPlace, tmp_path: Path, what: str) -> None:
    desk, own, copy = new_desk(place), tmp_path / "own", tmp_path / "copy"
    own.mkdir(mode=0o700)
    give(desk, own / "ada.json", "ada", "7d")
    for directory in (place.dir, own):
        shutil.copytree(directory, copy / directory.name)
    old, old_file = Registry.load(place), (own / "ada.json").read_bytes()
    seen = set()
    for number in range(1, MOST_STEPS):
        undo_to(place, own, copy)
        if not killed_at(number, lambda: STEPS[what](desk, own)):
            break
        now = Registry.load(place)
        assert now.version in (old.version, old.version + 1)
        assert now.version == old.version + 1 or now == old
        seen.add(now.version)
        check_files(now, old, own, old_file, what)
        give(desk, own / "after.json", "after")  # no lock, no remains are in the way
        assert names(place)[-1] == "after"
        assert not [name for name in files(place.dir) if name.endswith(".new")]
    else:
        pytest.fail(f"more than {MOST_STEPS} steps")
    assert number > 10 and seen == {old.version, old.version + 1}


def check_files(now: Registry, old: Registry, own: Path, old_file: bytes, what: str) -> None:
    """A name that is there is whole; a key that is let in is in a file that is there, under one name."""
    changed = now.version > old.version
    new = own / "new.json"
    if new.exists() and new.stat().st_nlink == 2:  # killed as it got its name: no reader takes it, so nobody may be in
        assert not changed
    elif new.exists():
        key = load_capability(new, now=NOW).public_key
        assert changed or all(grant.key != key for grant in now.grants)
    if changed and what in ("issue", "rotate"):
        held = now.named("ben" if what == "issue" else "ada")
        assert held is not None and load_capability(new, now=NOW).public_key == held.key
    if what == "renew in place":
        file = load_capability(own / "ada.json", now=NOW)
        assert file.expires in (0, old.named("ada").expires)
        assert not changed or file.expires == 0
    else:
        assert (own / "ada.json").read_bytes() == old_file
    if what == "renew by answer" and changed:
        assert (own / "answer").exists()


def test_a_kill_at_any_step_of_the_holders_side_loses_no_secret(place: ClusterPlace, tmp_path: Path) -> None:
    """The key of a request is in its file or in the capability; a renewed file is the old or the new."""
    desk, theirs = new_desk(place), tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    for number in range(1, MOST_STEPS):
        request = theirs / f"{number}.request"
        ask = partial(make_request, request, name="x", role="client", rights=("task",), now=NOW)
        if not killed_at(number, ask):
            break
        if request.exists() and request.stat().st_nlink == 1:
            assert read_pending(f"{request}.key").public == parse_request(request.read_bytes()).public_key
    assert number > 8
    key = parse_request(request.read_bytes()).public_key
    approve(desk, parse_request(request.read_bytes()), make_order("ada", now=NOW), theirs / "answer", NOW)
    kept = Path(f"{request}.key").read_bytes()
    for number in range(1, MOST_STEPS):
        out = theirs / f"{number}.json"
        write_private(f"{request}.key", kept, exclusive=False)
        if not killed_at(number, partial(accept, theirs / "answer", out, key=f"{request}.key", now=NOW)):
            break
        whole = out.exists() and out.stat().st_nlink == 1
        assert (load_capability(out, now=NOW).public_key if whole else read_pending(f"{request}.key").public) == key
    assert number > 5 and not Path(f"{request}.key").exists()
    old = out.read_bytes()
    renew_by_answer(desk, "ada", int(NOW) + 100, theirs / "renewed", now=NOW)
    ends = set()
    for number in range(1, MOST_STEPS):
        write_private(out, old, exclusive=False)
        killed = killed_at(number, lambda: accept(theirs / "renewed", out, now=NOW))
        ends.add(load_capability(out, now=NOW).expires)
        if not killed:
            break
    assert ends == {0, int(NOW) + 100}


def test_many_commands_at_once_lose_nothing(place: ClusterPlace, tmp_path: Path) -> None:
    desk, own = new_desk(place), tmp_path / "own"
    own.mkdir(mode=0o700)
    issuer, processes, each = desk.issuer(), 8, 6

    def commands(process: int) -> None:
        last = 1
        with open(own / f"{process}.versions", "w") as versions:
            for number in range(each):
                name = f"p{process}-{number}"
                issued = issue(desk, make_order(name, now=NOW), own / f"{name}.json", NOW)
                version = issued.applied.registry.version
                assert version > last
                last = version
                versions.write(f"{version}\n")
                if number % 2:
                    version = revoke(desk, choose(identities(desk), name)).registry.version
                    versions.write(f"{version}\n")

    assert issuer == desk.issuer()
    pids = [fork(lambda process=process: commands(process)) for process in range(processes)]
    readings, running = [], set(pids)
    while running:
        readings.append(Registry.load(place).version)
        running -= {pid for pid in running if os.waitpid(pid, os.WNOHANG)[0]}
        time.sleep(0.001)
    assert readings == sorted(readings)
    versions = [int(line) for path in own.glob("*.versions") for line in path.read_text().split()]
    changes = processes * (each + each // 2)
    assert sorted(versions) == list(range(2, changes + 2))
    registry = Registry.load(place)
    kept = {f"p{process}-{number}" for process in range(processes) for number in range(0, each, 2)}
    assert set(names(place)) == {"owner", "engines"} | kept and registry.version == changes + 1
    for name in kept:
        assert load_capability(own / f"{name}.json", now=NOW).public_key == registry.named(name).key
    assert len(registry.retired) == processes * (each // 2)


def test_one_name_is_given_once_however_many_ask_for_it(place: ClusterPlace, tmp_path: Path) -> None:
    desk, own = new_desk(place), tmp_path / "own"
    own.mkdir(mode=0o700)

    def command(process: int) -> None:
        try:
            issue(desk, make_order("ada", now=NOW), own / f"{process}.json", NOW)
        except ValueError:  # UsageError: the name is taken
            assert not (own / f"{process}.json").exists()

    for pid in [fork(lambda process=process: command(process)) for process in range(6)]:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert names(place) == ["owner", "engines", "ada"]
    (file,) = files(own)
    assert load_capability(own / file, now=NOW).public_key == Registry.load(place).named("ada").key


# --- an older registry that was put back ------------------------------------------------------------------------


def change_once(desk: Desk) -> Registry:
    issuer, registry = desk.issuer(), Registry.load(desk.place)
    new = sign_grant(
        issuer, registry.cluster_id, name=f"n{registry.version}", role="client", key=KeyPair.generate().public,
        rights=("task",), now=NOW,
    )
    return change_registry(desk.place, issuer, lambda registry: registry.with_grant(new))


def test_an_older_registry_is_neither_read_nor_built_upon(place: ClusterPlace) -> None:
    desk = new_desk(place)
    change_once(desk)
    old = place.registry.read_bytes()
    newest = change_once(desk)
    data = place.registry.read_bytes()
    write_private(place.registry, old, exclusive=False)
    for use in (lambda: Registry.load(place), lambda: change_once(desk)):
        with pytest.raises(RegistryError, match=f"version {newest.version} was seen before"):
            use()
    assert place.registry.read_bytes() == old
    write_private(place.registry, data, exclusive=False)
    assert change_once(desk).version == newest.version + 1


def test_the_mark_is_never_ahead_and_never_lost(place: ClusterPlace) -> None:
    desk = new_desk(place)
    assert highest_written(place, Registry.load(place).cluster_id) == 0
    for _ in range(3):
        registry = change_once(desk)
        assert highest_written(place, registry.cluster_id) == registry.version
    assert highest_written(place, "D" * 22) == 0
    assert mark_path(place).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("data", [b"", b"{}", b"7", b'{"format": "secure-ipp-registry-mark/1", "version": 1}'])
def test_a_damaged_mark_denies_with_advice(place: ClusterPlace, data: bytes) -> None:
    desk = new_desk(place)
    change_once(desk)
    write_private(mark_path(place), data, exclusive=False)
    with pytest.raises(PolicyError) as caught:
        Registry.load(place)
    assert caught.value.code == "registry" and str(mark_path(place)) in caught.value.message + caught.value.advice


def test_the_registry_has_a_lock_that_is_waited_for_long_enough() -> None:
    assert limits.REGISTRY_LOCK_SECONDS > limits.IN_FORCE_SECONDS
