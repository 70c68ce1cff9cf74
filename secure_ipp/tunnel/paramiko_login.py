"""Logging in to the hosts of a route with paramiko: each one's key first, then one identity, then a password.

Laws: no user name and no proof of a key goes to a host before its key was judged (S23); a password goes only to a
host that known_hosts, or the user's own word, vouches for; all ends by its time, with one of `failures`.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from paramiko.ssh_exception import AuthenticationException, BadAuthenticationType, IncompatiblePeer, SSHException

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.strict_json import shown
from secure_ipp.tunnel import host_keys
from secure_ipp.tunnel.failures import (
    HostKeyChanged,
    HostKeyUnknown,
    LoginRefused,
    NoRoute,
    NotPostQuantum,
)
from secure_ipp.tunnel.host_keys import KnownBy, Vouchers
from secure_ipp.tunnel.interface import Asker, Order
from secure_ipp.tunnel.paramiko_identity import Identities
from secure_ipp.tunnel.paramiko_session import ChannelRefused, Session
from secure_ipp.tunnel.ssh_config import Hop, hops
from secure_ipp.tunnel.timely import Timely, within


@dataclass(slots=True)
class Way:
    """The sessions of a route, the first host's first; to be ended whatever happens.

    Attributes:
        known_by: what vouched for the last host's key.
        given_up: set when it was ended; nothing begins any more then.
    """

    sessions: list[Session] = field(default_factory=list)
    known_by: KnownBy = "known_hosts"
    given_up: threading.Event = field(default_factory=threading.Event)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    @property
    def last(self) -> Session:
        return self.sessions[-1]

    def add(self, session: Session) -> None:
        """Go on by this one.

        Raises:
            NoRoute: the way was ended meanwhile; so is the session.
        """
        with self._mutex:
            if not self.given_up.is_set():
                self.sessions.append(session)
                return
        end(session)
        raise NoRoute("the login was given up", "")

    def drop(self) -> None:
        """End the last one."""
        with self._mutex:
            dropped = self.sessions[-1:]
            del self.sessions[-1:]
        for session in dropped:
            end(session)

    def end(self) -> None:
        """End all, the last host's first, for another thread's login too; returns when their threads have ended."""
        self.given_up.set()
        while self.sessions:
            self.drop()


def end(session: Session) -> None:
    """End a session, begun or not, and its thread."""
    connection = session.sock
    try:
        if isinstance(connection, socket.socket):
            connection.shutdown(socket.SHUT_RDWR)  # wakes its thread, which then tells all that wait
        else:
            connection.close()
    except OSError:
        pass
    if session.ident is not None:
        session.join(limits.SSH_WATCH_SECONDS)
        session.close()
        session.join(limits.CLOSE_SECONDS)
    connection.close()


def log_in(way: Way, order: Order, asker: Asker, until: float) -> None:
    """Log in to each host of the order's route, through the one before.

    Raises:
        SecureIppError: one of `failures`, or that the configuration cannot be followed.
    """
    asker = Timely(asker, until, way.given_up)
    route = hops(order.route, order.config)
    for number, hop in enumerate(route):
        last = number == len(route) - 1
        vouchers = _vouchers(hop, order if last else None)
        session, way.known_by = _greet(way, hop, vouchers, order.post_quantum, until)
        if way.known_by == "accepted":
            _keep(hop, session.host_key.asbytes())
        called = f"{hop.user}@{hop.called}" if last else f"the host on the way {hop.text}"
        _authenticate(session, hop, order if last else replace(order, identity=""), asker, way.known_by, called)


def _vouchers(hop: Hop, order: Order | None) -> Vouchers:
    """What speaks for a host's key; for the hosts before the route's last one (no order) known_hosts alone does."""
    lines = tuple(line for path in (*hop.user_known_hosts, *hop.system_known_hosts) for line in _known_hosts(path))
    return Vouchers(f"{hop.host}:{hop.port}", hop.name, lines, hop.plain_name, order.fingerprints if order else (),
                    order.pinned if order else "", order is not None and order.accept_new, order is None)


def _known_hosts(path: Path) -> Iterable[host_keys.Line]:
    try:
        with path.open("rb") as file:
            text = file.read(limits.SSH_FILE_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:  # a line in it might revoke a key
        raise EnvironmentProblem(f"{path} cannot be read: {error.strerror}", "mend its mode, or remove it") from None
    if len(text) > limits.SSH_FILE_BYTES:
        raise EnvironmentProblem(f"{path} is larger than {limits.SSH_FILE_BYTES} bytes", "shorten it")
    return host_keys.read(text.decode("utf-8", "replace"))


def _keep(hop: Hop, blob: bytes) -> None:
    """Put a key that was accepted into the user's known_hosts."""
    if not hop.user_known_hosts:
        return
    path = hop.user_known_hosts[0]
    name = host_keys.hashed_name(hop.name, os.urandom(20)) if hop.hash_names else hop.name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            file.write((("\n" if torn else "") + host_keys.line_of(name, blob)).encode())
    except OSError as error:
        raise EnvironmentProblem(f"the accepted key cannot be written to {path}: {error.strerror}",
                                 "mend its mode, or add the key yourself") from None


