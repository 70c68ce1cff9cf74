"""What a flood may cost: a bound on answers to unknown keys, and on records of decisions.

Both are pure: time comes as an argument.  Known keys never pass through the bound (S3).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from secure_ipp import limits


class UnknownKeyBudget:
    """A token bucket: so many answers a second, one second's worth at once."""

    def __init__(self, per_second: float = limits.GATE_UNKNOWN_PER_SECOND) -> None:
        """Start full.

        Args:
            per_second: answers a second.
        """
        self._rate = per_second
        self._tokens = per_second
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Whether one more may be answered now (monotonic seconds); if so, it is counted."""
        if self._at is not None:
            self._tokens = min(self._rate, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


@dataclass(frozen=True, slots=True)
class DecisionEvent:
    """One decision, or several alike, for the record.

    Attributes:
        at: seconds since the epoch, of the first.
        domain: the door; text of this process's own configuration, or "?".
        status: "200", "300", "400", "500", or "dropped" (above the bound for unknown keys, not answered).
        reason: why.
        address: the peer's, of the first; text from outside, bounded.
        user_id: the grant's id, if accepted.
        grant: its name, likewise.
        role: likewise.
        key: fingerprint of the public key that asked, of the first; empty if there was none.
        count: how many decisions this stands for.
    """

    at: float
    domain: str
    status: str
    reason: str
    address: str
    user_id: str = ""
    grant: str = ""
    role: str = ""
    key: str = ""
    count: int = 1


class Aggregator:
    """Lets the first of each kind of decision through, and sums up the rest once in a window."""

    def __init__(self, window: float = limits.GATE_LOG_SECONDS) -> None:
        """Start empty.

        Args:
            window: seconds in which decisions alike become one event.
        """
        self._window = window
        self._open: dict[Hashable, tuple[float, DecisionEvent | None]] = {}  # kind -> (window's end, held back)

    def add(self, event: DecisionEvent, now: float) -> DecisionEvent | None:
        """The event, if it is the first of its kind in a while; else it is held back and counted."""
        kind = (event.domain, event.status, event.reason, event.user_id)
        entry = self._open.get(kind)
        if entry is None:
            self._open[kind] = (now + self._window, None)
            return event
        ends, held = entry
        self._open[kind] = (ends, event if held is None else replace(held, count=held.count + event.count))
        return None

    def due(self, now: float) -> list[DecisionEvent]:
        """What was held back in windows that are over."""
        events = []
        for kind, (ends, held) in list(self._open.items()):
            if now < ends:
                continue
            if held is None:
                del self._open[kind]
            else:
                events.append(held)
                self._open[kind] = (now + self._window, None)
        return events

    def rest(self) -> list[DecisionEvent]:
        """Everything held back, at the end."""
        events = [held for _, held in self._open.values() if held is not None]
        self._open.clear()
        return events
