"""Records of finished tasks on their way to the hub: batched, numbered, kept until the hub has them.

Pure.  Law: an engine may drop a result only when the hub (or its client, for a streamed one) has it, so a batch
remembers which assignments it answers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from secure_ipp import limits
from secure_ipp.wire.messages import Records, TaskRecord

Origin = tuple[Any, int]  # an engine and the number of the assignment
_Item = tuple[TaskRecord, Origin | None, int]  # and its size


class RecordBook:
    """Collects records; gives them out in batches; takes them back when the hub was away."""

    def __init__(self) -> None:
        self._fresh: list[_Item] = []
        self._sent: OrderedDict[int, list[_Item]] = OrderedDict()
        self._number = 0
        self._held = 0
        self._bytes = 0

    def add(self, record: TaskRecord, origin: Origin | None) -> None:
        size = _size(record)
        self._fresh.append((record, origin, size))
        self._held += 1
        self._bytes += size

    @property
    def full(self) -> bool:
        """The hub has been away for so long that no new work may be taken."""
        return self._held >= limits.RECORDS_UNACKNOWLEDGED or self._bytes >= limits.RECORDS_BYTES

    @property
    def fresh(self) -> bool:
        return bool(self._fresh)

    def batches(self) -> list[Records]:
        """Everything collected since the last call, in messages of bounded number and size."""
        found = []
        start, fresh = 0, self._fresh
        while start < len(fresh):
            end, size = start, 0
            while end < len(fresh) and end - start < limits.RECORDS_PER_MESSAGE and size < limits.PACKET_BYTES:
                size += fresh[end][2]
                end += 1
            self._number += 1
            self._sent[self._number] = fresh[start:end]
            found.append(Records(self._number, [record for record, _, _ in fresh[start:end]]))
            start = end
        self._fresh = []
        return found

    def kept(self, number: int) -> list[Origin]:
        """The hub has this batch; returns whose results may be dropped."""
        batch = self._sent.pop(number, [])
        self._held -= len(batch)
        self._bytes -= sum([size for _, _, size in batch])
        return [origin for _, origin, _ in batch if origin is not None]

    def hub_is_new(self) -> None:
        """The hub has a new session and may not have what was sent: it is sent again."""
        again = [item for batch in self._sent.values() for item in batch]
        self._sent.clear()
        self._fresh = again + self._fresh


def _size(record: TaskRecord) -> int:
    """Roughly what it takes on the wire, in bytes."""
    outcome = record.outcome
    size = 256 + len(outcome.stdout) + len(outcome.stderr)
    for part in outcome.body:
        size += len(part)
    if outcome.error is not None:
        size += len(outcome.error.evalue) + sum(map(len, outcome.error.traceback))
    return size