def _greet(way: Way, hop: Hop, vouchers: Vouchers, post_quantum: bool, until: float) -> tuple[Session, KnownBy]:
    """Connect and have the host's key judged; the session is the way's last one then.

    A host has keys of several kinds and shows one of them; where the connection file alone vouches for it, the others
    are asked for too.
    """
    without: frozenset[str] = frozenset()
    first: HostKeyChanged | None = None
    while True:
        session = _session(way, hop, vouchers, without, post_quantum, until)
        way.add(session)
        try:
            _exchange(session, hop, post_quantum, until)
        except HostKeyChanged as error:
            if not vouchers.by_file_alone or len(without) + 1 >= limits.SSH_HOST_KEY_KINDS:
                raise first or error from None
            first = first or error
            without |= {session.host_key.get_name()}
            way.drop()
            continue
        except NoRoute:
            if first is not None:  # no key of another kind
                raise first from None
            raise
        return session, vouchers.judge(session.host_key.asbytes())


def _session(way: Way, hop: Hop, vouchers: Vouchers, without: frozenset[str], post_quantum: bool,
             until: float) -> Session:
    if way.sessions:
        try:
            left = max(until - time.monotonic(), 0.01)
            connection: Any = way.sessions[-1].open_forward((hop.host, hop.port), left)
        except IndexError:
            raise NoRoute("the login was given up", "") from None
        except ChannelRefused as error:
            raise NoRoute(f"the host before it does not lead to {hop.host}:{hop.port}: {error}",
                          "look at ProxyJump in your ssh configuration") from None
    else:
        connection = _connect(hop, until, way.given_up)
    return Session(connection, vouchers.judge, vouchers.kinds(), without, post_quantum)


def _exchange(session: Session, hop: Hop, post_quantum: bool, until: float) -> None:
    if post_quantum and not session.can_be_post_quantum:
        raise NotPostQuantum("this paramiko has no post-quantum key exchange, and one is required",
                             "pip install --upgrade paramiko, or say --backend openssh")
    try:
        session.greet(until)
    except (HostKeyUnknown, HostKeyChanged):
        raise
    except IncompatiblePeer as error:
        if post_quantum and "kex" in str(error):
            raise NotPostQuantum(
                f"{hop.text} offers no post-quantum key exchange that this back end has: it offers {_offered(session)}",
                "say --backend openssh, which may have another one, or have the server's OpenSSH updated",
            ) from None
        raise NoRoute(f"{hop.text} and this back end have no algorithm in common: {shown(str(error))} "
                      f"(the server offers {_offered(session)})", "have the server's OpenSSH updated") from None
    except TimeoutError:
        raise NoRoute(f"{hop.text} does not answer as an ssh server in time", "try again, or allow more time") from None
    except (SSHException, EOFError, OSError) as error:
        reason = session.goodbye or shown(str(error)) or "it ended the connection"
        raise NoRoute(f"{hop.text} does not answer as an ssh server: {reason}", "check host and port") from None


def _offered(session: Session) -> str:
    return shown(", ".join(session.offered) or "nothing")


def _connect(hop: Hop, until: float, given_up: threading.Event) -> socket.socket:
    """A connection to the first host, tried at each of its addresses."""
    reason = "no answer in time"
    for family, _, _, _, address in _addresses(hop, until, given_up):
        left = until - time.monotonic()
        if left <= 0:
            break
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(left)
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except TimeoutError:
            connection.close()
        except OSError as error:
            connection.close()
            reason = error.strerror or str(error)
    raise NoRoute(f"{hop.host}:{hop.port} cannot be reached: {reason}", "check host, port and network")


