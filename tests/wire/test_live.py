"""A door and its peers over real sockets: sessions outlive connections, and nothing is lost or doubled."""

import random
import threading
import time

import pytest
import zmq

from secure_ipp import limits
from secure_ipp.errors import Refused
from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages
from secure_ipp.wire.codec import encode_message, join_packet
from tests.wire.stage import DoorSide


def told_again(count, body=b""):
    """What a peer with state does: says it when a session is new."""
    def say(connection):
        for number in range(count):
            connection.send(messages.Ask(number, body), (), number)
    return say


def test_messages_come_and_go_in_order(stage):
    door = stage.door()
    peer = stage.peer(door)
    peer.on_new_session = told_again(500)
    peer.start()
    peer.record.wait("message", 500)
    assert peer.answers() == list(range(500))
    assert [number for _, number in peer.record.wait("acknowledged", 500)] == list(range(500))
    session = door.sessions[0]
    assert (session.user, session.role, session.grant) == ("alice", "client", "label-of-alice")
    assert session.address == "127.0.0.1" and session.hello.role == "client"


def test_a_cut_connection_is_resumed_and_nothing_is_lost_or_doubled(stage):
    door = stage.door()
    proxy = stage.proxy(door)
    peer = stage.peer(door, doors=[proxy.endpoint])
    chance = random.Random(5)
    proxy.budgets = [chance.randrange(20_000, 1_500_000) for _ in range(12)]
    peer.on_new_session = told_again(2000, b"x" * 3000)
    peer.start()
    peer.record.wait("message", 2000, timeout=60)
    assert peer.answers() == list(range(2000))
    assert [m.request for _, _, m, _ in door.record.all("message")] == list(range(2000))
    assert proxy.budgets == [] and len(peer.record.all("lost")) > 6
    assert [new for _, new in peer.record.all("welcome")].count(False) == 1
    assert len(door.record.all("open")) == 1 and door.record.all("gone") == []
    assert door.record.all("incident") == []


def test_bulk_data_survives_cuts_both_ways(stage):
    door = stage.door()
    proxy = stage.proxy(door)
    peer = stage.peer(door, doors=[proxy.endpoint])
    pieces = [bytes([number]) * 700_000 for number in range(40)]

    def say(connection):
        for number, piece in enumerate(pieces):
            connection.send(messages.Chunk("t", number), [memoryview(piece)])

    proxy.budgets = [3_000_000, 7_000_000, 5_000_000]
    peer.on_new_session = say
    peer.start()
    peer.record.wait("message", len(pieces), timeout=60)
    assert proxy.budgets == []
    got = [(message.offset, frames[0]) for _, message, frames in peer.record.all("message")]
    assert got == list(enumerate(pieces))


def test_a_hundred_megabytes_each_way(stage):
    door = stage.door()
    peer = stage.peer(door)
    piece, taken = bytes(range(256)) * 4096, []
    peer.on_message = lambda message, frames: taken.append((message.offset, bytes(frames[0][:256]), len(frames[0])))
    peer.on_new_session = lambda connection: [
        connection.send(messages.Chunk("t", number), [memoryview(piece)]) for number in range(100)
    ]
    peer.start()
    door.record.wait("message", 100, timeout=60)
    end = time.monotonic() + 60
    while len(taken) < 100 and time.monotonic() < end:
        time.sleep(0.01)
    assert taken == [(number, piece[:256], len(piece)) for number in range(100)]


def test_a_session_that_does_not_come_back_in_time_is_gone_and_the_next_is_new(stage, monkeypatch):
    monkeypatch.setattr(limits, "RESUME_SECONDS", 0.3)
    door = stage.door()
    proxy = stage.proxy(door)
    peer = stage.peer(door, doors=[proxy.endpoint]).start()
    peer.record.wait("welcome")
    proxy.deafen()
    proxy.cut()
    session = door.record.wait("gone")[0][1]
    assert [entry[1] for entry in door.record.all("lost")] == [session]
    proxy.hear()
    peer.record.wait("welcome", 2)
    assert [resumed for _, resumed in peer.record.all("welcome")] == [False, False]
    assert len(door.record.all("open")) == 2
    peer.ask(7)
    peer.record.wait("message")


