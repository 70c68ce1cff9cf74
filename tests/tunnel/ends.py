"""Both ends of what a tunnel carries, a back end between them, and proof that nothing of it is left."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from secure_ipp.tunnel import backends
from secure_ipp.tunnel.interface import Asker, Backend, BackendName, Facts, Forward, Order
from secure_ipp.tunnel.route import Route
from tests import running
from tests.tunnel.sshd import Reached, User

SECONDS = 20.0  # for a connection that ought to come


class Answers:
    """An `Asker` that knows some answers.

    Attributes:
        asked: prompts, in order.
    """

    def __init__(self, **answers: str) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def ask(self, prompt: str) -> str | None:
        self.asked.append(prompt)
        return next((answer for word, answer in self._answers.items() if word in prompt), None)


class Target:
    """Where a forward comes out: a listening socket, TCP or Unix."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        if path is None:
            self._socket = socket.create_server(("127.0.0.1", 0))
        else:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.bind(str(path))
            self._socket.listen(64)
        self._socket.settimeout(SECONDS)
        self.port = 0 if path else int(self._socket.getsockname()[1])

    def forward(self, local: Path) -> Forward:
        """A forward from `local` to this."""
        return Forward(local, path=str(self.path)) if self.path else Forward(local, "127.0.0.1", self.port)

    def accept(self) -> socket.socket:
        one, _ = self._socket.accept()
        one.settimeout(SECONDS)
        return one

    def close(self) -> None:
        self._socket.close()


def connect(path: Path) -> socket.socket:
    """A connection to a local end."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.settimeout(SECONDS)
    one.connect(str(path))
    return one


@contextmanager
def through(target: Target, local: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The near and the far end of one connection through a tunnel."""
    with connect(local) as near, target.accept() as far:
        yield near, far


def carries(target: Target, local: Path) -> bool:
    """Whether bytes pass both ways."""
    with through(target, local) as (near, far):
        near.sendall(b"there")
        far.sendall(b"back")
        return far.recv(5, socket.MSG_WAITALL) == b"there" and near.recv(4, socket.MSG_WAITALL) == b"back"


def send_all(one: socket.socket, data: bytes) -> None:
    """Send it and end this direction."""
    one.sendall(data)
    one.shutdown(socket.SHUT_WR)


def read_all(one: socket.socket) -> bytes:
    """All that comes until the other side's end."""
    found = bytearray()
    while data := one.recv(1 << 20):
        found += data
    return bytes(found)


class Trial:
    """Orders for one back end, in directories of their own; ends what it began."""

    def __init__(self, name: BackendName) -> None:
        self.name = name
        self._open: list[Backend] = []

    def order(self, user: User, server: Reached | None, *targets: Target, host: str = "", **more: object) -> Order:
        """An order for a login as `user`.

        Args:
            host: a name of the user's configuration, in place of the server's address.
        """
        directory = running.short_directory()
        forwards = tuple(target.forward(directory / f"{number}.door") for number, target in enumerate(targets))
        if not forwards:
            forwards = (Forward(directory / "0.door", "127.0.0.1", 1),)
        assert host or server
        route = Route(host) if host or server is None else Route(server.host, "", server.port)
        more.setdefault("config", str(user.config))
        return Order(route, forwards, directory, **more)  # type: ignore[arg-type]

    def connect(self, order: Order, asker: Asker | None = None, seconds: float = SECONDS) -> tuple[Backend, Facts]:
        """A back end that has connected."""
        backend = backends.make(self.name, order, asker or Answers())
        facts = backend.connect(time.monotonic() + seconds)
        self._open.append(backend)
        return backend, facts

    def end(self) -> None:
        for backend in self._open:
            backend.close()
        self._open.clear()


class Inventory:
    """What this process has and had started, so that a back end's leavings show."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()
        self._processes = set(psutil.pids())

    def left(self) -> dict[str, object]:
        """What is there now and was not then; empty if nothing."""
        threads = [one.name for one in threading.enumerate() if one not in self._threads]
        descriptors = [f"{number}: {what}" for number, what in _descriptors().items()
                       if self._descriptors.get(number) != what]
        processes = [text for pid in set(psutil.pids()) - self._processes if (text := _ours(pid))]
        found = {"threads": threads, "descriptors": descriptors, "processes": processes}
        return {kind: some for kind, some in found.items() if some}

    def await_nothing(self, seconds: float = 5.0) -> None:
        try:
            running.wait_until(lambda: not self.left(), seconds)
        except (TimeoutError, psutil.NoSuchProcess):
            assert not self.left()


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def _ours(pid: int) -> str:
    """The command of a process of this run; "" if it is none, or a server, which somebody else ends."""
    wanted = f"{running.MARKER}={os.environ[running.MARKER]}".encode()
    try:
        one = psutil.Process(pid)
        if one.status() == psutil.STATUS_ZOMBIE or one.name().startswith("sshd"):
            return ""
        return " ".join(one.cmdline()) if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") else ""
    except (psutil.Error, OSError):
        return ""


def sockets_in(directory: Path) -> list[str]:
    return [path.name for path in directory.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Start something beside; to be joined."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
