"""Attacks on the gate, below its socket: what peers, floods, a stale hub or faults get out of it (S2-S5, S10, S12)."""

import logging
import queue
import threading
import time

import pytest

from secure_ipp import limits
from secure_ipp.access.gate import Gate
from secure_ipp.access.table import Admission, GateTable
from secure_ipp.keys.curve import KeyPair

KEY = b"k" * 32
UNKNOWN = b"u" * 32
TABLE = GateTable({
    ("client", KEY): Admission("user-id", "client", "owner"),
    ("engine", b"j" * 32): Admission("join-id", "agent", "engines"),
})


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class FakeSocket:
    """A ZAP socket whose libzmq is the test: `ask` gives the reply's frames behind the envelope."""

    def __init__(self):
        self.inbox = queue.Queue()
        self.outbox = queue.Queue()
        self.fault = None
        self.closed = threading.Event()

    def poll(self, milliseconds):
        if self.fault is not None:
            raise self.fault
        deadline = time.monotonic() + milliseconds / 1000
        while self.inbox.empty() and time.monotonic() < deadline and self.fault is None:
            time.sleep(0.001)
        return 0 if self.inbox.empty() else 1

    def recv_multipart(self):
        return self.inbox.get_nowait()

    def send_multipart(self, frames):
        self.outbox.put(frames)

    def close(self):
        self.closed.set()

    def ask(self, body):
        self.inbox.put([b"route", b"", *body])
        frames = self.outbox.get(timeout=5)
        assert frames[:2] == [b"route", b""]
        return frames[2:]


def request(key=KEY, domain=b"client", mechanism=b"CURVE", address=b"127.0.0.1", identity=b""):
    return [b"1.0", b"1", domain, address, identity, mechanism, key]


def ask(gate, body):
    reply = gate.answer([b"route", b"", *body])
    return None if reply is None else reply[2:]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def events():
    return []


@pytest.fixture
def gate(clock, events):
    gate = Gate(events.append, clock=clock, wall=lambda: 1.7e9)
    gate.replace(TABLE)
    gate.heard()
    return gate


@pytest.fixture
def running():
    gate, socket = Gate(lambda event: None), FakeSocket()
    gate.replace(TABLE)
    gate.heard()
    gate.run_in_thread(socket)
    yield gate, socket
    gate.stop()


def test_s3_a_known_key_comes_in(gate):
    assert ask(gate, request())[2] == b"200"


@pytest.mark.parametrize("mechanism", [b"NULL", b"PLAIN", b"GSSAPI", b"curve", b"CURVE\0", b""])
@pytest.mark.parametrize("credentials", [[], [KEY], [b"admin", b"admin"]])
def test_s3_no_mechanism_but_curve_comes_in(gate, mechanism, credentials):
    assert ask(gate, [*request(mechanism=mechanism)[:6], *credentials])[2] == b"400"


@pytest.mark.parametrize("key", [b"", KEY[:31], KEY + b"\0", KEY.hex().encode(), b"\0" * 32, UNKNOWN])
def test_s3_no_other_key_comes_in(gate, key):
    assert ask(gate, request(key))[2] == b"400"


def test_s3_two_credentials_are_no_key(gate):
    assert ask(gate, [*request(), KEY])[2] == b"400"


@pytest.mark.parametrize("domain", [b"", b"engine", b"controller", b"Client", b"client\0", b"*", b"global"])
def test_s3_one_doors_key_opens_no_other_door(gate, clock, domain):
    clock.now += limits.GATE_GRACE_SECONDS
    gate.heard()
    assert ask(gate, request(domain=domain))[2] == b"400"


def test_s4_every_acceptance_names_user_role_and_grant(gate):
    _, _, status, _, user, metadata = ask(gate, request())
    assert (status, user) == (b"200", b"user-id")
    assert metadata == b"\x04Role\x00\x00\x00\x06client" + b"\x05Grant\x00\x00\x00\x05owner"


def test_s4_no_refusal_names_anybody(gate):
    for body in (request(UNKNOWN), request(mechanism=b"NULL"), [b"2.0", *request()[1:]]):
        assert ask(gate, body)[4:] == [b"", b""]


