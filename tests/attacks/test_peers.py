"""Attacks by peers that are inside: cuts, crowds, hostile packets and floods (S7, S18)."""

import os
import sys
import threading
import time

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.wire import messages
from secure_ipp.wire.codec import decode_greeting_reply, encode_message, join_packet
from tests.attacks.doors import ASK, packet, raw_welcome
from tests.wire.stage import PATIENT, hello

# --- S7: cuts, silence, crowds -----------------------------------------------------------------------------------


def test_s7_a_cut_hits_one_peer_and_its_reconnect_meets_the_gate(siege):
    door = siege.door()
    others = [siege.attacker(door) for _ in range(3)]
    for other in others:
        other.welcome()
    victim = siege.peer(door, keys=siege.mallory).start()
    victim.record.wait("welcome")
    session = door.record.wait("open", 5)[4][1]
    door.admit(("client", siege.keys.public, "alice", "client"))
    before = len([1 for _, status in door.record.all("gate") if status == "400"])
    door.call(lambda: session.connection.cut())
    assert victim.failure().code == "revoked", "a key that was let in before, and is refused now"
    assert len([1 for _, status in door.record.all("gate") if status == "400"]) == before + 1
    for other in others:
        other.say(packet(1, 0, ASK))
        assert other.hear() is not None
    siege.assert_undisturbed()


def descriptors():
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("words", [b"garbage", encode_message(hello("engine")), encode_message(hello())])
def test_s7_an_innocent_with_a_reused_descriptor_is_not_cut_for_its_predecessor(siege, words):
    """What the first one said is read only after it fell and somebody else got its descriptor."""
    door = siege.door()
    busy = threading.Event()
    door.loop.call_threadsafe(lambda: busy.wait(PATIENT))
    before = descriptors()
    guilty = siege.raw(door)
    guilty.say(words)
    time.sleep(0.05)
    of_guilty = descriptors() - before
    guilty.reset()
    while descriptors() & of_guilty:
        time.sleep(0.01)
    innocent = siege.raw(door)
    assert descriptors() - before == of_guilty, "the descriptor was not used again"
    innocent.say(encode_message(hello()))
    time.sleep(0.05)
    busy.set()
    assert isinstance(decode_greeting_reply(innocent.hear()), messages.Welcome)
    live = door.call(lambda: [s for s in door.door.sessions if s.routing_id is not None])
    assert len({s.connection.descriptor for s in live}) == len(live) == 2
    for session in set(door.call(lambda: door.door.sessions)) - set(live):
        door.call(lambda session=session: session.cut(messages.Refusal("x", "x")))
    time.sleep(0.4)  # a cut would come after its last words
    innocent.say(packet(1, 0, ASK))
    assert b"answer" in innocent.hear()
    siege.assert_undisturbed()


def test_s7_silent_connections_are_cut_in_time(siege, monkeypatch):
    monkeypatch.setattr(limits, "HELLO_SECONDS", 0.5)
    door = siege.door()
    silent = siege.attacker(door)
    assert silent.event(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    assert silent.is_cut(timeout=3)
    event, details = door.record.wait("incident")[0][1:]
    assert event == "silent" and details["address"] == "127.0.0.1" and details["count"] == "1"
    siege.assert_undisturbed()


def test_s7_half_open_connections_are_bounded_and_the_oldest_goes_first(siege, monkeypatch):
    monkeypatch.setattr(limits, "HALF_OPEN_PER_SOURCE", 4)
    door = siege.door()
    silent = []
    for _ in range(6):
        silent.append(siege.attacker(door))
        assert silent[-1].event(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    assert silent[0].is_cut() and silent[1].is_cut()
    assert all(not one.is_cut(timeout=0.1) for one in silent[2:])
    late = siege.attacker(door)
    late.welcome()
    siege.assert_undisturbed()


# --- hostile packets --------------------------------------------------------------------------------------------


def test_an_oversized_frame_cuts_its_sender_alone(siege):
    door = siege.door()
    attacker = siege.attacker(door)
    attacker.welcome()
    attacker.say(b"x" * (5 * limits.MIB))
    assert attacker.is_cut()
    siege.assert_undisturbed()


@pytest.mark.parametrize("frames", [
    [packet(1, 0, ASK)] * 1000, [packet(1, 0, ASK), b"bulk"], [packet(1, 0, messages.Chunk("t", 0))],
    [packet(1, 0, messages.Chunk("t", 0)), b"a", b"b"], [b""], [b"\x93"], [b"\x93\x01\x00\x91" + b"\x91" * 1_000_000],
    [packet(1, 9, ASK)], [packet(0, 2**63 - 1)], [packet(2, 0, ASK)], [packet(2**63 - 1, 0, ASK)],
    [packet(0, 0, ASK)], [join_packet(1, 0, [b"\xc1"])], [b"\x93\x01\x00\xdd\xff\xff\xff\xff"],
    [packet(1, 0, messages.Report("h", 1, 0, 0, [], []))], [packet(1, 0, messages.Roster([], []))],
    [packet(1, 0, messages.Submit("t", "apply", b"", [b"x" * limits.INLINE_BYTES] * 20, [], 0.0))],
    [packet(1, 0, *[ASK] * (limits.PACKET_MESSAGES + 1))],
], ids=lambda frames: f"{len(frames)}-{frames[0][:30].hex()[-40:]}")
def test_a_hostile_packet_cuts_its_sender_alone(siege, frames):
    door = siege.door()
    attacker = siege.attacker(door)
    attacker.welcome()
    attacker.say(*frames)
    assert attacker.is_cut()
    assert door.record.wait("gone")[0][1].user == "mallory"
    assert door.record.all("message") == []
    siege.assert_undisturbed()


def test_replays_are_dropped_and_gaps_are_cut(siege):
    door = siege.door()
    attacker = siege.attacker(door)
    attacker.welcome()
    for _ in range(3):
        attacker.say(packet(1, 0, ASK))
    attacker.say(packet(2, 0, messages.Ask(2, b"")))
    attacker.say(packet(4, 0, ASK))
    assert attacker.is_cut()
    assert [message.request for _, _, message, _ in door.record.all("message")] == [1, 2]
    siege.assert_undisturbed()


GARBAGE = st.one_of(
    st.lists(st.binary(max_size=80), min_size=1, max_size=4),
    st.binary(max_size=60).map(lambda tail: [b"\x93\x01\x00\x91" + tail]),
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)).map(
        lambda t: [packet(t[0], t[1], *[ASK] * t[2])]
    ),
    st.sampled_from([
        [encode_message(hello())], [encode_message(hello("engine"))], [encode_message(messages.Goodbye("x"))],
        [packet(1, 0, messages.Goodbye("x"))], [b""], [b"", b""],
    ]),
)


