"""An SSH connection by paramiko, as strict as we need it.

Laws: the host's key is judged at every key exchange, before anything but the exchange itself was sent; the
algorithms are a short list; a channel goes to one target, its window is enforced, and how the server refused it is
kept in the server's words; nothing that the server asks of us is granted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from paramiko import common
from paramiko.auth_handler import AuthOnlyHandler
from paramiko.channel import Channel
from paramiko.message import Message
from paramiko.ssh_exception import AuthenticationException, IncompatiblePeer, SSHException
from paramiko.transport import ServiceRequestingTransport, Transport

from secure_ipp import limits
from secure_ipp.errors import PolicyError
from secure_ipp.keys.strict_json import shown
from secure_ipp.tunnel.paramiko_stream import Stream

POST_QUANTUM = ("mlkem768x25519-sha256", "sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com")
_EXCHANGES = (*POST_QUANTUM, "curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256",
              "ecdh-sha2-nistp384", "ecdh-sha2-nistp521", "diffie-hellman-group16-sha512",
              "diffie-hellman-group-exchange-sha256", "diffie-hellman-group14-sha256")
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
_HOST_KEYS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512",
              "rsa-sha2-256")
_QUIET = "secure_ipp.tunnel.paramiko"
logging.getLogger(_QUIET).setLevel(logging.CRITICAL + 1)  # what matters is raised; the rest is a server's to write

Target = tuple[str, int]
_REASONS = {  # RFC 4254, 5.1, in OpenSSH's words
    1: "administratively prohibited", 2: "connect failed", 3: "unknown channel type", 4: "resource shortage",
}


def kind_of_algorithm(name: str) -> str:
    """The kind of key that a host key algorithm uses."""
    return "ssh-rsa" if name.startswith("rsa-sha2-") else name


class ForwardChannel(Channel):  # type: ignore[misc]
    """A channel whose window binds the server, and which asks for nothing and grants nothing.

    What paramiko's own would send from the reading thread could wait there for the end of a key exchange that only
    this thread can bring about; here it goes through `Session.say`.
    """

    def _feed(self, message: Any) -> None:
        data = message.get_binary()
        if len(self.in_buffer) + len(data) > limits.SSH_CHANNEL_WINDOW_BYTES:
            raise SSHException("the server sends more than it may")
        self.in_buffer.feed(data)

    def _feed_extended(self, message: Any) -> None:
        raise SSHException("the server sends what no forwarded connection has")

    def _handle_close(self, message: Any) -> None:
        with self.lock:
            messages = self._close_internal()
            self.transport._unlink_channel(self.chanid)
        self.transport.say(*messages)

    def _handle_request(self, message: Any) -> None:
        message.get_string()
        if message.get_boolean():
            refusal = Message()
            refusal.add_byte(common.cMSG_CHANNEL_FAILURE)
            refusal.add_int(self.remote_chanid)
            self.transport.say(refusal)

    def _unasked(self, message: Any) -> None:
        raise SSHException("the server answers what nobody has asked")

    def close(self) -> None:
        try:
            super().close()
        except (SSHException, EOFError, OSError):
            pass  # the connection has ended, and the channel with it

    def await_close(self) -> None:
        """Wait until both sides have closed it, or the connection has ended."""
        with self.lock:
            while not self.closed:
                self.out_buffer_cv.wait()


class _Login(AuthOnlyHandler):  # type: ignore[misc]
    """Asks to be let in; paramiko's own misses an answer that comes before it has begun to wait."""

    def send_auth_request(self, username: str, method: str, finish_message: Callable[[Any], None]) -> Any:
        self.auth_event = answered = threading.Event()
        self.auth_method, self.username = method, username
        message = Message()
        message.add_byte(common.cMSG_USERAUTH_REQUEST)
        for field in (username, "ssh-connection", method):
            message.add_string(field)
        finish_message(message)
        with self.transport.lock:
            self.transport._send_message(message)
        return self.wait_for_response(answered)


class ChannelRefused(Exception):
    """The server opened no channel; the text is its own."""


