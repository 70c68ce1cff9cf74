"""The connecting end: keeps one link to a door, over as many connections as it takes.

It decides when to try again and when to give up; what travels is its owner's affair.  Laws: every connection is a
new socket and a new handshake (libzmq never reconnects by itself); a refused key, a refused version or patience
that is over end it for good, with an error that says what to do; it never waits longer than its patience.
"""

from __future__ import annotations

import getpass
import logging
import os
import platform
import random
import socket as host_names
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import zmq

from secure_ipp import limits
from secure_ipp._version import __version__
from secure_ipp.errors import ControllerUnreachable, ProtocolError, Refused, SecureIppError
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.wire import messages, monitor, sockets
from secure_ipp.wire.codec import PacketDecoder, decode_greeting_reply, encode_message, is_packet
from secure_ipp.wire.link import Link
from secure_ipp.wire.loop import Loop, Timer

log = logging.getLogger("secure_ipp.wire")

Role = Literal["client", "agent", "engine", "scheduler", "probe"]
_FIRST_ATTEMPT_SECONDS = 1.0  # from connect to welcome; later ones are longer
_LAST_TRY_SECONDS = 0.1  # less patience than this is not worth another try
_READ_BATCH = 256  # zmq messages taken in before the loop turns


class ConnectionHandler(Protocol):
    """Told of everything in the loop's thread; must not block."""

    def on_welcome(self, welcome: messages.Welcome) -> None:
        """A session is there; unless `resumed`, the other end knows nothing of what was before."""

    def on_message(self, message: Any, frames: list[memoryview]) -> None:
        """A message, in order, once; bulk data in `frames`."""

    def on_acknowledged(self, tokens: list[object]) -> None:
        """The other process has these messages."""

    def on_lost(self, reason: str) -> None:
        """The connection is gone and another is being tried."""

    def on_failed(self, error: SecureIppError) -> None:
        """No connection, and none will be tried any more."""

    def on_closed(self) -> None:
        """After `close`: everything was flushed, or its time was over."""


