"""When a door acknowledges what nothing travels back for; a clock that stands, and links of both ends."""

import heapq

import pytest

from secure_ipp import limits
from secure_ipp.wire import messages, outbox
from secure_ipp.wire.codec import PacketDecoder
from secure_ipp.wire.link import Link


class Clock:
    """As much of a loop as an outbox uses; time passes in `wait` alone."""

    def __init__(self):
        self.time = 1000.0
        self.timers = []
        self.turn_end = []

    def now(self):
        return self.time

    def call_later(self, seconds, callback):
        heapq.heappush(self.timers, (self.time + seconds, len(self.timers), callback))

    def at_turn_end(self, callback):
        self.turn_end.append(callback)

    def wait(self, seconds):
        until = self.time + seconds
        while self.timers and self.timers[0][0] <= until:
            self.time, _, callback = heapq.heappop(self.timers)
            callback()
        self.time = until


class Client:
    """A session, and the other end of its link; `heard` is what was sent to it."""

    def __init__(self, name):
        self.routing_id = name
        self.gone = self.dirty = False
        self.link = Link(PacketDecoder(messages.FromClient))
        self._far = Link(PacketDecoder(messages.ToClient))
        self.heard = []

    def asks(self):
        self._far.send(messages.Ask(len(self.heard), b""))
        self.link.receive(self._far.next_packet())


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def door(clock, monkeypatch):
    clients = {}

    def send(_, packet, to):
        client = clients[to]
        said = client._far.receive(packet)
        client.heard.append(("answer" if said else "acknowledgement", round(clock.time - 1000, 6)))

    monkeypatch.setattr(outbox.sockets, "send_packet", send)
    box = outbox.Outbox(clock, None, fell=None, stalled=None)

    class Door:
        def client(self, name):
            return clients.setdefault(name, Client(name))

        def turn(self, *marked):
            for client in marked:
                box.mark(client)
            for callback in [clock.turn_end.pop() for _ in clock.turn_end]:
                callback()

    return Door()


def test_what_is_not_answered_is_acknowledged_in_time(clock, door):
    client = door.client(b"ada")
    client.asks()
    door.turn(client)
    clock.wait(limits.ACK_SECONDS * 0.9)
    assert client.heard == []
    clock.wait(limits.ACK_SECONDS * 0.2)
    assert client.heard == [("acknowledgement", limits.ACK_SECONDS)]


def test_no_acknowledgement_precedes_an_answer_that_comes_soon(clock, door):
    """One after the other: each call is acknowledged by its answer, whenever a timer of an earlier one ends."""
    client = door.client(b"ada")
    for _ in range(200):
        client.asks()
        door.turn(client)
        clock.wait(limits.ACK_SECONDS * 0.13)
        client.link.send(messages.Answer(1, b""))
        door.turn(client)
    assert [what for what, _ in client.heard] == ["answer"] * 200


def test_each_waits_for_its_own_time(clock, door):
    first, second, answered = door.client(b"ada"), door.client(b"bob"), door.client(b"eve")
    first.asks()
    door.turn(first)
    clock.wait(limits.ACK_SECONDS / 2)
    second.asks()
    answered.asks()
    door.turn(second, answered)
    first.asks()  # it has waited since its first
    answered.link.send(messages.Answer(1, b""))
    door.turn(first, answered)
    clock.wait(limits.ACK_SECONDS * 2)
    assert first.heard == [("acknowledgement", limits.ACK_SECONDS)]
    assert second.heard == [("acknowledgement", limits.ACK_SECONDS * 1.5)]
    assert answered.heard == [("answer", limits.ACK_SECONDS / 2)]
    assert clock.timers == []


def test_a_session_that_is_gone_is_told_nothing(clock, door):
    client = door.client(b"ada")
    client.asks()
    door.turn(client)
    client.gone = True
    clock.wait(limits.ACK_SECONDS * 2)
    assert client.heard == []