def test_s5_what_a_peer_claims_does_not_change_who_it_is(gate):
    assert ask(gate, request(identity=b"somebody", address=b"10.9.8.7"))[4] == b"user-id"


@pytest.mark.parametrize(
    "body",
    [
        [],
        [b"1.0"],
        [b"1.0", b"1", b"client", b"a", b"", b"CURVE"][:5],
        [b"2.0", *request()[1:]],
        [b"1.0", b"1", b"\xff\xfe", *request()[3:]],
        [*request()[:5], b"\xff", KEY],
        [*request(), KEY, KEY],
        request(address=b"x" * 300),
        request(domain=b"d" * 300),
        [b"1.0", b"r" * 300, *request()[2:]],
        [*request()[:6], KEY * 1000],
    ],
)
def test_s3_a_broken_request_is_denied_and_the_gate_goes_on(gate, body):
    assert ask(gate, body)[2] == b"500"
    assert ask(gate, request())[2] == b"200"


@pytest.mark.parametrize("frames", [[], [b"route"], [b"route", b"1.0", b"1"]])
def test_s3_frames_without_an_envelope_get_no_answer(gate, frames):
    assert gate.answer(frames) is None


@pytest.mark.parametrize("value", [None, 7, "text"])
def test_s3_not_even_frames_that_are_no_bytes_raise(gate, value):
    assert gate.answer([b"route", b"", b"1.0", b"1", value, b"a", b"", b"CURVE", KEY])[4] == b"500"


def test_s10_a_gate_that_never_heard_the_hub_admits_nobody(clock):
    gate = Gate(lambda event: None, clock=clock)
    gate.replace(TABLE)
    assert ask(gate, request()) is None and ask(gate, request(UNKNOWN)) is None  # they wait for the hub
    clock.now += limits.GATE_EARLY_SECONDS
    assert [reply[4] for reply in gate.answer_early()] == [b"300", b"300"]


def test_s10_a_gate_that_has_not_heard_the_hub_for_5_s_admits_nobody_new(gate, clock):
    clock.now += limits.GATE_STALE_SECONDS
    assert ask(gate, request())[2] == b"200"
    clock.now += 0.001
    assert ask(gate, request()) is None
    clock.now += limits.GATE_EARLY_SECONDS
    assert [reply[4] for reply in gate.answer_early()] == [b"300"]
    assert ask(gate, request()) is None
    gate.heard()
    assert [reply[4] for reply in gate.answer_early()] == [b"200"]
    assert ask(gate, request())[2] == b"200"


def test_s10_a_beat_from_the_future_does_not_keep_the_gate_open(gate, clock):
    gate.heard(clock.now + 1e9)  # the time of another clock, say
    clock.now += limits.GATE_STALE_SECONDS + 0.001
    assert ask(gate, request()) is None
    clock.now += limits.GATE_EARLY_SECONDS
    assert [reply[4] for reply in gate.answer_early()] == [b"300"]


def test_s17_a_revoked_key_is_refused_from_the_next_table_on(gate):
    gate.replace(GateTable())
    assert ask(gate, request())[2] == b"400"


def test_s17_an_expired_key_is_refused_whatever_the_table_was_made_from(events, clock):
    wall = Clock()
    gate = Gate(events.append, clock=clock, wall=wall)
    gate.replace(GateTable({("client", KEY): Admission("u", "client", "n", expires=wall.now + 1)}))
    gate.heard()
    assert ask(gate, request())[2] == b"200"
    wall.now += 1
    assert ask(gate, request())[2] == b"400"


def test_s12_an_unknown_engine_key_is_not_yet_known_for_30_s_only(gate, clock):
    assert ask(gate, request(UNKNOWN, b"engine")) is None  # it waits to be announced
    clock.now += limits.GATE_EARLY_SECONDS
    gate.heard()
    assert [reply[4] for reply in gate.answer_early()] == [b"300"]
    clock.now += limits.GATE_GRACE_SECONDS
    gate.heard()
    assert ask(gate, request(UNKNOWN, b"engine"))[2] == b"400"


