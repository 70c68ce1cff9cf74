"""What time it is, for expiry: a high-water mark, which outlives the hub, carried on by a clock that nobody sets (S17).

Pure.  Laws: this time never goes back, so that a clock set back revives nobody; it follows the wall clock forward, but
not over a jump of more than `CLOCK_JUMP_SECONDS`, which the owner must accept, so that a false clock does not end
everybody's keys; the steady clock of another boot says nothing, and then the wall clock is followed, unless a jump was
being waited for.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from secure_ipp import limits


class Reading(NamedTuple):
    """All clocks at one moment."""

    wall: float  # seconds since the epoch
    steady: float  # seconds since some moment of this boot, sleep included
    boot: str  # names the boot; empty: this system does not tell


class Mark(Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept on the disk."""

    time: float
    steady: float
    boot: str
    waiting: bool = False  # for the owner, because of a jump


class MarkedClock:
    """The trusted time.

    Args:
        mark: of an earlier run; None: there was none.
        now: the clocks.

    Attributes:
        jump: seconds by which the wall clock is ahead and not followed; 0: it is followed.
        behind: seconds by which it has been set back, more than clocks are adjusted by; else 0.
    """

    def __init__(self, mark: Mark | None, now: Reading) -> None:
        self._steady = now.steady
        self.jump = self.behind = 0.0
        if mark is None:
            self._time = now.wall
        elif now.boot and mark.boot == now.boot and now.steady >= mark.steady:
            self._time = mark.time + now.steady - mark.steady
        elif mark.waiting and now.wall - mark.time > limits.CLOCK_JUMP_SECONDS:
            self._time = mark.time
        else:
            self._time = max(mark.time, now.wall)
        self.read(now)

    def read(self, now: Reading) -> float:
        """Seconds since the epoch, at this reading."""
        self._time += max(0.0, now.steady - self._steady)
        self._steady = now.steady
        ahead = now.wall - self._time
        self.jump = ahead if ahead > limits.CLOCK_JUMP_SECONDS else 0.0
        self.behind = -ahead if -ahead > limits.CLOCK_SKEW_SECONDS else 0.0
        if 0 < ahead <= limits.CLOCK_JUMP_SECONDS:
            self._time = now.wall
        return self._time

    def accept(self, now: Reading) -> float:
        """The owner says that the wall clock is right; it is followed forward, never back."""
        self._time = max(self.read(now), now.wall)
        return self.read(now)

    def mark(self, now: Reading) -> Mark:
        """To be kept."""
        return Mark(self.read(now), now.steady, now.boot, self.jump > 0)
