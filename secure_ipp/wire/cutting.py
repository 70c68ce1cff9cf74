"""Accepted connections of a door: which have not said hello, and how to cut exactly one (S7).

A peer is cut by shutting down a duplicate of its descriptor, after making sure that the descriptor still is the
connection that the monitor reported: descriptors are reused, and an innocent must never be cut.
Law: whoever wants a cut names the connection by its ticket; a descriptor alone names nobody.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from secure_ipp import limits
from secure_ipp.wire.unix_sockets import is_own_peer

_STRANGERS_PART = 3  # half-open connections of a door get one in so many of our descriptors; there are two doors
_SO_COOKIE = 57  # Linux; not named by Python's socket module
_TCP_INFO_BYTES = 136  # up to and with tcpi_bytes_received (Linux 4.1)
_BYTES_RECEIVED = struct.Struct("=128xQ")


@dataclass(slots=True)
class Accepted:
    """A connection that libzmq accepted and has not closed; `answer` is what is to be said to its proof."""

    descriptor: int
    ticket: bytes
    source: str
    since: float
    answer: bytes = b""

    def cut(self) -> bool:
        """Shut this connection down, if the descriptor still is it."""
        duplicate = _duplicate(self.descriptor)
        if duplicate is None:
            return False
        with duplicate:
            if _identify(duplicate)[0] != self.ticket:
                return False
            try:
                duplicate.shutdown(socket.SHUT_RDWR)
            except OSError:
                return False  # it has fallen by itself
        return True

    def received_bytes(self) -> int:
        """What the kernel took in from this peer, read or not; 0 where it does not say."""
        if sys.platform != "linux":
            return 0
        duplicate = _duplicate(self.descriptor)
        if duplicate is None:
            return 0
        with duplicate:
            if duplicate.family == socket.AF_UNIX or _identify(duplicate)[0] != self.ticket:
                return 0
            info = duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        return int(_BYTES_RECEIVED.unpack(info)[0]) if len(info) == _TCP_INFO_BYTES else 0


class Connections:
    """All accepted connections of a door, by descriptor.

    Args:
        own_only: whoever is not of this user (or root) is cut at once; for doors that are Unix sockets.
    """

    def __init__(self, *, own_only: bool = False) -> None:
        self._own_only = own_only
        self.foreign = 0  # cut for that
        # strangers must leave descriptors to those who have a key, and to this process itself
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        has_bound = descriptors != resource.RLIM_INFINITY
        self._share = descriptors // _STRANGERS_PART if has_bound else limits.HALF_OPEN_TOTAL
        self.accepted = 0  # ever
        self._all: dict[int, Accepted] = {}
        self._half_open: OrderedDict[int, Accepted] = OrderedDict()  # oldest first
        self._of_source: dict[str, OrderedDict[int, Accepted]] = {}  # the same, by source

    def __iter__(self) -> Iterator[Accepted]:
        return iter(list(self._all.values()))

    def add(self, descriptor: int, now: float) -> None:
        """The monitor says that libzmq accepted a connection."""
        self.accepted += 1
        self.remove(descriptor)
        duplicate = _duplicate(descriptor)
        if duplicate is None:
            return
        with duplicate:
            ticket, source = _identify(duplicate)
            if ticket and self._own_only and not is_own_peer(duplicate):
                ticket = b""
                self.foreign += 1
                with contextlib.suppress(OSError):
                    duplicate.shutdown(socket.SHUT_RDWR)
        if ticket:
            self._all[descriptor] = self._half_open[descriptor] = Accepted(descriptor, ticket, source, now)
            self._of_source.setdefault(source, OrderedDict())[descriptor] = self._half_open[descriptor]

    def remove(self, descriptor: int) -> None:
        """The monitor says that it is closed."""
        self.greeted(descriptor)
        self._all.pop(descriptor, None)

    def greeted(self, descriptor: int) -> None:
        """It said hello: it is not half-open any more."""
        connection = self._half_open.pop(descriptor, None)
        if connection is not None:
            of_source = self._of_source[connection.source]
            del of_source[descriptor]
            if not of_source:
                del self._of_source[connection.source]

    def find(self, descriptor: int) -> Accepted | None:
        """The connection that now has this descriptor."""
        return self._all.get(descriptor)

    def overdue(self, now: float) -> list[Accepted]:
        """Half-open connections to cut, each named once: silent for too long, or too many (oldest first)."""
        found: list[Accepted] = []
        for of_source in list(self._of_source.values()):
            while len(of_source) > self._most_of_source:
                self._name(next(iter(of_source.values())), found)
        while self._half_open:
            oldest = next(iter(self._half_open.values()))
            if len(self._half_open) <= self._most and now - oldest.since <= limits.HELLO_SECONDS:
                break
            self._name(oldest, found)
        return found

    def _name(self, connection: Accepted, found: list[Accepted]) -> None:
        self.greeted(connection.descriptor)
        found.append(connection)

    @property
    def crowded(self) -> bool:
        """There are more half-open connections than may be (from one source: see the newest)."""
        newest = next(reversed(self._half_open.values()), None)
        return newest is not None and (
            len(self._half_open) > self._most or len(self._of_source[newest.source]) > self._most_of_source
        )

    @property
    def _most(self) -> int:
        return min(limits.HALF_OPEN_TOTAL, self._share)

    @property
    def _most_of_source(self) -> int:
        return min(limits.HALF_OPEN_PER_SOURCE, self._share * 3 // 4)


def _duplicate(descriptor: int) -> socket.socket | None:
    try:
        copy = os.dup(descriptor)
    except OSError:
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:  # it is some other file by now
        os.close(copy)
        return None


def _identify(duplicate: socket.socket) -> tuple[bytes, str]:
    """A ticket that no later connection shares, and the source address; empty if it is not connected."""
    try:
        peer = duplicate.getpeername()
        source = str(peer[0]) if isinstance(peer, tuple) else "local"
        if sys.platform == "linux":
            return duplicate.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), source
    except OSError:
        return b"", ""
    return repr((duplicate.getsockname(), peer)).encode(), source