def test_s3_a_flood_of_unknown_keys_never_refuses_a_known_one(gate, events):
    answers = [ask(gate, request(number.to_bytes(32, "big"))) for number in range(5000)]
    answered = [answer for answer in answers if answer is not None]
    assert len(answered) == int(limits.GATE_UNKNOWN_PER_SECOND)
    assert {answer[2] for answer in answered} == {b"400"}
    assert all(ask(gate, request())[2] == b"200" for _ in range(1000))
    assert gate.refused == 5000
    assert len(events) <= 4


def test_s3_a_flood_spends_nothing_of_a_known_keys_refusals(gate, clock):
    for _ in range(1000):
        ask(gate, request(UNKNOWN))
    clock.now += limits.GATE_STALE_SECONDS + 1
    for _ in range(1000):
        ask(gate, request(UNKNOWN))
    assert ask(gate, request()) is None
    clock.now += limits.GATE_EARLY_SECONDS
    gate.heard()
    assert [reply[4] for reply in gate.answer_early()].count(b"200") == 1


def test_s3_a_record_of_a_decision_shows_a_fingerprint_and_bounded_text(gate, events):
    key = KeyPair.generate().public
    ask(gate, request(key.raw, address=b"x" * 255))
    (event,) = events
    assert (event.status, event.reason, event.key) == ("400", "unknown key", key.fingerprint)
    assert len(event.address) <= 64
    assert key.text not in repr(event)


def test_s3_a_domain_from_outside_is_not_quoted(gate, events):
    ask(gate, request(domain=b"evil\n"))
    assert events[0].domain == "?"


def test_s3_the_thread_answers_and_stops(running):
    gate, socket = running
    assert gate.alive()
    assert socket.ask(request())[2] == b"200"
    assert socket.ask(request(UNKNOWN))[2] == b"400"
    gate.stop()
    assert not gate.alive()
    assert socket.closed.wait(5)


def test_s2_a_gate_that_was_never_started_is_not_alive():
    assert not Gate(lambda event: None).alive()


def test_a_gate_is_started_once(running):
    gate, _ = running
    with pytest.raises(RuntimeError):
        gate.run_in_thread(FakeSocket())


def test_s3_an_exception_of_the_listener_ends_nothing(caplog):
    def broken(event):
        raise RuntimeError("no disk")

    gate, socket = Gate(broken), FakeSocket()
    gate.replace(TABLE)
    gate.heard()
    gate.run_in_thread(socket)
    try:
        with caplog.at_level(logging.ERROR):
            assert socket.ask(request())[2] == b"200"
            assert socket.ask(request(UNKNOWN))[2] == b"400"
        assert gate.alive()
        assert "no disk" in caplog.text
    finally:
        gate.stop()


def test_s3_a_table_that_fails_denies(running, caplog):
    gate, socket = running

    class Broken:
        def find(self, domain, key):
            raise KeyError("half a table")

    gate.replace(Broken())
    assert socket.ask(request())[2] == b"500"
    gate.replace(TABLE)
    assert socket.ask(request())[2] == b"200"


def test_s3_one_fault_of_the_socket_is_survived(running, caplog):
    gate, socket = running
    real = socket.recv_multipart
    faults = iter([OSError("interrupted")])

    def faulty():
        for fault in faults:
            real()
            raise fault
        return real()

    socket.recv_multipart = faulty
    socket.inbox.put([b"route", b"", *request()])
    assert socket.ask(request())[2] == b"200"
    assert gate.alive()


def test_s2_a_gate_whose_socket_is_broken_is_not_alive(running, caplog):
    gate, socket = running
    socket.fault = OSError("context terminated")
    assert socket.closed.wait(5)
    gate._thread.join(5)
    assert not gate.alive()


def test_s3_what_was_held_back_is_told_at_the_end():
    events, socket = [], FakeSocket()
    gate = Gate(events.append)
    gate.heard()
    gate.run_in_thread(socket)
    for _ in range(10):
        socket.ask(request(UNKNOWN))
    gate.stop()
    assert sum(event.count for event in events) == 10