class Session(ServiceRequestingTransport):  # type: ignore[misc]
    """One connection.

    Args:
        connection: a connected socket, or a channel of another session.
        judge: is given the host's key, and raises if it is not to be used.
        kinds: of host keys to ask for first.
        without: kinds of host keys not to ask for.
        post_quantum: agree to such key exchanges only.

    Attributes:
        exchange: name of the key exchange agreed on.
        offered: key exchanges that the server offers.
        ended: set when the connection has ended, for whatever reason.
        refused: the server's words when it last opened no channel.
        goodbye: the server's words when it ended the connection.
        verdict: what `judge` raised.
    """

    def __init__(self, connection: Any, judge: Callable[[bytes], object], kinds: tuple[str, ...] = (),
                 without: frozenset[str] = frozenset(), post_quantum: bool = False) -> None:
        super().__init__(connection, default_window_size=limits.SSH_CHANNEL_WINDOW_BYTES,
                         default_max_packet_size=limits.SSH_CHANNEL_PACKET_BYTES, packetizer_class=Stream)
        self.set_log_channel(_QUIET)
        self._judge = judge
        self.exchange = ""
        self.offered: tuple[str, ...] = ()
        self.ended = threading.Event()
        self.refused = ""
        self.goodbye = ""
        self.verdict: PolicyError | None = None
        self._kex_info = dict(Transport._kex_info)
        if "curve25519-sha256@libssh.org" in self._kex_info:  # the same under its later name (RFC 8731)
            self._kex_info["curve25519-sha256"] = self._kex_info["curve25519-sha256@libssh.org"]
        exchanges = [name for name in _EXCHANGES if name in self._kex_info]
        self._preferred_kex = tuple(name for name in exchanges if not post_quantum or name in POST_QUANTUM)
        self._preferred_ciphers = tuple(name for name in _CIPHERS if name in self._cipher_info)
        self._preferred_macs = _MACS
        wanted = [name for name in _HOST_KEYS if kind_of_algorithm(name) not in without]
        self._preferred_keys = tuple(sorted(wanted, key=lambda name: kind_of_algorithm(name) not in kinds))
        self._failures: dict[int, str] = {}
        self._given_up: set[int] = set()
        self._later: list[Message] = []
        self._service = threading.Event()
        self._channel_handler_table: dict[int, Any] = {
            common.MSG_CHANNEL_SUCCESS: ForwardChannel._unasked,
            common.MSG_CHANNEL_FAILURE: ForwardChannel._unasked,
            common.MSG_CHANNEL_DATA: ForwardChannel._feed,
            common.MSG_CHANNEL_EXTENDED_DATA: ForwardChannel._feed_extended,
            common.MSG_CHANNEL_WINDOW_ADJUST: ForwardChannel._window_adjust,
            common.MSG_CHANNEL_REQUEST: ForwardChannel._handle_request,
            common.MSG_CHANNEL_EOF: ForwardChannel._handle_eof,
            common.MSG_CHANNEL_CLOSE: ForwardChannel._handle_close,
        }

    # --- the beginning ---

    @property
    def can_be_post_quantum(self) -> bool:
        """Whether this paramiko has such a key exchange."""
        return any(name in POST_QUANTUM for name in self._kex_info)

    def greet(self, until: float) -> None:
        """Exchange keys; the host's has then been judged.

        Raises:
            PolicyError: what `judge` raised.
            IncompatiblePeer: no algorithm in common.
            SSHException, EOFError, OSError: it came to nothing.
            TimeoutError: not in time.
        """
        if not self._preferred_kex or not self._preferred_keys:
            raise IncompatiblePeer("no algorithm is left")
        self._until = until
        self.banner_timeout = self.handshake_timeout = left = self.auth_timeout
        try:
            self.start_client(timeout=left)
        except (SSHException, EOFError, OSError):
            if self.verdict is not None:
                raise self.verdict from None
            raise
        if not self.initial_kex_done:
            raise TimeoutError
        self.packetizer.ask = self._ask_alive

    def _verify_key(self, host_key: bytes, signature: bytes) -> None:
        before = self.host_key
        super()._verify_key(host_key, signature)
        blob = self.host_key.asbytes()
        if before is not None and before.asbytes() != blob:
            raise SSHException("the host has another key than before")
        try:
            self._judge(blob)
        except PolicyError as error:
            self.verdict = error
            raise SSHException("the host's key was refused") from None

    def ensure_session(self) -> None:
        """Ask for the login service, once; paramiko's own waits for ever."""
        if not self.active or not self.initial_kex_done:
            raise EOFError("the connection has ended")
        if self._service_userauth_accepted:
            return
        message = Message()
        message.add_byte(common.cMSG_SERVICE_REQUEST)
        message.add_string("ssh-userauth")
        self._send_message(message)
        while not self._service.wait(0.1):
            if not self.active:
                raise self.get_exception() or EOFError("the connection has ended")
            if self.overdue:
                raise AuthenticationException("Authentication timeout.")
        self.auth_handler = _Login(self)

    @property
    def overdue(self) -> bool:
        """Whether the time for the login is over."""
        return time.monotonic() >= self._until

    @property
    def auth_timeout(self) -> float:
        """Seconds that are left for the login."""
        return max(self._until - time.monotonic(), 0.01)

    @auth_timeout.setter
    def auth_timeout(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def _parse_service_accept(self, message: Any) -> None:
        super()._parse_service_accept(message)
        if self._service_userauth_accepted:
            self._service.set()

    def _really_parse_kex_init(self, message: Any, ignore_first_byte: bool = False) -> Any:
        parsed = super()._really_parse_kex_init(message, ignore_first_byte)
        if not ignore_first_byte:
            self.offered = tuple(name for name in parsed["kex_algo_list"] if not name.startswith(("ext-", "kex-")))
        return parsed

    def _parse_kex_init(self, message: Any) -> None:
        super()._parse_kex_init(message)
        self.exchange = next(name for name in self._preferred_kex if name in self.offered)  # RFC 4253, section 7.1

    # --- its life ---

    def run(self) -> None:
        try:
            super().run()
        finally:
            self.ended.set()

    def get_exception(self) -> Exception | None:
        """What ended the connection, or the last request: of the kinds that paramiko raises on purpose."""
        error: Exception | None = super().get_exception()
        if error is not None and not isinstance(error, (SSHException, EOFError, OSError)):
            error = SSHException(f"the server sent what cannot be read ({type(error).__name__})")
        return error

    def _ask_alive(self) -> None:
        message = Message()
        message.add_byte(common.cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)  # whatever the answer, it is one
        self.say(message)

    def say(self, *messages: Any) -> None:
        """Send from the reading thread; during a key exchange, after it."""
        wanted = [message for message in messages if message is not None]
        if not self.clear_to_send.is_set():
            self._later += wanted
            return
        for message in wanted:
            self._send_message(message)

    def _parse_newkeys(self, message: Any) -> None:
        super()._parse_newkeys(message)
        later, self._later = self._later, []
        self.say(*later)

    def silent_for(self) -> float:
        """Seconds since anything came."""
        return time.monotonic() - float(self.packetizer.heard)

    def _parse_disconnect(self, message: Any) -> None:
        message.get_int()
        self.goodbye = shown(message.get_string().decode("utf-8", "replace"))

    def _parse_global_request(self, message: Any) -> None:
        message.get_string()
        if message.get_boolean():
            refusal = Message()
            refusal.add_byte(common.cMSG_REQUEST_FAILURE)
            self.say(refusal)

    def _parse_channel_open(self, message: Any) -> None:
        message.get_string()
        refusal = Message()
        refusal.add_byte(common.cMSG_CHANNEL_OPEN_FAILURE)
        refusal.add_int(message.get_int())
        refusal.add_int(common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)
        refusal.add_string("")
        refusal.add_string("")
        self.say(refusal)

    # --- channels ---

    def open_forward(self, target: Target, seconds: float) -> ForwardChannel:
        """A channel to a target as the server sees it: host and port, or the path of a Unix socket and 0.

        Raises:
            ChannelRefused: the server would not, or did not answer in time.
        """
        path = target[0] if target[1] == 0 else ""
        message = Message()
        message.add_byte(common.cMSG_CHANNEL_OPEN)
        message.add_string("direct-streamlocal@openssh.com" if path else "direct-tcpip")
        with self.lock:
            number = self._next_channel()
            for field in (number, limits.SSH_CHANNEL_WINDOW_BYTES, limits.SSH_CHANNEL_PACKET_BYTES):
                message.add_int(field)
            message.add_string(target[0])
            if not path:
                message.add_int(target[1])
            message.add_string("" if path else "127.0.0.1")  # where the connection comes from; with a path, reserved
            message.add_int(0)
            channel = ForwardChannel(number)
            channel._set_transport(self)
            channel._set_window(limits.SSH_CHANNEL_WINDOW_BYTES, limits.SSH_CHANNEL_PACKET_BYTES)
            self._channels.put(number, channel)
            self.channel_events[number] = answered = threading.Event()
            self.channels_seen[number] = True
        self._send_user_message(message)
        until = time.monotonic() + seconds
        while not answered.wait(0.1) and self.active and time.monotonic() < until:
            pass
        return self._answer(number, channel)

    def _answer(self, number: int, channel: ForwardChannel) -> ForwardChannel:
        with self.lock:
            said = self._failures.pop(number, None)
            if said is None and not channel.active and self.active:
                self._given_up.add(number)  # should it come yet, it is closed at once
                said = "no answer in time"
        if said is not None:
            self.refused = said
            raise ChannelRefused(said)
        if not channel.active or not self.active:
            raise ChannelRefused("the connection has ended")
        return channel

    def _parse_channel_open_success(self, message: Any) -> None:
        number = message.get_int()
        message.rewind()
        super()._parse_channel_open_success(message)
        if number in self._given_up:
            self._given_up.discard(number)
            channel = self._channels.get(number)
            if channel is not None:
                with channel.lock:
                    messages = channel._close_internal()
                self.say(*messages)

    def _parse_channel_open_failure(self, message: Any) -> None:
        number = message.get_int()
        reason = _REASONS.get(message.get_int(), "refused")
        said = f"{reason}: {shown(message.get_string().decode('utf-8', 'replace'))}"
        with self.lock:
            self._given_up.discard(number)
            self._channels.delete(number)
            answered = self.channel_events.pop(number, None)
            if answered is not None:
                self._failures[number] = said
                answered.set()
