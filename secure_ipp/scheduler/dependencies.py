"""Whether a task may run yet, and where, given the tasks it waits for.

Pure.  Laws: an id that its owner does not have is invalid at once, never a wait, and so is one of somebody else; each
end is counted once, so that judging costs the same however many tasks are named; what was counted needs no memory of
the task, which may be forgotten meanwhile.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

from msgspec import Struct

ALL, FAILURE, SUCCESS = 1, 2, 4


class Verdict(enum.Enum):
    WAIT = "wait"
    MET = "met"
    IMPOSSIBLE = "impossible"


class Ended(Struct, frozen=True, gc=False):
    """What is remembered of a finished task."""

    ok: bool
    engine: int  # -1: it never had one


Known = Callable[[str], "Ended | None"]  # None: it has not ended; KeyError: unknown


class Waits:
    """One set of dependencies.

    Args:
        ids: of tasks of the same owner.
        flags: `ALL` (else any one will do), `FAILURE`, `SUCCESS`: which ends count.
        known: the ends of the owner's tasks.

    Raises:
        KeyError: an id is unknown.

    Attributes:
        open: those that have not ended.
    """

    __slots__ = ("_failed", "_flags", "_met", "_places", "open")

    def __init__(self, ids: Iterable[str], flags: int, known: Known) -> None:
        self.open: set[str] = set()
        self._flags = flags
        self._met = self._failed = 0
        self._places: set[int] = set()
        for task_id in dict.fromkeys(ids):
            end = known(task_id)
            if end is None:
                self.open.add(task_id)
            else:
                self._count(end)

    def ended(self, task_id: str, end: Ended) -> None:
        """One of them ended; others are ignored."""
        if task_id in self.open:
            self.open.remove(task_id)
            self._count(end)

    def _count(self, end: Ended) -> None:
        if self._flags & (SUCCESS if end.ok else FAILURE):
            self._met += 1
            if end.engine >= 0:
                self._places.add(end.engine)
        else:
            self._failed += 1

    @property
    def verdict(self) -> Verdict:
        if self._flags & ALL:
            if self._failed:
                return Verdict.IMPOSSIBLE
            return Verdict.WAIT if self.open else Verdict.MET
        if self._met or not (self.open or self._failed):
            return Verdict.MET
        return Verdict.WAIT if self.open else Verdict.IMPOSSIBLE

    @property
    def places(self) -> frozenset[int]:
        """Engines on which a task that follows these may run; asked when the verdict is MET."""
        if self._flags & ALL and len(self._places) > 1:
            return frozenset()
        return frozenset(self._places)
