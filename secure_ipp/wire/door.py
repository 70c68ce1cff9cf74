"""The answering end: a ROUTER behind the gate, and a session for each peer that said hello.

Laws: a session belongs to the User-Id that the gate gave its connection, and every later message is checked against
it (S5); a claimed routing id, a malformed packet or a role other than the gate's is cut and reported; connections
that say nothing are cut in time, oldest first (S7); what a handler is told comes in order and once.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Mapping
from typing import Any, Protocol

import zmq

from secure_ipp import limits
from secure_ipp._version import __version__
from secure_ipp.errors import ProtocolError, Refused
from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages, monitor, sockets
from secure_ipp.wire.codec import PacketDecoder, decode_hello, encode_message
from secure_ipp.wire.cutting import Accepted
from secure_ipp.wire.loop import Loop
from secure_ipp.wire.session import Session

log = logging.getLogger("secure_ipp.wire")
_READ_BATCH = 256
_LAST_WORDS_SECONDS = 0.2  # between a refusal and the cut, for the refusal to arrive


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
        receives: for each role that the gate may give here, the union of messages it may send.
        incarnation: this run of the process, 16 random bytes.
    """

    def __init__(
        self, loop: Loop, *, gate: sockets.LiveGate, domain: str, endpoints: list[str], keys: KeyPair, cluster: str,
        receives: Mapping[str, Any], handler: DoorHandler, incarnation: bytes,
    ) -> None:
        self._loop = loop
        self.domain = domain
        self._cluster = cluster
        self._decoders = {role: PacketDecoder[Any](union) for role, union in receives.items()}
        self._handler = handler
        self._incarnation = incarnation
        self._socket = sockets.bind_door(loop.context, gate, domain=domain, endpoints=endpoints, keys=keys)
        self._monitor = monitor.Monitor(self._socket)
        self._accepted = Accepted()
        self._by_routing_id: dict[bytes, Session] = {}
        self._by_token: dict[bytes, Session] = {}
        self._by_descriptor: dict[int, Session] = {}
        self._dirty: list[Session] = []
        self._losing: list[tuple[Session, bytes | None]] = []
        self._ack_waiting: set[Session] = set()
        self._ack_timer_set = False
        self._closed = False
        loop.add_reader(self._monitor.socket, self._on_monitor)
        loop.add_reader(self._socket, self._on_readable)
        self._sweep_timer = loop.call_later(1.0, self._sweep)

    @property
    def sessions(self) -> list[Session]:
        return list(self._by_token.values())

    def cut_user(self, user: str, refusal: messages.Refusal) -> int:
        """Cut every session of a User-Id; returns how many."""
        found = [session for session in self._by_token.values() if session.user == user]
        for session in found:
            session.cut(refusal)
        return len(found)

    def close(self) -> None:
        """Unbind; every connection falls."""
        if self._closed:
            return
        self._closed = True
        self._sweep_timer.cancel()
        self._loop.remove_reader(self._monitor.socket)
        self._loop.remove_reader(self._socket)
        self._monitor.close()
        self._socket.close(0)

    # --- reading -------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        for _ in range(_READ_BATCH):
            if self._closed:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            routing_id = frames[0].bytes
            session = self._by_routing_id.get(routing_id)
            try:
                if session is None:
                    self._on_hello(routing_id, frames)
                elif frames[1].get("User-Id") != session.user:
                    raise Refused("a message under somebody else's session", code="identity")
                else:
                    self._on_packet(session, frames)
            except (ProtocolError, Refused) as error:
                self._misbehaved(routing_id, session, frames, error)

    def _on_packet(self, session: Session, frames: list[zmq.Frame]) -> None:
        handler, link = self._handler, session.link
        received = link.receive([frames[1].buffer, *frames[2:]])
        tokens = link.take_acknowledged()
        if tokens:
            handler.on_acknowledged(session, tokens)
        for message, frame in received:
            if type(message) is messages.Goodbye:
                self.mark(session)
                session.leaving = message.reason or "it said goodbye"
                self._loop.call_later(0.05, lambda: self._forget(session, session.leaving))
                return
            handler.on_message(session, message, frame)
            if session.routing_id is None:
                return
        self.mark(session)

    def _on_hello(self, routing_id: bytes, frames: list[zmq.Frame]) -> None:
        self._on_monitor()
        first = frames[1]
        descriptor = int(first.get(zmq.SRCFD))
        if len(frames) != 2:
            raise ProtocolError("a greeting of several frames", code="malformed")
        if first.get("Identity"):
            raise Refused("it claimed a routing id", code="claimed-routing-id")
        role, user, grant = str(first.get("Role")), str(first.get("User-Id")), str(first.get("Grant"))
        hello = decode_hello(first.bytes)
        if role == "probe":
            return
        if hello.protocol != limits.PROTOCOL:
            raise Refused(
                f"it speaks protocol {hello.protocol}, this controller {limits.PROTOCOL}",
                f"install the controller's version: pip install secure-ipp=={__version__}", code="version",
            )
        if hello.role != role or role not in self._decoders:
            raise Refused(
                f"a key for the role {role!r} was used as {hello.role!r}",
                "use ipcontroller-client.json for clients and ipcontroller-engine.json for engines", code="role",
            )
        old = self._by_token.get(hello.resume) if hello.resume else None
        if old is not None and (old.user != user or old.role != role):
            raise Refused("it tried to resume somebody else's session", code="identity")
        self._accepted.greeted(descriptor)
        if old is not None:
            self._resume(old, routing_id, descriptor, hello)
            return
        session = Session(
            self, user=user, role=role, grant=grant, hello=hello, routing_id=routing_id, descriptor=descriptor,
            address=str(first.get("Peer-Address")), link_decoder=self._decoders[role],
        )
        self._handler.on_open(session)
        self._by_token[session.token] = session
        self._by_routing_id[routing_id] = session
        self._by_descriptor[descriptor] = session
        self._greet(session, resumed=False)
        self.mark(session)

    def _resume(self, session: Session, routing_id: bytes, descriptor: int, hello: messages.Hello) -> None:
        if session.routing_id is not None:
            self._by_routing_id.pop(session.routing_id, None)
            self._by_descriptor.pop(session.descriptor, None)
            self._accepted.cut(session.descriptor)
        session.routing_id, session.descriptor = routing_id, descriptor
        self._by_routing_id[routing_id] = session
        self._by_descriptor[descriptor] = session
        session.link.resumed(hello.received)
        tokens = session.link.take_acknowledged()
        if tokens:
            self._handler.on_acknowledged(session, tokens)
        self._greet(session, resumed=True)
        self._handler.on_resumed(session)
        self.mark(session)

    def _greet(self, session: Session, *, resumed: bool) -> None:
        self._send_alone(
            session.routing_id,
            messages.Welcome(
                session=session.token, resumed=resumed, received=session.link.received, incarnation=self._incarnation,
                cluster=self._cluster, package=__version__, python=platform.python_version(),
            ),
        )

    # --- peers that go, or must -----------------------------------------------------------------------------

    def _misbehaved(
        self, routing_id: bytes, session: Session | None, frames: list[zmq.Frame], error: ProtocolError | Refused
    ) -> None:
        details = {
            "reason": error.message, "code": error.code, "door": self.domain,
            "user": str(frames[1].get("User-Id")) if len(frames) > 1 else "",
            "address": str(frames[1].get("Peer-Address")) if len(frames) > 1 else "",
        }
        log.warning("cut a peer at the %s door: %s (%s)", self.domain, error.message, details["address"])
        self._handler.on_incident("cut", details)
        refusal = messages.Refusal(error.code, error.message[: limits.TEXT_CHARS], error.advice[: limits.TEXT_CHARS])
        if session is not None:
            session.cut(refusal)
        elif len(frames) > 1:
            descriptor = int(frames[1].get(zmq.SRCFD))
            if isinstance(error, Refused):
                self._send_alone(routing_id, refusal)
            self._cut_descriptor(descriptor, soon=isinstance(error, ProtocolError))

    def cut(self, session: Session, refusal: messages.Refusal) -> None:
        """Last words, then the connection falls; the session is gone at once."""
        if session.routing_id is not None:
            self._send_alone(session.routing_id, refusal)
            self._cut_descriptor(session.descriptor, soon=False)
        self._forget(session, refusal.reason)

    def _cut_descriptor(self, descriptor: int, *, soon: bool) -> None:
        ticket = self._accepted.ticket(descriptor)
        if soon:
            self._cut_now(descriptor, ticket)
        else:
            self._loop.call_later(_LAST_WORDS_SECONDS, lambda: self._cut_now(descriptor, ticket))

    def _cut_now(self, descriptor: int, ticket: bytes) -> None:
        self._accepted.cut(descriptor, ticket)

    def _on_monitor(self) -> None:
        if self._closed:
            return
        for event in self._monitor.events():
            if event.event == monitor.ACCEPTED:
                self._accepted.add(event.value, self._loop.now())
            elif event.event in (monitor.DISCONNECTED, monitor.CLOSED):
                self._accepted.remove(event.value)
                session = self._by_descriptor.pop(event.value, None)
                if session is not None:
                    if not self._losing:
                        self._loop.at_turn_end(self._take_losses)
                    self._losing.append((session, session.routing_id))

    def _take_losses(self) -> None:
        """What a peer said before its connection fell is heard first."""
        self._on_readable()
        losing, self._losing = self._losing, []
        for session, routing_id in losing:
            if session.routing_id is not None and session.routing_id == routing_id:
                self._lost(session)

    def _lost(self, session: Session) -> None:
        if session.routing_id is None:
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
        if self._by_token.pop(session.token, None) is not None:
            self._handler.on_gone(session, reason)

    def _detach(self, session: Session) -> None:
        if session.routing_id is not None:
            self._by_routing_id.pop(session.routing_id, None)
            if self._by_descriptor.get(session.descriptor) is session:
                del self._by_descriptor[session.descriptor]
            session.routing_id, session.descriptor = None, -1

    def _sweep(self) -> None:
        for descriptor, ticket in self._accepted.overdue(self._loop.now()):
            self._accepted.cut(descriptor, ticket)
            self._handler.on_incident("silent", {"door": self.domain, "reason": "it said nothing after connecting"})
        self._sweep_timer = self._loop.call_later(1.0, self._sweep)

    # --- sending ---------------------------------------------------------------------------------------------

    def mark(self, session: Session) -> None:
        """This session has something to say at the end of the turn."""
        if not session.dirty:
            session.dirty = True
            if not self._dirty:
                self._loop.at_turn_end(self._flush)
            self._dirty.append(session)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for session in dirty:
            session.dirty = False
            self._flush_session(session)
        if self._ack_waiting and not self._ack_timer_set:
            self._ack_timer_set = True
            self._loop.call_later(limits.ACK_SECONDS, self._acknowledge)

    def _flush_session(self, session: Session) -> None:
        link = session.link
        while session.routing_id is not None and (packet := link.next_packet()) is not None:
            self._send_packet(session, packet)
        if session.routing_id is not None and link.ack_owed:
            if link.ack_urgent:
                self._send_packet(session, link.acknowledgement())
            else:
                self._ack_waiting.add(session)
        if link.unsent_bytes > limits.LINK_UNSENT_BYTES:
            self._handler.on_incident("cut", {"door": self.domain, "user": session.user, "reason": "it does not read"})
            session.cut(messages.Refusal("slow", "you did not read what was sent to you"))

    def _acknowledge(self) -> None:
        self._ack_timer_set = False
        waiting, self._ack_waiting = self._ack_waiting, set()
        for session in waiting:
            if session.routing_id is not None and session.link.ack_owed:
                self._send_packet(session, session.link.acknowledgement())

    def _send_packet(self, session: Session, packet: list[Any]) -> None:
        socket = self._socket
        assert session.routing_id is not None
        try:
            socket.send(session.routing_id, zmq.SNDMORE | zmq.NOBLOCK)
            last = len(packet) - 1
            for index, frame in enumerate(packet):
                socket.send(frame, zmq.NOBLOCK | (zmq.SNDMORE if index < last else 0), copy=index == 0)
        except zmq.ZMQError as error:
            if error.errno == zmq.EAGAIN:
                self._handler.on_incident("cut", {"door": self.domain, "user": session.user, "reason": "no credit"})
                self._accepted.cut(session.descriptor)
            self._lost(session)

    def _send_alone(self, routing_id: bytes | None, message: messages.Message) -> None:
        if routing_id is None or self._closed:
            return
        try:
            self._socket.send_multipart([routing_id, encode_message(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.info("a peer left before it could be answered: %s", error.strerror)


def new_incarnation() -> bytes:
    """Names this run of a process."""
    return os.urandom(16)
