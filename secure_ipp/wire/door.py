"""The answering end: a ROUTER behind the gate, and a session for each peer that said hello.

Laws: a session belongs to the User-Id that the gate gave its connection, and every later message is checked against
it (S5); a claimed routing id, a malformed packet or a role other than the gate's is cut and reported; connections
that say nothing are cut in time, oldest first (S7); what a handler is told comes in order and once.
"""

from __future__ import annotations

import logging
import os
import platform
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

import zmq
from msgspec.structs import replace

from secure_ipp import limits
from secure_ipp._version import __version__
from secure_ipp.errors import ProtocolError, Refused, SecureIppError
from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages, monitor, sockets
from secure_ipp.wire.codec import PacketDecoder
from secure_ipp.wire.cutting import Accepted, Connections
from secure_ipp.wire.greeting import Newcomer, check_routing_id, descriptor_of, property_of, read_greeting
from secure_ipp.wire.loop import Loop
from secure_ipp.wire.losses import Losses
from secure_ipp.wire.outbox import Outbox
from secure_ipp.wire.pace import pace
from secure_ipp.wire.proven import answer_of
from secure_ipp.wire.session import Session
from secure_ipp.wire.unread import UnreadWatch, bytes_on_the_wire

log = logging.getLogger("secure_ipp.wire")
_READ_BATCH = 256
_LAST_WORDS_SECONDS = 0.2  # between a refusal and the cut, for the refusal to arrive
_GOODBYE_SECONDS = 0.05  # for an acknowledged goodbye to be followed by the end of the connection
_IGNORE_SECONDS = 30.0  # longer than a cut connection can live
_SWEEP_SECONDS = 0.25


class DoorHandler(Protocol):
    """Told of everything in the loop's thread; must not block."""

    def on_open(self, session: Session) -> None:
        """A new session said hello; raise `Refused` to turn it away."""

    def on_message(self, session: Session, message: Any, frame: Any | None) -> None:
        """A message, in order, once.  A bulk frame supports `.buffer` and may be sent on as it is.

        Raise `Refused` (or `ProtocolError`) to cut the peer.
        """

    def on_acknowledged(self, session: Session, tokens: list[object]) -> None:
        """The peer's process has these messages."""

    def on_resumed(self, session: Session) -> None:
        """The same session, over a new connection."""

    def on_lost(self, session: Session) -> None:
        """Its connection is gone; it may come back within `limits.RESUME_SECONDS`."""

    def on_gone(self, session: Session, reason: str) -> None:
        """It will not come back."""

    def on_incident(self, event: str, details: dict[str, str]) -> None:
        """For the record: somebody was cut, and why."""


