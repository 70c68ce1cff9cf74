"""A link: the session between two processes, which outlives the connections under it.

Pure: it numbers packets, keeps what is not acknowledged, keeps the sender within its credit, drops what it has
seen, and says what to send; it holds no socket and asks no clock.
Laws: packets are delivered once and in order; a gap is a `ProtocolError`; at most `LINK_WINDOW_PACKETS` packets
and `LINK_WINDOW_BYTES` bytes (or one packet) are under way; after `resumed` nothing is lost and nothing doubled.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from secure_ipp import limits
from secure_ipp.errors import ProtocolError
from secure_ipp.wire.codec import BULK, PacketDecoder, encode_message, join_packet
from secure_ipp.wire.messages import Message

_QUEUED_BYTES = 192  # what a queued message costs besides its bytes: many small ones count, too
Frame = Any  # bytes-like, or a zmq frame that is passed on unread


@dataclass(slots=True)
class _Sent:
    number: int
    encoded: list[bytes]
    frames: list[Frame]
    size: int
    tokens: list[object]


class Link:
    """One end of a link.

    Args:
        decoder: of the packets that the other end may send.
    """

    __slots__ = (
        "_ack_bytes", "_ack_packets", "_acknowledged", "_decoder", "_held", "_held_bytes", "_queue", "_resend", "_sent",
        "_sent_bytes", "_sent_number", "ack_owed", "received", "unsent_bytes",
    )

    def __init__(self, decoder: PacketDecoder[Any]) -> None:
        self._decoder = decoder
        self._queue: deque[tuple[bytes, Frame | None, int, object | None]] = deque()
        self._sent: deque[_Sent] = deque()
        self._resend: deque[_Sent] = deque()
        self._sent_bytes = 0
        self._sent_number = 0
        self._acknowledged: list[object] = []
        self._ack_packets = 0
        self._ack_bytes = 0
        self._held: int | None = None  # what came after this packet is not acknowledged for now
        self._held_bytes = 0
        self.received = 0  # number of the last packet received
        self.ack_owed = False  # the other end waits for an acknowledgement of something
        self.unsent_bytes = 0  # queued, with what it costs to queue it

    def send(self, message: Message, frame: Frame | None = None, token: object | None = None) -> None:
        """Queue a message; `token` comes back from `take_acknowledged` when the other process has it."""
        encoded = encode_message(message)
        size = len(encoded) + (_length(frame) if frame is not None else 0)
        if len(encoded) > limits.MAX_FRAME_BYTES - limits.PACKET_BYTES:
            raise ProtocolError(f"a message of {len(encoded)} bytes is too large to send", code="too-large")
        self._queue.append((encoded, frame, size, token))
        self.unsent_bytes += size + _QUEUED_BYTES

    def next_packet(self) -> list[Frame] | None:
        """The frames to send now, or None: nothing to say, or no credit left."""
        if self._resend:
            sent = self._resend.popleft()
            self._sent.append(sent)
            return self._frames(sent)
        if not self._queue or not self._credit():
            return None
        return self._frames(self._pack())

    def acknowledgement(self) -> list[Frame]:
        """A bare acknowledgement, for when nothing else travels."""
        self._ack_sent()
        return [join_packet(0, self.acknowledged_here, [])]

    @property
    def acknowledged_here(self) -> int:
        """The last packet that the other end may be told of."""
        return self.received if self._held is None else self._held

    @property
    def held(self) -> bool:
        """`hold` was called, and `let_go` was not yet."""
        return self._held is not None

    def hold(self) -> None:
        """Acknowledge nothing more, from the packet that came last on: the other end stops when its window is full."""
        if self._held is None:
            self._held, self._held_bytes = self.received - 1, 0

    def let_go(self) -> None:
        """Acknowledge again."""
        if self._held is not None:
            self._held = None
            self.ack_owed = True

    @property
    def ack_urgent(self) -> bool:
        """So much has come that the other end may soon be out of credit."""
        return self._ack_packets >= limits.ACK_EVERY_PACKETS or self._ack_bytes >= limits.LINK_WINDOW_BYTES // 4

    @property
    def idle(self) -> bool:
        """All that was given to `send` is acknowledged."""
        return not (self._queue or self._sent or self._resend)

    def receive(self, frames: list[Frame]) -> list[tuple[Any, Frame | None]]:
        """Take in one zmq message of the other end.

        Args:
            frames: unverified; the first must support the buffer protocol.

        Returns:
            Its messages, each with its bulk frame or None.

        Raises:
            ProtocolError: malformed, out of order, or acknowledging what was never sent.
        """
        if not 1 <= len(frames) <= limits.MAX_FRAMES:
            raise ProtocolError(f"a packet of {len(frames)} frames", code="malformed")
        packet = self._decoder.packet(frames[0], len(frames) - 1)
        self._take_ack(packet.ack)
        if packet.number == 0:
            if packet.messages:
                raise ProtocolError("messages in a bare acknowledgement", code="malformed")
            return []
        self.ack_owed = True
        self._ack_packets += 1
        for frame in frames:
            self._ack_bytes += _length(frame)
        if packet.number <= self.received:
            return []
        if packet.number != self.received + 1:
            raise ProtocolError(f"packet {packet.number} after {self.received}", code="malformed")
        self.received = packet.number
        if self._held is not None:
            self._check_credit(sum(_length(frame) for frame in frames))
        if len(frames) == 1:
            return [(message, None) for message in packet.messages]
        return _with_frames(packet.messages, frames)

    def _check_credit(self, size: int) -> None:
        """Held, the other end has what a window has room for, and no more."""
        assert self._held is not None
        self._held_bytes += size
        if self.received > self._held + limits.LINK_WINDOW_PACKETS or self._held_bytes > 2 * limits.LINK_WINDOW_BYTES:
            raise ProtocolError("more was sent than there was credit for", code="credit")

    def resumed(self, peer_received: int) -> None:
        """A new connection carries on: the other end has everything up to `peer_received`.

        Raises:
            ProtocolError: the other end claims what was never sent.
        """
        self._take_ack(peer_received)
        unacknowledged = list(self._sent) + list(self._resend)
        self._resend = deque(sorted(unacknowledged, key=lambda sent: sent.number))
        self._sent.clear()
        self._ack_packets = self._ack_bytes = 0
        self.ack_owed = False

    def drop(self) -> None:
        """Forget all that was to be sent: the other end will not come back."""
        for waiting in (self._queue, self._sent, self._resend):
            waiting.clear()
        self._sent_bytes = self.unsent_bytes = 0

    def take_acknowledged(self) -> list[object]:
        """Tokens of messages that the other process has, since the last call."""
        if not self._acknowledged:
            return []
        tokens, self._acknowledged = self._acknowledged, []
        return tokens

    def _credit(self) -> bool:
        if not self._sent:
            return True
        return len(self._sent) < limits.LINK_WINDOW_PACKETS and self._sent_bytes < limits.LINK_WINDOW_BYTES

    def _pack(self) -> _Sent:
        encoded: list[bytes] = []
        frames: list[Frame] = []
        tokens: list[object] = []
        size = 0
        queue = self._queue
        while queue and len(encoded) < limits.PACKET_MESSAGES:
            item = queue[0]
            if encoded and (size + item[2] > limits.PACKET_BYTES or len(frames) >= limits.MAX_FRAMES - 1):
                break
            queue.popleft()
            encoded.append(item[0])
            size += item[2]
            if item[1] is not None:
                frames.append(item[1])
            if item[3] is not None:
                tokens.append(item[3])
        self.unsent_bytes -= size + _QUEUED_BYTES * len(encoded)
        self._sent_number += 1
        sent = _Sent(self._sent_number, encoded, frames, size, tokens)
        self._sent.append(sent)
        self._sent_bytes += size
        return sent

    def _frames(self, sent: _Sent) -> list[Frame]:
        self._ack_sent()
        return [join_packet(sent.number, self.acknowledged_here, sent.encoded), *sent.frames]

    def _ack_sent(self) -> None:
        self._ack_packets = self._ack_bytes = 0
        self.ack_owed = False

    def _take_ack(self, ack: int) -> None:
        if ack > self._sent_number:
            raise ProtocolError("an acknowledgement of what was never sent", code="malformed")
        for waiting in (self._sent, self._resend):
            while waiting and waiting[0].number <= ack:
                sent = waiting.popleft()
                self._sent_bytes -= sent.size
                self._acknowledged.extend(sent.tokens)


def _length(frame: Frame) -> int:
    return frame.nbytes if isinstance(frame, memoryview) else len(frame)


def _with_frames(decoded: list[Any], frames: list[Frame]) -> list[tuple[Any, Frame | None]]:
    bulk = iter(frames[1:])
    return [(message, next(bulk) if isinstance(message, BULK) else None) for message in decoded]
