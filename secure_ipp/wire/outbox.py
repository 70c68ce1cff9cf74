"""What a door sends: each session's packets within its credit, and acknowledgements in time.

Laws: what one turn of the loop brought to say leaves at its end, in as few packets as can be; nothing waits for a
peer; what a peer does not read is kept up to `limits.LINK_UNSENT_BYTES`, and then the peer is cut (S18); a bare
acknowledgement goes to whom none was sent for `limits.ACK_SECONDS`, and to nobody earlier for another one's sake: a
small packet in front of a result costs a wake-up, and behind an ssh server, which does without TCP_NODELAY, 40 ms.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import zmq

from secure_ipp import limits
from secure_ipp.wire import messages, sockets
from secure_ipp.wire.codec import encode_message
from secure_ipp.wire.loop import Loop
from secure_ipp.wire.session import Session

log = logging.getLogger("secure_ipp.wire")

_TIMER_SECONDS = 0.001  # what is due within is due: another timer for it would cost more


class Outbox:
    """The sending half of a door's ROUTER.

    Args:
        fell: told of a session whose connection is not there any more.
        stalled: told of one that must be cut, and why.
    """

    def __init__(
        self, loop: Loop, socket: zmq.Socket[bytes], *, fell: Callable[[Session], None],
        stalled: Callable[[Session, str], None],
    ) -> None:
        self._loop = loop
        self._socket = socket
        self._fell = fell
        self._stalled = stalled
        self._dirty: list[Session] = []
        self._owed_since: dict[Session, float] = {}  # the longest first
        self._ack_timer_set = False

    def mark(self, session: Session) -> None:
        """This session has something to say at the end of the turn."""
        if not session.dirty and not session.gone:
            session.dirty = True
            if not self._dirty:
                self._loop.at_turn_end(self._flush)
            self._dirty.append(session)

    def acknowledge(self, session: Session) -> None:
        """Now, and with nothing else."""
        self._owed_since.pop(session, None)
        if session.routing_id is not None:
            self._send(session, session.link.acknowledgement())

    def send_alone(self, routing_id: bytes, message: messages.Message) -> bool:
        """Outside any link; whether the connection was still there."""
        try:
            self._socket.send_multipart([routing_id, encode_message(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.info("a peer left before it could be answered: %s", error.strerror)
            return False
        return True

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for session in dirty:
            session.dirty = False
            if not session.gone:
                self._flush_session(session)
        if self._owed_since and not self._ack_timer_set:
            self._ack_timer_set = True
            self._loop.call_later(limits.ACK_SECONDS, self._acknowledge_waiting)

    def _flush_session(self, session: Session) -> None:
        link = session.link
        while session.routing_id is not None and (packet := link.next_packet()) is not None:
            if not self._send(session, packet):
                return
        if session.routing_id is not None and link.ack_owed:
            if link.ack_urgent:
                self.acknowledge(session)
            elif session not in self._owed_since:
                self._owed_since[session] = self._loop.now()
        else:
            self._owed_since.pop(session, None)
        if link.unsent_bytes > limits.LINK_UNSENT_BYTES:
            self._stalled(session, "it does not read what is sent to it")

    def _acknowledge_waiting(self) -> None:
        self._ack_timer_set = False
        now = self._loop.now()
        while self._owed_since:
            session, since = next(iter(self._owed_since.items()))
            left = since + limits.ACK_SECONDS - now
            if left > _TIMER_SECONDS:
                self._ack_timer_set = True
                self._loop.call_later(left, self._acknowledge_waiting)
                return
            del self._owed_since[session]
            if session.link.ack_owed and not session.gone:
                self.acknowledge(session)

    def _send(self, session: Session, packet: list[Any]) -> bool:
        """Whether it could be sent."""
        assert session.routing_id is not None
        try:
            sockets.send_packet(self._socket, packet, session.routing_id)
        except zmq.ZMQError as error:
            if error.errno == zmq.EAGAIN:  # beyond the high-water mark: more acknowledgements than it reads
                self._stalled(session, "it sends without reading")
            else:
                self._fell(session)
            return False
        return True