def test_a_session_that_comes_back_in_time_is_not_forgotten_by_the_old_timer(stage, monkeypatch):
    monkeypatch.setattr(limits, "RESUME_SECONDS", 0.6)
    door = stage.door()
    proxy = stage.proxy(door)
    peer = stage.peer(door, doors=[proxy.endpoint]).start()
    peer.record.wait("welcome")
    for count in (1, 2):
        proxy.cut()
        door.record.wait("resumed", count)
    time.sleep(0.8)
    assert door.record.all("gone") == []
    peer.ask(1)
    peer.record.wait("message")


def test_what_was_said_to_a_lost_session_arrives_when_it_is_back(stage):
    door = stage.door()
    proxy = stage.proxy(door)
    peer = stage.peer(door, doors=[proxy.endpoint]).start()
    session = door.record.wait("open")[0][1]
    peer.record.wait("welcome")
    proxy.deafen()
    proxy.cut()
    door.record.wait("lost")
    peer.record.wait("lost")
    door.call(lambda: session.send(messages.Notice("info", "while you were away"), token="token"))
    peer.ask(5)
    proxy.hear()
    assert peer.record.wait("message", 2)
    assert {type(message).__name__ for _, message, _ in peer.record.all("message")} == {"Notice", "Answer"}
    assert door.record.wait("acknowledged") == [("acknowledged", "token")]


def test_a_stalled_connection_loses_nothing(stage):
    door = stage.door()
    proxy = stage.proxy(door)
    peer = stage.peer(door, doors=[proxy.endpoint]).start()
    peer.record.wait("welcome")
    proxy.stall()
    peer.call(lambda: told_again(3000, b"y" * 1000)(peer.connection))
    time.sleep(0.3)
    assert len(peer.record.all("message")) < 3000
    proxy.flow()
    peer.record.wait("message", 3000)
    assert peer.answers() == list(range(3000))
    assert peer.record.all("lost") == []


def test_last_words_before_a_peer_dies_are_heard(stage):
    door = stage.door()
    door.echo = False

    def die(connection):
        told_again(600)(connection)
        peer.loop.call_later(0.05, connection.abandon)

    peer = stage.peer(door)
    peer.on_new_session = die
    peer.start()
    door.record.wait("lost")
    assert [m.request for _, _, m, _ in door.record.all("message")] == list(range(600))


def test_last_words_are_heard_even_if_the_door_was_busy_until_after_the_end(stage):
    """The door's loop wakes up to full sockets and fallen connections at once, more than one turn can take in."""
    door = stage.door()
    door.echo = False
    peers = [stage.peer(door).start() for _ in range(4)]
    for peer in peers:
        peer.record.wait("welcome")
    busy = threading.Event()
    door.loop.call_threadsafe(lambda: busy.wait(10))
    for number in range(120):  # a packet each
        for peer in peers:
            peer.ask(number)
    time.sleep(0.1)
    for peer in peers:
        peer.call(peer.connection.abandon)
    time.sleep(0.1)
    busy.set()
    door.record.wait("lost", 4)
    numbers = [message.request for _, _, message, _ in door.record.all("message")]
    assert sorted(numbers) == sorted([*range(120)] * 4)
    assert door.record.all("incident") == []


def test_last_words_are_heard_even_if_a_send_is_the_first_to_find_the_connection_gone(stage):
    door = stage.door()
    door.echo = False
    peer = stage.peer(door).start()
    peer.record.wait("welcome")
    busy = threading.Event()

    def speak():
        """After a wait, and before anything is read or the monitor is heard."""
        busy.wait(10)
        door.socket.getsockopt(zmq.EVENTS)  # libzmq looks which pipes have fallen
        door.sessions[0].send(messages.Notice("info", "are you there?"))

    door.loop.call_threadsafe(speak)
    for number in range(60):  # a packet each
        peer.ask(number)
    time.sleep(0.1)
    peer.call(peer.connection.abandon)
    time.sleep(0.1)
    busy.set()
    door.record.wait("lost")
    assert [message.request for _, _, message, _ in door.record.all("message")] == list(range(60))


