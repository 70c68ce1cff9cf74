"""The time by which grants expire at the scheduler and its gate: the hub's word, carried on by a monotonic clock (S17).

The wall clock of this process is never asked, so that setting it back revives nobody.
Law: it never goes back, whatever is said.
"""

from __future__ import annotations


class TrustedTime:
    """Said by the hub with each beat; any thread may ask."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said = (0.0, 0.0)  # the hub's word, and when it was heard, monotonic; replaced in one step

    def heard(self, stamp: float, monotonic: float) -> None:
        """The hub says that it is this time.

        Args:
            stamp: seconds since the epoch.
            monotonic: seconds, now.
        """
        if stamp > self.at(monotonic):
            self._said = (stamp, monotonic)

    def at(self, monotonic: float) -> float:
        """Seconds since the epoch at this moment; before the hub was heard, the first seconds of it."""
        stamp, heard = self._said
        return stamp + max(0.0, monotonic - heard) if stamp else 0.0