class Door:
    """One bound ROUTER.

    Args:
        gate: must be alive; see `sockets.bind_door`.
        by_proof: see there, too.
        receives: for each role that the gate may give here, the union of messages it may send.
        incarnation: this run of the process, 16 random bytes.
    """

    def __init__(
        self, loop: Loop, *, gate: sockets.LiveGate, domain: str, endpoints: list[str], keys: KeyPair, cluster: str,
        receives: Mapping[str, Any], handler: DoorHandler, incarnation: bytes, by_proof: bool = False,
    ) -> None:
        self._loop = loop
        self.domain = domain
        self._cluster = cluster
        self._decoders = {role: PacketDecoder[Any](union) for role, union in receives.items()}
        self._handler = handler
        self._incarnation = incarnation
        self.by_proof = by_proof
        bound = self._bound = sockets.bind_door(
            loop.context, gate, domain=domain, endpoints=endpoints, keys=keys, by_proof=by_proof
        )
        self._socket, self._monitor, self._last_id = bound.socket, bound.monitor, bound.last_id
        self._losses = Losses(loop, self._read, self._lost)
        self._outbox = Outbox(loop, self._socket, fell=self._losses.fall, stalled=self._on_stalled)
        self.mark = self._outbox.mark  # this session has something to say at the end of the turn
        self._connections = Connections(own_only=by_proof)
        self._unread = UnreadWatch()
        self._all_read_at = loop.now()  # when last there was nothing more to read
        self._silent: Counter[str] = Counter()  # cut since the last sweep, by source
        self._by_routing_id: dict[bytes, Session] = {}
        self._by_token: dict[bytes, Session] = {}
        self._by_descriptor: dict[int, Session] = {}
        self._former: dict[bytes, float] = {}  # routing ids that are not listened to any more, and since when
        self._closed = False
        loop.add_reader(self._monitor.socket, self._on_monitor)
        loop.add_reader(self._socket, self._on_readable)
        self._sweep_timer = loop.call_later(_SWEEP_SECONDS, self._sweep)

    @property
    def sessions(self) -> list[Session]:
        return list(self._by_token.values())

    def cut_user(self, user: str, refusal: messages.Refusal) -> int:
        """Cut every session of a User-Id; returns how many."""
        found = [session for session in self._by_token.values() if session.user == user]
        for session in found:
            session.cut(refusal)
        return len(found)

    def rebind(self, gate: sockets.LiveGate, keys: KeyPair) -> None:
        """Prove itself with another key: connections fall, and their sessions are resumed with it (S33)."""
        sockets.rebind_door(gate, self._bound, keys)

    def close(self) -> None:
        """Unbind; every connection falls, and the handler is told nothing more."""
        if self._closed:
            return
        self._closed = True
        self._sweep_timer.cancel()
        self._loop.remove_reader(self._monitor.socket)
        self._loop.remove_reader(self._socket)
        self._monitor.close()
        sockets.close_door(self._bound)
        for session in self._by_token.values():
            session.end()

    # --- reading -------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        """Take in a bounded number of messages; libzmq takes turns between the peers.  Whether that was all."""
        for count in range(_READ_BATCH):
            if self._closed or (count == 1 and not sockets.holds_message(self._socket)):
                return True
            try:
                frames = sockets.receive(self._socket)
            except zmq.Again:
                self._all_read_at = self._loop.now()
                return True
            routing_id = frames[0].bytes
            session = self._by_routing_id.get(routing_id)
            if session is not None:
                self._on_frames(session, frames)
            elif routing_id not in self._former:
                self._on_stranger(routing_id, frames)
        return False

    def _on_frames(self, session: Session, frames: list[zmq.Frame]) -> None:
        try:
            if property_of(frames[1], "User-Id") != session.user:
                raise Refused("a message under somebody else's session", code="identity")
            session.heard += bytes_on_the_wire(frames)
            self._on_packet(session, frames)
        except (ProtocolError, Refused) as error:
            self._report(error, session.user, session.address)
            session.cut(_refusal(error))

    def _on_packet(self, session: Session, frames: list[zmq.Frame]) -> None:
        handler, link = self._handler, session.link
        received = link.receive(frames[1:])
        tokens = link.take_acknowledged()
        if tokens:
            handler.on_acknowledged(session, tokens)
        pace(self._loop, session, len(received), self.mark)
        for message, frame in received:
            if session.routing_id is None or session.leaving:
                break
            if type(message) is messages.Goodbye:
                self._on_goodbye(session, message.reason or "it said goodbye")
            else:
                handler.on_message(session, message, frame)
        self.mark(session)

    def _on_goodbye(self, session: Session, reason: str) -> None:
        """It leaves when it has its acknowledgement; if it does not, it is put out."""
        session.leaving = reason
        self._outbox.acknowledge(session)
        self._cut_soon(session.connection)
        self._loop.call_later(_GOODBYE_SECONDS, lambda: self._forget(session, reason))

    def _on_stranger(self, routing_id: bytes, frames: list[zmq.Frame]) -> None:
        """The first message of a connection, or of one that fell before it was heard.

        Its descriptor may by now be another connection's.  What the monitor told last names the holder of the
        descriptor; if afterwards a message towards the routing id finds its pipe, the holder is the sender.
        """
        self._on_monitor()
        connection = self._connections.find(descriptor_of(frames[1]))
        self._socket.getsockopt(zmq.EVENTS)  # makes libzmq look which pipes have fallen
        if connection is None:
            self._ignore(routing_id)  # it has fallen, or its descriptor could not be looked at: it will try again
            return
        if self.by_proof:
            connection.answer = answer_of(frames[1])
        try:
            check_routing_id(frames, self._last_id, self._connections.accepted)
            newcomer = read_greeting(frames, self._decoders)
            if newcomer.role == "probe":
                self._ignore(routing_id)
                return
            old = self._by_token.get(newcomer.hello.resume) if newcomer.hello.resume else None
            if old is not None and (old.user != newcomer.user or old.role != newcomer.role):
                raise Refused("it tried to resume somebody else's session", code="identity")
            if old is not None and not old.leaving:
                self._resume(old, newcomer, routing_id, connection)
            else:
                self._open(newcomer, routing_id, connection)
        except (ProtocolError, Refused) as error:
            self._report(error, property_of(frames[1], "User-Id"), property_of(frames[1], "Peer-Address"))
            self._ignore(routing_id)
            if self._outbox.send_alone(routing_id, replace(_refusal(error), proof=connection.answer)):
                self._cut_soon(connection)

    def _open(self, newcomer: Newcomer, routing_id: bytes, connection: Accepted) -> None:
        session = Session(
            self, user=newcomer.user, role=newcomer.role, grant=newcomer.grant, hello=newcomer.hello,
            address=newcomer.address, link_decoder=self._decoders[newcomer.role],
        )
        self._handler.on_open(session)
        if session.gone:
            raise Refused("it was turned away", code="turned-away")
        self._by_token[session.token] = session
        self._attach(session, routing_id, connection, resumed=False)

    def _resume(self, session: Session, newcomer: Newcomer, routing_id: bytes, connection: Accepted) -> None:
        session.link.resumed(newcomer.hello.received)
        self._cut_now(session.connection)
        self._detach(session)
        if self._attach(session, routing_id, connection, resumed=True):
            tokens = session.link.take_acknowledged()
            if tokens:
                self._handler.on_acknowledged(session, tokens)
            self._handler.on_resumed(session)

    def _attach(self, session: Session, routing_id: bytes, connection: Accepted, *, resumed: bool) -> bool:
        """The session goes on over this connection, unless that has fallen already."""
        session.routing_id, session.connection, session.heard = routing_id, connection, 0
        self._by_routing_id[routing_id] = session
        welcome = messages.Welcome(
            session=session.token, resumed=resumed, received=session.link.acknowledged_here,
            incarnation=self._incarnation, cluster=self._cluster, package=__version__, python=platform.python_version(),
            proof=connection.answer,
        )
        if not self._outbox.send_alone(routing_id, welcome):
            self._lost(session)
            return False
        self._connections.greeted(connection.descriptor)
        self._by_descriptor[connection.descriptor] = session
        self.mark(session)
        return True

    # --- peers that go, or must -----------------------------------------------------------------------------

    def _report(self, error: ProtocolError | Refused, user: str, address: str) -> None:
        log.warning("cut a peer at the %s door: %s (%s)", self.domain, error.message, address)
        details = {
            "reason": error.message, "code": error.code, "door": self.domain, "user": user, "address": address,
        }
        self._handler.on_incident("cut", details)

    def _on_stalled(self, session: Session, reason: str) -> None:
        self._handler.on_incident(
            "cut", {"door": self.domain, "user": session.user, "address": session.address, "reason": reason}
        )
        self.cut(session, messages.Refusal("slow", "you did not read what was sent to you"))

    def cut(self, session: Session, refusal: messages.Refusal) -> None:
        """Last words, then the connection falls; the session is gone at once."""
        if session.routing_id is not None:
            self._outbox.send_alone(session.routing_id, refusal)
            self._cut_soon(session.connection)
        self._forget(session, refusal.reason)

    def _cut_soon(self, connection: Accepted | None) -> None:
        if connection is not None:
            self._loop.call_later(_LAST_WORDS_SECONDS, lambda: self._cut_now(connection))

    def _cut_now(self, connection: Accepted | None) -> None:
        if connection is not None and not self._closed:
            connection.cut()

    def _ignore(self, routing_id: bytes) -> None:
        """What still comes under this id was sent before its connection falls; no connection gets it again."""
        self._former[routing_id] = self._loop.now()

    def _on_monitor(self) -> None:
        if self._closed:
            return
        for event in self._monitor.events():
            if event.event == monitor.ACCEPTED:
                self._connections.add(event.value, self._loop.now())
            elif event.event in (monitor.DISCONNECTED, monitor.CLOSED):
                self._connections.remove(event.value)
                session = self._by_descriptor.pop(event.value, None)
                if session is not None:
                    self._losses.fall(session)
        if self._connections.crowded:
            self._cut_silent()

    def _lost(self, session: Session) -> None:
        if session.routing_id is None or self._closed:
            return
        self._detach(session)
        if session.leaving:
            self._forget(session, session.leaving)
            return
        self._handler.on_lost(session)
        count = session.losses = session.losses + 1

        def gone() -> None:
            if session.routing_id is None and session.losses == count:
                self._forget(session, "its connection was lost and it did not come back")

        self._loop.call_later(limits.RESUME_SECONDS, gone)

    def _forget(self, session: Session, reason: str) -> None:
        self._detach(session)
        session.end()
        if self._by_token.pop(session.token, None) is not None and not self._closed:
            self._handler.on_gone(session, reason)

    def _detach(self, session: Session) -> None:
        if session.routing_id is None:
            return
        self._by_routing_id.pop(session.routing_id, None)
        self._ignore(session.routing_id)
        connection = session.connection
        if connection is not None and self._by_descriptor.get(connection.descriptor) is session:
            del self._by_descriptor[connection.descriptor]
        session.routing_id = session.connection = None

    def _sweep(self) -> None:
        self._read()
        self._cut_silent()
        self._report_silent()
        for connection in self._unread.too_much(self._connections, self._heard_of):
            self._handler.on_incident(
                "cut", {"door": self.domain, "address": connection.source, "reason": "it sends without credit"}
            )
            connection.cut()
        oldest = self._loop.now() - _IGNORE_SECONDS
        while self._former and (routing_id := next(iter(self._former))) and self._former[routing_id] < oldest:
            del self._former[routing_id]
        self._sweep_timer = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _heard_of(self, connection: Accepted) -> int:
        session = self._by_descriptor.get(connection.descriptor)
        return session.heard if session is not None else 0

    def _cut_silent(self) -> None:
        """Who said nothing in time; what came and has not been read yet is our delay, not theirs."""
        overdue = self._connections.overdue(self._all_read_at)
        self._silent.update(connection.source for connection in overdue if connection.cut())

    def _report_silent(self) -> None:
        """In one record a source, however fast they come."""
        foreign, self._connections.foreign = self._connections.foreign, 0
        if foreign:
            reason = "a process of another user"
            self._handler.on_incident("cut", {"door": self.domain, "count": str(foreign), "reason": reason})
        silent, self._silent = self._silent, Counter()
        for source, count in silent.items():
            self._handler.on_incident(
                "silent",
                {"door": self.domain, "address": source, "count": str(count), "reason": "no greeting after connecting"},
            )


def _refusal(error: SecureIppError) -> messages.Refusal:
    longest = limits.TEXT_CHARS
    return messages.Refusal(error.code, error.message[:longest], error.advice[:longest])


def new_incarnation() -> bytes:
    """Names this run of a process."""
    return os.urandom(16)
