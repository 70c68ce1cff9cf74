"""Attacks on doors over real sockets: who opens them, and with what (S1, S2, S3, S6)."""

import ast
import errno
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zmq

import secure_ipp
from secure_ipp import limits
from secure_ipp.errors import PolicyError
from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages, sockets
from secure_ipp.wire.intruder import try_door
from secure_ipp.wire.self_test import SelfTest
from tests.wire.stage import PATIENT, Intruder

PACKAGE = Path(secure_ipp.__path__[0])


# --- S1: who makes sockets, and how -----------------------------------------------------------------------


def test_s1_every_bound_socket_has_every_option(siege):
    door = siege.door()
    want = {
        zmq.MECHANISM: zmq.CURVE, zmq.CURVE_SERVER: 1, sockets.ZAP_ENFORCE_DOMAIN: 1, zmq.LINGER: 0,
        zmq.HANDSHAKE_IVL: 10_000, zmq.MAXMSGSIZE: limits.MAX_FRAME_BYTES, zmq.SNDHWM: limits.HIGH_WATER_MARK,
        zmq.RCVHWM: limits.HIGH_WATER_MARK, zmq.HEARTBEAT_IVL: 10_000, zmq.HEARTBEAT_TIMEOUT: 30_000,
        zmq.TYPE: zmq.ROUTER,
    }
    assert {option: door.call(lambda option=option: door.socket.getsockopt(option)) for option in want} == want
    assert door.call(lambda: door.socket.getsockopt(zmq.ZAP_DOMAIN)).rstrip(b"\0") == b"client"
    assert limits.HANDSHAKE_SECONDS <= 10 and limits.MAX_FRAME_BYTES <= 4 * limits.MIB
    with pytest.raises(zmq.ZMQError, match="unreachable"):  # ROUTER_MANDATORY cannot be read back, but shows
        door.call(lambda: door.socket.send_multipart([b"\0none", b"x"]))


def test_s1_a_connecting_socket_speaks_curve_claims_no_id_and_does_not_reconnect_by_itself(siege):
    siege.door()
    socket = siege.alice.call(lambda: siege.alice.connection._socket)
    want = {
        zmq.MECHANISM: zmq.CURVE, zmq.CURVE_SERVER: 0, zmq.RECONNECT_IVL: -1, zmq.LINGER: 0, zmq.TYPE: zmq.DEALER,
        zmq.MAXMSGSIZE: limits.MAX_FRAME_BYTES, zmq.ROUTING_ID: b"",
    }
    assert {o: siege.alice.call(lambda o=o: socket.getsockopt(o)) for o in want} == want


@pytest.mark.parametrize("wrong", ["no gate", "no domain"])
def test_s1_no_door_opens_without_a_live_gate_or_a_domain(wrong):
    class Gate:
        def alive(self):
            return wrong != "no gate"

    context = zmq.Context()
    try:
        with pytest.raises(PolicyError):
            sockets.bind_door(
                context, Gate(), domain="" if wrong == "no domain" else "client", endpoints=["tcp://127.0.0.1:*"],
                keys=KeyPair.generate(),
            )
    finally:
        context.destroy(0)


def test_s1_only_one_module_makes_or_binds_sockets():
    """`socket.socket` of the standard library aside, which zmq has no part in."""
    makers, allowed = [], {"wire/sockets.py"}
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        imports_zmq = any(
            (isinstance(node, ast.Import) and any(name.name.split(".")[0] == "zmq" for name in node.names))
            or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "zmq")
            for node in ast.walk(tree)
        )
        calls = {
            node.func.attr for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        where = path.relative_to(PACKAGE).as_posix()
        if (imports_zmq and calls & {"bind", "bind_to_random_port", "socket"}) or calls & {"Context", "shadow"}:
            makers.append(where)
        if imports_zmq:
            assert where.startswith("wire/"), f"{where} imports zmq"
    assert set(makers) - {"wire/cutting.py"} == allowed
    assert "zmq" not in (PACKAGE / "wire/cutting.py").read_text().replace("libzmq", "")


def test_s1_no_socket_is_made_without_curve():
    """Every function of sockets.py that makes a tcp or ipc socket sets the keys before it returns or binds."""
    tree = ast.parse((PACKAGE / "wire/sockets.py").read_text())
    for function in [node for node in tree.body if isinstance(node, ast.FunctionDef)]:
        text = ast.unparse(function)
        if ".socket(" not in text or function.name in ("zap_socket", "_routing_id_now"):
            continue
        assert "CURVE_SECRETKEY" in text and ("CURVE_SERVER," in text or "CURVE_SERVERKEY" in text), function.name
    for name in ("zap_socket", "_routing_id_now"):
        text = ast.unparse(next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name))
        assert "inproc" in text + sockets.ZAP_ENDPOINT and "endpoint" not in text.replace("ZAP_ENDPOINT", "")


