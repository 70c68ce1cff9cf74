"""SSH servers with a fault, on loopback: one that falls silent, and one whose logins are ours to choose."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import asyncssh

from tests.tunnel.sshd import fingerprint


@contextlib.contextmanager
def silent(greeting: bytes = b"") -> Iterator[int]:
    """A server that accepts, says its greeting, and nothing more; gives its port."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    one, _ = server.accept()
                    taken.append(one)
                    one.sendall(greeting)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in taken:
                one.close()


class _Login(asyncssh.SSHServer):
    def __init__(self, owner: Faulty) -> None:
        self._owner = owner

    def begin_auth(self, username: str) -> bool:
        self._owner.users.append(username)
        return True

    def password_auth_supported(self) -> bool:
        return bool(self._owner.password)

    def validate_password(self, username: str, password: str) -> bool:
        self._owner.passwords.append(password)
        return password == self._owner.password

    def connection_requested(self, host: str, port: int, *origin: Any) -> bool:
        return True  # forwarded, to whoever is in

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: Any) -> bool:
        self._owner.keys.append(key.export_public_key().decode().split()[1])
        return False


class Faulty:
    """A server by asyncssh that takes one password and no key.

    Args:
        password: that it takes; "": none.
        factory: makes what decides on a login; None: as above.
        options: for `asyncssh.listen`.

    Attributes:
        users, passwords, keys: what was tried, in order.
    """

    host = "127.0.0.1"

    def __init__(self, password: str = "", factory: Callable[[], asyncssh.SSHServer] | None = None,
                 **options: Any) -> None:
        self.password = password
        self._factory = factory or (lambda: _Login(self))
        self.users: list[str] = []
        self.passwords: list[str] = []
        self.keys: list[str] = []
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        self.port = 0
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: Any = None

    @property
    def name(self) -> str:
        return f"[{self.host}]:{self.port}"

    def host_key(self, kind: str = "") -> str:
        """Its public key: kind and base64."""
        return " ".join(self._key.export_public_key().decode().split()[:2])

    def fingerprint(self) -> str:
        return fingerprint(self.host_key())

    def __enter__(self) -> Faulty:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _listen(self) -> Any:
        return await asyncssh.listen(self.host, 0, server_factory=self._factory, server_host_keys=[self._key],
                                     **self._options)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        await self._server.wait_closed()
        await self._loop.shutdown_default_executor()
