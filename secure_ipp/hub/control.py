"""The hub's control socket: how the owner's commands reach a running controller (S10).

A Unix stream socket, 0600, in a private directory.  Laws: the peer must be a process of this very user, by the kernel's
word; one request is one JSON line of bounded length, answered by one line of printable ASCII; bad lines are answered
with an error and the connection ends; nobody holds a connection longer than `CONTROL_SECONDS` for each line.

Requests are `{"do": "ping"}`, answered by `{"pid": ...}`; `{"do": "status"}`, answered by what `Hub.status` gives;
`{"do": "adopt", "version": N}`, answered by `{"version": ..., "in_force": true}` when the registry on disk, of version
N at least, is in force; and `{"do": "accept-clock"}`, answered by what the clock says then.  An error is
`{"error": message, "code": ..., "advice": ...}`.

It runs on threads of its own, so that a slow command never holds up the hub; what it asks of the hub is asked through
`commands`, and it holds no other state.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, ProtocolError, Refused, SecureIppError

_log = logging.getLogger(__name__)
_LOCAL_PEERCRED = 1  # macOS, <sys/un.h>, at level 0
_XUCRED_BYTES = 76  # macOS, struct xucred: version, uid, number of groups, 16 groups


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a command, unverified."""

    do: Literal["ping", "status", "adopt", "accept-clock"]
    version: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


def parse_request(line: bytes) -> Request:
    """Decode one line, newline included or not.

    Raises:
        ProtocolError: it is no request.
    """
    if len(line) > limits.CONTROL_LINE_BYTES:
        raise ProtocolError("the request is too long", code="too-large")
    try:
        return msgspec.convert(json.loads(line, object_pairs_hook=_without_doubles), Request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = f"not a request: {str(error)[:200]}"
        raise ProtocolError(reason, "use one version of secure_ipp throughout", code="malformed") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands there twice")
    return fields


def peer_uid(connection: socket.socket) -> int:
    """Whose process is at the other end, by the kernel's word.

    Raises:
        Refused: this system does not tell.
    """
    if sys.platform == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[1])
    if sys.platform == "darwin":
        credentials = connection.getsockopt(0, _LOCAL_PEERCRED, _XUCRED_BYTES)
        return int(struct.unpack_from("=II", credentials)[1])
    raise Refused("this system does not tell who is at the other end", "use Linux or macOS")


def check_peer(uid: int, allowed: int) -> None:
    """Raises `Refused` unless the two are the same; root gets no exception here, it needs none."""
    if uid != allowed:
        raise Refused(f"a process of user {uid} at the control socket", code="wrong-user")


class ControlSocket:
    """The listener and its threads.

    Args:
        path: of the socket, in a 0700 directory; what an earlier hub left there is removed.
        commands: by the word of a request, what answers it with plain data for JSON; called on this object's threads.
        refused: told of each peer that was turned away, on this object's threads.
        uid: the user whose processes may come.
    """

    def __init__(
        self, path: str, *, commands: Mapping[str, Callable[[Request], dict[str, Any]]],
        refused: Callable[[str], None], uid: int | None = None,
    ) -> None:
        self._path = path
        self._commands = commands
        self._refused = refused
        self._uid = os.geteuid() if uid is None else uid
        self._listener: socket.socket | None = None
        self._inode = -1
        self._free = threading.BoundedSemaphore(limits.CONTROL_CONNECTIONS)

    def open(self) -> None:
        """Listen, from now on.

        Raises:
            EnvironmentProblem: the socket cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            remove_socket(self._path)
            listener.bind(self._path)
            self._inode = os.lstat(self._path).st_ino
            listener.listen(limits.CONTROL_CONNECTIONS)
        except OSError as error:
            listener.close()
            raise EnvironmentProblem(
                f"cannot make the control socket {self._path}: {error.strerror or error}",
                "see that its directory is there, private, local and its path short (set XDG_RUNTIME_DIR)",
            ) from error
        finally:
            os.umask(before)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="control socket", daemon=True).start()

    def close(self) -> None:
        """Stop listening and remove the socket, unless another hub has put its own there."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        try:
            if os.lstat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except FileNotFoundError:
            _log.info("the control socket was removed by somebody else")
        try:
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        except OSError:
            _log.debug("this system wakes nobody on shutdown")
        listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while self._listener is listener:
            self._free.acquire()
            try:
                connection, _ = listener.accept()
            except OSError as error:
                self._free.release()
                if self._listener is listener:
                    _log.error("the control socket failed: %s", error)
                return
            threading.Thread(target=self._serve, args=(connection,), name="control command", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(limits.CONTROL_SECONDS)
                self._converse(connection)
        except OSError as error:
            _log.info("a command went away: %s", error)
        finally:
            self._free.release()

    def _converse(self, connection: socket.socket) -> None:
        try:
            check_peer(peer_uid(connection), self._uid)
        except Refused as error:
            _log.warning("%s", error.message)
            self._refused(error.message)
            return
        received = b""
        while (split := _read_line(connection, received)) is not None:
            line, received = split
            try:
                reply = self._answer(parse_request(line))
            except SecureIppError as error:
                connection.sendall(error_line(error))
                return
            connection.settimeout(limits.CONTROL_SECONDS)
            connection.sendall(_line(reply))

    def _answer(self, request: Request) -> dict[str, Any]:
        if request.do == "ping":
            return {"pid": os.getpid()}
        return self._commands[request.do](request)


def _read_line(connection: socket.socket, received: bytes) -> tuple[bytes, bytes] | None:
    """The next line and what came after it; None when the peer is done.  Of an overlong line a part, too long too."""
    deadline = time.monotonic() + limits.CONTROL_SECONDS
    while b"\n" not in received and len(received) <= limits.CONTROL_LINE_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no whole line in time")
        connection.settimeout(left)
        piece = connection.recv(limits.CONTROL_LINE_BYTES)
        if not piece:
            return None
        received += piece
    line, _, rest = received.partition(b"\n")
    return line, rest


def remove_socket(path: str) -> None:
    """Remove a socket that an earlier process left; anything else under this name is left and reported.

    Raises:
        EnvironmentProblem: what is there is no socket.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise EnvironmentProblem(f"{path} is in the way and is no socket", "move it away and start again")
    os.unlink(path)


def error_line(error: SecureIppError) -> bytes:
    return _line({"error": error.message, "code": error.code, "advice": error.advice})


def _line(reply: dict[str, Any]) -> bytes:
    return json.dumps(reply, separators=(",", ":")).replace("\x7f", "\\u007f").encode("ascii") + b"\n"