def test_s1_s25_a_socket_without_curve_is_a_unix_socket_and_has_a_proof_or_asks_for_one():
    """PLAIN stands in two functions, behind a look at the address, and nowhere else."""
    places = [path for path in PACKAGE.rglob("*.py") if "PLAIN_" in path.read_text()]
    assert [path.name for path in places] == ["sockets.py"]
    for function in [node for node in ast.parse(places[0].read_text()).body if isinstance(node, ast.FunctionDef)]:
        text = ast.unparse(function)
        if "PLAIN_" in text:
            assert function.name in ("bind_door", "connect")
            assert text.index("_is_unix") < text.index(".socket(") < text.index("PLAIN_")


# --- S2: the gate stops, stalls, or lets everybody in --------------------------------------------------------


def test_s2_a_stopped_gate_admits_nobody_new_and_live_sessions_go_on(siege):
    door = siege.door()
    door.gate.stop()
    for keys in (siege.mallory, KeyPair.generate()):
        assert try_door(door.endpoint, door.server.public, keys, timeout=0.5) != "admitted"
    siege.assert_undisturbed()


def test_s2_a_stalled_gate_admits_nobody_until_it_wakes(siege):
    door = siege.door()
    stalled, answer = threading.Event(), door.gate.answer
    door.gate.answer = lambda frames: (stalled.wait(PATIENT), answer(frames))[1]
    assert try_door(door.endpoint, door.server.public, siege.mallory, timeout=0.5) == "silent"
    assert try_door(door.endpoint, door.server.public, KeyPair.generate(), timeout=0.5) == "silent"
    siege.assert_undisturbed()
    stalled.set()
    door.gate.answer = answer
    assert try_door(door.endpoint, door.server.public, siege.mallory) == "admitted"


def test_s2_no_gate_at_all_admits_nobody(siege):
    """libzmq alone would admit any key; the enforced domain makes it refuse."""
    door = siege._keep(type(siege.door())(gate=False)).start()
    assert try_door(door.endpoint, door.server.public, siege.mallory, timeout=1) != "admitted"
    assert door.record.all("open") == []


class Trial:
    """A self-test and what it said."""

    def __init__(self, door, probe):
        self.breaches, self.rounds, self.said = [], [], threading.Event()
        self.test = SelfTest(
            door.loop, endpoints=[door.endpoint], server_key=door.server.public, probe=probe,
            breached=lambda error: (self.breaches.append(error), self.said.set()),
            passed=lambda answered: (self.rounds.append(answered), self.said.set()),
        )
        self.test.start()
        assert self.said.wait(3 * PATIENT)
        self.test.stop()


def test_s2_the_self_test_passes_a_sound_door_and_disturbs_nobody(siege):
    probe = KeyPair.generate()
    door = siege.door(("client", probe.public, "probe", "probe"))
    trial = Trial(door, probe)
    assert (trial.breaches, trial.rounds) == ([], [True])
    siege.assert_undisturbed()


def test_s2_the_self_test_finds_a_gate_that_admits_everybody(siege):
    probe = KeyPair.generate()
    door = siege.door(("client", probe.public, "probe", "probe"))
    find = door.gate._table.find
    anybody = find("client", probe.public.raw)

    class Open:
        def find(self, domain, key):
            return anybody

    door.gate.replace(Open())
    trial = Trial(door, probe)
    assert [error.code for error in trial.breaches] == ["breach"]


