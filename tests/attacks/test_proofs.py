"""Attacks on doors that take proofs in place of Curve (S25): replay, relay, forgery, other mechanisms, impostors."""

import contextlib
import os
import select
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import pytest
import zmq

from secure_ipp import limits
from secure_ipp.access.decision import GateClock, decide, parse_request
from secure_ipp.access.gate import Gate
from secure_ipp.access.proof import Proof, shared_key
from secure_ipp.access.proof_checks import ProofDesk
from secure_ipp.access.proof_file import ProofFile
from secure_ipp.access.prover import Prover
from secure_ipp.access.table import Admission, GateTable
from secure_ipp.errors import Refused
from secure_ipp.keys import base64url
from secure_ipp.keys.curve import KeyPair
from secure_ipp.tunnel.reach import _is_local
from secure_ipp.wire import messages
from secure_ipp.wire.intruder import try_door
from tests.attacks.doors import Siege
from tests.live.test_other_users import as_another_user
from tests.running import short_directory
from tests.wire.stage import CLUSTER_ID, PATIENT, DoorSide, Intruder

PROVER = Prover(CLUSTER_ID, "client-socket")
needs_root = pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root becomes another user")


class SocketSiege(Siege):
    """The door is a Unix socket; `alice` proves her key there."""

    def __init__(self):
        super().__init__()
        self.directory = short_directory()

    def peer(self, door, **options):
        return super().peer(door, proves=PROVER, **options)

    def door(self, *guests, **options):
        return super().door(
            *guests, **{"domain": "client-socket", "proofs_file": self.directory / "proofs.used", **options}
        )

    def offer(self, door, username, password):
        """Somebody with libzmq shows this; the status that the monitor tells: 0 is admitted, None cut or silent."""
        attacker = self._keep(Intruder(
            door.endpoint, None, None, options=((zmq.PLAIN_USERNAME, username), (zmq.PLAIN_PASSWORD, password)),
        ))
        return verdict_of(attacker)

    def show(self, door, proof):
        return self.offer(door, proof.username, proof.password)


