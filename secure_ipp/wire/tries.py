"""One try after the other: which address of a door with which of its keys, for how long, and when the next one is.

Laws: each address is tried with each key that is known before one is tried again; rounds grow longer and rarer, within
bounds; a proof that was refused is no reason to give up before one towards each key that is known was, one after the
other, and the first again, for the door's key may have been changed meanwhile (S33).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from secure_ipp import limits
from secure_ipp.keys.curve import CurvePublicKey
from secure_ipp.keys.known_doors import KnownDoors

FIRST_SECONDS = 1.0  # from connect to welcome; later ones are longer
LAST_SECONDS = 0.1  # less patience than this is not worth another try
_LONGER_ROUNDS, _RARER_ROUNDS = 8, 6


class Tries:
    """Those of one connection.

    Args:
        doors: addresses of one and the same door.
        known: what is believed of its keys.
    """

    def __init__(self, doors: Sequence[str], known: KnownDoors) -> None:
        self.doors = list(doors)
        self._known = known
        self._count = 0
        self._refusals = self._refused_at = 0  # in a row, and the number of the last

    def next(self) -> tuple[str, CurvePublicKey]:
        """Address and key of the next one."""
        key, place = divmod(self._count % self._ways, len(self.doors))
        self._count += 1
        return self.doors[place], self._known.keys[key]

    @property
    def all_tried(self) -> bool:
        """No door is untried."""
        return self._count >= self._ways

    @property
    def seconds(self) -> float:
        """Of this one; a gate that says "not known yet" leaves the handshake hanging."""
        rounds = min(self._count // self._ways, _LONGER_ROUNDS)
        return min(limits.HANDSHAKE_SECONDS, FIRST_SECONDS * 1.5**rounds)

    def wait(self, remaining: float) -> float:
        """Seconds until the next one, of those that remain."""
        rounds = self._count // self._ways
        if not rounds:
            return 0.0
        wait: float = limits.RECONNECT_FIRST_SECONDS * 2 ** min(rounds, _RARER_ROUNDS)
        wait = min(limits.RECONNECT_MAX_SECONDS, wait)
        return min(wait * random.uniform(0.7, 1.3), remaining - LAST_SECONDS)

    def refused(self) -> bool:
        """The door did not take the proof of this one; whether it will take none."""
        self._refusals = self._refusals + 1 if self._count == self._refused_at + 1 else 1
        self._refused_at = self._count
        return len(self._known.keys) == 1 or self._refusals > self._ways

    def begin_again(self, lasted: bool) -> None:
        """After a loss; a connection that falls at once is not tried at once."""
        self._count = 0 if lasted else self._ways
        self._refusals = self._refused_at = 0

    @property
    def _ways(self) -> int:
        """Each door with each key."""
        return len(self.doors) * len(self._known.keys)
