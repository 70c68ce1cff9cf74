"""A session: one peer that said hello, under the identity that the gate gave its connection."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from secure_ipp.wire.link import Link

if TYPE_CHECKING:
    from secure_ipp.wire.codec import PacketDecoder
    from secure_ipp.wire.door import Door
    from secure_ipp.wire.messages import Hello, Message, Refusal


class Session:
    """What a door knows of a peer.

    Attributes:
        user: the User-Id from the gate, never from the peer.
        grant: the label of its grant; for people.
        address: where its connection came from.
        hello: what it said of itself; proves nothing.
        peer: free for the handler's own object.
    """

    __slots__ = (
        "_door", "address", "descriptor", "dirty", "grant", "hello", "leaving", "link", "losses", "peer", "role",
        "routing_id", "since", "token", "user",
    )

    def __init__(
        self, door: Door, *, user: str, role: str, grant: str, hello: Hello, routing_id: bytes, descriptor: int,
        address: str, link_decoder: PacketDecoder[Any],
    ) -> None:
        self._door = door
        self.user = user
        self.role = role
        self.grant = grant
        self.hello = hello
        self.address = address
        self.token = os.urandom(16)
        self.link = Link(link_decoder)
        self.routing_id: bytes | None = routing_id
        self.descriptor = descriptor
        self.dirty = False
        self.losses = 0
        self.since = time.time()
        self.leaving = ""
        self.peer: Any = None

    def send(self, message: Message, frame: Any | None = None, token: object | None = None) -> None:
        """Queue a message; it leaves at the end of the turn, or when the peer is back and has credit."""
        self.link.send(message, frame, token)
        self._door.mark(self)

    def cut(self, refusal: Refusal) -> None:
        """Say why, then end the session and its connection."""
        self._door.cut(self, refusal)