def test_close_flushes_until_acknowledged(stage):
    door = stage.door()
    peer = stage.peer(door).start()
    peer.record.wait("welcome")

    def all_then_close():
        told_again(5000, b"z" * 500)(peer.connection)
        peer.connection.close("done")

    peer.call(all_then_close)
    peer.record.wait("closed")
    assert [m.request for _, _, m, _ in door.record.all("message")] == list(range(5000))
    assert door.record.wait("gone")[0][2] == "done"
    assert peer.record.all("failed") == [] and door.record.all("incident") == []


def test_close_flushes_over_a_connection_that_is_cut_meanwhile(stage):
    door = stage.door()
    proxy = stage.proxy(door)
    peer = stage.peer(door, doors=[proxy.endpoint]).start()
    peer.record.wait("welcome")
    proxy.stall()

    def all_then_close():
        told_again(50)(peer.connection)
        peer.connection.close("done", timeout=10)

    peer.call(all_then_close)
    time.sleep(0.05)
    proxy.cut()
    proxy.flow()
    peer.record.wait("closed")
    assert [m.request for _, _, m, _ in door.record.all("message")] == list(range(50))


def test_close_ends_after_its_timeout_when_nobody_acknowledges(stage):
    door = stage.door()
    proxy = stage.proxy(door)
    peer = stage.peer(door, doors=[proxy.endpoint]).start()
    peer.record.wait("welcome")
    proxy.stall()
    began = time.monotonic()
    peer.call(lambda: (told_again(5)(peer.connection), peer.connection.close("done", timeout=0.3)))
    peer.record.wait("closed")
    assert 0.25 < time.monotonic() - began < 3


def test_close_before_any_welcome_ends_at_once(stage):
    door = stage.door()
    proxy = stage.proxy(door)
    proxy.stall()
    peer = stage.peer(door, doors=[proxy.endpoint]).start()
    peer.call(peer.connection.close)
    peer.record.wait("closed", timeout=1)
    peer.call(lambda: peer.connection.send(messages.Ask(1, b"")))
    peer.call(peer.connection.close)
    assert len(peer.record.all("closed")) == 1


def test_after_a_goodbye_the_door_lets_the_connection_fall_and_takes_nothing_more(stage):
    door = stage.door()
    intruder = stage.intruder(door)
    intruder.welcome()
    sent = [encode_message(messages.Goodbye("bye")), encode_message(messages.Ask(1, b""))]
    intruder.say(join_packet(1, 0, sent))
    intruder.say(join_packet(2, 0, sent[1:]))
    assert intruder.is_cut()
    assert door.record.wait("gone")[0][2] == "bye"
    assert door.record.all("message") == [] and door.record.all("incident") == []


def test_a_refusal_by_the_doors_owner_reaches_the_user(stage):
    door = stage.door()
    door.refuse = Refused("not today", "come tomorrow", code="closed-today")
    error = stage.peer(door).start().failure()
    assert isinstance(error, Refused)
    assert (error.message, error.advice, error.code) == ("not today", "come tomorrow", "closed-today")
    assert door.call(lambda: door.door.sessions) == []


def test_a_cut_session_hears_why_and_does_not_come_back(stage):
    door = stage.door()
    peer = stage.peer(door).start()
    session = door.record.wait("open")[0][1]
    peer.record.wait("welcome")
    door.call(lambda: session.cut(messages.Refusal("revoked", "this key was revoked", "ask for another")))
    error = peer.failure()
    assert (error.code, error.message) == ("revoked", "this key was revoked")
    assert door.record.wait("gone") == [("gone", session, "this key was revoked")]
    assert door.call(lambda: door.door.sessions) == []


def test_cut_user_cuts_all_of_one_users_sessions_and_nobody_elses(stage):
    other = KeyPair.generate()
    door = stage.door(("client", other.public, "bob", "client"))
    alices = [stage.peer(door).start() for _ in range(3)]
    bob = stage.peer(door, keys=other).start()
    for peer in (*alices, bob):
        peer.record.wait("welcome")
    assert door.call(lambda: door.door.cut_user("alice", messages.Refusal("revoked", "revoked"))) == 3
    for peer in alices:
        assert peer.failure().code == "revoked"
    bob.ask(1)
    bob.record.wait("message")