def verdict_of(attacker, timeout=2.0):
    from zmq.utils.monitor import recv_monitor_message

    end = time.monotonic() + timeout
    while (left := end - time.monotonic()) > 0 and attacker._watch.poll(int(left * 1000) + 1):
        event = recv_monitor_message(attacker._watch)
        if event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            return 0
        if event["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return event["value"]
        if event["event"] in (zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED):
            return None
    return None


@pytest.fixture
def siege():
    siege = SocketSiege()
    yield siege
    siege.close()


def proof_of(siege, door, *, cluster=CLUSTER_ID, name="client-socket", server=None, keys=None, now=time.time):
    return Prover(cluster, name, now).prove(keys or siege.mallory, server or door.server.public).proof


# --- once, here, now ------------------------------------------------------------------------------------------


def test_s25_a_proof_is_good_once_and_not_again_after_a_restart(siege):
    door = siege.door()
    proof = proof_of(siege, door)
    assert siege.show(door, proof) == 0
    assert siege.show(door, proof) == 500
    door.call(door.door.close)
    again = siege._keep(DoorSide(
        [("client", siege.mallory.public, "mallory", "client")], domain="client-socket", server=door.server,
        proofs_file=siege.directory / "proofs.used",
    )).start()
    assert siege.show(again, proof) == 500
    assert siege.show(again, proof_of(siege, again)) == 0
    assert next(e.reason for _, e in again.record.all("decided")) == "the proof was used before"


@pytest.mark.parametrize("wrong", ["door", "curve door", "cluster", "server key", "holder"])
def test_s25_a_proof_for_something_else_opens_nothing(siege, wrong):
    door = siege.door()
    proof = proof_of(siege, door, **{
        "door": {"name": "engine-socket"}, "curve door": {"name": "client"}, "cluster": {"cluster": "x" * 22},
        "server key": {"server": KeyPair.generate().public}, "holder": {"keys": KeyPair.generate()},
    }[wrong])
    if wrong == "holder":
        proof = Proof(siege.mallory.public, proof.milliseconds, proof.nonce, proof.mac)
    assert siege.show(door, proof) == 400
    siege.assert_undisturbed()


@pytest.mark.parametrize("off", [-limits.PROOF_SECONDS - 5, limits.PROOF_SECONDS + 5, -1e9])
def test_s25_a_proof_of_another_time_opens_nothing(siege, off):
    door = siege.door()
    assert siege.show(door, proof_of(siege, door, now=lambda: time.time() + off)) == 500
    siege.assert_undisturbed()


def test_s25_a_captured_proof_whose_time_is_changed_does_not_hold(siege):
    door = siege.door()
    proof = proof_of(siege, door, now=lambda: time.time() - 1000)
    assert siege.show(door, Proof(proof.holder, int(time.time() * 1000), proof.nonce, proof.mac)) == 400


def test_s25_what_is_no_proof_to_the_byte_opens_nothing(siege):
    door = siege.door()
    good = proof_of(siege, door)
    name, word = good.username, good.password
    raw = base64url.decode(word.decode(), 57)
    flipped = [base64url.encode(raw[:n] + bytes([raw[n] ^ 1]) + raw[n + 1 :]).encode() for n in (0, 5, 12, 30, 56)]
    wrong = [
        (name, word[:-1]), (name, word + b"A"), (name, word + b"="), (name, b"A" + word), (name[:-1], word),
        (name + b"A", word), (b"mallory", word), (name, b"x"), (b"x", word), (name, b"x" * 255), (b"\xff" * 43, word),
        (word, name), (name, word.replace(word[-1:], b"+")), (b"alice", b"secret"),
        (name, siege.mallory.secret.text.encode()), *[(name, other) for other in flipped],
    ]
    for pair in wrong:
        if pair != (name, word):
            assert siege.offer(door, *pair) in (400, None), pair
    assert siege.offer(door, name, word) == 0, "the test's own proof was good"
    assert len(door.memory._used) == 2
    siege.assert_undisturbed()


def test_s25_somebody_with_the_public_key_alone_opens_nothing_and_costs_no_disk(siege):
    door = siege.door()
    before = (siege.directory / "proofs.used").read_bytes()
    assert try_door(door.endpoint, door.server.public, siege.mallory, 2, proves=PROVER, spoilt=True) == "refused"
    assert (siege.directory / "proofs.used").read_bytes() == before
    siege.assert_undisturbed()


# --- below the sockets ----------------------------------------------------------------------------------------


class World:
    """A gate whose clocks are the test's."""

    def __init__(self):
        self.server, self.ada, self.bound, self.host = (KeyPair.generate() for _ in range(4))
        self.memory = ProofFile(short_directory() / "proofs.used", CLUSTER_ID)
        self.now = 1.8e9
        self.memory.open(self.now)
        self.events = []
        doors = frozenset({"client-socket", "engine-socket"})
        self.desk = ProofDesk(self.server, CLUSTER_ID, doors, self.memory)
        self.clock = 1000.0
        self.gate = Gate(
            self.events.append, clock=lambda: self.clock, wall=lambda: self.now, proofs=self.desk,
        )
        self.table = {
            ("client", self.ada.public.raw): Admission("ada", "client", "ada", expires=self.now + 100),
            ("client", self.bound.public.raw): Admission("bound", "client", "bound", networks=("127.0.0.0/8", "::/0")),
            ("engine", self.host.public.raw): Admission("host", "agent", "host"),
        }
        self.gate.replace(GateTable(self.table))
        self.gate.heard()

    def request(self, keys, door="client-socket", mechanism=b"PLAIN", **options):
        trial = Prover(CLUSTER_ID, options.get("made_for", door), lambda: self.now).prove(keys, self.server.public)
        shown = [trial.proof.username, trial.proof.password] if mechanism == b"PLAIN" else [keys.public.raw]
        address = options.get("address", b"localhost:0:0:1")
        return [b"1.0", b"1", door.encode(), address, b"", mechanism, *options.get("shown", shown)]

    def ask(self, body):
        reply = self.gate.answer([b"route", b"", *body])
        return None if reply is None else (reply[4].decode(), reply[5].decode(), reply[6].decode(), reply[7])


@pytest.fixture
def world():
    world = World()
    yield world
    world.memory.close()


def test_s25_at_each_door_there_is_one_mechanism(world):
    known = {"client": world.ada, "client-socket": world.ada, "engine": world.host, "engine-socket": world.host}
    for door, keys in known.items():
        for mechanism in (b"CURVE", b"PLAIN", b"NULL", b"GSSAPI", b""):
            shown = [] if mechanism == b"NULL" else None
            options = {} if shown is None else {"shown": shown}
            right = mechanism == (b"PLAIN" if door.endswith("socket") else b"CURVE")
            status = world.ask(world.request(keys, door, mechanism, **options))[0]
            assert (status == "200") == right, (door, mechanism)
    for door in ("client", "engine", "controller"):
        assert world.ask(world.request(world.ada, door, made_for=door))[0] == "400"
    without = Gate(world.events.append)
    without.replace(GateTable(world.table))
    without.heard()
    for mechanism in (b"CURVE", b"PLAIN"):
        body = world.request(world.ada, "client-socket", mechanism)
        assert without.answer([b"r", b"", *body])[4] == b"400", "a gate that takes no proofs has no such door"


def test_s25_credentials_are_two_frames_and_nothing_else(world):
    good = world.request(world.ada)
    assert world.ask(good[:-1])[0] == "400"
    assert world.ask([*good, b"x"])[0] == "500"
    assert world.ask(good)[0] == "200"


def test_s25_expired_keys_stay_outside(world):
    assert world.ask(world.request(world.ada))[0] == "200"
    world.now += 101
    assert world.ask(world.request(world.ada))[:2] == ("400", "the grant has expired")


@pytest.mark.parametrize("address", [b"127.0.0.1", b"localhost:0:0:1", b"::1", b""])
def test_s25_a_key_that_is_bound_to_networks_is_refused_at_a_socket(world, address):
    assert "networks" in world.ask(world.request(world.bound, address=address))[1]


def test_s25_a_key_opens_no_socket_but_its_own_doors(world):
    assert world.ask(world.request(world.ada, "engine-socket")) is None, "soon after a start it might be announced yet"
    world.gate._started_at = float("-inf")
    assert world.ask(world.request(world.ada, "engine-socket"))[0] == "400"
    assert world.ask(world.request(world.host, "client-socket"))[0] == "400"
    assert world.ask(world.request(world.host, "engine-socket"))[0] == "200"


def test_s25_s4_an_acceptance_names_user_role_grant_and_the_doors_answer(world):
    body = world.request(world.ada)
    status, _, user, metadata = world.ask(body)
    assert (status, user) == ("200", "ada")
    proof = Proof(world.ada.public, *struct.unpack(">Q16s32s", base64url.decode(body[7].decode(), 57)[1:]))
    answer = world.desk.check(proof, "client-socket")
    for name, value in ((b"Role", b"client"), (b"Grant", b"ada"), (b"Proof-Answer", base64url.encode(answer).encode())):
        assert bytes([len(name)]) + name + struct.pack(">I", len(value)) + value in metadata
    shared = shared_key(world.ada, world.server.public)
    assert shared._key not in metadata and base64url.encode(shared._key).encode() not in metadata


def test_s25_an_early_proof_waits_and_is_good_once(world):
    world.gate._heard_at = float("-inf")
    body = world.request(world.ada)
    assert world.ask(body) is None and world.ask(body) is None
    world.gate.heard()
    statuses = [reply[4] for reply in world.gate.answer_early()]
    assert statuses == [b"200", b"500"]


def test_s25_a_flood_of_wrong_proofs_of_a_known_key_counts_as_unknown_and_refuses_no_good_one(world):
    wrong = world.request(world.ada)
    wrong[-1] = wrong[-1][:-8] + b"AAAAAAA" + wrong[-1][-1:]
    answers = [world.ask(wrong) for _ in range(300)]
    assert answers.count(None) == 100
    assert {answer[0] for answer in answers if answer} == {"400"}
    assert len(world.memory._used) == 0 and world.memory._appended == 0
    assert world.ask(world.request(world.ada))[0] == "200"


def test_s25_decisions_are_on_record_by_door_and_key(world):
    world.ask(world.request(world.ada))
    world.ask(world.request(KeyPair.generate()))
    first, second = world.events
    assert (first.domain, first.status, first.grant) == ("client-socket", "200", "ada")
    assert first.key == world.ada.fingerprint and second.key and second.status == "400"


def test_s25_a_fault_of_what_checks_proofs_admits_nobody(world):
    world.desk.check = lambda proof, door: 1 / 0
    assert world.ask(world.request(world.ada))[0] == "500"


def test_s25_the_time_that_counts_is_the_trusted_one_and_before_it_is_told_nobody_comes_in(world):
    request = parse_request(world.request(world.ada))
    clock = GateClock(wall=0.0, now=1.0, started_at=0.0, heard_at=1.0)
    assert decide(request, GateTable(world.table), clock, proofs=world.desk).status == "500"


# --- other mechanisms, over real sockets ----------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["null", "null with a zap domain", "curve", "plain as a server"])
def test_s25_no_other_mechanism_gets_a_word_in(siege, mechanism):
    door = siege.door()
    keys = siege.mallory if mechanism == "curve" else None
    options = {"null with a zap domain": ((zmq.ZAP_DOMAIN, b"x"),), "plain as a server": ((zmq.PLAIN_SERVER, 1),)}
    attacker = siege._keep(Intruder(door.endpoint, door.server.public, keys, options=options.get(mechanism, ())))
    attacker.greet()
    assert attacker.hear(0.3) is None
    assert len(door.record.all("open")) == 1
    siege.assert_undisturbed()


def test_s25_a_proof_at_a_curve_door_gets_no_word_in(siege):
    siege.door()
    curve = siege._keep(DoorSide([("client", siege.mallory.public, "mallory", "client")])).start()
    proof = proof_of(siege, curve, name="client")
    assert siege.show(curve, proof) is None
    assert curve.record.all("open") == []


# --- impostors ------------------------------------------------------------------------------------------------


def impostor(siege, knows):
    """A door that lets everybody in and has no secret of the server's."""
    directory = short_directory()
    door = siege._keep(DoorSide(
        [("client", siege.keys.public, "alice", "client")], domain="client-socket", proofs_file=directory / "used",
    ))
    door.desk.check = lambda proof, name: knows(proof)
    return door.start()


@pytest.mark.parametrize("answer", ["nothing", "zeros", "the MAC itself", "its own"])
def test_s25_a_door_that_has_not_the_servers_key_hears_a_hello_and_no_more(siege, answer):
    real = siege.door()
    own = KeyPair.generate()
    say = {
        "nothing": lambda proof: b"", "zeros": lambda proof: bytes(32), "the MAC itself": lambda proof: proof.mac,
        "its own": lambda proof: shared_key(own, proof.holder)._mac(
            b"answer", _purpose(own, proof), proof.milliseconds, proof.nonce
        ),
    }[answer]
    false = impostor(siege, say)
    victim = siege.peer(false, server_key=real.server.public).start()
    failure = victim.failure(5)
    assert isinstance(failure, Refused) and failure.code == "impostor" and failure.advice
    assert victim.record.all("welcome") == [] and false.record.all("message") == []
    assert len(false.memory._used) == 1, "it was given one proof, and not another one"


def _purpose(server, proof):
    from secure_ipp.access.proof import Purpose

    return Purpose(CLUSTER_ID, "client-socket", server.public, proof.holder)


def test_s25_words_of_a_door_that_proves_nothing_reach_no_terminal(siege):
    real = siege.door()
    false = impostor(siege, lambda proof: b"")
    false.refuse = Refused("send your password to mallory", code="version")
    failure = siege.peer(false, server_key=real.server.public).start().failure(5)
    assert failure.code == "impostor" and "mallory" not in str(failure)


def test_a_refusal_of_the_real_door_is_believed(siege):
    door = siege.door()
    door.refuse = Refused("this controller is another version", code="version")
    failure = siege.peer(door, keys=siege.mallory).start().failure(5)
    assert failure.message == "this controller is another version"


def test_s25_what_an_impostor_captured_is_worth_nothing_elsewhere_or_later(siege):
    real = siege.door()
    caught = []
    false = impostor(siege, lambda proof: (caught.append(proof), b"")[1])
    siege.peer(false, server_key=real.server.public).start().failure(5)
    engines = siege._keep(DoorSide(
        [("engine", siege.keys.public, "alice", "engine")], domain="engine-socket", server=real.server,
        receives={"engine": messages.FromEngine}, proofs_file=short_directory() / "used",
    )).start()
    assert siege.show(engines, caught[0]) == 400, "of the door that it names alone"
    late = Proof(caught[0].holder, caught[0].milliseconds, caught[0].nonce, caught[0].mac)
    real.gate._wall = lambda: time.time() + limits.PROOF_SECONDS + 1
    assert siege.show(real, late) == 500, "within its time alone"


# --- who can reach it at all ----------------------------------------------------------------------------------


@needs_root
def test_s25_a_squatter_of_another_account_cannot_relay_since_it_reaches_neither_end(siege):
    """Each wall alone: the directory, the socket's mode, and the kernel's word for who connects."""
    door = siege.door()
    path = Path(door.endpoint.removeprefix("ipc://"))

    def call():
        with socket.socket(socket.AF_UNIX) as mine:
            mine.settimeout(PATIENT)
            mine.connect(str(path))
            with contextlib.suppress(ConnectionError):
                while mine.recv(1024):
                    """libzmq's greeting may come before the cut."""
        return "cut"

    assert as_another_user(call) == "EACCES"
    path.parent.chmod(0o711)
    assert as_another_user(call) == "EACCES"
    path.chmod(0o666)
    assert as_another_user(call) == "cut"
    door.record.wait("incident")
    assert "another user" in door.reasons()[0]
    path.parent.chmod(0o700)
    siege.assert_undisturbed()


@needs_root
def test_s25_nobody_shows_a_proof_at_a_socket_that_another_account_made(siege):
    place = short_directory()
    mine = place / "mine"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(mine))
        assert _is_local(f"ipc://{mine}")
        os.chown(mine, 65534, 65534)
        assert not _is_local(f"ipc://{mine}")
        os.chown(mine, 0, 0)
        place.chmod(0o711)
        assert not _is_local(f"ipc://{mine}")


