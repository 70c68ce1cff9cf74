"""Accepted connections of a door: which have not said hello, and how to cut exactly one (S7).

A peer is cut by shutting down a duplicate of its descriptor, after making sure that the descriptor still is the
connection that the monitor reported: descriptors are reused, and an innocent must never be cut.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass

from secure_ipp import limits

_SO_COOKIE = 57  # Linux; not named by Python's socket module


@dataclass(slots=True)
class _Connection:
    ticket: bytes
    source: str
    since: float
    greeted: bool = False


class Accepted:
    """The descriptors that libzmq accepted and has not closed."""

    def __init__(self) -> None:
        self._connections: dict[int, _Connection] = {}

    def add(self, descriptor: int, now: float) -> None:
        ticket, source = _identify(descriptor)
        if ticket:
            self._connections[descriptor] = _Connection(ticket, source, now)

    def remove(self, descriptor: int) -> None:
        self._connections.pop(descriptor, None)

    def greeted(self, descriptor: int) -> None:
        if descriptor in self._connections:
            self._connections[descriptor].greeted = True

    def ticket(self, descriptor: int) -> bytes:
        """What identifies the connection that now has this descriptor; empty if none is known."""
        known = self._connections.get(descriptor)
        return known.ticket if known is not None else b""

    def overdue(self, now: float) -> list[tuple[int, bytes]]:
        """Connections to cut: silent for too long, or too many half-open ones (oldest first)."""
        half_open = [(c.since, d, c) for d, c in self._connections.items() if not c.greeted]
        half_open.sort(key=lambda item: item[0])
        per_source: dict[str, int] = {}
        for _, _, connection in half_open:
            per_source[connection.source] = per_source.get(connection.source, 0) + 1
        surplus = len(half_open) - limits.HALF_OPEN_TOTAL
        found = []
        for since, descriptor, connection in half_open:
            crowded = per_source[connection.source] > limits.HALF_OPEN_PER_SOURCE
            if now - since > limits.HELLO_SECONDS or surplus > 0 or crowded:
                per_source[connection.source] -= 1
                surplus -= 1
                found.append((descriptor, connection.ticket))
        return found

    def cut(self, descriptor: int, ticket: bytes | None = None) -> bool:
        """Shut this connection down, if it still is the one that was accepted (and the one of `ticket`)."""
        known = self._connections.get(descriptor)
        if known is None or (ticket is not None and ticket != known.ticket):
            return False
        try:
            duplicate = socket.socket(fileno=os.dup(descriptor))
        except OSError:
            return False
        with duplicate:
            if _identify_socket(duplicate)[0] != known.ticket:
                return False
            try:
                duplicate.shutdown(socket.SHUT_RDWR)
            except OSError:
                return False
        return True


def _identify(descriptor: int) -> tuple[bytes, str]:
    try:
        duplicate = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return b"", ""
    with duplicate:
        return _identify_socket(duplicate)


def _identify_socket(duplicate: socket.socket) -> tuple[bytes, str]:
    """A ticket that no later connection shares, and the source address."""
    try:
        peer = duplicate.getpeername()
    except OSError:
        return b"", ""
    source = str(peer[0]) if isinstance(peer, tuple) else "local"
    if sys.platform == "linux":
        return duplicate.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), source
    return repr(peer).encode(), source
