"""Task records in memory: O(1) for each record added, found or forgotten.

Owners are sorted into classes by the binary logarithm of the share of the window they hold; what must go is the
oldest record of an owner in the highest class, found without a search.
What ended before this store was made is not in it: its making is the first horizon of everybody.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from secure_ipp import limits
from secure_ipp.store.interface import StoreSize
from secure_ipp.wire.messages import TaskRecord

RECORD_CHARGE = 1024  # bytes of Python objects around one record's own bytes, measured to within a quarter
SHARE_BITS = 30  # shares of the window are told apart down to 2**-30 of it


def record_bytes(record: TaskRecord) -> int:
    """Bytes that a record is charged for."""
    outcome = record.outcome
    total = RECORD_CHARGE + len(outcome.stdout) + len(outcome.stderr) + 16 * len(outcome.sizes)
    for buffer in outcome.body:
        total += len(buffer)
    if outcome.error is not None:
        total += len(outcome.error.ename) + len(outcome.error.evalue)
        total += sum(map(len, outcome.error.traceback))
    return total


@dataclass(slots=True, eq=False)
class _Kept:
    position: int
    bytes: int
    record: TaskRecord


@dataclass(slots=True, eq=False)
class _Owner:
    records: OrderedDict[str, _Kept] = field(default_factory=OrderedDict)
    bytes: int = 0
    share_class: int = 0


class MemoryStore:
    """The `TaskStore` of a controller without a database.

    Args:
        started: now, seconds since the epoch; the horizon of owners of whom nothing was forgotten since.
        max_records: window in records.
        max_bytes: window in bytes (see `record_bytes`).
    """

    def __init__(
        self, *, started: float, max_records: int = limits.RECORDS_KEPT, max_bytes: int = limits.RECORDS_BYTES
    ) -> None:
        self._started = started
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._owners: dict[str, _Owner] = {}
        self._classes: list[dict[str, None]] = [{} for _ in range(SHARE_BITS + 2)]
        self._horizons: dict[str, float] = {}
        self._records = 0
        self._bytes = 0
        self._position = 0

    def add(self, records: Sequence[TaskRecord]) -> None:
        for record in records:
            self._add(record)
            while self._records > self._max_records or self._bytes > self._max_bytes:
                self._evict()

    def get(self, owner: str, tasks: Iterable[str]) -> list[TaskRecord]:
        held = self._owners.get(owner)
        if held is None:
            return []
        asked = dict.fromkeys(tasks)
        return [kept.record for task in asked if (kept := held.records.get(task)) is not None]

    def ids(self, owner: str, after: int = 0, limit: int | None = None) -> list[tuple[int, str]]:
        held = self._owners.get(owner)
        if held is None:
            return []
        found: list[tuple[int, str]] = []
        for task, kept in held.records.items():
            if limit is not None and len(found) >= limit:
                break
            if kept.position > after:
                found.append((kept.position, task))
        return found

    def purge(self, owner: str, tasks: Iterable[str] | None = None) -> int:
        held = self._owners.get(owner)
        if held is None:
            return 0
        names = list(held.records) if tasks is None else [task for task in dict.fromkeys(tasks) if task in held.records]
        for task in names:
            self._forget(owner, held, task)
        return len(names)

    def owners(self) -> list[str]:
        return list(self._owners)

    def horizon(self, owner: str) -> float:
        return max(self._started, self._horizons.get(owner, 0.0))

    def size(self) -> StoreSize:
        return StoreSize(self._records, self._bytes)

    def close(self) -> None:
        """Nothing to let go of: memory ends with its process."""

    def _add(self, record: TaskRecord) -> None:
        task = record.outcome.task
        held = self._owners.get(record.owner)
        if held is None:
            held = self._owners[record.owner] = _Owner()
            self._classes[0][record.owner] = None
        if task in held.records:
            return
        size = record_bytes(record)
        self._position += 1
        held.records[task] = _Kept(self._position, size, record)
        held.bytes += size
        self._records += 1
        self._bytes += size
        self._classify(record.owner, held)

    def _evict(self) -> None:
        heaviest = next(owners for owners in reversed(self._classes) if owners)
        owner = next(iter(heaviest))
        held = self._owners[owner]
        self._forget(owner, held, next(iter(held.records)))

    def _forget(self, owner: str, held: _Owner, task: str) -> None:
        kept = held.records.pop(task)
        held.bytes -= kept.bytes
        self._records -= 1
        self._bytes -= kept.bytes
        submitted = kept.record.outcome.submitted
        # A client's clock is its own; a time that cannot be compared is taken for "anything may be forgotten".
        submitted = submitted if math.isfinite(submitted) else math.inf
        self._horizons[owner] = max(self._horizons.get(owner, 0.0), submitted)
        if held.records:
            self._classify(owner, held)
        else:
            del self._classes[held.share_class][owner]
            del self._owners[owner]

    def _classify(self, owner: str, held: _Owner) -> None:
        by_records = (len(held.records) << SHARE_BITS) // self._max_records
        by_bytes = (held.bytes << SHARE_BITS) // self._max_bytes
        share_class = min(max(by_records, by_bytes).bit_length(), SHARE_BITS + 1)
        if share_class != held.share_class:
            del self._classes[held.share_class][owner]
            self._classes[share_class][owner] = None
            held.share_class = share_class