def test_s2_a_stalled_gate_is_an_alarm_and_no_breach(siege, monkeypatch):
    monkeypatch.setattr("secure_ipp.wire.intruder.try_door.__defaults__", (0.4,))
    probe = KeyPair.generate()
    door = siege.door(("client", probe.public, "probe", "probe"))
    stalled, answer = threading.Event(), door.gate.answer
    door.gate.answer = lambda frames: (stalled.wait(PATIENT), answer(frames))[1]
    trial = Trial(door, probe)
    stalled.set()
    assert trial.breaches == [] and trial.rounds[0] is False


def test_s2_running_out_of_descriptors_does_not_end_the_trials(siege, monkeypatch):
    probe = KeyPair.generate()
    door = siege.door(("client", probe.public, "probe", "probe"))

    def none_left(*arguments):
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr("secure_ipp.wire.self_test.try_door", none_left)
    assert Trial(door, probe).rounds[0] is False


# --- keys that open nothing ------------------------------------------------------------------------------------


def test_s3_an_unknown_key_with_the_right_server_key_stays_outside(siege):
    door = siege.door()
    assert try_door(door.endpoint, door.server.public, KeyPair.generate()) == "refused"
    siege.assert_undisturbed()


def test_s3_the_right_key_towards_another_server_key_stays_outside(siege):
    door = siege.door()
    assert try_door(door.endpoint, KeyPair.generate().public, siege.mallory, timeout=0.5) != "admitted"
    siege.assert_undisturbed()


def test_s3_a_key_whose_secret_half_one_lacks_opens_nothing(siege):
    """The public key of an honest peer, vouched for with another secret."""
    door = siege.door()
    other = KeyPair.generate()
    try:
        raw = siege.raw(door, keys=siege.keys, vouch_for=other.secret.raw)
    except OSError:
        pass
    else:
        assert not raw.ready
    assert len(door.record.all("open")) == 1
    siege.assert_undisturbed()


@pytest.mark.parametrize("mechanism", ["null", "plain", "null with a zap domain", "curve as a server"])
def test_s3_no_other_mechanism_gets_a_word_in(siege, mechanism):
    door = siege.door()
    options = {
        "null": (), "plain": ((zmq.PLAIN_USERNAME, b"alice"), (zmq.PLAIN_PASSWORD, b"x")),
        "null with a zap domain": ((zmq.ZAP_DOMAIN, b"client"),),
        "curve as a server": (
            (zmq.CURVE_SERVER, 1), (zmq.CURVE_SECRETKEY, siege.mallory.secret.raw),
        ),
    }[mechanism]
    attacker = siege._keep(Intruder(door.endpoint, door.server.public, None, options=options))
    attacker.greet()
    assert attacker.hear(0.4) is None
    assert len(door.record.all("open")) == 1
    siege.assert_undisturbed()


def test_s3_a_key_opens_no_door_but_its_own(siege):
    engine = KeyPair.generate()
    known = [("client", siege.mallory.public, "mallory", "client"), ("engine", engine.public, "e1", "engine")]
    client_door = siege.door(("engine", engine.public, "e1", "engine"))
    engine_door = siege._keep(type(client_door)(
        known, domain="engine", receives={"engine": messages.FromEngine, "agent": messages.FromAgent}
    )).start()
    for door, right, wrong in ((client_door, siege.mallory, engine), (engine_door, engine, siege.mallory)):
        assert try_door(door.endpoint, door.server.public, right) == "admitted"
        assert try_door(door.endpoint, door.server.public, wrong) != "admitted"


# --- S6 ---------------------------------------------------------------------------------------------------------


def test_s6_routing_ids_of_fresh_processes_cannot_be_foretold():
    """Unseeded, the C library's `rand` starts alike in every process."""
    code = (
        "from tests.wire.stage import DoorSide; d = DoorSide(); print(d.door._last_id); d.door.close(); d.gate.stop()"
    )
    root = PACKAGE.parent
    found = [
        int(subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True, timeout=60).stdout)
        for _ in range(3)
    ]
    assert len(set(found)) == 3
    assert all(abs(a - b) > 1000 for a in found for b in found if a != b)
