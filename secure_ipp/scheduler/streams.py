"""Relays of bulk data: one client's body to its engines, one engine's result to a client.

Pure: counts bytes and says what to pass on.  Laws: at most `limits.STREAM_CREDIT_BYTES` (and one chunk) of a stream
are under way; a body for many engines moves at the pace of the slowest that is not dropped; a sender beyond its
credit or out of order is refused; nobody is given credit for what was not sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from secure_ipp import limits
from secure_ipp.errors import Refused
from secure_ipp.scheduler.task import Task


@dataclass(slots=True)
class _Target:
    task: Task
    engine: Any
    number: int
    moved_at: float
    taken: int = 0


def _check(offset: int, size: int, total: int, credited: int) -> None:
    if size == 0 or offset + size > total:
        raise Refused("a chunk that does not belong where it says", code="stream")
    if offset + size - credited > limits.STREAM_CREDIT_BYTES + limits.CHUNK_BYTES:
        raise Refused("more chunks than there was credit for", code="stream")


@dataclass(slots=True)
class BodyStream:
    """A body on its way from its client to the engines of its tasks.

    Attributes:
        key: the task that names the stream at its client.
        total: bytes of the whole body.
        sent: bytes passed on to the engines so far.
        position: how far the client's sending is; behind `sent` after it had to begin anew.
        credited: bytes of that sending that the client has credit for.
    """

    key: str
    total: int
    targets: dict[str, _Target] = field(default_factory=dict)  # by task id
    sent: int = 0
    position: int = 0
    credited: int = 0
    _slowest: int = 0  # the least that any target has taken
    _so_slow: int = 0  # how many of them have taken no more

    def add(self, task: Task, engine: Any, number: int, now: float) -> None:
        """One more engine, before anything was sent."""
        self.targets[task.id] = _Target(task, engine, number, now)
        self._so_slow += 1

    def anew(self, key: str) -> None:
        """The client begins again, under another name; what the engines have is not passed on again."""
        self.key, self.position, self.credited = key, 0, 0

    def chunk(self, offset: int, size: int, now: float) -> list[tuple[Any, int]]:
        """A chunk came: the engines and numbers to pass it on to (none, if it repeats what was sent).

        Raises:
            Refused: out of order, beyond the end or beyond the credit.
        """
        if offset < self.position or self.position == 0 < offset:
            return []  # of an earlier sending, which another engine's death cut short
        if offset > self.position:
            raise Refused("a chunk that does not belong where it says", code="stream")
        _check(offset, size, self.total, self.credited)
        self.position += size
        if self.position <= self.sent:
            return []
        if offset < self.sent:
            raise Refused("a body that was cut otherwise than before", code="stream")
        for target in self.targets.values():
            if target.taken == self.sent:
                target.moved_at = now
        self.sent = self.position
        return [(target.engine, target.number) for target in self.targets.values()]

    def taken(self, task_id: str, size: int, now: float) -> None:
        """An engine took bytes (unverified: never more than it was sent)."""
        target = self.targets.get(task_id)
        if target is None or size == 0:
            return
        before, target.taken = target.taken, min(self.sent, target.taken + size)
        if target.taken != before:
            target.moved_at = now
            self._moved_from(before)

    def drop(self, task_id: str) -> None:
        """An engine left the stream."""
        target = self.targets.pop(task_id, None)
        if target is not None:
            self._moved_from(target.taken)

    def credit(self) -> int:
        """What the client may be told now that it may send more."""
        free = min(self._slowest, self.position) - self.credited
        if free <= 0 or not self.targets:
            return 0
        self.credited += free
        return free

    def stalled(self, now: float) -> list[str]:
        """Tasks whose engine holds all others up."""
        limit = now - limits.STALLED_STREAM_SECONDS
        if len(self.targets) < 2:
            return []
        return [
            task_id for task_id, target in self.targets.items()
            if target.taken < self.sent and target.moved_at < limit
        ]

    @property
    def over(self) -> bool:
        return not self.targets or self._slowest == self.total

    def _moved_from(self, before: int) -> None:
        """Somebody who had taken so much has moved or gone; the slowest are counted anew only when the last has."""
        if before == self._slowest:
            self._so_slow -= 1
            if self._so_slow == 0 and self.targets:
                self._slowest = min(target.taken for target in self.targets.values())
                self._so_slow = sum(target.taken == self._slowest for target in self.targets.values())


@dataclass(slots=True)
class ResultStream:
    """A large result: where it lies, who fetches it, who waits for it.

    Attributes:
        told: sessions that were told of it and have not said that they have it, or do not want it.
    """

    engine: Any
    number: int
    total: int
    told: set[Any]
    reader: Any = None
    waiting: list[Any] = field(default_factory=list)
    sent: int = 0
    credited: int = 0

    def begin(self, reader: Any) -> None:
        self.reader, self.sent, self.credited = reader, 0, 0

    def chunk(self, offset: int, size: int) -> bool:
        """A chunk came; whether to pass it on.

        Raises:
            Refused: out of order, beyond the end or beyond the credit.
        """
        if self.reader is None or offset < self.sent or self.sent == 0 < offset:
            return False  # of a reading that was given up
        if offset > self.sent:
            raise Refused("a chunk that does not belong where it says", code="stream")
        _check(offset, size, self.total, self.credited)
        self.sent += size
        return True

    def taken(self, size: int) -> int:
        """The reader took bytes (unverified); returns the credit to pass on."""
        size = min(size, self.sent - self.credited)
        self.credited += size
        return size
