"""The connecting end: keeps one link to a door, over as many connections as it takes.

It decides when to try again and when to give up; what travels is its owner's affair.  Laws: every connection is a
new socket and a new handshake (libzmq never reconnects by itself), and where there is no Curve a new proof; a refused
key, a refused version, an impostor or patience that is over end it for good, with an error that says what to do; it
never waits longer than its patience.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import zmq

from secure_ipp import limits
from secure_ipp.errors import ProtocolError, SecureIppError
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.keys.known_doors import KnownDoors
from secure_ipp.wire import failures, messages, monitor, sockets
from secure_ipp.wire.codec import PacketDecoder, decode_greeting_reply, encode_message, is_packet
from secure_ipp.wire.greeting import Role, make_hello, refusal_of
from secure_ipp.wire.handler import ConnectionHandler
from secure_ipp.wire.link import Link
from secure_ipp.wire.loop import Loop, Timer, cancel
from secure_ipp.wire.tries import LAST_SECONDS, Tries

if TYPE_CHECKING:
    from secure_ipp.access.prover import Prover, Trial

log = logging.getLogger("secure_ipp.wire")

_CONNECTED_SECONDS = limits.GATE_EARLY_SECONDS + 2.0  # a try that got so far as TCP: the gate may think so long
_ADMITTED_SECONDS = 3 * limits.HELLO_SECONDS  # a try whose key was admitted: the door has much to read, or is ill
_FALLEN = "the connection was closed"
_CLOCKS_DIFFER = 500  # the gate's status for a proof whose time it does not take
_READ_BATCH = 256  # zmq messages taken in before the loop turns
_NOTICED_SECONDS = limits.HEARTBEAT_TIMEOUT_SECONDS  # after which the door has noticed a loss, too


class Connection:
    """A link's connecting end.

    Args:
        doors: addresses of one and the same door, tried in turn.
        server_key: what it proves itself with: one key for good, or what is known of it, which changes (S33).
        receives: the union of messages that the door may send.
        first_patience: seconds to look for the controller at first; `patience`: after a loss.
        proves: makes a proof for each try at an address that is a Unix socket, in place of Curve (S25); None: all is
            Curve.
    """

    def __init__(
        self, loop: Loop, *, doors: Sequence[str], server_key: CurvePublicKey | KnownDoors, keys: KeyPair,
        role: Role,
        receives: Any, handler: ConnectionHandler, first_patience: float, patience: float, proves: Prover | None = None,
    ) -> None:
        self._loop = loop
        self._known = server_key if isinstance(server_key, KnownDoors) else KnownDoors((server_key,))
        self._tries = Tries(doors, self._known)
        self._server_key = self._known.keys[0]  # of this try
        self._proves = proves
        self._trial: Trial | None = None  # of this try
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
        self._give_up_at = 0.0
        self._last_reason = "no answer"
        self._attempt_timer: Timer | None = None
        self._retry_timer: Timer | None = None
        self._ack_timer: Timer | None = None
        self._close_timer: Timer | None = None
        self._resume_timer: Timer | None = None
        self._welcomed_at = 0.0
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
        """Queue a message; it goes out at the end of this turn, or when there is a connection and credit.

        Without a session, nor one that may yet be resumed, it is dropped: a new session starts from nothing, and
        whoever has state says it then.
        """
        if not self._session or self._ended:
            return
        self._link.send(message, frames[0] if frames else None, on_acknowledged)
        if self._link.unsent_bytes > limits.LINK_UNSENT_BYTES:
            self._give_session_up()
            self._lose("it does not read what is sent to it")
        self._flush_later()

    def close(self, reason: str = "", timeout: float = limits.CLOSE_SECONDS) -> None:
        """Say goodbye, flush until acknowledged or `timeout` seconds, then `on_closed`."""
        if self._closing or self._ended:
            return
        self._closing = True
        if not self._session or (not self._welcomed and self._link.idle):
            self._closed()
            return
        self.send(messages.Goodbye(reason[: limits.TEXT_CHARS]))
        self._close_timer = self._loop.call_later(timeout, self._closed)

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
        door, self._server_key = self._tries.next()
        self._welcomed = self._encrypted = False
        try:
            proves = self._proves if door.startswith("ipc:") else None
            self._trial = proves.prove(self._keys, self._server_key) if proves is not None else None
            socket = sockets.connect(
                self._loop.context, door, server_key=self._server_key, keys=self._keys, trial=self._trial
            )
            self._socket = socket
            self._monitor = monitor.Monitor(socket)
            self._loop.add_reader(self._monitor.socket, self._on_monitor)
            self._loop.add_reader(socket, self._on_readable)
            socket.connect(door)
            hello = make_hello(self._role, self._session, self._link.received if self._session else 0)
            socket.send(encode_message(hello), zmq.NOBLOCK)
        except zmq.Again:
            log.debug("it has failed already; the monitor tells why")
        except zmq.ZMQError as error:
            self._lose(f"cannot connect to {door}: {error.strerror}")
            return
        except SecureIppError as error:  # there is no way that is not weaker than it must be
            self._fail(error)
            return
        self._end_attempt_in(self._tries.seconds)

    def _end_attempt_in(self, seconds: float) -> None:
        """Give this try so much time, as far as there is patience."""
        cancel(self._attempt_timer)
        remaining = max(0.1, self._give_up_at - self._loop.now())
        self._attempt_timer = self._loop.call_later(min(seconds, remaining), self._attempt_over)

    def _attempt_over(self) -> None:
        self._attempt_timer = None
        if not self._welcomed:
            said = "the door admits the key but says nothing" if self._encrypted else "the door does not answer"
            self._lose(said)

    def _drop_socket(self) -> None:
        cancel(self._attempt_timer, self._ack_timer)
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
        if self._closing and (not self._session or self._link.idle):
            self._closed()
            return
        self._last_reason = reason
        if was_welcome:
            self._give_up_at = now + self._patience
            self._tries.begin_again(now - self._welcomed_at > limits.RECONNECT_MAX_SECONDS)
            self._resume_timer = self._loop.call_later(limits.RESUME_SECONDS + _NOTICED_SECONDS, self._give_session_up)
            log.info("connection lost: %s; trying again", reason)
            self._handler.on_lost(reason)
        if self._ended:
            return
        remaining = self._give_up_at - now
        if remaining < LAST_SECONDS:
            self._fail(failures.unreachable(self._tries.doors, self._last_reason))
            return
        self._retry_timer = self._loop.call_later(self._tries.wait(remaining), self._attempt)

    def _give_session_up(self) -> None:
        """Nothing more is kept for it; the next hello asks for a new one."""
        self._session = b""
        self._link = Link(self._decoder)

    def _fail(self, error: SecureIppError) -> None:
        if self._closing:
            self._closed()
        elif not self._ended:
            self._finish()
            self._handler.on_failed(error)

    def _finish(self) -> None:
        self._ended = True
        self._welcomed = False
        cancel(self._retry_timer, self._close_timer, self._resume_timer)
        self._drop_socket()
        self._link.drop()

    def _closed(self) -> None:
        if self._ended:
            return
        self._finish()
        self._handler.on_closed()

    # --- events --------------------------------------------------------------------------------------------

    def _on_monitor(self) -> None:
        watching = self._monitor
        for event in watching.events() if watching is not None else ():
            if event.event == monitor.CONNECTED:
                if not self._welcomed and self._tries.all_tried:  # this door may be busy
                    self._end_attempt_in(max(_CONNECTED_SECONDS, self._tries.seconds))
            elif event.event == monitor.HANDSHAKE_SUCCEEDED:
                self._encrypted = True
                if not self._welcomed:  # the door admits the key, and may be busy: another try would make it busier
                    self._end_attempt_in(_ADMITTED_SECONDS)
            elif event.event == monitor.HANDSHAKE_FAILED_AUTH:
                self._on_refused(event.value)
            elif event.event in (
                monitor.DISCONNECTED, monitor.CLOSED, monitor.HANDSHAKE_FAILED_PROTOCOL,
                monitor.HANDSHAKE_FAILED_NO_DETAIL,
            ):
                self._take_what_came()
                if self._monitor is watching:
                    self._lose(self._reason(event.event))
            if self._monitor is not watching:
                return

    def _on_refused(self, status: int) -> None:
        """At the gate, which with proofs says no to a wrong server key, too: all that are known are tried."""
        by_proof = self._trial is not None
        if by_proof and status == _CLOCKS_DIFFER:
            self._fail(failures.proof_refused())
        elif by_proof and not self._tries.refused():
            self._lose(failures.HANDSHAKE)
        else:
            self._fail(failures.key_refused(before=self._welcomed_at > 0, by_proof=by_proof))

    def _reason(self, event: int) -> str:
        if self._welcomed:
            return _FALLEN
        if event == monitor.CLOSED:
            return "nothing listens there"
        if self._encrypted:
            return "the door closed the connection"
        return failures.HANDSHAKE

    def _take_what_came(self) -> None:
        """Last words may stand behind a disconnect; there are no more than libzmq held."""
        socket = self._socket
        while socket is not None and socket is self._socket and self._read():
            """There is more."""

    def _on_readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        """Take in a bounded number of messages; whether there may be more."""
        for count in range(_READ_BATCH):
            socket = self._socket
            if socket is None or (count == 1 and not sockets.holds_message(socket)):
                return False
            try:
                frames = sockets.receive(socket)
            except zmq.Again:
                return False
            try:
                if self._welcomed and is_packet(frames[0].buffer):
                    self._on_packet(frames)
                else:
                    self._on_greeting(frames)
            except ProtocolError as error:
                log.warning("the door broke the protocol: %s", error.message)
                self._give_session_up()  # resumed, it would break again in the same place
                self._lose("the door broke the protocol")
        return True

    def _on_greeting(self, frames: list[zmq.Frame]) -> None:
        reply = decode_greeting_reply(frames[0].bytes)
        if self._trial is not None and not self._welcomed and not self._trial.is_answered(reply.proof):
            self._fail(failures.impostor())  # at once: another proof would be another one to misuse
            return
        if isinstance(reply, messages.Refusal):
            self._fail(refusal_of(reply))
            return
        if self._welcomed or len(frames) != 1 or (reply.resumed and reply.session != self._session):
            raise ProtocolError("a welcome that was not asked for", code="malformed")
        if self._closing and not reply.resumed:
            self._closed()  # what was to be flushed belonged to a session that is no more
            return
        if reply.resumed:
            self._link.resumed(reply.received)
        else:
            self._link = Link(self._decoder)
        cancel(self._attempt_timer, self._resume_timer)
        self._attempt_timer = self._resume_timer = None
        self._session = reply.session
        self._known.accepted(self._server_key)
        self._welcomed, self._welcomed_at = True, self._loop.now()
        self._hand_over_acknowledged()
        self._handler.on_welcome(reply)
        self._flush_later()

    def _on_packet(self, frames: list[zmq.Frame]) -> None:
        link = self._link
        received = link.receive([frame.buffer for frame in frames])
        self._hand_over_acknowledged()
        for message, frame in received:
            if self._ended:
                return
            if type(message) is messages.DoorKeys:
                self._known.learn(message.statement)
                continue
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
                sockets.send_packet(socket, packet)
            if link.ack_owed:
                if link.ack_urgent:
                    sockets.send_packet(socket, link.acknowledgement())
                elif self._ack_timer is None:
                    self._ack_timer = self._loop.call_later(limits.ACK_SECONDS, self._acknowledge)
        except zmq.ZMQError:
            self._cannot_send()
            return
        if self._closing and link.idle:
            self._closed()

    def _acknowledge(self) -> None:
        self._ack_timer = None
        if self._socket is not None and self._welcomed and self._link.ack_owed:
            try:
                sockets.send_packet(self._socket, self._link.acknowledgement())
            except zmq.ZMQError:
                self._cannot_send()

    def _cannot_send(self) -> None:
        """The connection has fallen, and the monitor has not said so yet."""
        socket = self._socket
        self._take_what_came()
        if self._socket is socket:
            self._lose(_FALLEN)
