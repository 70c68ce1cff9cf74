"""Engines as the scheduler sees them: what each was given, how fast it is, how much more it should have.

Pure.  Laws: assignment numbers of an engine rise by one; an engine holds at most its window of balanced tasks, as
many as fill about `limits.PREFETCH_SECONDS` at the pace observed, and never fewer than `limits.PREFETCH_MIN`.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from typing import Any

from secure_ipp import limits
from secure_ipp.scheduler.task import Task
from secure_ipp.wire.messages import EngineInfo, EngineRecord

_PACE_WEIGHT = 0.2  # of the newest task in the moving average of durations


class Engine:
    """One engine: its place, its session and its assignments."""

    __slots__ = (
        "agent", "alive", "done", "functions", "id", "key", "load", "next_number", "outstanding", "pace", "record",
        "results", "session", "slow", "uuid", "window",
    )

    def __init__(self, engine_id: int, record: EngineRecord, session: Any) -> None:
        self.id = engine_id
        self.uuid = record.info.uuid
        self.key = record.key
        self.agent = record.agent
        self.record = record
        self.session = session
        self.alive = True
        self.next_number = 1
        self.outstanding: dict[int, Task] = {}  # by assignment number, in order
        self.results: dict[int, tuple[str, str]] = {}  # finished, large, not yet fetched: number -> (owner, task)
        self.slow = False  # what it runs has run for longer than a moment
        self.functions: set[tuple[str, bytes]] = set()  # (owner, digest) that were sent
        self.load = 0
        self.done = 0
        self.pace = 0.0  # seconds a task; 0: none seen
        self.window = limits.PREFETCH_MIN

    @property
    def info(self) -> EngineInfo:
        return self.record.info

    def take(self, task: Task) -> int:
        """Give it a task; returns the assignment's number."""
        number = self.next_number
        self.next_number = number + 1
        self.outstanding[number] = task
        self.load += 1
        task.engine, task.number = self, number
        return number

    def give_back(self, number: int) -> Task | None:
        """An assignment ended or was withdrawn."""
        task = self.outstanding.pop(number, None)
        if task is not None:
            self.load -= 1
        return task

    def observe(self, seconds: float) -> None:
        """A task took so long; sets the window anew."""
        self.done += 1
        self.pace = seconds if self.pace == 0.0 else self.pace + _PACE_WEIGHT * (seconds - self.pace)
        wanted = int(limits.PREFETCH_SECONDS / self.pace) if self.pace > 1e-6 else limits.PREFETCH_MAX
        self.window = max(limits.PREFETCH_MIN, min(wanted, limits.PREFETCH_MAX))


class EngineRoom:
    """All engines, by id and by uuid, and who of them has room.

    Args:
        scheme: "leastload" or "plainrandom".
        rng: the source of randomness.
    """

    def __init__(self, scheme: str, rng: random.Random) -> None:
        if scheme not in SCHEMES:
            raise ValueError(f"unknown scheme {scheme!r}; known: {', '.join(SCHEMES)}")
        self._scheme = scheme
        self._rng = rng
        self._by_id: dict[int, Engine] = {}
        self._by_uuid: dict[str, Engine] = {}
        self._heap: list[tuple[int, int, Engine]] = []
        self._order = itertools.count()
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._by_id.values())

    def get(self, engine_id: int) -> Engine | None:
        return self._by_id.get(engine_id)

    def by_uuid(self, uuid: str) -> Engine | None:
        return self._by_uuid.get(uuid)

    def reserve_id(self, engine_id: int) -> None:
        """This id was used before a restart; no new engine gets it."""
        self._next_id = max(self._next_id, engine_id + 1)

    def free_id(self, wanted: int = -1) -> int:
        """An id for a new engine: the one wanted (an MPI rank) if it is free, else the next."""
        if wanted >= 0 and wanted not in self._by_id:
            self.reserve_id(wanted)
            return wanted
        self._next_id += 1
        return self._next_id - 1

    def add(self, engine: Engine) -> None:
        self._by_id[engine.id] = engine
        self._by_uuid[engine.uuid] = engine
        self.offer(engine)

    def remove(self, engine: Engine) -> None:
        engine.alive = False
        self._by_id.pop(engine.id, None)
        self._by_uuid.pop(engine.uuid, None)

    def offer(self, engine: Engine) -> None:
        """Its load or its window changed: it may have room."""
        if engine.alive and engine.load < engine.window:
            heapq.heappush(self._heap, (engine.load, next(self._order), engine))
            if len(self._heap) > 4 * len(self._by_id) + 256:
                self._rebuild()

    def with_room(self) -> Engine | None:
        """Whom to give the next task that any engine may run."""
        if self._scheme == "plainrandom":
            room = [engine for engine in self._by_id.values() if engine.load < engine.window]
            return self._rng.choice(room) if room else None
        heap = self._heap
        while heap:
            load, _, engine = heap[0]
            if engine.alive and engine.load == load and load < engine.window:
                return engine
            heapq.heappop(heap)
        return None

    def with_room_for(self, task: Task, follow: frozenset[int]) -> Engine | None:
        """Whom to give a task that not every engine may run; None: nobody now."""
        room = [engine for engine in self.allowed(task, follow) if engine.load < engine.window]
        if not room:
            return None
        if self._scheme == "plainrandom":
            return self._rng.choice(room)
        return min(room, key=lambda engine: engine.load)

    def allowed(self, task: Task, follow: frozenset[int]) -> list[Engine]:
        """Engines that may ever run it, busy or not."""
        ids = task.targets or self._by_id.keys()
        return [
            self._by_id[i] for i in ids
            if i in self._by_id and i not in task.excluded and (not task.follow or i in follow)
        ]

    def worth_recalling(self) -> list[Engine]:
        """Engines whose queue will not be run soon, longest first."""
        found = [
            engine for engine in self._by_id.values()
            if engine.load > 1 and (engine.slow or engine.pace == 0.0 or engine.pace >= limits.PREFETCH_SECONDS)
        ]
        return sorted(found, key=lambda engine: -engine.load)

    def idle(self) -> list[Engine]:
        return [engine for engine in self._by_id.values() if engine.load == 0]

    def _rebuild(self) -> None:
        self._heap = [
            (engine.load, next(self._order), engine) for engine in self._by_id.values() if engine.load < engine.window
        ]
        heapq.heapify(self._heap)


SCHEMES = ("leastload", "plainrandom")
