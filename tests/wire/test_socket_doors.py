"""Doors that are Unix sockets and take proofs, over real sockets (S25)."""

import os
import socket
import stat
import time
from pathlib import Path

import pytest
import zmq

from secure_ipp import limits
from secure_ipp.access.prover import Prover
from secure_ipp.errors import EnvironmentProblem, PolicyError, PrivateFileError, Refused, Revoked
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.known_doors import KnownDoors
from secure_ipp.wire import sockets
from secure_ipp.wire.intruder import try_door
from secure_ipp.wire.self_test import SelfTest
from tests.running import short_directory, wait_until
from tests.wire.stage import ANYWHERE, CLUSTER_ID, AlwaysAlive

PROVER = Prover(CLUSTER_ID, "client-socket")


@pytest.fixture
def place():
    return short_directory()


@pytest.fixture
def door(stage, place):
    return stage.door(domain="client-socket", proofs_file=place / "proofs.used")


def peer(stage, door, **options):
    return stage.peer(door, proves=options.pop("proves", PROVER), **options)


def path_of(door):
    return Path(door.endpoint.removeprefix("ipc://"))


# --- the place ------------------------------------------------------------------------------------------------


def test_it_is_a_socket_that_its_owner_alone_can_open_and_goes_with_the_door(stage, door):
    found = path_of(door).lstat()
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600
    door.call(door.door.close)
    assert not path_of(door).exists()


def bind(path, **options):
    context = zmq.Context()
    try:
        return sockets.bind_door(
            context, AlwaysAlive(), domain="client-socket", endpoints=[f"ipc://{path}"], keys=KeyPair.generate(),
            by_proof=True, **options,
        )
    finally:
        context.destroy(0)


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701])
def test_a_directory_that_others_can_enter_is_refused(place, mode):
    place.chmod(mode)
    with pytest.raises(PrivateFileError):
        bind(place / "door")


def test_what_a_dead_controller_left_is_replaced(stage, place):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place / "door"))
    door = stage.door(domain="client-socket", proofs_file=place / "proofs.used")
    peer(stage, door).start().record.wait("welcome")


@pytest.mark.parametrize("what", ["a live socket", "a file", "a link to a socket"])
def test_what_lives_there_or_is_no_socket_is_an_error_and_stays(place, what):
    path = place / "door"
    with socket.socket(socket.AF_UNIX) as live:
        if what == "a file":
            path.write_text("precious")
        else:
            live.bind(str(path if what == "a live socket" else place / "elsewhere"))
            live.listen()
        if what == "a link to a socket":
            path.symlink_to(place / "elsewhere")
        before = path.lstat().st_ino
        with pytest.raises(EnvironmentProblem):
            bind(path)
        assert path.lstat().st_ino == before


@pytest.mark.parametrize("endpoint", [ANYWHERE, "ipc://relative", "ipc://*"])
def test_no_door_without_curve_is_anything_but_a_unix_socket(endpoint):
    context = zmq.Context()
    try:
        with pytest.raises(PolicyError, match="Unix socket"):
            sockets.bind_door(
                context, AlwaysAlive(), domain="client-socket", endpoints=[endpoint], keys=KeyPair.generate(),
                by_proof=True,
            )
    finally:
        context.destroy(0)


# --- connections ----------------------------------------------------------------------------------------------


def test_a_link_works_as_over_any_other_door_and_resumes_with_a_new_proof(stage, door):
    one = peer(stage, door).start()
    one.record.wait("welcome")
    one.ask(1, b"x" * 1000)
    one.record.wait("message")
    session = door.record.wait("open")[0][1]
    assert session.address.startswith("localhost")
    door.call(lambda: session.connection.cut())
    one.record.wait("welcome", 2)
    one.ask(2)
    one.record.wait("message", 2)
    assert one.record.all("welcome") == [("welcome", False), ("welcome", True)]
    assert (len(door.memory._used), len(one.answers())) == (2, 2), "each connection had a proof of its own"


def test_the_address_of_a_gateless_or_curve_door_is_not_offered_a_proof(stage):
    door = stage.door()
    failed = stage.peer(door, proves=PROVER).start()
    failed.record.wait("welcome")  # over TCP it is Curve, whatever else there is
    assert door.call(lambda: door.socket.getsockopt(zmq.MECHANISM)) == zmq.CURVE
    context = zmq.Context()
    with pytest.raises(PolicyError, match="never over TCP"):
        sockets.connect(
            context, door.endpoint, server_key=door.server.public, keys=stage.keys,
            trial=PROVER.prove(stage.keys, door.server.public),
        )
    context.destroy(0)


@pytest.mark.parametrize("off", [-3600, 3600])
def test_clocks_that_differ_are_an_error_that_says_so_at_once(stage, door, off):
    one = peer(stage, door, proves=Prover(CLUSTER_ID, "client-socket", lambda: time.time() + off)).start()
    failure = one.failure(5)
    assert isinstance(failure, Refused) and failure.code == "clock" and "clock" in failure.message
    assert door.record.all("open") == []


def test_an_unknown_key_is_an_error_at_once(stage, door):
    failure = peer(stage, door, keys=KeyPair.generate()).start().failure(5)
    assert failure.code == "key-refused" and "rotated" in failure.advice