@given(conversations=st.lists(st.tuples(st.booleans(), st.lists(GARBAGE, max_size=5), st.booleans()), max_size=4))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_whatever_is_said_in_any_state_the_door_goes_on_serving(siege, conversations):
    """Some greet before they talk garbage, some hang up in the middle."""
    door = siege.target if hasattr(siege, "target") else siege.door()
    talkers = []
    for greets, garbage, hangs_up in conversations:
        talker = siege.intruder(door, keys=siege.mallory)
        talkers.append(talker)
        if greets:
            talker.welcome()
        for frames in garbage:
            talker.say(*frames)
        if hangs_up:
            talker.socket.disconnect(door.endpoint)
    siege.assert_undisturbed()
    for talker in talkers:
        siege._made.remove(talker)
        talker.close()


# --- S18: floods -----------------------------------------------------------------------------------------------


def test_s18_a_flood_does_not_starve_the_others(siege):
    door = siege.door()
    attacker = siege.attacker(door)
    attacker.welcome()
    over = threading.Event()

    def flood():
        while not over.is_set():
            attacker.socket.send(packet(0, 0), copy=True)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        time.sleep(0.3)
        began = time.monotonic()
        for _ in range(20):
            siege.assert_undisturbed()
        assert time.monotonic() - began < 10
    finally:
        over.set()
        thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not say how much came")
@pytest.mark.parametrize("greets", [True, False])
def test_s18_a_message_without_end_is_cut_before_it_fills_the_memory(siege, greets):
    """libzmq hands over whole messages only; what it holds of one that never ends, no callback sees."""
    door = siege.door()
    raw = siege.raw(door)
    if greets:
        raw_welcome(raw)
    piece, sent = bytes(limits.MIB), 0
    try:
        while sent < 20 * limits.UNREAD_BYTES:
            raw.say_frame(piece, more=True)
            sent += len(piece)
    except OSError:
        pass
    assert sent < 20 * limits.UNREAD_BYTES
    door.record.wait("incident")
    assert "it sends without credit" in door.reasons()
    siege.assert_undisturbed()


def test_s18_an_honest_sender_of_much_is_not_taken_for_a_flood(siege):
    door = siege.door()
    piece = bytes(limits.MIB)
    door.echo = False
    siege.alice.call(lambda: [
        siege.alice.connection.send(messages.Chunk("t", n), [memoryview(piece)]) for n in range(300)
    ])
    door.record.wait("message", 300, timeout=60)
    time.sleep(0.6)
    door.echo = True
    assert door.record.all("incident") == []
    siege.assert_undisturbed()


def test_s18_a_peer_that_sends_and_never_reads_is_cut(siege, monkeypatch):
    monkeypatch.setattr(limits, "LINK_UNSENT_BYTES", 4 * limits.MIB)
    door = siege.door()
    raw = siege.raw(door)
    raw_welcome(raw)
    body = b"x" * 100_000
    number = 0
    try:
        while number < 1000 and not door.record.all("gone"):
            number += 1
            raw.say(packet(number, 0, *[messages.Ask(1, b"x" * 300)] * 8))
            door.call(lambda: [s.send(messages.Answer(1, body)) for s in door.sessions if s.user == "mallory"])
    except OSError:
        pass
    assert door.record.wait("gone")[0][1].user == "mallory"
    assert "it does not read what is sent to it" in door.reasons()
    siege.assert_undisturbed()
