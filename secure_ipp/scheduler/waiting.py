"""Balanced tasks that wait for an engine, taken from their owners in turn, so that nobody starves another."""

from __future__ import annotations

from collections import deque

from secure_ipp.scheduler.task import Task, TaskState


class Waiting:
    """Queues of ready tasks, one an owner; removed tasks are skipped when their turn comes."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Task]] = {}
        self._turn: deque[str] = deque()
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
        self._count += 1

    def next(self) -> Task | None:
        """The next task of the owner whose turn it is."""
        while self._turn:
            owner = self._turn[0]
            queue = self._queues[owner]
            while queue:
                task = queue.popleft()
                self._count -= 1
                if task.state is TaskState.ACCEPTED:
                    self._turn.rotate(-1)
                    return task
            self._turn.popleft()
            del self._queues[owner]
        return None