def test_a_peer_that_does_not_read_is_cut_and_what_it_was_owed_is_dropped(stage, monkeypatch):
    monkeypatch.setattr(limits, "LINK_UNSENT_BYTES", 20 * limits.MIB)
    door = stage.door()
    proxy = stage.proxy(door)
    peer = stage.peer(door, doors=[proxy.endpoint]).start()
    peer.record.wait("welcome")
    session = door.record.wait("open")[0][1]
    proxy.stall()
    piece = b"x" * limits.FRAME_BYTES
    for number in range(40):
        door.call(lambda number=number: session.send(messages.Chunk("t", number), piece))
    door.record.wait("gone")
    assert "it does not read what is sent to it" in door.reasons()
    assert door.call(lambda: (session.link.unsent_bytes, session.link.idle)) == (0, True)


def test_small_messages_to_a_peer_that_does_not_read_are_bounded_too(stage, monkeypatch):
    monkeypatch.setattr(limits, "LINK_UNSENT_BYTES", limits.MIB)
    door = stage.door()
    proxy = stage.proxy(door)
    stage.peer(door, doors=[proxy.endpoint]).start()
    session = door.record.wait("open")[0][1]
    proxy.deafen()
    proxy.cut()
    door.record.wait("lost")
    door.call(lambda: [session.send(messages.Notice("info", "")) for _ in range(10_000)])
    door.record.wait("gone")


def test_nothing_is_kept_for_a_session_that_is_gone(stage):
    door = stage.door()
    stage.peer(door).start().record.wait("welcome")
    session = door.record.wait("open")[0][1]
    door.call(lambda: session.cut(messages.Refusal("x", "x")))
    door.call(lambda: [session.send(messages.Notice("info", "x" * 1000)) for _ in range(10_000)])
    assert session.link.idle and session.link.unsent_bytes == 0
    door.call(lambda: session.cut(messages.Refusal("x", "x")))
    assert len(door.record.all("gone")) == 1


def test_nothing_is_kept_for_a_door_that_never_answered(stage):
    door = stage.door()
    proxy = stage.proxy(door)
    proxy.stall()
    peer = stage.peer(door, doors=[proxy.endpoint]).start()
    peer.call(lambda: told_again(10_000, b"x" * 1000)(peer.connection))
    assert peer.call(lambda: peer.connection.unsent_bytes) == 0


def test_closing_a_door_tells_peers_and_no_timer_of_it_does_harm(stage, monkeypatch):
    monkeypatch.setattr(limits, "RESUME_SECONDS", 0.1)
    door = stage.door()
    peer = stage.peer(door, patience=0.5).start()
    peer.record.wait("welcome")
    session = door.record.wait("open")[0][1]
    peer.ask(1)
    door.call(lambda: (session.send(messages.Notice("info", "x")), door.door.close()))
    peer.record.wait("lost")
    assert "no controller" in str(peer.failure())
    time.sleep(0.3)
    door.call(lambda: (session.send(messages.Notice("info", "x")), session.cut(messages.Refusal("a", "b"))))
    door.call(door.door.close)
    assert door.record.all("gone") == []


def test_a_restarted_door_gives_a_new_session(stage):
    first = stage.door()
    peer = stage.peer(first).start()
    peer.record.wait("welcome")
    first.call(first.door.close)
    second = DoorSide(
        [("client", stage.keys.public, "alice", "client")], server=first.server, endpoint=first.endpoint
    )
    stage._keep(second).start()
    peer.record.wait("welcome", 2)
    assert [resumed for _, resumed in peer.record.all("welcome")] == [False, False]
    peer.ask(3)
    peer.record.wait("message")


@pytest.mark.parametrize("number", [1, 40])
def test_many_peers_at_once(stage, number):
    door = stage.door()
    peers = [stage.peer(door) for _ in range(number)]
    for peer in peers:
        peer.on_new_session = told_again(20)
        peer.start()
    for peer in peers:
        peer.record.wait("message", 20, timeout=30)
        assert peer.answers() == list(range(20))
    assert len(door.call(lambda: door.door.sessions)) == number
