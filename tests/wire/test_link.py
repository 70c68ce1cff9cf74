"""Links: whatever happens to the connections under it, every message arrives once and in order."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.errors import ProtocolError
from secure_ipp.wire import messages
from secure_ipp.wire.codec import PacketDecoder, encode_message, join_packet
from secure_ipp.wire.link import Link

DECODER = PacketDecoder(messages.FromClient | messages.Answer)


class Ends:
    """Two links and a channel that keeps order, and may lose everything in it together with the connection."""

    def __init__(self):
        self.links = [Link(DECODER), Link(DECODER)]
        self.channels = [deque(), deque()]  # towards link 0, towards link 1
        self.got = [[], []]
        self.confirmed = [[], []]
        self.sent = [0, 0]
        self.largest = 0

    def send(self, end, size, bulk):
        number = self.sent[end]
        self.sent[end] += 1
        body = bytes([number % 251]) * size
        if bulk:
            self.links[end].send(messages.Chunk(str(number), number), memoryview(body), number)
        else:
            self.links[end].send(messages.Ask(number, body), None, number)

    def flush(self, end, packets):
        link = self.links[end]
        for _ in range(packets):
            packet = link.next_packet()
            if packet is None:
                break
            self.channels[1 - end].append(packet)
        assert len(link._sent) <= limits.LINK_WINDOW_PACKETS
        assert link._sent_bytes <= limits.LINK_WINDOW_BYTES + self.largest

    def acknowledge(self, end):
        if self.links[end].ack_owed:
            self.channels[1 - end].append(self.links[end].acknowledgement())

    def deliver(self, end, packets):
        for _ in range(min(packets, len(self.channels[end]))):
            for message, frame in self.links[end].receive(self.channels[end].popleft()):
                if isinstance(message, messages.Chunk):
                    self.got[end].append((message.offset, bytes(frame)))
                else:
                    self.got[end].append((message.request, message.body))
        self.confirmed[end].extend(self.links[end].take_acknowledged())

    def reconnect(self):
        for channel in self.channels:
            channel.clear()
        received = [link.received for link in self.links]
        for end in (0, 1):
            self.links[end].resumed(received[1 - end])
            self.confirmed[end].extend(self.links[end].take_acknowledged())

    def settle(self):
        for _ in range(10_000):
            if all(link.idle for link in self.links) and not any(self.channels):
                return
            for end in (0, 1):
                self.flush(end, 1000)
                self.acknowledge(end)
                self.deliver(end, 1000)
        raise AssertionError("the links do not come to rest")

    def check(self):
        for end in (0, 1):
            numbers = list(range(self.sent[1 - end]))
            assert [number for number, _ in self.got[end]] == numbers
            assert all(set(body) <= {number % 251} for number, body in self.got[end])
            assert self.confirmed[1 - end] == numbers
            assert self.links[end].unsent_bytes == 0
            assert self.links[end]._sent_bytes == 0


STEP = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 1), st.sampled_from([0, 1, 300, 70_000, 1_000_000]), st.booleans(),
              st.sampled_from([1, 3, 40])),
    st.tuples(st.just("flush"), st.integers(0, 1), st.integers(1, 10)),
    st.tuples(st.just("deliver"), st.integers(0, 1), st.integers(1, 10)),
    st.tuples(st.just("acknowledge"), st.integers(0, 1)),
    st.tuples(st.just("reconnect")),
)


@given(st.lists(STEP, max_size=40))
@settings(max_examples=150, deadline=None)
def test_every_message_arrives_once_in_order_over_connections_that_break(steps):
    ends = Ends()
    ends.largest = 1_100_000
    for name, *arguments in steps:
        if name == "send":
            end, size, bulk, times = arguments
            for _ in range(times if size < 1_000_000 else 1):
                ends.send(end, size, bulk)
        else:
            getattr(ends, name)(*arguments)
    ends.settle()
    ends.check()


def test_the_window_holds_in_packets_and_opens_with_acknowledgements():
    ends = Ends()
    for _ in range(limits.LINK_WINDOW_PACKETS + 50):
        ends.send(0, 10, False)
        ends.flush(0, 1)
    assert len(ends.channels[1]) == limits.LINK_WINDOW_PACKETS
    assert ends.links[0].next_packet() is None
    ends.deliver(1, 1000)
    ends.acknowledge(1)
    ends.deliver(0, 1)
    assert ends.links[0].next_packet() is not None


def test_the_window_holds_in_bytes():
    ends = Ends()
    for _ in range(30):
        ends.send(0, limits.FRAME_BYTES, True)
    ends.largest = limits.FRAME_BYTES + 100
    ends.flush(0, 1000)
    under_way = sum(len(frame) for packet in ends.channels[1] for frame in packet)
    assert limits.LINK_WINDOW_BYTES <= under_way <= limits.LINK_WINDOW_BYTES + 2 * limits.FRAME_BYTES
    ends.settle()
    ends.check()


def test_a_receiver_asks_for_an_acknowledgement_before_the_sender_runs_dry():
    ends = Ends()
    for _ in range(limits.ACK_EVERY_PACKETS):
        ends.send(0, 1, False)
        ends.flush(0, 1)
    ends.deliver(1, limits.ACK_EVERY_PACKETS - 1)
    assert not ends.links[1].ack_urgent
    ends.deliver(1, 1)
    assert ends.links[1].ack_urgent
    ends.acknowledge(1)
    assert not ends.links[1].ack_urgent and not ends.links[1].ack_owed


def test_small_messages_travel_together_and_large_ones_do_not_wait_for_each_other():
    ends = Ends()
    for _ in range(100):
        ends.send(0, 10, False)
    ends.send(0, limits.PACKET_BYTES, True)
    ends.flush(0, 100)
    assert [len(packet) for packet in ends.channels[1]] == [1, 2]


def test_no_packet_is_larger_than_a_receiver_allows():
    link = Link(DECODER)
    for number in range(5000):
        link.send(messages.Chunk("t", number), b"")
        link.send(messages.Ask(number, b""))
    while (packet := link.next_packet()) is not None:
        assert len(packet) <= limits.MAX_FRAMES
        assert all(len(frame) <= limits.MAX_FRAME_BYTES for frame in packet)
        assert len(DECODER.packet(packet[0], len(packet) - 1).messages) <= limits.PACKET_MESSAGES
        link.receive([join_packet(0, link._sent_number, [])])


def test_a_message_that_no_receiver_would_take_is_refused_by_the_sender():
    with pytest.raises(ProtocolError):
        Link(DECODER).send(messages.Ask(1, b"x" * limits.MAX_FRAME_BYTES))


def test_what_is_queued_counts_more_than_its_bytes():
    link = Link(DECODER)
    for number in range(1000):
        link.send(messages.Ask(number, b""))
    assert link.unsent_bytes > 100_000
    while link.next_packet() is not None:
        pass
    assert link.unsent_bytes == 0


def test_a_link_that_was_dropped_keeps_nothing():
    ends = Ends()
    for _ in range(10):
        ends.send(0, 1000, False)
    ends.flush(0, 1)
    ends.reconnect()
    ends.links[0].drop()
    assert ends.links[0].idle and ends.links[0].unsent_bytes == 0 and ends.links[0].next_packet() is None


# --- hostile other ends ------------------------------------------------------------------------------------


def packet(number, ack=0, *sent):
    return [join_packet(number, ack, [encode_message(message) for message in sent])]


ASK = messages.Ask(1, b"")


@pytest.mark.parametrize("frames", [
    [], packet(2, 0, ASK), packet(2**63 - 1, 0, ASK), packet(1, 1, ASK), packet(0, 1), packet(1, 2**63 - 1),
    packet(0, 0, ASK), packet(1, 0, messages.Chunk("t", 0)), [*packet(1, 0, ASK), b"bulk"],
    [*packet(0, 0), b"bulk"], [b""], [b"\x93"], [b"x" * 1000], packet(1, 0, ASK) + [b""] * limits.MAX_FRAMES,
    packet(1, 0, messages.Roster([], [])),
])
def test_hostile_packets_are_protocol_errors(frames):
    link = Link(DECODER)
    with pytest.raises(ProtocolError):
        link.receive(frames)
    assert link.received == 0


def test_a_gap_is_refused_and_a_replay_is_dropped_but_acknowledged():
    link = Link(DECODER)
    assert link.receive(packet(1, 0, ASK)) == [(ASK, None)]
    link.acknowledgement()
    for _ in range(3):
        assert link.receive(packet(1, 0, ASK)) == []
    assert link.ack_owed
    with pytest.raises(ProtocolError):
        link.receive(packet(3, 0, ASK))
    assert link.receive(packet(2, 0, ASK)) == [(ASK, None)]


def test_an_acknowledgement_may_repeat_and_go_back_but_never_forward_of_what_was_sent():
    link = Link(DECODER)
    for number in range(3):
        link.send(ASK, None, number)
        link.next_packet()
    link.receive(packet(0, 2))
    link.receive(packet(0, 1))
    link.receive(packet(0, 0))
    assert link.take_acknowledged() == [0, 1]
    with pytest.raises(ProtocolError):
        link.receive(packet(0, 4))
    assert link.take_acknowledged() == []


def test_a_resume_that_claims_what_was_never_sent_changes_nothing():
    link = Link(DECODER)
    link.send(ASK, None, "token")
    link.next_packet()
    with pytest.raises(ProtocolError):
        link.resumed(2)
    assert link.take_acknowledged() == []
    link.resumed(0)
    assert DECODER.packet(link.next_packet()[0], 0).number == 1


@given(st.lists(st.one_of(
    st.binary(max_size=60).map(lambda data: [data]),
    st.lists(st.binary(max_size=60), max_size=4),
    st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2)).map(
        lambda t: [join_packet(t[0], t[1], [encode_message(ASK)] * t[2])]
    ),
), max_size=10))
@settings(deadline=None)
def test_whatever_comes_the_link_raises_protocol_errors_only_and_delivers_in_order(packets):
    link = Link(DECODER)
    link.send(ASK)
    link.next_packet()
    for frames in packets:
        before = link.received
        try:
            got = link.receive(frames)
        except ProtocolError:
            got = []
        assert link.received in (before, before + 1)
        assert not got or link.received == before + 1
