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

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        self._keyed = hashlib.blake2b(digest_size=TICKET_BYTES, key=key)

    def __repr__(self) -> str:
        return "Tickets(<key hidden>)"

    def make(self, owner: str, task: str, attempt: int, engine: str, number: int) -> bytes:
        # lengths first: no two different quintuples read alike
        text = f"{len(owner)}:{owner}{len(task)}:{task}{attempt}:{number}:{engine}"
        keyed = self._keyed.copy()
        keyed.update(text.encode())
        return keyed.digest()

    def check(self, ticket: bytes, owner: str, task: str, attempt: int, engine: str, number: int) -> None:
        """Raise `Refused` unless this ticket was made for exactly this."""
        check_same(ticket, self.make(owner, task, attempt, engine, number))


def check_same(said: bytes, made: bytes) -> None:
    """Raise `Refused` unless what was said is the ticket that was made for the assignment, whole."""
    if len(made) != TICKET_BYTES or not hmac.compare_digest(said, made):
        raise Refused("a result whose ticket is not that of the assignment", code="ticket")
