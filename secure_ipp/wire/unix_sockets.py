"""The places of doors that are Unix sockets (S25): in a directory that nobody else can enter, and nobody else's.

libzmq removes whatever lies where it is to bind, a live socket or a file, so this is looked at before.
Law: what is taken over is a socket that nobody listens at any more; whatever else is there stays, and is an error.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys
from collections.abc import Iterator

from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.private_files import check_private_dir

_ANSWER_SECONDS = 1.0  # a listener's backlog takes a connection at once, or is full, and then somebody lives there
_UCRED_BYTES, _XUCRED_BYTES = 12, 76
_LOCAL_PEERCRED = 1  # macOS, at level SOL_LOCAL, which is 0


def path_of(endpoint: str) -> str:
    """The path of an ``ipc://`` address."""
    return endpoint.removeprefix("ipc://")


def take_place(path: str, *, ours: bool = False) -> None:
    """Return if a door may be made here; a socket that nobody listens at is removed.

    Args:
        path: absolute.
        ours: a listener of this process may still be there, and goes.

    Raises:
        PrivateFileError: somebody else could enter the directory, or owns it.
        EnvironmentProblem: a controller listens there, or what is there is no socket.
    """
    check_private_dir(os.path.dirname(path))
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise EnvironmentProblem(f"{path} is in the way and is no socket", "move it away and start again")
    if not ours and _listens(path):
        raise EnvironmentProblem(
            f"another process listens at {path}", "stop that controller (`ipcluster list` shows clusters)",
            code="port-in-use",
        )
    os.unlink(path)


@contextlib.contextmanager
def shut_to_others(path: str) -> Iterator[None]:
    """What is bound here meanwhile gets mode 0600."""
    before = os.umask(0o177)
    try:
        yield
        os.chmod(path, 0o600)
    finally:
        os.umask(before)


def leave_place(path: str) -> None:
    """Remove the name of a door that was closed; its absence is no error."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


def is_own_peer(connection: socket.socket) -> bool:
    """Whether the other end of a Unix socket is a process of this user's, or of root's; True where nobody tells."""
    user = _peer(connection)
    return user is None or user in (0, os.geteuid())


def _peer(connection: socket.socket) -> int | None:
    try:
        if sys.platform == "linux":
            told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED_BYTES)
            return int.from_bytes(told[4:8], sys.byteorder)
        if sys.platform == "darwin":
            told = connection.getsockopt(0, _LOCAL_PEERCRED, _XUCRED_BYTES)
            return int.from_bytes(told[4:8], sys.byteorder)
    except OSError:
        return -1  # it has gone, or is none: nobody of ours
    return None


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ANSWER_SECONDS)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True
