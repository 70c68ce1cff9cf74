"""Which waiting task goes to which engine, and when.

Pure.  Laws: what may run anywhere and what may not take turns, owners of a tenant take turns, and so do tenants; a task
is given to an engine of its tenant alone, or to one that nobody has had (S27).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from secure_ipp.scheduler.board import Board
from secure_ipp.scheduler.engines import Engine
from secure_ipp.scheduler.outcomes import some
from secure_ipp.scheduler.task import Task
from secure_ipp.scheduler.tenancy import LEAVING, NOBODY, SHARED, Tenancy
from secure_ipp.scheduler.waiting import Places, Reserved, Waiting
from secure_ipp.wire import messages


class Lane:
    """What waits of one tenant: for any engine, or for some."""

    __slots__ = ("due", "reserved", "reserved_first", "tenant", "waiting")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.waiting = Waiting()
        self.reserved = Reserved()
        self.reserved_first = True
        self.due: deque[Places] = deque()

    def __len__(self) -> int:
        return len(self.waiting) + len(self.reserved)


class Placing:
    """Lanes of tasks that are ready; while all share engines there is one.

    Args:
        assign: give a task to an engine.
        fail: end a task that can never be placed, with an error.
    """

    def __init__(
        self, board: Board, tenancy: Tenancy, assign: Callable[[Task, Engine, float], None],
        fail: Callable[[Task, str, str, float], None],
    ) -> None:
        self._board = board
        self._tenancy = tenancy
        self._assign = assign
        self._fail = fail
        self._recall_due = False
        self.shared = Lane(SHARED)
        self.lanes: dict[str, Lane] = {SHARED: self.shared}

    def __len__(self) -> int:
        return sum(map(len, self.lanes.values()))

    def lane_of(self, owner: str) -> Lane:
        """Where its tasks wait."""
        if not self._tenancy.apart:
            return self.shared
        tenant = self._tenancy.of(owner)
        lane = self.lanes.get(tenant)
        if lane is None:
            lane = self.lanes[tenant] = Lane(tenant)
        return lane

    def put(self, task: Task, *, first: bool = False) -> None:
        lane = self.lane_of(task.owner)
        (lane.reserved if task.constrained else lane.waiting).put(task, first=first)

    def withdraw(self, task: Task) -> None:
        """It has ended here."""
        lane = self.lane_of(task.owner)
        lane.reserved.withdraw(task) if task.constrained else lane.waiting.withdraw(task)

    def forget_empty(self) -> None:
        """Lanes in which nothing waits are made anew when something does."""
        for tenant in [tenant for tenant, lane in self.lanes.items() if not len(lane) and lane is not self.shared]:
            del self.lanes[tenant]

    # --- tenants -------------------------------------------------------------------------------------------

    def occupy(self, engine: Engine, tenant: str, now: float) -> None:
        """The engine is given work of this tenant's; the hub is told, for a scheduler that comes after this one.

        Raises:
            RuntimeError: it is another's: a defect of ours.
        """
        if engine.tenant == tenant:
            return
        if engine.tenant != NOBODY:
            raise RuntimeError(f"engine {engine.id} of {engine.tenant} was to be given work of {tenant}")
        engine.tenant = tenant
        engine.held_since = now
        engine.record = replace(engine.record, tenant=tenant)
        self._board.to_hub(messages.EngineJoined(engine.record))
        self._board.engines.placed(engine)

    def direct(self, task: Task, engine: Engine) -> bool:
        """Whether a task for this engine may go there now; else it waits here, in its order."""
        lane = self.lane_of(task.owner)
        places = (frozenset({engine.id}), task.excluded)
        if engine.alive and engine.tenant in (lane.tenant, NOBODY) and lane.reserved.empty(places):
            return True
        task.places = places[0]
        lane.reserved.put(task)
        return False

    # --- a turn --------------------------------------------------------------------------------------------

    def turn(self, now: float) -> None:
        """Give out what can be given; called once after each batch of events."""
        lanes = self.lanes.values()
        for engine_id in self._board.engines.freed():
            for lane in lanes:
                lane.reserved.changed(engine_id)
        for lane in lanes:
            lane.due = deque(lane.reserved.due())
        left = deque(lanes)
        while len(left) > 1:
            if self._place_next(left[0], now):
                left.rotate(-1)
            else:
                left.popleft()
        while left[0].due and self._place_next(left[0], now):
            pass
        while self._place_waiting(left[0], now):
            pass
        if self._recall_due and any(not len(lane.waiting) for lane in lanes):
            self._recall_due = False
            if self._tenancy.apart:
                for tenant in {engine.tenant for engine in self._board.engines} - {NOBODY, LEAVING}:
                    lane_of_it = self.lanes.get(tenant)
                    if lane_of_it is None or not len(lane_of_it.waiting):
                        self._recall(tenant)
            else:
                self._recall(None)

    def _place_next(self, lane: Lane, now: float) -> bool:
        """Place one task of a lane; False: none can be placed."""
        first = lane.reserved_first
        if self._place_one(lane, first, now):
            lane.reserved_first = not first  # in turn, so that neither kind starves the other
            return True
        return self._place_one(lane, not first, now)  # whose turn it was, has it still

    def _place_one(self, lane: Lane, reserved: bool, now: float) -> bool:
        """Place a task of this kind; False: none can be placed."""
        due = lane.due
        while reserved and due:
            if self._place_reserved(lane, due[0], now):
                due.rotate(-1)
                return True
            due.popleft()
        return not reserved and self._place_waiting(lane, now)

    def _place_waiting(self, lane: Lane, now: float) -> bool:
        """Place the next task that any engine may run; False: there is none, or no room."""
        if not len(lane.waiting):
            return False
        engines = self._board.engines
        engine = engines.with_room_for(lane.tenant) if self._tenancy.apart else engines.with_room()
        task = lane.waiting.next() if engine is not None else None
        if engine is None or task is None:
            return False
        self._assign(task, engine, now)
        return True

    def _place_reserved(self, lane: Lane, places: Places, now: float) -> bool:
        """Place one task of those bound to these places; whether there may be more."""
        engines = self._board.engines
        if lane.reserved.empty(places):
            return False
        engine = engines.with_room_among(places, lane.tenant if self._tenancy.apart else None)
        if engine is None and (engines.allowed(places) or (places[0] is None and not len(engines))):
            return False  # busy, or another's; or the first engine may still come
        task = lane.reserved.next(places)
        if task is None:
            return False
        if engine is not None:
            self._assign(task, engine, now)
        elif task.mode != "balanced":
            text = f"there is no engine {some(places[0] or ())}; it may have died or been stopped"
            self._fail(task, "EngineError", text, now)
        elif task.targets and not task.follow and not task.excluded:
            self._fail(task, "EngineError", f"none of the engines {some(task.targets)} is there", now)
        else:
            self._fail(task, "ImpossibleDependency", "no engine that is there may run it", now)
        return True

    # --- recalling -----------------------------------------------------------------------------------------

    def recall_later(self) -> None:
        """An engine has nothing to do, or another is stuck in a long task."""
        self._recall_due = True

    def _recall(self, tenant: str | None) -> None:
        """Take queued tasks back for engines that have nothing to do; of one tenant, or of all when they share."""
        idle = [e for e in self._board.engines.idle() if tenant is None or e.tenant in (tenant, NOBODY)]
        wanting = len(idle)
        for engine in self._board.engines.worth_recalling() if idle else ():
            if wanting <= 0:
                return
            if tenant is not None and engine.tenant != tenant:
                continue
            queued = list(recallable(engine))
            numbers = queued[1:] if engine.load == len(queued) else queued
            numbers = [number for number in numbers if engine.outstanding[number].runs_on(idle)]
            wanting -= self.recall(engine, numbers[-max(wanting, (len(numbers) + 1) // 2):])

    def recall(self, engine: Engine, numbers: list[int]) -> int:
        """Ask for these, if they have not started; returns how many."""
        for number in numbers:
            engine.outstanding[number].recalling = True
        if numbers:
            self._board.send_to(engine.session, messages.Cancel(numbers), None)
        return len(numbers)


def recallable(engine: Engine) -> Iterator[int]:
    """Assignments that another engine may have in its place, if they have not started."""
    for number, task in engine.outstanding.items():
        if task.mode == "balanced" and not task.recalling and not task.aborting:
            yield number