# --- what travels ---------------------------------------------------------------------------------------------


class Tap:
    """Passes a Unix socket's bytes on and keeps them: what root, or a cable inside the ssh server, would see."""

    def __init__(self, target):
        self.path = short_directory() / "tap"
        self.bytes = bytearray()
        self._target = target.removeprefix("ipc://")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._ends = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        with contextlib.suppress(OSError):
            near, _ = self._listener.accept()
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._ends = [near, far]
            while True:
                for end in select.select([near, far], [], [], PATIENT)[0]:
                    piece = end.recv(1 << 16)
                    if not piece:
                        return
                    self.bytes += piece
                    (far if end is near else near).sendall(piece)

    def close(self):
        for end in (*self._ends, self._listener):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._thread.join(PATIENT)


def test_s25_neither_the_key_nor_anything_it_could_be_got_from_is_on_the_wire(siege):
    door = siege.door()
    tap = siege._keep(Tap(door.endpoint))
    victim = siege.peer(door, doors=[f"ipc://{tap.path}"], keys=siege.mallory).start()
    victim.record.wait("welcome")
    victim.ask(1, b"canary in the body")
    victim.record.wait("message")
    seen = bytes(tap.bytes)
    assert siege.mallory.public.text.encode() in seen and b"canary in the body" in seen, "the recording shows all"
    shared = shared_key(siege.mallory, door.server.public)
    for secret in (siege.mallory.secret.raw, door.server.secret.raw, shared._key):
        for spelt in (secret, secret.hex().encode(), base64url.encode(secret).encode(), secret[:16], secret[16:]):
            assert spelt not in seen
    used = bytes(seen)
    place = used.index(siege.mallory.public.text.encode()) + 43
    password = used[place + 1 : place + 1 + used[place]]
    assert siege.offer(door, siege.mallory.public.text.encode(), password) == 500, "played back it opens nothing"
