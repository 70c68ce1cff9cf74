"""Relays of bulk data: one client's body to its engines, one engine's result to a client.

Pure: counts bytes and says what to pass on.  Laws: at most `limits.STREAM_CREDIT_BYTES` (and one chunk) of a stream
are under way; a body for many engines moves at the pace of the slowest that is not dropped; a sender beyond its
credit or out of order is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from secure_ipp import limits
from secure_ipp.errors import Refused


@dataclass(slots=True)
class _Target:
    engine: Any
    number: int
    taken: int = 0
    moved_at: float = 0.0


@dataclass(slots=True)
class BodyStream:
    """A body on its way from its client to the engines of its tasks.

    Attributes:
        key: the task that names the stream.
        total: bytes of the whole body.
        sent: bytes passed on so far.
    """

    key: str
    total: int
    targets: dict[str, _Target] = field(default_factory=dict)  # by task id
    sent: int = 0
    credited: int = 0

    def add(self, task_id: str, engine: Any, number: int, now: float) -> None:
        self.targets[task_id] = _Target(engine, number, 0, now)

    def chunk(self, offset: int, size: int) -> list[tuple[Any, int]]:
        """A chunk came: the engines and numbers to pass it on to (none, if it repeats what was sent).

        Raises:
            Refused: out of order, beyond the end or beyond the credit.
        """
        if offset < self.sent or self.sent == 0 < offset:
            return []  # of an earlier sending, which another engine's death cut short
        if offset > self.sent or offset + size > self.total or size == 0:
            raise Refused("a chunk that does not belong where it says", code="stream")
        if self.sent + size - self._slowest() > limits.STREAM_CREDIT_BYTES + limits.CHUNK_BYTES:
            raise Refused("more chunks than there was credit for", code="stream")
        self.sent += size
        return [(target.engine, target.number) for target in self.targets.values()]

    def taken(self, task_id: str, size: int, now: float) -> int:
        """An engine took bytes; returns the credit to pass on to the client."""
        target = self.targets.get(task_id)
        if target is None:
            return 0
        target.taken = min(self.total, target.taken + size)
        target.moved_at = now
        return self._advance()

    def drop(self, task_id: str) -> int:
        """An engine left the stream; returns the credit that this frees."""
        self.targets.pop(task_id, None)
        return self._advance() if self.targets else 0

    def stalled(self, now: float) -> list[str]:
        """Tasks whose engine holds all others up."""
        limit = now - limits.STALLED_STREAM_SECONDS
        return [
            task_id for task_id, target in self.targets.items()
            if target.taken < self.sent and target.moved_at < limit and len(self.targets) > 1
        ]

    @property
    def over(self) -> bool:
        return not self.targets or (self.sent == self.total and self._slowest() == self.total)

    def _slowest(self) -> int:
        return min((target.taken for target in self.targets.values()), default=self.sent)

    def _advance(self) -> int:
        free = self._slowest() - self.credited
        if free <= 0:
            return 0
        self.credited += free
        return free


@dataclass(slots=True)
class ResultStream:
    """A large result: where it lies, who fetches it, who waits for it."""

    engine: Any
    number: int
    total: int
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
        if self.reader is None or offset < self.sent:
            return False  # of a reading that was given up
        if offset > self.sent or offset + size > self.total or size == 0:
            raise Refused("a chunk that does not belong where it says", code="stream")
        if self.sent + size - self.credited > limits.STREAM_CREDIT_BYTES + limits.CHUNK_BYTES:
            raise Refused("more chunks than there was credit for", code="stream")
        self.sent += size
        return True

    def taken(self, size: int) -> int:
        """The reader took bytes; returns the credit to pass on."""
        size = min(size, self.sent - self.credited)
        self.credited += size
        return size
