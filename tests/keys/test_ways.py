"""The ways to a cluster: what files say of them, in every file that is made of another, and how they are changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.client.attenuation import attenuate
from secure_ipp.cluster import owner_keys
from secure_ipp.errors import EnvironmentProblem, SecureIppError, UsageError
from secure_ipp.keys import host_keys, server_rotation
from secure_ipp.keys.accepting import accept
from secure_ipp.keys.capability import Capability, load_capability, read_capability
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.config import load_config
from secure_ipp.keys.desk import Desk
from secure_ipp.keys.fields import to_plain
from secure_ipp.keys.issuing import issue
from secure_ipp.keys.orders import make_order
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.recipients import RecipientKey
from secure_ipp.keys.registry import Registry
from secure_ipp.keys.renewal import renew_by_answer, renew_in_place, rotate_by_request, rotate_holder
from secure_ipp.keys.requests import approve, make_request, read_request
from secure_ipp.keys.sealed_files import ToRecipient, sealed_capability
from secure_ipp.keys.ways import check_host_keys, make_ways
from secure_ipp.keys.ways_change import change_ways
from tests.keys.killing import killed_at
from tests.running import short_directory

NOW = 1_900_000_000.0
KEYS = (f"SHA256:{'a' * 42}A", f"SHA256:{'b' * 42}A")
ROUTE = "ada@login.example:2222"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir(mode=0o700)
    return path


def desk_with(place: ClusterPlace, **said: Any) -> Desk:
    here = {"hosts": ["127.0.0.1"], "bind": "127.0.0.1"} if said.get("curve", True) else {}
    init_cluster(place, **here, **said)  # type: ignore[arg-type]
    return owner_keys.desk_of(place)


def said(file: Path | Capability) -> tuple[Any, ...]:
    """What a file says of the ways: whether it names the door for ssh, then the rest."""
    one = file if isinstance(file, Capability) else load_capability(file, now=NOW)
    return bool(one.socket_doors), bool(one.tcp_doors), one.curve, one.ssh, one.ssh_host_keys, one.post_quantum


ALL = {"ssh": ROUTE, "ssh_host_keys": KEYS, "ssh_door": True, "require_post_quantum": True}
WITH_CURVE = (True, True, True, ROUTE, KEYS, True)
WITHOUT = (True, False, False, ROUTE, KEYS, True)


def test_a_cluster_says_nothing_of_ssh_unless_told(place: ClusterPlace, own: Path) -> None:
    desk = desk_with(place)
    issue(desk, make_order("ada", now=NOW), own / "ada.json", NOW)
    for file in (place.client_file, place.engine_file, own / "ada.json"):
        assert said(file) == (False, True, True, "", (), False)


@pytest.mark.parametrize("curve", [True, False])
def test_the_owner_s_files_name_both_doors_of_the_cluster(place: ClusterPlace, curve: bool) -> None:
    desk_with(place, curve=curve, **ALL)
    assert said(place.client_file) == said(place.engine_file) == (WITH_CURVE if curve else WITHOUT)
    for file, path in ((place.client_file, "client.door"), (place.engine_file, "engine.door")):
        (door,) = load_capability(file).socket_doors
        assert door == load_capability(file).door[-1] == f"ipc://{place.runtime_path / path}"
    config = load_config(place)
    assert (config.curve, config.ssh_door, config.ssh, config.ssh_host_keys) == (curve, True, ROUTE, KEYS)
    assert curve or (config.client_port, config.engine_port, config.hosts, config.bind) == (0, 0, (), "")


def test_files_of_others_name_the_door_for_ssh_only_if_that_is_said(place: ClusterPlace, own: Path) -> None:
    desk = desk_with(place, **ALL)
    for name, word in (("a", None), ("b", False), ("c", True)):
        issue(desk, make_order(name, now=NOW, ways=make_ways(ssh_door=word)), own / name, NOW)
        assert said(own / name) == (word is True, *WITH_CURVE[1:])


def test_without_curve_every_file_names_it(place: ClusterPlace, own: Path) -> None:
    desk = desk_with(place, curve=False, **ALL)
    issue(desk, make_order("ada", now=NOW), own / "ada", NOW)
    issue(desk, make_order("lab", role="engine", now=NOW), own / "lab", NOW)
    assert said(own / "ada") == said(own / "lab") == WITHOUT
    with pytest.raises(UsageError, match="no door but the one for ssh"):
        issue(desk, make_order("ben", now=NOW, ways=make_ways(ssh_door=False)), own / "ben", NOW)


def test_fingerprints_go_with_the_route_that_they_were_said_with(place: ClusterPlace, own: Path) -> None:
    desk = desk_with(place, ssh=ROUTE, ssh_host_keys=KEYS)
    for name, ways, expected in (
        ("a", make_ways(), (ROUTE, KEYS)), ("b", make_ways(ssh=ROUTE), (ROUTE, KEYS)),
        ("c", make_ways(ssh=""), ("", ())),
        ("d", make_ways(ssh="gate.example"), ("gate.example", ())),
        ("e", make_ways(ssh="gate.example", ssh_host_keys=KEYS[:1]), ("gate.example", KEYS[:1])),
        ("f", make_ways(ssh_host_keys=KEYS[1:]), (ROUTE, KEYS[1:])),
    ):
        issue(desk, make_order(name, now=NOW, ways=ways), own / name, NOW)
        assert said(own / name)[3:5] == expected
    with pytest.raises(UsageError, match="to which no route leads"):
        issue(desk, make_order("g", now=NOW, ways=make_ways(ssh="", ssh_host_keys=KEYS)), own / "g", NOW)


def test_a_door_that_is_not_there_is_not_named(place: ClusterPlace, own: Path) -> None:
    desk = desk_with(place)
    with pytest.raises(UsageError, match="no door for ssh") as caught:
        issue(desk, make_order("ada", now=NOW, ways=make_ways(ssh_door=True)), own / "ada", NOW)
    assert caught.value.advice == "offer it first: secure-ipp keys ways --ssh-door"
    assert not list(own.iterdir()) and Registry.load(place).version == 1


# --- files that are made of others ------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", [True, False])
def test_every_file_that_is_made_of_another_one_says_the_same(place: ClusterPlace, own: Path, curve: bool) -> None:
    expected = WITH_CURVE if curve else WITHOUT
    desk = desk_with(place, curve=curve, **ALL)
    ways = make_ways(ssh_door=True)
    issue(desk, make_order("ada", now=NOW, ways=ways), own / "ada", NOW)
    renew_in_place(desk, "ada", int(NOW) + 500, own / "ada", now=NOW)
    assert said(own / "ada") == expected
    renew_by_answer(desk, "ada", int(NOW) + 900, own / "answer", ways=ways, now=NOW)
    accept(own / "answer", own / "ada", now=NOW)
    assert said(own / "ada") == expected
    server_rotation.announce(desk, (own / "ada",), now=NOW)
    server_rotation.switch(desk, (own / "ada",), now=NOW)
    assert len(load_capability(own / "ada", now=NOW).server_keys) == 1
    for file in (own / "ada", place.client_file, place.engine_file):
        assert said(file) == expected
    rotate_holder(desk, "ada", own / "rotated", ways=ways, now=NOW)
    assert said(own / "rotated") == expected
    made = load_capability(own / "rotated", now=NOW)
    sealed = sealed_capability(made, ToRecipient(RecipientKey(os.urandom(32)).public()))
    assert sealed.with_secret(made.secret_key) == made
    make_request(own / "request", name="ben", role="client", rights=("task",), now=NOW)
    request = read_request(own / "request")
    approve(desk, request, make_order("ben", now=NOW, ways=ways), own / "approved", NOW)
    accept(own / "approved", own / "ben", now=NOW)
    make_request(own / "again", name="ben", role="client", rights=("task",), now=NOW)
    rotate_by_request(desk, "ben", read_request(own / "again"), own / "changed", ways=ways, now=NOW)
    accept(own / "changed", own / "ben-2", now=NOW)
    assert said(own / "ben") == said(own / "ben-2") == expected


def test_a_new_key_for_the_owner_s_own_files_keeps_their_doors(place: ClusterPlace, own: Path) -> None:
    """Nobody has to remember it; where it is said, that counts, and files of others are not known here."""
    desk = desk_with(place, **ALL)
    rotate_holder(desk, "engines", own / "engines", now=NOW)
    rotate_holder(desk, "owner", own / "owner", ways=make_ways(ssh_door=False), now=NOW)
    issue(desk, make_order("ada", now=NOW, ways=make_ways(ssh_door=True)), own / "ada", NOW)
    rotate_holder(desk, "ada", own / "ada-2", now=NOW)
    assert [said(own / name)[0] for name in ("engines", "owner", "ada-2")] == [True, False, False]


class StandIn:
    """A session with a controller that puts everything in force."""

    def __init__(self, place: ClusterPlace) -> None:
        self.capability = load_capability(place.client_file)
        self.doors = type("Doors", (), {"keys": self.capability.server_keys})
        self._chain = [to_plain(Registry.load(place).named("owner"))]

    def question(self, asked: Any) -> dict[str, Any]:
        return {"chain": msgspec.json.encode(self._chain)}


@pytest.mark.parametrize("curve", [True, False])
def test_what_is_handed_on_says_the_same(place: ClusterPlace, curve: bool) -> None:
    desk_with(place, curve=curve, **ALL)
    child = attenuate(StandIn(place), "ben", "task", None, None)  # type: ignore[arg-type]
    assert child.parents and said(child) == (WITH_CURVE if curve else WITHOUT)


# --- changing them ----------------------------------------------------------------------------------------------


def test_the_owner_s_files_follow_in_place(place: ClusterPlace, own: Path) -> None:
    desk = desk_with(place)
    before = load_capability(place.client_file)
    issue(desk, make_order("ada", now=NOW), own / "ada", NOW)
    done = change_ways(desk, ssh=ROUTE, host_keys=KEYS, door=True, post_quantum=True)
    assert done.files == (str(place.client_file), str(place.engine_file)) and not done.left
    assert said(place.client_file) == said(place.engine_file) == WITH_CURVE
    after = load_capability(place.client_file)
    assert (after.keys, after.rights, after.expires, after.server_keys, after.tcp_doors) == (
        before.keys, before.rights, before.expires, before.server_keys, before.tcp_doors
    )
    assert said(own / "ada")[0] is False and said(own / "ada")[3] == ""  # whoever has it was not asked
    assert change_ways(desk, ssh=ROUTE, host_keys=KEYS, door=True, post_quantum=True).files == ()
    assert load_config(place).ssh_host_keys == KEYS
    change_ways(desk, ssh="gate.example")
    assert said(place.client_file)[3:5] == ("gate.example", ())
    change_ways(desk, ssh="", door=False, post_quantum=False)
    assert load_capability(place.client_file) == before


def test_a_renewal_drops_a_door_that_is_offered_no_more(place: ClusterPlace, own: Path) -> None:
    desk = desk_with(place, **ALL)
    issue(desk, make_order("ada", now=NOW, ways=make_ways(ssh_door=True)), own / "ada", NOW)
    change_ways(desk, door=False, post_quantum=False)
    renew_in_place(desk, "ada", int(NOW) + 500, own / "ada", now=NOW)
    assert said(own / "ada") == (False, *WITH_CURVE[1:])  # what it asks of ssh stays


@pytest.mark.parametrize(("curve", "change"), [
    (False, {"door": False}), (True, {"host_keys": KEYS}), (True, {"ssh": "", "host_keys": KEYS}),
])
def test_what_a_cluster_cannot_be_is_refused_before_anything_changes(
    place: ClusterPlace, curve: bool, change: dict[str, Any]
) -> None:
    desk = desk_with(place, curve=curve)
    before = (place.config.read_bytes(), place.client_file.read_bytes())
    with pytest.raises(UsageError) as caught:
        change_ways(desk, **change)
    assert caught.value.advice
    assert (place.config.read_bytes(), place.client_file.read_bytes()) == before


def test_a_kill_at_any_step_is_gone_on_with_by_saying_it_again(place: ClusterPlace, tmp_path: Path) -> None:
    desk = desk_with(place)
    copy = tmp_path / "copy"
    shutil.copytree(place.dir, copy)
    for number in range(1, 100):
        shutil.rmtree(place.dir)
        shutil.copytree(copy, place.dir)
        if not killed_at(number, lambda: change_ways(desk, ssh=ROUTE, door=True)):
            break
        for file in (place.client_file, place.engine_file):
            found = read_capability(file)
            assert not found.socket_doors or load_config(place).ssh_door
        change_ways(desk, ssh=ROUTE, door=True)
        assert said(place.client_file)[::3] == said(place.engine_file)[::3] == (True, ROUTE)
        assert not list(place.dir.glob(".*.new"))  # perhaps with a secret
    assert 10 < number < 99


# --- what cannot stand in a file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [
    {"ssh": "a b"}, {"ssh": "-oProxyCommand=x"}, {"ssh": "u@h:99999"}, {"ssh_host_keys": ["SHA256:x"]},
    {"ssh_host_keys": [""]}, {"ssh_host_keys": ["--help"]}, {"ssh_host_keys": ["here" + KEYS[0]]},
    {"ssh_host_keys": [f"SHA256:{'a' * 41}{chr(65 + n)}A" for n in range(limits.SSH_HOST_KEYS + 1)]},
])
def test_s22_what_was_said_is_checked_before_it_is_written(place: ClusterPlace, said: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        make_ways(**said)
    assert caught.value.advice
    with pytest.raises(UsageError):
        init_cluster(place, **said)
    assert not place.config.exists()


@pytest.mark.parametrize("name", ["a b", "a%b", "a:b", "a'b", "\u00e4", "a\nb", "~", "a$b"])
def test_s22_a_home_whose_name_cannot_stand_in_a_file_is_no_home_of_such_a_door(name: str) -> None:
    top = short_directory()
    try:
        place = ClusterPlace("default", top / name)
        with pytest.raises(EnvironmentProblem, match="cannot stand in a file") as caught:
            init_cluster(place, ssh_door=True, bind="127.0.0.1")
        assert "SECURE_IPP_HOME" in caught.value.advice and not place.config.exists()
        desk = desk_with(place)
        with pytest.raises(EnvironmentProblem):
            change_ways(desk, door=True)
        assert not load_config(place).ssh_door
    finally:
        shutil.rmtree(top)


# --- the keys of this host ----------------------------------------------------------------------------------------


def test_the_keys_of_this_host_are_those_that_ssh_keygen_shows(tmp_path: Path) -> None:
    shown = []
    for kind in ("ed25519", "ecdsa", "rsa"):
        path = tmp_path / f"ssh_host_{kind}_key"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True, stdin=subprocess.DEVNULL)
        told = subprocess.run(["ssh-keygen", "-lf", f"{path}.pub"], check=True, capture_output=True, text=True).stdout
        shown.append(told.split()[1])
    (tmp_path / "ssh_host_bad_key.pub").write_text("ssh-ed25519 AAAA!\n")
    os.mkfifo(tmp_path / "ssh_host_pipe_key.pub")  # nobody writes to it, and nobody waits for that
    found = host_keys.of_this_host(tmp_path)
    assert sorted(found) == sorted(shown) and check_host_keys(found) == tuple(found)


def test_here_stands_for_them_and_each_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secure_ipp.keys.ways.of_this_host", lambda: list(KEYS))
    assert check_host_keys(["here"]) == check_host_keys([KEYS[0], "here", "here"]) == KEYS
    assert check_host_keys(()) == ()


def test_a_host_without_keys_says_what_else_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="no public key") as caught:
        host_keys.of_this_host(tmp_path)
    assert "ssh-keyscan" in caught.value.advice


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(b"ssh-ed25519 AAAA".__add__)))
def test_any_bytes_are_a_public_key_or_none(data: bytes) -> None:
    try:
        assert check_host_keys([host_keys.fingerprint(data)])
    except SecureIppError:
        pytest.fail("a fingerprint that is none")
    except ValueError:
        pass


def test_what_may_be_shown_says_it(place: ClusterPlace) -> None:
    desk_with(place, curve=False, **ALL)
    facts = json.loads(json.dumps(owner_keys.describe(place.client_file)))
    assert (facts["curve"], facts["ssh"], facts["ssh_host_keys"]) == (False, ROUTE, list(KEYS))
    assert facts["post_quantum"] is True and facts["door"] == [f"ipc://{place.runtime_path / 'client.door'}"]
