"""The server's key pair in phases, at a cluster that does not run: what is on the disk after each, and after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from secure_ipp import limits
from secure_ipp.errors import SecureIppError, UsageError
from secure_ipp.keys import server_rotation as rotation
from secure_ipp.keys.capability import load_capability, read_capability
from secure_ipp.keys.cluster_keys import load_server
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.desk import Desk
from secure_ipp.keys.door_keys import sign_door_keys
from secure_ipp.keys.grants import sign_grant
from secure_ipp.keys.issuing import issue
from secure_ipp.keys.key_files import KeyFileError, read_server_key, write_server_key
from secure_ipp.keys.locks import LockHeld
from secure_ipp.keys.orders import make_order
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.registry import Registry, RegistryError, change_registry
from tests.keys.desks import files, new_desk
from tests.keys.killing import killed_at

NOW = 1_900_000_000.0
MOST_STEPS = 120


def named_in(*paths: Path) -> list[tuple[object, ...]]:
    return [load_capability(path, now=NOW).server_keys for path in paths]


def test_a_rotation_from_its_beginning_to_its_end(place: ClusterPlace, tmp_path: Path) -> None:
    desk, ada = new_desk(place), tmp_path / "ada.json"
    issue(desk, make_order("ada", now=NOW), ada, NOW)
    old = read_server_key(place.server_key)
    assert rotation.look(place).phase == "steady" and Registry.load(place).doors is None

    step = rotation.announce(desk, (ada,), now=NOW)
    new = read_server_key(place.next_server_key)
    assert step.rotation.phase == "announced" and step.applied.controller == "stopped"
    assert (step.rotation.current, step.rotation.next) == (old.public, new.public)
    assert named_in(place.client_file, place.engine_file, ada) == [(old.public, new.public)] * 3
    assert load_server(place).keys == old
    late = tmp_path / "late.json"
    issue(desk, make_order("late", now=NOW), late, NOW)
    assert named_in(late) == [(old.public, new.public)]

    step = rotation.switch(desk, (ada,), now=NOW + 60)
    assert step.rotation.phase == "steady" and step.rotation.current == new.public
    assert load_server(place).keys == new and not place.next_server_key.exists()
    assert named_in(place.client_file, place.engine_file, ada) == [(new.public,)] * 3
    doors = Registry.load(place).doors
    assert doors is not None and doors.former == (old.public,) and doors.switched == NOW + 60
    assert old.public in Registry.load(place).retired
    assert old.secret.text not in "".join(path.read_text() for path in place.dir.iterdir() if path.is_file())

    rotation.announce(desk, now=NOW + 120)
    rotation.switch(desk, now=NOW + 180)
    doors = Registry.load(place).doors
    assert doors is not None and doors.former == (old.public, new.public) and doors.number == 4


def test_what_was_announced_is_withdrawn_and_never_comes_back(place: ClusterPlace) -> None:
    desk = new_desk(place)
    old = read_server_key(place.server_key)
    rotation.announce(desk, now=NOW)
    withdrawn = read_server_key(place.next_server_key)
    step = rotation.abort(desk, now=NOW)
    assert step is not None and step.rotation.phase == "steady" and step.rotation.current == old.public
    assert named_in(place.client_file, place.engine_file) == [(old.public,)] * 2
    assert withdrawn.public in Registry.load(place).retired and not place.next_server_key.exists()
    write_server_key(place.next_server_key, withdrawn)  # from a backup, say
    assert rotation.look(place).phase == "withdrawn"
    rotation.announce(desk, now=NOW)
    assert rotation.look(place).next not in (None, withdrawn.public)


def test_each_step_in_the_wrong_place_says_what_is_the_right_one(place: ClusterPlace) -> None:
    desk = new_desk(place)
    for step in (rotation.switch, rotation.abort):
        with pytest.raises(UsageError):
            step(desk, now=NOW)
    first = rotation.announce(desk, now=NOW).rotation
    again = rotation.announce(desk, now=NOW + 1).rotation
    assert (again.next, again.doors) == (first.next, first.doors) and again.version == first.version + 1
    rotation.switch(desk, now=NOW)
    for step in (rotation.switch, rotation.abort):
        with pytest.raises(UsageError):
            step(desk, now=NOW)


def test_a_file_of_another_cluster_is_refused_before_anything_changes(place: ClusterPlace, tmp_path: Path) -> None:
    desk = new_desk(place)
    other = ClusterPlace("other")
    new_desk(other)
    with pytest.raises(UsageError, match="not a file that this cluster's owner issued"):
        rotation.announce(desk, (other.client_file,), now=NOW)
    assert rotation.look(place).phase == "steady" and Registry.load(place).version == 1


def test_without_the_next_secret_there_is_no_switch(place: ClusterPlace) -> None:
    desk = new_desk(place)
    rotation.announce(desk, now=NOW)
    place.next_server_key.unlink()
    with pytest.raises(KeyFileError, match="does not hold the announced key"):
        rotation.switch(desk, now=NOW)
    assert rotation.look(place).phase == "announced" and load_server(place).keys.public == rotation.look(place).current
    rotation.abort(desk, now=NOW)
    assert rotation.look(place).phase == "steady"


def test_s12_no_identity_has_a_key_of_the_server(place: ClusterPlace) -> None:
    desk = new_desk(place)
    old = read_server_key(place.server_key).public
    rotation.announce(desk, now=NOW)
    new = read_server_key(place.next_server_key).public
    issuer, registry = desk.issuer(), Registry.load(place)

    def grant_of(key: object) -> object:
        return sign_grant(issuer, registry.cluster_id, name="eve", role="client", key=key, rights=("task",), now=NOW)

    for key in (old, new):
        with pytest.raises(RegistryError, match="held here before"):
            registry.with_grant(grant_of(key))
    rotation.switch(desk, now=NOW)
    for key in (old, new):
        with pytest.raises(RegistryError, match="held here before"):
            Registry.load(place).with_grant(grant_of(key))


def test_a_file_that_cannot_be_opened_is_left_and_told(place: ClusterPlace) -> None:
    desk = new_desk(place)
    place.engine_file.unlink()
    place.client_file.chmod(0o644)
    step = rotation.announce(desk, now=NOW)
    ((file, why),) = step.left
    assert file == str(place.client_file) and why and step.rewritten == ()
    place.client_file.chmod(0o600)
    assert rotation.announce(desk, now=NOW).rewritten == (str(place.client_file),)


STEPS: dict[str, Callable[[Desk], object]] = {
    "announce": lambda desk: rotation.announce(desk, now=NOW),
    "switch": lambda desk: rotation.switch(desk, now=NOW),
    "abort": lambda desk: rotation.abort(desk, now=NOW),
}


@pytest.mark.parametrize("what", STEPS)
def test_s33_a_kill_at_any_step_leaves_what_can_be_gone_on_with(place: ClusterPlace, tmp_path: Path, what: str) -> None:
    """Whatever is on the disk: a controller could start with it, the owner's files are whole, and it goes on."""
    desk, copy = new_desk(place), tmp_path / "copy"
    old = read_server_key(place.server_key)
    if what != "announce":
        rotation.announce(desk, now=NOW)
    shutil.copytree(place.dir, copy)
    before, phases = rotation.look(place), set()
    for number in range(1, MOST_STEPS):
        shutil.rmtree(place.dir)
        shutil.copytree(copy, place.dir)
        if not killed_at(number, lambda: STEPS[what](desk)):
            break
        now = rotation.look(place)
        phases.add(now.phase)
        assert now.version in (before.version, before.version + 1)
        server = load_server(place).keys
        assert server.public == now.current and server.secret.public() == server.public
        for path in (place.client_file, place.engine_file):
            file = read_capability(path, now=NOW)
            known = {old.public, now.current, *(() if now.next is None else (now.next,)), *before_next(before)}
            assert set(file.server_keys) <= known and now.current in {*file.server_keys, *before_next(before)}
        go_on(desk, what)
        assert not [name for name in files(place.dir) if name.startswith(".server")]
    else:
        pytest.fail(f"more than {MOST_STEPS} steps")
    assert number > 10 and phases == {
        "announce": {"steady", "prepared", "announced"}, "switch": {"announced", "switched", "steady"},
        "abort": {"announced", "withdrawn", "steady"},
    }[what]


