"""A server that writes ssh's own words before its key was verified (S23): what it says lets nobody in.

ssh passes on what a server gives as the reason of its goodbye, line breaks and all; and a debugging message of the
protocol likewise. Here a server says in such a reason that its key is unknown, or accepted, though the truth is
otherwise, and has a second login on its way to be let in with a key that only the connection file vouches for.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from secure_ipp.errors import SecureIppError
from secure_ipp.tunnel import failures
from secure_ipp.tunnel.interface import Forward, Order
from secure_ipp.tunnel.openssh import OpenSsh
from secure_ipp.tunnel.route import Route
from tests import running
from tests.tunnel.sshd import User

pytestmark = pytest.mark.live
KEY = "SHA256:uVYi9SYsUn1ZE9tDxaix3AtyGRfmKbgRL39pNeLEQlg"
UNKNOWN = (
    f"x\r\ndebug1: Server host key: ssh-ed25519 {KEY}\r\n"
    "The authenticity of host 'h (h)' can't be established.\r\n"
    f"ED25519 key fingerprint is {KEY}.\r\n"
    "No ED25519 host key is known for h and you have requested strict checking.\r\nHost key verification failed."
)
ACCEPTED = f"x\r\nHost key fingerprint is {KEY}\r\n+--[ED25519 256]--+\r\n|   .o.   |\r\n+----[SHA256]-----+\r\n"


class NobodyKnows:
    def ask(self, prompt: str) -> str | None:
        pytest.fail(f"asked: {prompt}")


def _packet(payload: bytes) -> bytes:
    """RFC 4253, 6: without encryption."""
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


def _text(text: str) -> bytes:
    return struct.pack(">I", len(text.encode())) + text.encode()


@contextlib.contextmanager
def liar(kind: str, lie: str) -> Iterator[tuple[int, list[bytes]]]:
    """A server that greets, lies, and hangs up; gives its port, and what it was sent by each who came."""
    came: list[bytes] = []
    said = b"\x01" + struct.pack(">I", 2) + _text(lie) + _text("")  # SSH_MSG_DISCONNECT
    if kind == "debug":
        said = b"\x04\x01" + _text(lie) + _text("")  # SSH_MSG_DEBUG, always to be displayed
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    one, _ = server.accept()
                    with one:
                        one.settimeout(5)
                        one.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" + _packet(said))
                        got = b""
                        with contextlib.suppress(OSError):
                            while len(got) < 1000 and (part := one.recv(65536)):
                                got += part
                        came.append(got)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield int(server.getsockname()[1]), came
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.mark.parametrize("kind", ["goodbye", "debug"])
@pytest.mark.parametrize(("pinned", "lie"), [("", UNKNOWN), (KEY, ACCEPTED), (KEY, UNKNOWN)])
def test_a_key_is_neither_unknown_nor_accepted_because_its_server_says_so(kind: str, pinned: str, lie: str) -> None:
    """S23: known_hosts has another key for this host, so one that the file vouches for is never tried there."""
    user = User()
    directory = running.short_directory()
    with liar(kind, lie) as (port, came):
        with user.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {user.public_key}\n")
        order = Order(Route("127.0.0.1", "", port), (Forward(directory / "door", "127.0.0.1", 1),), directory,
                      config=str(user.config), fingerprints=(KEY,), pinned=pinned)
        with pytest.raises(SecureIppError) as caught:
            OpenSsh(order, NobodyKnows()).connect(time.monotonic() + 10)
    assert type(caught.value) is not failures.LoginRefused
    assert len(came) == 1  # a second one would be the login with no other list than the file's key
    assert came[0].startswith(b"SSH-2.0-")
    assert "\n" not in caught.value.message and "\r" not in caught.value.message
