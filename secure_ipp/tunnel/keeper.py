"""``python -m secure_ipp.tunnel.keeper``: keeps one tunnel for all of a user's processes that want it.

It reads a `Bootstrap` from stdin, listens on a 0600 socket in the tunnel's private directory, says so on stdout, and
goes on in the background.  Laws: it and its login end when the last user is gone, unless it is held; a user that is
killed counts as gone at once (its connection ends); passwords are asked of a user that waits for the tunnel to come up,
are kept in memory alone, and only until a login with them is refused; nothing of it outlives it.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from secure_ipp import hardening, limits, logs
from secure_ipp.errors import ProtocolError, SecureIppError
from secure_ipp.keys.locks import Lock
from secure_ipp.tunnel import backends, places
from secure_ipp.tunnel.interface import Asker, Backend, Order
from secure_ipp.tunnel.messages import Close, FromUser, Hold, Lines, Look, Question, Reply, State, Use, send
from secure_ipp.tunnel.questions import Questions
from secure_ipp.tunnel.spec import Bootstrap, Spec
from secure_ipp.tunnel.upkeep import Upkeep

_log = logging.getLogger("secure_ipp.tunnel")
_STOP_SECONDS = 10.0
_GIVE_UP_SECONDS = 1.0  # a login that has not come about ends with this process at the latest
_SHORT_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class _Peer:
    """Somebody at the control socket; `use` is set once it is a user."""

    connection: socket.socket
    lines: Lines = field(default_factory=lambda: Lines(FromUser))
    use: Use | None = None


class Keeper:
    """The process's main thread: its users.

    Args:
        listener: bound and listening.
        make: a back end for an order; others than the real ones in tests.
    """

    def __init__(
        self, spec: Spec, directory: Path, listener: socket.socket, make: Callable[[Order, Asker], Backend]
    ) -> None:
        self._spec = spec
        self._directory = directory
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._peers: dict[socket.socket, _Peer] = {}
        self._held = False
        self._ending = False
        self._began = time.monotonic()
        self._had_users = False
        self._calls: deque[Callable[[], None]] = deque()
        self._woken, self._waking = socket.socketpair()
        self._state = State("connecting", since=time.time())
        self._questions = Questions(self._put_question)
        self._upkeep = Upkeep(
            spec, directory, make, self._questions, lambda state: self._call(lambda: self._changed(state))
        )

    def run(self) -> None:
        """Until nobody needs it any more."""
        for one in (self._listener, self._woken, self._waking):
            one.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._on_newcomer)
        self._selector.register(self._woken, selectors.EVENT_READ, self._on_woken)
        self._upkeep.start()
        try:
            while not self._over():
                for key, _ in self._selector.select(1.0):
                    key.data()
        finally:
            self._questions.end()
            self._end()

    def stop(self) -> None:
        """End it; from a signal handler or any thread."""
        self._call(self._begin_to_end)

    # --- its life --------------------------------------------------------------------------------------------

    def _call(self, what: Callable[[], None]) -> None:
        """Do it in the main thread."""
        self._calls.append(what)
        try:
            self._waking.send(b"\0")
        except BlockingIOError:
            return  # it has been woken often enough

    def _on_woken(self) -> None:
        self._woken.recv(4096)
        while self._calls:
            self._calls.popleft()()

    def _begin_to_end(self) -> None:
        self._ending = True

    def _over(self) -> bool:
        if self._ending:
            return True
        if self._had_users:
            in_use = self._held or any(peer.use for peer in self._peers.values())
            return not in_use or self._state.condition == "failed"
        return time.monotonic() - self._began > limits.TUNNEL_FIRST_USER_SECONDS

    def _end(self) -> None:
        """The login first; then the socket, so that nobody finds a keeper that is about to go."""
        seconds = _STOP_SECONDS if self._state.condition == "up" else _GIVE_UP_SECONDS
        if self._state.condition != "failed":
            self._state = msgspec.structs.replace(self._state, condition="closing", reason="the tunnel was closed")
            self._tell_all()
        if not self._upkeep.stop(seconds):
            _log.warning("the login did not end in time; it ends with this process")
        try:
            with Lock(self._directory.with_suffix(".lock"), wait=_STOP_SECONDS):
                places.remove(self._directory)
                self._listener.close()
        except SecureIppError as error:
            _log.error("the tunnel's directory stays: %s", error.message)
        for peer in list(self._peers.values()):
            peer.connection.close()
        self._selector.close()

    def _changed(self, state: State) -> None:
        self._state = state
        if state.condition == "failed":
            self._questions.forget()
        self._tell_all()

    def _tell_all(self) -> None:
        for peer in list(self._peers.values()):
            if peer.use is not None:
                self._tell(peer)

    def _tell(self, peer: _Peer) -> None:
        users = [f"{other.use.who} (process {other.use.pid})" for other in self._peers.values() if other.use]
        state = msgspec.structs.replace(self._state, users=users, held=self._held, pid=os.getpid(), spec=self._spec)
        if not send(peer.connection, state):
            self._leave(peer)

    # --- its users -------------------------------------------------------------------------------------------

    def _on_newcomer(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            _log.warning("somebody cannot be let in: %s", error.strerror)
            time.sleep(_SHORT_SECONDS)  # of descriptors, say: it would be tried again at once
            return
        connection.settimeout(1.0)  # a user that does not read is no user
        if len(self._peers) >= limits.TUNNEL_USERS:
            _log.warning("there are %d users already; one more was turned away", len(self._peers))
            connection.close()
            return
        peer = self._peers[connection] = _Peer(connection)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._on_peer(peer))

    def _on_peer(self, peer: _Peer) -> None:
        try:
            data = peer.connection.recv(65536)
            if not data:
                raise ConnectionError
            for message in peer.lines.take(data):
                self._heard(peer, message)
        except TimeoutError:
            return
        except (OSError, ProtocolError) as error:
            if isinstance(error, ProtocolError):
                _log.warning("%s", error.message)
            self._leave(peer)

    def _heard(self, peer: _Peer, message: object) -> None:
        if isinstance(message, Use):
            peer.use, self._had_users = message, True
            self._tell(peer)
            self._questions.somebody_came()
        elif isinstance(message, Reply):
            self._questions.answered(message)
        elif isinstance(message, Look):
            self._tell(peer)
        elif isinstance(message, Hold):
            self._held = message.held
            self._tell(peer)
        elif isinstance(message, Close):
            self._ending = True

    def _leave(self, peer: _Peer) -> None:
        if self._peers.pop(peer.connection, None) is None:
            return
        self._selector.unregister(peer.connection)
        peer.connection.close()
        self._questions.somebody_left(any(self._may_be_asked(other) for other in self._peers.values()))

    def _may_be_asked(self, peer: _Peer) -> bool:
        return peer.use is not None and peer.use.asks and self._state.condition == "connecting"

    def _put_question(self, question: Question) -> None:
        """From any thread: to the first who can answer, or to whoever comes."""

        def put() -> None:
            asked = [peer for peer in self._peers.values() if self._may_be_asked(peer)]
            if not any(send(peer.connection, question) for peer in asked) and self._had_users:
                self._questions.somebody_left(somebody_is_there=False)

        self._call(put)


def main() -> int:
    """Read what to do, listen, and go on in the background."""
    hardening.keep_secrets_inside()
    hardening.raise_descriptors()
    bootstrap = msgspec.json.decode(sys.stdin.buffer.readline(), type=Bootstrap)
    directory = Path(bootstrap.directory)
    listener = listen(directory / places.CONTROL)
    print("listening", flush=True)
    if os.fork():
        os._exit(0)  # whoever started it is not its parent, and need not wait for it
    logs.start("tunnel", str(directory / "log"))
    _let_go_of_streams()
    name = bootstrap.spec.backend
    keeper = Keeper(bootstrap.spec, directory, listener, lambda order, asker: backends.make(name, order, asker))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: keeper.stop())
    keeper.run()
    return 0


def listen(path: Path) -> socket.socket:
    """A listener that only this user reaches; what a keeper that was killed has left there is taken away."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


def _let_go_of_streams() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.close(nothing)


if __name__ == "__main__":
    sys.exit(main())
