"""What every store of task records does, whatever it keeps them in.

Laws:
- A record is named by (owner, task id); no call that names an owner ever sees or touches another's record.
- A task ends once: a second record under the same name changes nothing (batches are sent again after a lost link).
- The window is bounded in records and in bytes.  What falls out is the oldest of an owner who holds more than half of
  what the heaviest owner holds, so that nobody loses records to a flood by somebody else.
- Whatever is forgotten, evicted or purged, raises its owner's horizon: a task submitted at or before the horizon
  may have ended and been forgotten, one submitted after it has not.
- Times are seconds since the epoch, given by the caller; a store reads no clock.

Every implementation passes tests/contracts/test_store.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from secure_ipp.wire.messages import TaskRecord


@dataclass(frozen=True, slots=True)
class StoreSize:
    """What a store holds now; `bytes` counts results and texts, with a fixed charge for each record."""

    records: int
    bytes: int


class TaskStore(Protocol):
    """Records of finished tasks within a retention window."""

    def add(self, records: Sequence[TaskRecord]) -> None:
        """Keep these, oldest first; forget what no longer fits."""
        ...

    def get(self, owner: str, tasks: Iterable[str]) -> list[TaskRecord]:
        """Those of `tasks` that this owner has on record, in the order asked, each once; unknown ones are left out."""
        ...

    def ids(self, owner: str, after: int = 0, limit: int | None = None) -> list[tuple[int, str]]:
        """(position, task id) of this owner's records, oldest first.

        Args:
            owner: grant id.
            after: only positions above this one; positions grow and are never used again, so a page can be
                followed by the next whatever was evicted between the two.
            limit: at most so many.
        """
        ...

    def purge(self, owner: str, tasks: Iterable[str] | None = None) -> int:
        """Forget these tasks of this owner (None: all); the number that was there."""
        ...

    def owners(self) -> list[str]:
        """Grant ids that have records."""
        ...

    def horizon(self, owner: str) -> float:
        """Tasks of this owner submitted at or before this time may have ended and been forgotten."""
        ...

    def size(self) -> StoreSize: ...

    def close(self) -> None: ...