def _addresses(hop: Hop, until: float, given_up: threading.Event) -> list[Any]:
    """Of a host; looked up aside, since a look-up knows no time limit."""
    def look_up(flags: int = 0) -> list[Any]:
        return list(socket.getaddrinfo(hop.host, hop.port, type=socket.SOCK_STREAM, flags=flags))

    try:
        return look_up(socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass  # a name, then
    try:
        return within(until, given_up, look_up)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise NoRoute(f"the host {shown(hop.host)} is not known: {reason}", "check its name") from None


def _authenticate(session: Session, hop: Hop, order: Order, asker: Asker, known_by: KnownBy, called: str) -> None:
    """Log in with one key, or a few, or a password.

    Args:
        called: the host's name before its questions; a host on the way cannot pass for the last one.
    """
    tried: list[str] = []
    try:
        further, sealed = _with_keys(session, hop, order.identity, asker, tried)
        if further == []:
            return
        if order.password and known_by != "file":
            _with_password(session, hop, asker, further or [], called)
            return
    except (SSHException, EOFError, OSError) as error:
        raise _no_login(session, hop, tried, error) from None
    if sealed is not None and not tried:
        raise sealed
    advice = "name the key (--identity, sshkey=), or have it entered in authorized_keys there"
    if order.password:
        advice = ("a password is never sent to a host that only the connection file vouches for: log in once with ssh, "
                  "or use a key")
    wanted = f"; it wants {shown(', '.join(further))} too" if further and tried else ""
    raise LoginRefused(f"{hop.text} takes none of: {', '.join(tried) or 'no key (there is none)'}{wanted}", advice)


def _with_keys(session: Session, hop: Hop, identity: str, asker: Asker,
               tried: list[str]) -> tuple[list[str] | None, LoginRefused | None]:
    """Offer keys until one is taken; names them in `tried`.

    Returns:
        what the server wants beside a key that it took (nothing: we are in), or None if it took none; and why a key
        could not be opened.
    """
    sealed: LoginRefused | None = None
    with Identities(hop, identity, session.auth_timeout) as identities:
        for candidate in identities.candidates():
            try:
                key = candidate.key(asker)
            except LoginRefused as error:
                if identity:
                    raise
                sealed = sealed or error
                continue
            tried.append(candidate.text)
            try:
                return session.auth_publickey(hop.user, key), sealed
            except BadAuthenticationType as error:
                return list(error.allowed_types), sealed
            except SSHException:  # the server does not want this key, or the agent does not sign with it
                if not session.active or session.overdue:
                    raise
    return None, sealed


def _no_login(session: Session, hop: Hop, tried: list[str], error: Exception) -> LoginRefused | NoRoute:
    if session.active and session.overdue:
        return NoRoute(f"{hop.text} does not answer a login in time", "try again, or allow more time")
    if not session.active and not session.goodbye:
        return NoRoute(f"{hop.text} ended the connection during the login", "try again")
    reason = session.goodbye or shown(str(error))
    return LoginRefused(f"{hop.text} does not let you in ({', '.join(tried) or 'password'}): {reason}",
                        "check the user's name, and which key or password it has there")


def _with_password(session: Session, hop: Hop, asker: Asker, further: list[str], called: str) -> None:
    """Log in by password, asked by us or by the server.

    Raises:
        LoginRefused: nobody knows it.
        SSHException: the server does not take it.
    """
    prompt = f"{called}'s password: "  # as the ssh program asks

    def ask(text: str) -> str:
        answer = asker.ask(text)
        if answer is None:
            raise LoginRefused(f"{hop.text} wants a password, and nobody gave one", "give it at a terminal, or store "
                               "it: secure-ipp tunnel login USER@HOST")
        return answer

    if not further or "password" in further:
        password = ask(prompt)
        try:
            further = session.auth_password(hop.user, password, fallback=False)
            if not further:
                return
        except BadAuthenticationType as error:
            further = list(error.allowed_types)
            if "keyboard-interactive" not in further:
                raise
            _interactive(
                session, hop.user, lambda text: password if "password" in text.lower() else ask(f"({called}) {text}")
            )
            return
    _interactive(session, hop.user, lambda text: ask(f"({called}) {text}"))


def _interactive(session: Session, user: str, ask: Callable[[str], str]) -> None:
    """Answer the server's own questions; what the asker raises comes out here, not in the session's thread."""
    raised: list[LoginRefused] = []
    asked = 0

    def answer(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
        nonlocal asked
        asked += len(prompts)
        if asked > limits.SSH_QUESTIONS:
            raise SSHException("the server asks too much")
        try:
            return [ask(shown(text)) for text, _ in prompts]
        except LoginRefused as error:
            raised.append(error)
            raise SSHException("nobody answers") from None

    try:
        if session.auth_interactive(user, answer):
            raise AuthenticationException("the server wants yet another proof")
    except (SSHException, EOFError):
        if raised:
            raise raised[0] from None
        raise
