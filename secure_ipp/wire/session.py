"""A session: one peer that said hello, under the identity that the gate gave its connection."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from secure_ipp.wire.link import Link

if TYPE_CHECKING:
    from secure_ipp.wire.codec import PacketDecoder
    from secure_ipp.wire.cutting import Accepted
    from secure_ipp.wire.door import Door
    from secure_ipp.wire.messages import Hello, Message, Refusal
    from secure_ipp.wire.pace import Meter


class Session:
    """What a door knows of a peer.

    Attributes:
        user: the User-Id from the gate, never from the peer.
        grant: the label of its grant; for people.
        address: where its connection came from.
        hello: what it said of itself; proves nothing.
        meter: counts what it sends, perhaps together with others; None: nobody counts.
        peer: free for the handler's own object.
        aware: number of the newest statement of the server's keys that it has confirmed (S33).
    """

    __slots__ = (
        "_door", "address", "aware", "connection", "dirty", "gone", "grant", "heard", "hello", "leaving", "link",
        "losses", "meter", "peer", "role", "routing_id", "since", "token", "user",
    )

    def __init__(
        self, door: Door, *, user: str, role: str, grant: str, hello: Hello, address: str,
        link_decoder: PacketDecoder[Any],
    ) -> None:
        self._door = door
        self.user = user
        self.role = role
        self.grant = grant
        self.hello = hello
        self.address = address
        self.token = os.urandom(16)
        self.link = Link(link_decoder)
        self.routing_id: bytes | None = None  # of its connection; None while it has none
        self.connection: Accepted | None = None
        self.heard = 0  # bytes read from that connection
        self.dirty = False
        self.gone = False
        self.losses = 0
        self.since = time.time()
        self.leaving = ""
        self.meter: Meter | None = None
        self.peer: Any = None
        self.aware = 0

    def send(self, message: Message, frame: Any | None = None, token: object | None = None) -> None:
        """Queue a message; it leaves at the end of the turn, or when the peer is back and has credit.

        Once the session is gone, nothing is kept for it any more.
        """
        if self.gone:
            return
        self.link.send(message, frame, token)
        if not self.dirty:
            self._door.mark(self)

    def end(self) -> None:
        """For the door: nothing goes to this peer any more, and nothing is kept for it."""
        self.gone = True
        self.link.drop()

    def cut(self, refusal: Refusal) -> None:
        """Say why, then end the session and its connection."""
        self._door.cut(self, refusal)
