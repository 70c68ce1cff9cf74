"""Heads of the journal on their way to clients, and what clients say they have seen (S17, S20).

Pure.  A head goes out with a MAC under a key that follows from the server's secret, which is the same in every copy of
the cluster's directory: so a client can show a controller that was put back from a copy what another one had signed,
and nobody can make one believe in a head that never was.  Law: what does not prove itself is told, and changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from secure_ipp.audit.chain import NotALine, hash_of, parse_line
from secure_ipp.errors import Refused
from secure_ipp.keys.curve import CurveSecretKey
from secure_ipp.scheduler.board import Board, ClientPeer
from secure_ipp.wire import messages

_CONTEXT = b"secure-ipp proof of a journal's head/1"


def head_key(server: CurveSecretKey) -> bytes:
    """The MAC's key."""
    return hmac.digest(server.raw, _CONTEXT, hashlib.sha256)


class Heads:
    """The newest head, and the proofs.

    Args:
        key: from `head_key`.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._former: tuple[bytes, ...] = ()
        self.newest: messages.Head | None = None

    def rekey(self, key: bytes) -> None:
        """The server has another key (S33): proofs are made under it; those made before still count, here."""
        self._key, self._former = key, (self._key, *self._former)
        if self.newest is not None:
            self.came(self.newest.line)

    def joined(self, board: Board, peer: ClientPeer) -> None:
        """A client is there, and is to remember the newest head."""
        if self.newest is not None:
            board.send(peer, self.newest)

    def told(self, board: Board, peers: Iterable[ClientPeer], line: str) -> None:
        """The hub has a new head; every client is to remember it."""
        head = self.came(line)
        for peer in peers:
            board.send(peer, head)

    def said(self, board: Board, peer: ClientPeer, seen: messages.Seen, now: float) -> None:
        """A client's word for what it has seen; the hub compares what is proven.

        Raises:
            Refused: it said so before.
        """
        if peer.has_seen:
            raise Refused("it said twice which head it has seen", code="malformed")
        peer.has_seen = True
        claim = self.claim(peer.user, seen)
        if claim is None:
            board.to_hub(messages.AuditEvent("head-unproven", now, {"user": peer.user}))
        elif self.newest is None or self.newest.line != seen.line:
            board.to_hub(claim)

    def came(self, line: str) -> messages.Head:
        """The hub's newest, as it goes to clients."""
        self.newest = messages.Head(line, _proof(self._key, line))
        return self.newest

    def claim(self, user: str, seen: messages.Seen) -> messages.SeenHead | None:
        """What the hub is to compare; None: it is no proof of anything."""
        if not any(hmac.compare_digest(_proof(key, seen.line), seen.proof) for key in (self._key, *self._former)):
            return None
        text = seen.line.encode("ascii", "replace")
        try:
            fields = parse_line(text)
        except NotALine:
            return None
        registry = fields.get("registry")
        return messages.SeenHead(user, fields["n"], hash_of(text), registry if isinstance(registry, int) else 0)


def _proof(key: bytes, line: str) -> bytes:
    return hmac.digest(key, line.encode("utf-8", "surrogatepass"), hashlib.sha256)
