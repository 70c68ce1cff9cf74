"""Peers that send without credit: what the kernel took in from them, less what was read of it.

libzmq hands over whole messages only, so a message without end would fill its memory unseen (S18).  An honest peer has
a window under way, no more.  Connections are looked at when this process has grown, since asking the kernel
about thousands of them all the time would cost more than it tells.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterable

import zmq

from secure_ipp import limits
from secure_ipp.wire.cutting import Accepted

_GROWTH_BYTES = limits.UNREAD_BYTES // 2  # of this process, between two looks
_COMMAND_BYTES = 33  # CurveZMQ: name, nonce, authenticator and flags of a MESSAGE
_SHORT_FRAME, _LONG_FRAME = 2, 9  # ZMTP: flags and length


def bytes_on_the_wire(frames: list[zmq.Frame]) -> int:
    """What a message, its routing id left out, took on the connection."""
    total = 0
    for frame in frames[1:]:
        size = len(frame) + _COMMAND_BYTES
        total += size + (_SHORT_FRAME if size <= 255 else _LONG_FRAME)
    return total


class UnreadWatch:
    """Finds them."""

    def __init__(self) -> None:
        self._least = _resident_bytes()  # since the last look

    def too_much(self, connections: Iterable[Accepted], heard: Callable[[Accepted], int]) -> list[Accepted]:
        """Connections to cut.

        Args:
            connections: all of them.
            heard: bytes read from one.
        """
        resident = _resident_bytes()
        if resident - self._least < _GROWTH_BYTES:
            self._least = min(self._least, resident)
            return []
        self._least = resident
        return [c for c in connections if c.received_bytes() - heard(c) > limits.UNREAD_BYTES]


def _resident_bytes() -> int:
    """What this process holds in memory; 0 where `Accepted.received_bytes` says nothing either."""
    if sys.platform != "linux":
        return 0
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0  # descriptors have run out; the next look will be at all connections
