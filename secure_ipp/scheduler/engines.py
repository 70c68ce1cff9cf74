"""Engines as the scheduler sees them: what each was given, how fast it is, how much more it should have.

Pure.  Laws: assignment numbers of an engine rise by one; an engine holds at most its window of balanced tasks, as
many as fill about `limits.PREFETCH_SECONDS` at the pace observed, and never fewer than `limits.PREFETCH_MIN`.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from secure_ipp import limits
from secure_ipp.scheduler.task import Task
from secure_ipp.scheduler.tenancy import NOBODY
from secure_ipp.scheduler.waiting import Places
from secure_ipp.wire.messages import EngineInfo, EngineRecord

_LONGEST = 86_400.0  # seconds; whoever says more, or no number at all, says this or 0
_TRIES = 8  # random picks before all engines are looked at
_PACE_WEIGHT = 0.2  # of the newest task in the moving average of durations
_QUICK = limits.PREFETCH_SECONDS / limits.PREFETCH_MAX  # seconds a task, below which the window is the largest


class Engine:
    """One engine: its place, its session and its assignments."""

    __slots__ = (
        "agent", "alive", "done", "former", "functions", "heir", "held_since", "id", "idle_number", "idle_since", "key",
        "load", "next_number", "outstanding", "owed", "pace", "record", "replacing", "results", "session", "slow",
        "tenant", "until", "uuid", "visitors", "wanted", "window",
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
        self.functions: OrderedDict[tuple[str, bytes], None] = OrderedDict()  # (owner, digest) that were sent
        self.wanted: set[tuple[str, bytes]] = set()  # those that it waits for
        self.owed: set[int] = set()  # results that it announced in its report and has not sent
        self.load = 0
        self.done: dict[str, int] = {}  # tasks it has run, by owner
        self.pace = 0.0  # seconds a task; 0: none seen
        self.window = limits.PREFETCH_MIN
        self.tenant = NOBODY  # whose work it may hold; while all share engines it is not looked at
        self.held_since = self.idle_since = 0.0  # since when it has that tenant, and has had nothing to do
        self.idle_number = 0  # its next assignment's number then
        self.visitors: set[str] = set()  # identities that sent it direct tasks: whom its namespace concerns
        self.former = self.heir = NOBODY  # of one that leaves: whose it was, and for whom the next one is
        self.until = 0.0  # of one that leaves: when it is replaced at the latest; 0: when it has nothing to do
        self.replacing = False  # its agent was asked for a fresh one in its place

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

    def sent(self, owner: str, digest: bytes) -> None:
        """It has this function, unless its own cache drops it."""
        self.functions[(owner, digest)] = None
        if len(self.functions) > limits.FUNCTIONS_SENT:
            self.functions.popitem(last=False)

    def observe(self, owner: str, seconds: float) -> None:
        """A task took so long, by the engine's word; sets the window anew."""
        if not 0.0 <= seconds <= _LONGEST:
            seconds = _LONGEST if seconds > _LONGEST else 0.0
        self.done[owner] = self.done.get(owner, 0) + 1
        pace = self.pace
        self.pace = pace = seconds if pace == 0.0 else pace + _PACE_WEIGHT * (seconds - pace)
        if pace <= _QUICK:
            self.window = limits.PREFETCH_MAX
        else:
            self.window = max(limits.PREFETCH_MIN, int(limits.PREFETCH_SECONDS / pace))


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
        self._all: list[Engine] = []
        self._heap: list[tuple[int, int, Engine]] = []  # of nobody's; of all, while all share engines
        self._heaps: dict[str, list[tuple[int, int, Engine]]] = {}  # of each tenant's
        self._order = itertools.count()
        self._next_id = 0
        self._expected_ids: set[int] = set()
        self._freed: dict[int, Engine] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._by_id.values())

    def get(self, engine_id: int) -> Engine | None:
        return self._by_id.get(engine_id)

    def by_uuid(self, uuid: str) -> Engine | None:
        return self._by_uuid.get(uuid)

    def expect(self, engine_id: int) -> None:
        """An engine of before a restart has this id; no other one gets it while it may come back."""
        self._next_id = max(self._next_id, engine_id + 1)
        self._expected_ids.add(engine_id)

    def expect_no_more(self, engine_id: int) -> None:
        self._expected_ids.discard(engine_id)

    def expected(self, engine_id: int) -> bool:
        return engine_id in self._expected_ids

    def free_id(self, wanted: int = -1) -> int:
        """An id for a new engine: the one wanted (an MPI rank) if it is free, else the next."""
        # a rank is small; who names a huge one must not exhaust the ids
        if 0 <= wanted < limits.TARGETS and wanted not in self._by_id and wanted not in self._expected_ids:
            self._next_id = max(self._next_id, wanted + 1)
            return wanted
        self._next_id += 1
        return self._next_id - 1

    def add(self, engine: Engine) -> None:
        self._by_id[engine.id] = engine
        self._by_uuid[engine.uuid] = engine
        self._all.append(engine)
        self.expect_no_more(engine.id)
        self.offer(engine)

    def vacate(self, engine: Engine) -> None:
        """It is gone, and another one will have its place."""
        engine.alive = False
        del self._by_uuid[engine.uuid]

    def remove(self, engine: Engine) -> None:
        engine.alive = False
        del self._by_id[engine.id]
        self._by_uuid.pop(engine.uuid, None)
        self._all.remove(engine)
        self._freed[engine.id] = engine

    def freed(self) -> list[int]:
        """Ids of engines that may have room, or are gone, since the last call; before tasks are placed."""
        found, self._freed = self._freed, {}
        for engine in found.values():
            self.placed(engine)
        return list(found)

    def offer(self, engine: Engine) -> None:
        """An assignment of it is over: it may have room in the next turn."""
        if engine.load < engine.window:
            self._freed[engine.id] = engine

    def placed(self, engine: Engine) -> None:
        """Its load is another one now: with room left, it stands in line for the next task."""
        load = engine.load
        if load >= engine.window or not engine.alive:
            return
        tenant = engine.tenant
        heap = self._heaps.setdefault(tenant, []) if tenant else self._heap
        entry = (load, next(self._order), engine)
        if heap and heap[0][2] is engine:
            heapq.heapreplace(heap, entry)  # what stood there is out of date
            return
        heapq.heappush(heap, entry)
        if len(heap) > 4 * len(self._by_id) + 256:
            self._rebuild(heap, tenant)

    def with_room(self) -> Engine | None:
        """Whom to give the next task that any engine may run."""
        if self._scheme == "plainrandom":
            return self._any_with_room()
        heap = self._heap
        while heap:
            load, _, engine = heap[0]
            if engine.alive and engine.load == load and load < engine.window:
                return engine
            heapq.heappop(heap)
        return None

    def _any_with_room(self) -> Engine | None:
        for _ in range(_TRIES if self._all else 0):
            engine = self._rng.choice(self._all)
            if engine.load < engine.window:
                return engine
        room = [engine for engine in self._all if engine.load < engine.window]
        return self._rng.choice(room) if room else None

    def with_room_for(self, tenant: str) -> Engine | None:
        """The same, where identities are kept apart: one of the tenant's, or one that nobody has had."""
        if self._scheme == "plainrandom":
            room = [e for e in self._all if e.tenant in (tenant, NOBODY) and e.load < e.window]
            return self._rng.choice(room) if room else None
        own = self._least(self._heaps.get(tenant, []), tenant)
        if own is not None and own.load == 0:
            return own
        return self._least(self._heap, NOBODY) or own

    def _least(self, heap: list[tuple[int, int, Engine]], tenant: str) -> Engine | None:
        while heap:
            load, _, engine = heap[0]
            if engine.alive and engine.load == load and load < engine.window and engine.tenant == tenant:
                return engine
            heapq.heappop(heap)
        return None

    def with_room_among(self, places: Places, tenant: str | None = None) -> Engine | None:
        """Whom to give a task that not every engine may run, of this tenant if one is named; None: nobody now."""
        room = [engine for engine in self.allowed(places) if engine.load < engine.window]
        if tenant is not None:
            room = [engine for engine in room if engine.tenant in (tenant, NOBODY)]
        if not room:
            return None
        if self._scheme == "plainrandom":
            return self._rng.choice(room)
        return min(room, key=lambda engine: engine.load)

    def forget_tenants(self) -> None:
        """Those without an engine."""
        there = {engine.tenant for engine in self._all}
        for tenant in self._heaps.keys() - there:
            del self._heaps[tenant]

    def allowed(self, places: Places) -> list[Engine]:
        """Engines that may run what is bound to these places, busy or not."""
        ids, excluded = places
        if ids is None:
            return [engine for engine in self._all if engine.id not in excluded]
        return [self._by_id[i] for i in ids if i in self._by_id and i not in excluded]

    def worth_recalling(self) -> list[Engine]:
        """Engines whose queue will not be run soon, longest first."""
        found = [
            engine for engine in self._all
            if engine.load > 1 and (engine.slow or engine.pace == 0.0 or engine.pace >= limits.PREFETCH_SECONDS)
        ]
        return sorted(found, key=lambda engine: -engine.load)

    def idle(self) -> list[Engine]:
        return [engine for engine in self._all if engine.load == 0]

    def _rebuild(self, heap: list[tuple[int, int, Engine]], tenant: str) -> None:
        heap[:] = [
            (engine.load, next(self._order), engine) for engine in self._all
            if engine.load < engine.window and engine.tenant == tenant
        ]
        heapq.heapify(heap)


SCHEMES = ("leastload", "plainrandom")
