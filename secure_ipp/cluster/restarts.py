"""Whether a controller process that died is started again.  Decides; starts nothing and has no clock.

Laws: a process that never became ready, and said why, is not tried again; one that ends with status 0 unasked asks for
the controller's end; more than `limits.RESTARTS_PER_MINUTE` deaths of one process within a minute are a crash loop.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from secure_ipp import limits

MINUTE = 60.0


class Life(Enum):
    """What a process of the controller is doing."""

    STARTING = "starting"  # never yet ready since the controller's start
    READY = "ready"
    RESTARTING = "restarting"  # was ready once, died, has been started again


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End the controller with an error."""

    reason: str
    advice: str


@dataclass(frozen=True, slots=True)
class StopAll:
    """End the controller in order: the process was asked to."""


Decision = Restart | GiveUp | StopAll


class Course:
    """The life of one process over its restarts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.life = Life.STARTING
        self._deaths: deque[float] = deque()

    def ready(self) -> None:
        self.life = Life.READY

    def died(self, status: int, now: float) -> Decision:
        """What to do about a death.

        Args:
            status: exit status, or minus the signal.
            now: monotonic seconds.
        """
        if self.life is Life.STARTING:
            return GiveUp(f"the {self.name} ended while starting ({describe(status)})", "see its log file")
        if self.life is Life.READY and status == 0:
            return StopAll()
        self._deaths.append(now)
        while now - self._deaths[0] > MINUTE:
            self._deaths.popleft()
        if len(self._deaths) > limits.RESTARTS_PER_MINUTE:
            return GiveUp(
                f"the {self.name} died {len(self._deaths)} times within a minute ({describe(status)})",
                "see its log file; the controller has ended",
            )
        self.life = Life.RESTARTING
        return Restart()


def describe(status: int) -> str:
    """An exit status in words."""
    return f"signal {-status}" if status < 0 else f"exit status {status}"