def test_a_key_that_is_taken_away_is_revoked(stage, door):
    one = peer(stage, door).start()
    one.record.wait("welcome")
    door.admit()
    door.call(lambda: door.sessions[0].connection.cut())
    assert isinstance(one.failure(5), Revoked)


def test_s33_a_new_server_key_holds_from_the_moment_the_door_is_bound_anew(stage, door):
    old, new = door.server, KeyPair.generate()
    aware = peer(stage, door, server_key=KnownDoors([old.public, new.public])).start()
    unaware = peer(stage, door).start()
    for one in (aware, unaware):
        one.record.wait("welcome")

    def rotate():
        door.desk.use(new)
        door.door.rebind(door.gate, new)

    door.call(rotate)
    assert aware.record.wait("welcome", 2) == [("welcome", False), ("welcome", True)]
    assert isinstance(unaware.failure(5), Refused)
    assert path_of(door).exists() and stat.S_IMODE(path_of(door).lstat().st_mode) == 0o600
    assert try_door(door.endpoint, old.public, stage.keys, 2, proves=PROVER) == "refused"
    assert try_door(door.endpoint, new.public, stage.keys, 2, proves=PROVER) == "admitted"


def test_while_proofs_cannot_be_written_down_nobody_comes_in(stage, door, monkeypatch):
    monkeypatch.setattr(door.memory, "_rewrite", lambda *_: (_ for _ in ()).throw(EnvironmentProblem("full")))
    door.memory._sound = False
    assert try_door(door.endpoint, door.server.public, stage.keys, 0.5, proves=PROVER) in ("silent", "closed")
    assert [e.reason for _, e in door.record.wait("decided")] == ["full"]
    monkeypatch.undo()
    assert try_door(door.endpoint, door.server.public, stage.keys, 2, proves=PROVER) == "admitted"


def test_a_peer_of_another_user_is_cut_before_it_says_a_word(stage, door, monkeypatch):
    monkeypatch.setattr("secure_ipp.wire.cutting.is_own_peer", lambda connection: False)
    one = peer(stage, door, first_patience=0.5).start()
    door.record.wait("incident")
    assert "another user" in door.reasons()[0] and door.record.all("open") == []
    one.failure()


# --- S2 -------------------------------------------------------------------------------------------------------


def tried(stage, place, admit=lambda door: None):
    probe = KeyPair.generate()
    door = stage.door(("client", probe.public, "probe", "probe"), domain="client-socket", proofs_file=place / "used")
    admit(door)
    said = []
    test = SelfTest(
        door.loop, endpoints=[door.endpoint], server_key=door.server.public, probe=probe, breached=said.append,
        passed=said.append, provers={door.endpoint: PROVER},
    )
    test.start()
    wait_until(lambda: said, 10)
    test.stop()
    return door, said[0]


def test_s2_the_self_test_tries_with_a_proof_without_one_and_as_a_stranger(stage, place):
    door, said = tried(stage, place)
    assert said is True
    reasons = wait_until(lambda: (r := sorted(e.reason.split(":")[0] for _, e in door.record.all("decided")))[2:] and r)
    assert reasons == ["the proof does not hold", "unknown key", "welcome"]


@pytest.mark.parametrize("hole", ["any proof", "any key"])
def test_s2_the_self_test_finds_a_gate_that_takes_anything(stage, place, hole):
    def open_up(door):
        if hole == "any proof":
            door.desk.check = lambda proof, name: bytes(32)
        else:
            anybody = door.gate._table.find("client", stage.keys.public.raw)
            door.gate.replace(type("Open", (), {"find": lambda self, domain, key: anybody})())

    _, said = tried(stage, place, open_up)
    assert getattr(said, "code", said) == "breach"


def test_s1_every_option_is_that_of_any_other_door(stage, door):
    want = {
        zmq.MECHANISM: zmq.PLAIN, zmq.PLAIN_SERVER: 1, sockets.ZAP_ENFORCE_DOMAIN: 1, zmq.LINGER: 0,
        zmq.HANDSHAKE_IVL: 10_000, zmq.MAXMSGSIZE: limits.MAX_FRAME_BYTES, zmq.SNDHWM: limits.HIGH_WATER_MARK,
        zmq.RCVHWM: limits.HIGH_WATER_MARK, zmq.HEARTBEAT_IVL: 10_000, zmq.TYPE: zmq.ROUTER,
    }
    assert {option: door.call(lambda option=option: door.socket.getsockopt(option)) for option in want} == want
    assert door.call(lambda: door.socket.getsockopt(zmq.ZAP_DOMAIN)).rstrip(b"\0") == b"client-socket"
    one = peer(stage, door).start()
    one.record.wait("welcome")
    its = one.call(lambda: one.connection._socket)
    want = {zmq.MECHANISM: zmq.PLAIN, zmq.PLAIN_SERVER: 0, zmq.RECONNECT_IVL: -1, zmq.TYPE: zmq.DEALER}
    assert {option: one.call(lambda option=option: its.getsockopt(option)) for option in want} == want
    assert os.getuid() == path_of(door).stat().st_uid