def before_next(before: rotation.Rotation) -> tuple[object, ...]:
    return () if before.next is None else (before.next,)


def go_on(desk: Desk, what: str) -> None:
    """Say it again, and rotate to the end: the files name the key that is left."""
    place = desk.place
    try:
        STEPS[what](desk)
    except UsageError:
        assert what != "announce" and rotation.look(place).phase == "steady"  # nothing was left to do
    rotation.announce(desk, now=NOW)
    rotation.switch(desk, now=NOW)
    found = rotation.look(place)
    assert found.phase == "steady" and not place.next_server_key.exists()
    assert named_in(place.client_file, place.engine_file) == [(found.current,)] * 2
    assert load_server(place).keys.public == found.current


def test_two_commands_at_once_make_one_rotation(place: ClusterPlace) -> None:
    desk = new_desk(place)
    rotation.announce(desk, now=NOW)
    stale: list[Desk] = []

    def apply(place: ClusterPlace, issuer: object, change: object) -> object:
        if not stale:
            stale.append(desk)
            issuer = desk.issuer()
            other = sign_door_keys(issuer, Registry.load(place).cluster_id, number=2, keys=(KeyPair.generate().public,))
            change_registry(place, issuer, lambda registry: registry.with_door_keys(other))  # was quicker
        return desk.apply(place, issuer, change)

    with pytest.raises(SecureIppError, match="another command rotates"):
        rotation.abort(Desk(place, apply), now=NOW)
    assert place.next_server_key.exists()


def test_one_command_at_a_time(place: ClusterPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTRY_LOCK_SECONDS", 0.1)
    desk = new_desk(place)

    def apply(place: ClusterPlace, issuer: object, change: object) -> object:
        with pytest.raises(LockHeld):
            rotation.abort(desk, now=NOW)
        return desk.apply(place, issuer, change)

    assert rotation.announce(Desk(place, apply), now=NOW).rotation.phase == "announced"
