"""What a figure is: rows of a table, and a function that measures them once on one peer.

A figure's module has `FIGURE`, and `measure(stage)` which gives a value for each row that this peer offers. It runs in
the peer's own interpreter, so it imports nothing that only ours has.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from core.peer import NotOffered, Peer

Values = dict[str, float]


@dataclass(frozen=True)
class Reach:
    """What ours is to reach: an absolute bound, a ratio to another peer, or both.

    Attributes:
        bound: least (or, of what should be small, most) value.
        peer: the other peer of the ratio; ours must be `factor` times as fast (or at most `factor` times as slow).
    """

    bound: float | None = None
    peer: str = ""
    factor: float = 1.0


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        more: whether more is better.
        compared: whether peers are held against each other in it; else it only explains other rows.
    """

    key: str
    title: str
    unit: str
    more: bool
    reach: Reach | None = None
    compared: bool = True

    def aim(self) -> str:
        """The reach in words."""
        if self.reach is None:
            return ""
        sign = "≥" if self.more else "≤"
        words = []
        if self.reach.bound is not None:
            words.append(f"{sign} {self.reach.bound:,g}")
        if self.reach.peer:
            words.append(f"{sign} {self.reach.factor:g} × {self.reach.peer}")
        return "; ".join(words)

    def met(self, medians: dict[str, float]) -> bool | None:
        """Whether ours reached it; None where a value is missing."""
        if self.reach is None or "ours" not in medians:
            return None
        ours = medians["ours"]
        bounds = [] if self.reach.bound is None else [self.reach.bound]
        if self.reach.peer:
            if self.reach.peer not in medians:
                return None
            bounds.append(self.reach.factor * medians[self.reach.peer])
        return all(ours >= bound if self.more else ours <= bound for bound in bounds)


@dataclass(frozen=True)
class Figure:
    """One file's worth of measurements.

    Attributes:
        repetitions, quick_repetitions: how often each peer is measured, in turn with the others.
        seconds: after which one measurement of one peer has hung.
        peers: those it makes sense for; empty: all.
        quick: whether it is part of the quick run.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    repetitions: int = 5
    quick_repetitions: int = 3
    seconds: float = 120.0
    peers: tuple[str, ...] = ()
    quick: bool = True


@dataclass
class Stage:
    """Where a measurement takes place."""

    peer: Peer
    quick: bool
    refusals: dict[str, str] = field(default_factory=dict)

    def amount(self, full: int, quick: int) -> int:
        """One of two, by the kind of run."""
        return quick if self.quick else full

    def offered(self, values: Values, key: str, measure: Callable[[], float]) -> None:
        """Note a value, or that this peer has nothing of the kind."""
        try:
            values[key] = measure()
        except NotOffered as error:
            self.refusals[key] = str(error)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def percentile(values: list[float], share: float) -> float:
    """The value below which so large a share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
