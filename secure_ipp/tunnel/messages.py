"""What a tunnel's keeper and its users say to each other: JSON lines over a private Unix socket, strictly decoded.

A connection that said `Use` counts as a user for as long as it is open, however it ends.
"""

from __future__ import annotations

import socket
from typing import Literal

import msgspec
from msgspec import Struct

from secure_ipp import limits
from secure_ipp.errors import ProtocolError
from secure_ipp.tunnel.spec import Spec

Condition = Literal["connecting", "up", "lost", "failed", "closing"]


class _Line(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag=str.lower):
    """One line."""


class Use(_Line, frozen=True, forbid_unknown_fields=True):
    """I am here.

    Attributes:
        who: for the list: a client, an agent.
        asks: questions may be put to me, until the tunnel is up.
    """

    who: str
    pid: int
    asks: bool = False


class Reply(_Line, frozen=True, forbid_unknown_fields=True):
    """To a question; None: I do not know."""

    number: int
    text: str | None

    def __repr__(self) -> str:
        return f"<Reply to {self.number}>"


class Look(_Line, frozen=True, forbid_unknown_fields=True):
    """Tell me how it is; I am no user."""


class Hold(_Line, frozen=True, forbid_unknown_fields=True):
    """Stay open without users, or do not any more."""

    held: bool


class Close(_Line, frozen=True, forbid_unknown_fields=True):
    """End, whoever uses it."""


class Question(_Line, frozen=True, forbid_unknown_fields=True):
    """A password or a passphrase is needed."""

    number: int
    prompt: str


class State(_Line, frozen=True, forbid_unknown_fields=True):
    """How the tunnel is.

    Attributes:
        reason: why it is not up, in words.
        failure: code, message and advice of the error that it ended with.
        refusal: why the ssh server last refused to pass something on to the door; "" if it did not.
        since: of this condition, seconds since the epoch.
        drops: how often it was lost.
        host_key, exchange, known_by: as in `interface.Facts`; the last ones.
    """

    condition: Condition
    reason: str = ""
    failure: dict[str, str] = {}
    refusal: str = ""
    since: float = 0.0
    drops: int = 0
    users: list[str] = []
    held: bool = False
    pid: int = 0
    host_key: str = ""
    exchange: str = ""
    known_by: str = ""
    spec: Spec | None = None


FromUser = Use | Reply | Look | Hold | Close
FromKeeper = Question | State

_encode = msgspec.json.Encoder().encode


def send(connection: socket.socket, message: _Line) -> bool:
    """Send one; False if nobody is there, or reads, any more."""
    try:
        connection.sendall(_encode(message) + b"\n")
    except OSError:
        return False
    return True


class Lines:
    """Whole lines of a connection, decoded.

    Args:
        kind: what the other end may say.
    """

    def __init__(self, kind: object) -> None:
        self._decoder: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(kind)
        self._rest = b""

    def take(self, data: bytes) -> list[_Line]:
        """What these further bytes (unverified) complete.

        Raises:
            ProtocolError: they are no lines of this kind.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > limits.TUNNEL_LINE_BYTES or any(len(line) > limits.TUNNEL_LINE_BYTES for line in lines):
            raise ProtocolError("a line between a tunnel's keeper and its user is too long")
        try:
            return [self._decoder.decode(line) for line in lines]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise ProtocolError("a line between a tunnel's keeper and its user is none") from None
