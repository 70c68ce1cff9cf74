"""Tasks that are ready and wait for an engine.

Pure.  Laws: owners are served in turn, so that nobody starves another; a task that was withdrawn meanwhile is skipped
when its turn comes; looking for work costs what is found, however much waits.
"""

from __future__ import annotations

from collections import deque

from secure_ipp.scheduler.task import Task

Places = tuple[frozenset[int] | None, frozenset[int]]  # engines that may run it (None: any), but for these


class Waiting:
    """Queues of ready tasks, one an owner."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Task]] = {}
        self._turn: deque[str] = deque()
        self._withdrawn: dict[str, int] = {}  # of each queue; dropped when they are the most of it
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, task: Task, *, first: bool = False) -> None:
        queue = self._queues.get(task.owner)
        if queue is None:
            queue = self._queues[task.owner] = deque()
            self._turn.append(task.owner)
        if first:
            queue.appendleft(task)
        else:
            queue.append(task)
        task.queued = self
        self._count += 1

    def withdraw(self, task: Task) -> None:
        """It has ended here."""
        task.queued = None
        self._count -= 1
        queue = self._queues[task.owner]
        self._withdrawn[task.owner] = withdrawn = self._withdrawn.get(task.owner, 0) + 1
        if withdrawn > 64 and 2 * withdrawn > len(queue):
            self._queues[task.owner] = deque(other for other in queue if other.queued is self)
            del self._withdrawn[task.owner]

    def next(self) -> Task | None:
        """The next task of the owner whose turn it is."""
        while self._turn:
            owner = self._turn[0]
            queue = self._queues[owner]
            while queue:
                task = queue.popleft()
                if task.queued is self:
                    self._count -= 1
                    task.queued = None
                    self._turn.rotate(-1)
                    return task
            self._turn.popleft()
            del self._queues[owner]
            self._withdrawn.pop(owner, None)
        return None


class Reserved:
    """Ready tasks that not every engine may run, by the engines that may."""

    def __init__(self) -> None:
        self._waiting: dict[Places, Waiting] = {}
        self._of_engine: dict[int, dict[Places, None]] = {}
        self._elsewhere: dict[Places, None] = {}  # those that name no engine, but exclude some
        self._due: dict[Places, None] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, task: Task, *, first: bool = False) -> None:
        places = (task.places, task.excluded)
        waiting = self._waiting.get(places)
        if waiting is None:
            waiting = self._waiting[places] = Waiting()
            if places[0] is None:
                self._elsewhere[places] = None
            else:
                for engine_id in places[0]:
                    self._of_engine.setdefault(engine_id, {})[places] = None
        waiting.put(task, first=first)
        self._due[places] = None

    def withdraw(self, task: Task) -> None:
        """It has ended here."""
        places = (task.places, task.excluded)
        self._waiting[places].withdraw(task)
        self._due[places] = None

    def empty(self, places: Places) -> bool:
        """Nobody waits there; then it is forgotten."""
        waiting = self._waiting.get(places)
        if waiting is not None and not len(waiting):
            self._forget(places)
            return True
        return waiting is None

    def places(self) -> list[Places]:
        """Those for which somebody waits."""
        return [places for places, waiting in self._waiting.items() if len(waiting)]

    def changed(self, engine_id: int) -> None:
        """An engine has room, or is gone: who waits for it is looked at in the next turn."""
        if self._waiting:
            self._due.update(self._of_engine.get(engine_id, {}))
            self._due.update(self._elsewhere)

    def due(self) -> list[Places]:
        """Whom to look at since the last call."""
        found, self._due = list(self._due), {}
        return found

    def next(self, places: Places) -> Task | None:
        """The next task that may run there."""
        waiting = self._waiting.get(places)
        if waiting is None:
            return None
        task = waiting.next()
        if task is None:
            self._forget(places)
        return task

    def _forget(self, places: Places) -> None:
        del self._waiting[places]
        self._elsewhere.pop(places, None)
        for engine_id in places[0] or ():
            of_engine = self._of_engine[engine_id]
            del of_engine[places]
            if not of_engine:
                del self._of_engine[engine_id]