class Connection:
    """A link's connecting end.

    Args:
        doors: addresses of one and the same door, tried in turn.
        receives: the union of messages that the door may send.
        first_patience: seconds to look for the controller at first; `patience`: after a loss.
    """

    def __init__(
        self, loop: Loop, *, doors: Sequence[str], server_key: CurvePublicKey, keys: KeyPair, role: Role,
        receives: Any, handler: ConnectionHandler, first_patience: float, patience: float,
    ) -> None:
        self._loop = loop
        self._doors = list(doors)
        self._server_key = server_key
        self._keys = keys
        self._role: Role = role
        self._decoder: PacketDecoder[Any] = PacketDecoder(receives)
        self._handler = handler
        self._first_patience = first_patience
        self._patience = patience
        self._link = Link(self._decoder)
        self._session = b""
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: monitor.Monitor | None = None
        self._welcomed = False
        self._encrypted = False
        self._tries = 0
        self._give_up_at = 0.0
        self._last_reason = "no answer"
        self._attempt_timer: Timer | None = None
        self._retry_timer: Timer | None = None
        self._ack_timer: Timer | None = None
        self._flush_due = False
        self._closing = False
        self._ended = False

    # --- for the owner ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect."""
        self._give_up_at = self._loop.now() + self._first_patience
        self._attempt()

    def send(
        self, message: messages.Message, frames: Sequence[Any] = (), on_acknowledged: object | None = None
    ) -> None:
        """Queue a message; it goes out at the end of this turn, or when there is a connection and credit."""
        self._link.send(message, frames[0] if frames else None, on_acknowledged)
        self._flush_later()

    def close(self, reason: str = "", timeout: float = limits.CLOSE_SECONDS) -> None:
        """Say goodbye, flush until acknowledged or `timeout` seconds, then `on_closed`."""
        if self._closing or self._ended:
            return
        self._closing = True
        if not self._welcomed:
            self._finish()
            self._handler.on_closed()
            return
        self.send(messages.Goodbye(reason[: limits.TEXT_CHARS]))
        self._loop.call_later(timeout, self._closed)

    def abandon(self) -> None:
        """Drop the connection at once, saying nothing."""
        self._finish()

    @property
    def unsent_bytes(self) -> int:
        return self._link.unsent_bytes

    @property
    def ended(self) -> bool:
        """Closed, or given up."""
        return self._ended

    @property
    def connected(self) -> bool:
        return self._welcomed

    # --- connecting --------------------------------------------------------------------------------------

    def _attempt(self) -> None:
        self._retry_timer = None
        door = self._doors[self._tries % len(self._doors)]
        self._tries += 1
        socket = sockets.connect(self._loop.context, door, server_key=self._server_key, keys=self._keys)
        self._socket, self._monitor = socket, monitor.Monitor(socket)
        self._welcomed = self._encrypted = False
        self._loop.add_reader(self._monitor.socket, self._on_monitor)
        self._loop.add_reader(socket, self._on_readable)
        try:
            socket.connect(door)
            socket.send(encode_message(self._hello()), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            self._lose(f"cannot connect to {door}: {error.strerror}")
            return
        # a gate that says "not known yet" leaves the handshake hanging, so the first tries are short
        longest = min(limits.HANDSHAKE_SECONDS, _FIRST_ATTEMPT_SECONDS * 1.5 ** min(self._tries // len(self._doors), 8))
        remaining = max(0.1, self._give_up_at - self._loop.now())
        self._attempt_timer = self._loop.call_later(min(longest, remaining), self._attempt_over)

    def _hello(self) -> messages.Hello:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = ""
        return messages.Hello(
            protocol=limits.PROTOCOL, role=self._role, package=__version__, python=platform.python_version(),
            resume=self._session, received=self._link.received if self._session else 0,
            host=host_names.gethostname()[: limits.TEXT_CHARS], pid=os.getpid(), user=user[: limits.TEXT_CHARS],
        )

    def _attempt_over(self) -> None:
        self._attempt_timer = None
        if not self._welcomed:
            said = "the door admits the key but says nothing" if self._encrypted else "the door does not answer"
            self._lose(said)

    def _drop_socket(self) -> None:
        for timer in (self._attempt_timer, self._ack_timer):
            if timer is not None:
                timer.cancel()
        self._attempt_timer = self._ack_timer = None
        if self._monitor is not None:
            self._loop.remove_reader(self._monitor.socket)
            self._monitor.close()
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close(0)
        self._socket = self._monitor = None

    def _lose(self, reason: str) -> None:
        """This connection is over; try another, if there is patience left."""
        if self._ended:
            return
        was_welcome = self._welcomed
        self._welcomed = False
        self._drop_socket()
        now = self._loop.now()
        if self._closing:
            self._closed()
            return
        self._last_reason = reason
        if was_welcome:
            self._give_up_at = now + self._patience
            self._tries = 0
            log.warning("connection lost: %s; trying again", reason)
            self._handler.on_lost(reason)
        if self._ended:
            return
        remaining = self._give_up_at - now
        if remaining < _LAST_TRY_SECONDS:
            self._fail(self._unreachable())
            return
        rounds = self._tries // len(self._doors)
        if rounds == 0:
            wait = 0.0
        else:
            wait = min(limits.RECONNECT_MAX_SECONDS, limits.RECONNECT_FIRST_SECONDS * 2 ** min(rounds, 6))
            wait = min(wait * random.uniform(0.7, 1.3), remaining - _LAST_TRY_SECONDS)
        self._retry_timer = self._loop.call_later(wait, self._attempt)

    def _unreachable(self) -> SecureIppError:
        return ControllerUnreachable(
            f"no controller at {', '.join(self._doors)}: {self._last_reason}",
            "check that the cluster runs (`ipcluster list` on its host), that this file belongs to it and is current, "
            "and that its address and port can be reached from here",
        )

    def _fail(self, error: SecureIppError) -> None:
        if self._ended:
            return
        self._finish()
        self._handler.on_failed(error)

    def _finish(self) -> None:
        self._ended = True
        self._welcomed = False
        if self._retry_timer is not None:
            self._retry_timer.cancel()
        self._drop_socket()

    def _closed(self) -> None:
        if self._ended:
            return
        self._finish()
        self._handler.on_closed()

    # --- events --------------------------------------------------------------------------------------------

    def _on_monitor(self) -> None:
        watching = self._monitor
        if watching is None:
            return
        for event in watching.events():
            if event.event == monitor.HANDSHAKE_SUCCEEDED:
                self._encrypted = True
            elif event.event == monitor.HANDSHAKE_FAILED_AUTH:
                self._fail(
                    Refused(
                        "the door refused this key",
                        "the key is unknown, revoked or expired there, or the file is for another role; ask the "
                        "cluster's owner for a new connection file",
                        code="key-refused",
                    )
                )
            elif event.event in (
                monitor.DISCONNECTED, monitor.CLOSED, monitor.HANDSHAKE_FAILED_PROTOCOL,
                monitor.HANDSHAKE_FAILED_NO_DETAIL,
            ):
                self._take_what_came()
                if self._monitor is watching:
                    self._lose(self._reason(event.event))
            if self._monitor is not watching:
                return

    def _reason(self, event: int) -> str:
        if self._welcomed:
            return "the connection was closed"
        if event == monitor.CLOSED:
            return "nothing listens there"
        if self._encrypted:
            return "the door closed the connection"
        return "the handshake failed (another cluster's server key, or the controller is still starting)"

    def _take_what_came(self) -> None:
        """Last words may stand behind a disconnect."""
        if self._socket is not None:
            self._on_readable()

    def _on_readable(self) -> None:
        for _ in range(_READ_BATCH):
            socket = self._socket
            if socket is None:
                return
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                if self._welcomed and is_packet(frames[0].buffer):
                    self._on_packet(frames)
                else:
                    self._on_greeting(frames)
            except ProtocolError as error:
                log.warning("the door broke the protocol: %s", error.message)
                self._lose("the door broke the protocol")

    def _on_greeting(self, frames: list[zmq.Frame]) -> None:
        reply = decode_greeting_reply(frames[0].bytes)
        if isinstance(reply, messages.Refusal):
            self._fail(Refused(reply.reason, reply.advice, code=reply.code))
            return
        if self._attempt_timer is not None:
            self._attempt_timer.cancel()
            self._attempt_timer = None
        self._tries = 0
        if reply.resumed:
            self._link.resumed(reply.received)
            self._hand_over_acknowledged()
        else:
            self._link = Link(self._decoder)
        self._session = reply.session
        self._welcomed = True
        self._handler.on_welcome(reply)
        self._flush_later()

    def _on_packet(self, frames: list[zmq.Frame]) -> None:
        link = self._link
        received = link.receive([frame.buffer for frame in frames])
        self._hand_over_acknowledged()
        for message, frame in received:
            if self._ended:
                return
            self._handler.on_message(message, [] if frame is None else [frame])
        self._flush_later()

    def _hand_over_acknowledged(self) -> None:
        tokens = self._link.take_acknowledged()
        if tokens:
            self._handler.on_acknowledged(tokens)

    # --- sending ---------------------------------------------------------------------------------------------

    def _flush_later(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.at_turn_end(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        socket, link = self._socket, self._link
        if socket is None or not self._welcomed:
            return
        try:
            while (packet := link.next_packet()) is not None:
                _send(socket, packet)
            if link.ack_owed:
                if link.ack_urgent:
                    _send(socket, link.acknowledgement())
                elif self._ack_timer is None:
                    self._ack_timer = self._loop.call_later(limits.ACK_SECONDS, self._acknowledge)
        except zmq.ZMQError as error:
            self._lose(f"cannot send: {error.strerror}")
            return
        if self._closing and link.idle:
            self._closed()

    def _acknowledge(self) -> None:
        self._ack_timer = None
        if self._socket is not None and self._welcomed and self._link.ack_owed:
            try:
                _send(self._socket, self._link.acknowledgement())
            except zmq.ZMQError as error:
                self._lose(f"cannot send: {error.strerror}")


def _send(socket: zmq.Socket[bytes], packet: list[Any]) -> None:
    last = len(packet) - 1
    for index, frame in enumerate(packet):
        flags = zmq.NOBLOCK | (zmq.SNDMORE if index < last else 0)
        socket.send(frame, flags, copy=index == 0)
