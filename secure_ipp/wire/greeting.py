"""The first message of a connection: what a newcomer says of itself, and what the gate says of it.

Laws: user, role and grant come from the gate's properties alone, and a connection without them is refused (S4); a
peer that chose its own routing id is refused (S5); a greeting is one frame, strictly decoded.
"""

from __future__ import annotations

import getpass
import os
import platform
import socket as host_names
from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

import zmq

from secure_ipp import limits
from secure_ipp._version import __version__
from secure_ipp.errors import REFUSALS, ProtocolError, Refused
from secure_ipp.logs import escape
from secure_ipp.wire.codec import decode_hello
from secure_ipp.wire.messages import Hello, Refusal

Role = Literal["client", "agent", "engine", "scheduler", "probe"]
_AUTOMATIC_ID_BYTES = 5  # a NUL and a number, as libzmq makes them
_ACCEPTED_UNSEEN = 1 << 16  # connections that the monitor may have failed to report; few among 2**32 numbers


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Who is there; `hello` is the peer's own word, the rest is not."""

    user: str
    role: str
    grant: str
    address: str
    hello: Hello


def refusal_of(reply: Refusal) -> Refused:
    """The error that a refusal names; its words (unverified) end at somebody's terminal."""
    reason, advice, code = map(escape, (reply.reason, reply.advice, reply.code))
    return REFUSALS.get(code, Refused)(reason, advice, code=code)


def make_hello(role: Role, resume: bytes, received: int) -> Hello:
    """What the connecting end says first.

    Args:
        resume: token of the session to go on with; empty for a new one.
        received: number of the last packet received in it.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    return Hello(
        protocol=limits.PROTOCOL, role=role, package=__version__, python=platform.python_version(), resume=resume,
        received=received, host=_text(host_names.gethostname()), pid=os.getpid(), user=_text(user),
    )


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()[: limits.TEXT_CHARS]


def property_of(frame: zmq.Frame, name: str) -> str:
    """A property of the connection that a frame came over; empty if there is none of this name."""
    try:
        return str(frame.get(name))
    except (zmq.ZMQError, UnicodeDecodeError):
        return ""


def descriptor_of(frame: zmq.Frame) -> int:
    """The descriptor that a frame came over, which may be another connection's by now; -1 if unknown."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


def check_routing_id(frames: list[zmq.Frame], last_id: int, accepted: int) -> None:
    """Refuse a routing id that libzmq did not give (S5).

    A peer that names itself twice keeps one name out of its properties; but it cannot know where libzmq counts.

    Args:
        frames: the routing id and what the peer sent.
        last_id: number of the last id given before the door opened.
        accepted: connections since.

    Raises:
        Refused: the peer claimed it.
    """
    routing_id = frames[0].bytes
    if len(routing_id) == _AUTOMATIC_ID_BYTES and routing_id[0] == 0 and not property_of(frames[1], "Identity"):
        count = (int.from_bytes(routing_id[1:], "big") - last_id) % 2**32
        if 0 < count <= accepted + _ACCEPTED_UNSEEN:
            return
    raise Refused("it claimed a routing id", code="claimed-routing-id")


def read_greeting(frames: list[zmq.Frame], roles: Container[str]) -> Newcomer:
    """Take the first message of a connection.

    Args:
        frames: the routing id and what the peer sent; unverified.
        roles: that have a place at this door, besides the probe.

    Raises:
        ProtocolError: it is no greeting.
        Refused: it is one that must not be answered with a welcome.
    """
    first = frames[1]
    user, role, grant = (property_of(first, name) for name in ("User-Id", "Role", "Grant"))
    if not (user and role and grant):
        raise Refused("the gate did not say who it is", code="identity")
    if len(frames) != 2:
        raise ProtocolError("a greeting of several frames", code="malformed")
    hello = decode_hello(first.buffer)
    if hello.protocol != limits.PROTOCOL:
        raise Refused(
            f"it speaks protocol {hello.protocol}, this controller {limits.PROTOCOL}",
            f"install the controller's version: pip install secure-ipp=={__version__}", code="version",
        )
    if hello.role != role or (role not in roles and role != "probe"):
        raise Refused(
            f"a key for the role {role!r} was used as {hello.role!r}",
            "use ipcontroller-client.json for clients and ipcontroller-engine.json for engines", code="role",
        )
    return Newcomer(user, role, grant, property_of(first, "Peer-Address"), hello)
