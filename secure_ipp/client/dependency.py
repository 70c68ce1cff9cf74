"""What a balanced task waits for: other tasks, and whether their success or failure counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from secure_ipp import limits
from secure_ipp.client.asyncresult import AsyncResult
from secure_ipp.client.errors import ImpossibleDependency
from secure_ipp.client.tasks import Task
from secure_ipp.errors import UsageError

_ALL, _FAILURES, _SUCCESSES = 1, 2, 4


class _InvalidType(UsageError, TypeError):
    """Something that names no task."""


class Dependency(set[str]):
    """Ids of tasks, and when they are fulfilled.

    Args:
        dependencies: ids, AsyncResults, or what `as_dict` gave.
        all: all must be fulfilled, rather than any.
        success: a task that went well fulfils.
        failure: a task that failed fulfils.

    Raises:
        UsageError: neither success nor failure would count.
        TypeError: something in it names no task.
    """

    def __init__(
        self, dependencies: Any = (), all: bool = True, success: bool = True, failure: bool = False
    ) -> None:
        if isinstance(dependencies, dict):
            all = bool(dependencies.get("all", True))
            success = bool(dependencies.get("success", True))
            failure = bool(dependencies.get("failure", False))
            dependencies = dependencies.get("dependencies", ())
        if not (success or failure):
            raise UsageError("a dependency must count successes, or failures, or both")
        self.all, self.success, self.failure = all, success, failure
        super().__init__(task_ids(dependencies))

    def check(self, completed: Collection[str], failed: Collection[str] | None = None) -> bool:
        """Is it fulfilled, given the tasks that have ended (`failed` among them)?"""
        if not self:
            return True
        counting = self._counting(set(completed), set(failed or ()))
        return self <= counting if self.all else not self.isdisjoint(counting)

    def unreachable(self, completed: Collection[str], failed: Collection[str] | None = None) -> bool:
        """Can it never be fulfilled any more?"""
        done, lost = set(completed), set(failed or ())
        useless = (done | lost) - self._counting(done, lost)
        if not self:
            return False
        return not self.isdisjoint(useless) if self.all else self <= useless

    def _counting(self, completed: set[str], failed: set[str]) -> set[str]:
        counting = completed - failed if self.success else set()
        return counting | failed if self.failure else counting

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"dependencies": list(self), "all": self.all, "success": self.success, "failure": self.failure}

    @property
    def flags(self) -> int:
        """As the wire has it."""
        return _ALL * self.all + _FAILURES * self.failure + _SUCCESSES * self.success

    def on_wire(self, find: Callable[[str], Task | None], *, place: bool = False) -> tuple[list[str], int]:
        """Ids and flags to send, without those that are known here to be fulfilled.

        Args:
            find: looks a task up among those that this client knows.
            place: it matters where they ran, so the fulfilled ones are sent too.

        Raises:
            ImpossibleDependency: it is known here that it can never be fulfilled.
            UsageError: it names more tasks than a message may.
        """
        completed, failed = [], []
        for task_id in self:
            task = find(task_id)
            if task is not None and task.outcome is not None:
                completed.append(task_id)
                if task.outcome.status != "ok":
                    failed.append(task_id)
        if self.unreachable(completed, failed):
            raise ImpossibleDependency(f"tasks that it depends on ended otherwise: {', '.join(failed or completed)}")
        if self.check(completed, failed) and not place:
            return [], self.flags
        ids = sorted(self - set(completed)) if self.all and not place else sorted(self)
        if len(ids) > limits.TASKS_NAMED:
            raise UsageError(f"a task can depend on {limits.TASKS_NAMED} unfinished tasks, not on {len(ids)}")
        return ids, self.flags


def as_dependency(value: Any) -> Dependency | None:
    """What `after` and `follow` may be set to: None, a Dependency, or whatever names tasks."""
    if value is None or isinstance(value, Dependency):
        return value
    return Dependency(value)


def task_ids(named: Any) -> list[str]:
    """Ids of the tasks that somebody named: an id, an AsyncResult, or several of them.

    Raises:
        TypeError: something names no task.
    """
    if isinstance(named, str):
        return [named]
    if isinstance(named, AsyncResult):
        return named.msg_ids
    if not isinstance(named, Iterable):
        raise _InvalidType(f"{type(named).__name__!r} names no task", "give task ids or AsyncResults")
    ids: list[str] = []
    for one in named:
        if not isinstance(one, str | AsyncResult):
            raise _InvalidType(f"{type(one).__name__!r} names no task", "give task ids or AsyncResults")
        ids += task_ids(one)
    return ids
