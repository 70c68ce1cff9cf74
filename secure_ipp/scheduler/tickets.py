"""Tickets: what binds a result to the one assignment it answers (S16).

A ticket is a keyed BLAKE2b (RFC 7693), 16 bytes, over owner, task, attempt, engine and number.  The supervisor keeps
the key over a scheduler's restart, so that a result given to the new one still proves what it belongs to.
"""

from __future__ import annotations

import hashlib
import hmac

from secure_ipp.errors import Refused

TICKET_BYTES = 16


class Tickets:
    """Makes and checks tickets.

    Args:
        key: 32 random bytes, shared by the runs of one controller.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "Tickets(<key hidden>)"

    def make(self, owner: str, task: str, attempt: int, engine: str, number: int) -> bytes:
        # lengths first: no two different quintuples read alike
        text = f"{len(owner)}:{owner}{len(task)}:{task}{attempt}:{number}:{engine}"
        return hashlib.blake2b(text.encode(), digest_size=TICKET_BYTES, key=self._key).digest()

    def check(self, ticket: bytes, owner: str, task: str, attempt: int, engine: str, number: int) -> None:
        """Raise `Refused` unless this ticket was made for exactly this."""
        if not hmac.compare_digest(ticket, self.make(owner, task, attempt, engine, number)):
            raise Refused("a result whose ticket is not that of the assignment", code="ticket")
