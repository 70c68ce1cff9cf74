"""The part of a client that asks the cluster about tasks and engines, and tells it what to do with them."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

from secure_ipp import limits
from secure_ipp.client.asyncresult import AsyncHubResult, AsyncResult
from secure_ipp.client.dependency import task_ids
from secure_ipp.client.errors import UnknownTask, WrongMoment
from secure_ipp.client.history import History
from secure_ipp.client.session import Session, answer
from secure_ipp.client.tasks import Call, Task
from secure_ipp.errors import SecureIppError, UsageError
from secure_ipp.wire import messages

if TYPE_CHECKING:
    from secure_ipp.client.directview import DirectView

_ANSWER_SECONDS = 30.0
_LEAVE_SECONDS = 10.0  # for engines that were told to end


class Controls(ABC):
    """Mixed into `Client`."""

    session: Session
    block: bool
    history: History

    @abstractmethod
    def engines(self, targets: Any) -> list[int]:
        """Given by the class that this is mixed into."""

    @abstractmethod
    def direct_view(self, targets: Any = "all", **kwargs: Any) -> DirectView:
        """Given by the class that this is mixed into."""

    @abstractmethod
    def close(self, linger: float | None = None) -> None:
        """Given by the class that this is mixed into."""

    def _blocks(self, block: bool | None) -> bool:
        return self.block if block is None else block

    def _job_ids(self, jobs: Any) -> list[str]:
        """Ids of the tasks named: history indices, ids, AsyncResults, or several."""
        if isinstance(jobs, int):
            return [self.history[jobs]]
        if isinstance(jobs, str | AsyncResult):
            return task_ids(jobs)
        if not isinstance(jobs, Iterable):
            return task_ids(jobs)
        return [task_id for job in jobs for task_id in self._job_ids(job)]

    # --- engines -------------------------------------------------------------------------------------------------

    def queue_status(self, targets: Any = "all", verbose: bool = False) -> dict[Any, Any]:
        """What each engine has to do and has done, and what waits for one: counts, or ids if `verbose`.

        Own tasks; everybody's with the right `observe`.

        Returns:
            {"unassigned": ..., engine id: {"queue": ..., "completed": ..., "tasks": ...}, ...}; given an int, that
            engine's alone.
        """
        wanted = [] if targets is None or targets == "all" else self.engines(targets)
        status: dict[str, Any] = answer(
            self.session.ask(lambda number: messages.QueueStatus(number, wanted, verbose)), _ANSWER_SECONDS
        )
        if isinstance(targets, int):
            engine: dict[Any, Any] = status["engines"][wanted[0]]
            return engine
        return {"unassigned": status["unassigned"], **status["engines"]}

    def send_signal(self, sig: int | str, targets: Any = None, block: bool | None = None) -> Any:
        """Send a signal to engines.

        Args:
            sig: its number, or its name such as "SIGINT".

        Raises:
            UsageError: there is no such signal.
        """
        if isinstance(sig, str):
            found = getattr(signal, sig, None)
            if not isinstance(found, signal.Signals):
                raise UsageError(f"there is no signal {sig!r}")
            sig = found
        number = int(sig)
        if not 0 <= number <= 64:
            raise UsageError(f"there is no signal {number}")
        engines = self.engines(targets)
        if number == 0:  # asks only whether they are there
            return self._maybe_wait(_nothing(), block)
        return self._maybe_wait(
            self.session.ask(lambda request: messages.Signal(request, engines, number), repeatable=False), block
        )

    def clear(self, targets: Any = None, block: bool | None = None) -> Any:
        """Empty the namespaces of engines."""
        return self.direct_view("all" if targets is None else targets).clear(block=self._blocks(block))

    def abort(self, jobs: Any = None, targets: Any = None, block: bool | None = None) -> Any:
        """End what has not started: these tasks, or all of this client.

        Args:
            jobs: history indices, ids or AsyncResults.
            targets: only what is queued at these engines.

        Returns:
            None if it blocks, else a future.
        """
        ids = self.session.receiver.ledger.own() if jobs is None else self._job_ids(jobs)
        engines = [] if targets is None else self.engines(targets)
        future = _nothing()
        for start in range(0, len(ids), limits.TASKS_NAMED):
            future = self.session.abort(ids[start : start + limits.TASKS_NAMED], engines)
        return self._maybe_wait(future, block)

    def shutdown(
        self, targets: Any = "all", restart: bool = False, hub: bool = False, block: bool | None = None
    ) -> None:
        """End engines.

        Args:
            restart: they are replaced by fresh ones.
            hub: the controller ends too, and this client is closed.
            block: wait until they are gone, and their successors there.
        """
        engines = [] if hub or targets is None or targets == "all" else self.engines(targets)
        receiver = self.session.receiver
        before = dict(receiver.roster.engines)
        gone = {before[engine].uuid for engine in engines or before}
        asked = self.session.ask(
            lambda number: messages.Shutdown(number, engines, hub, restart and not hub), repeatable=False
        )
        if self._blocks(block):
            try:
                answer(asked, _ANSWER_SECONDS)
            except SecureIppError:
                if not (hub and receiver.error is not None):
                    raise  # a controller that ends may not say so any more
            if not hub:
                wanted = len(before) if restart else 0
                with receiver.changed:
                    receiver.changed.wait_for(lambda: self._replaced(gone, wanted), _LEAVE_SECONDS)
        if hub:
            self.close()

    def _replaced(self, gone: set[str], wanted: int) -> bool:
        """Are these engines gone, and so many there?"""
        there = self.session.receiver.roster.engines
        return len(there) >= wanted and gone.isdisjoint(info.uuid for info in there.values())

    def _maybe_wait(self, future: Future[Any], block: bool | None) -> Any:
        if not self._blocks(block):
            return future
        answer(future, _ANSWER_SECONDS)
        return None

    # --- results ---------------------------------------------------------------------------------------------------

    def get_result(
        self, indices_or_msg_ids: Any = None, block: bool | None = None, owner: bool = True
    ) -> AsyncResult:
        """The result of tasks of this identity, also of those that another client sent.

        Args:
            indices_or_msg_ids: indices of `history`, ids, AsyncResults, or a list of them; None: the latest.

        Raises:
            UnknownTask: it blocks, and one of them is not known to the cluster.
        """
        named = -1 if indices_or_msg_ids is None else indices_or_msg_ids
        ids = self._job_ids(named)
        session = self.session
        tasks: list[Task] = []
        asked: list[Task] = []
        for task_id in ids:
            task = session.task(task_id)
            if task is None:
                if not (0 < len(task_id) <= limits.TASK_ID_CHARS and task_id.isascii()):
                    raise UsageError(f"{task_id[:80]!r} is not a task id")
                task = Task(task_id, Call("unknown", "apply"), 0.0)
                asked.append(task)
            tasks.append(task)
        single = isinstance(named, int | str) or (isinstance(named, AsyncResult) and named._single)
        kind = AsyncHubResult if asked else AsyncResult
        result = kind(self, tasks, "unknown", single=single, owner=owner)  # type: ignore[arg-type]
        if asked:
            session.attach(asked)
        if self._blocks(block):
            result.wait()
            for task in asked:
                if isinstance(task.failure, UnknownTask):
                    raise task.failure
        return result

    def result_status(self, msg_ids: Any, status_only: bool = True) -> dict[str, Any]:
        """Which of these tasks have ended: {"pending": [...], "completed": [...]}.

        Args:
            status_only: if not, values of the completed ones are there too, by their ids.

        Raises:
            UnknownTask: one of them is not known.
        """
        ids = self._job_ids(msg_ids)
        status: dict[str, Any] = {"status": "ok", "pending": [], "completed": []}
        elsewhere = []
        for task_id in ids:
            task = self.session.task(task_id)
            if task is None:
                elsewhere.append(task_id)
            else:
                status["completed" if task.outcome is not None else "pending"].append(task_id)
        if elsewhere:
            found = self.session.question(messages.ResultStatus(elsewhere))
            if found["unknown"]:
                raise UnknownTask(f"no such task: {found['unknown'][0]}")
            status["pending"] += found["pending"]
            status["completed"] += found["completed"]
        if not status_only:
            for task_id in status["completed"]:
                status[task_id] = self.get_result(task_id, owner=False).get(_ANSWER_SECONDS, return_exceptions=True)
        return status

    def hub_history(self) -> list[str]:
        """Ids of this identity's tasks that the hub has on record, oldest first."""
        ids: list[str] = []
        after = 0
        while True:
            page = self.session.question(messages.History(after))
            ids += page["tasks"]
            after = page["next"]
            if not after:
                return ids

    def _purged(self, jobs: Any, targets: Any) -> list[str]:
        """Ids of what is to be forgotten; none named means neither."""
        if targets is None or (not targets and targets != 0):
            ids = self._job_ids(jobs)
        else:
            engines = set(self.engines(targets))
            held = list(self.session.receiver.finished.values())
            ids = [*self._job_ids(jobs), *(task.id for task in held if task.engine in engines)]
        if not ids and (jobs is None or not len(jobs)) and (targets is None or targets == [] or targets == ()):
            raise UsageError("name the tasks, or the engines, whose results are to be forgotten")
        return ids

    def purge_local_results(self, jobs: Any = (), targets: Any = ()) -> None:
        """Forget results here; "all" for all that have ended.

        Raises:
            WrongMoment: some have not ended.
        """
        receiver = self.session.receiver
        if isinstance(jobs, str) and jobs == "all":
            if receiver.ledger.own():
                raise WrongMoment("some tasks have not ended", "wait for them first")
            receiver.finished.clear()
            return
        ids = self._purged(jobs, targets)
        pending = [task_id for task_id in ids if task_id in receiver.ledger.open]
        if pending:
            raise WrongMoment(f"{len(pending)} of these tasks have not ended", "wait for them first")
        for task_id in ids:
            receiver.finished.pop(task_id, None)

    def purge_hub_results(self, jobs: Any = (), targets: Any = ()) -> None:
        """Let the hub forget its records of tasks; "all" for all of this identity's."""
        if isinstance(jobs, str) and jobs == "all":
            self.session.question(messages.PurgeRecords([]))
            return
        ids = self._purged(jobs, targets)
        for start in range(0, len(ids), 1024):
            self.session.question(messages.PurgeRecords(ids[start : start + 1024]))

    def purge_results(self, jobs: Any = (), targets: Any = ()) -> None:
        """Forget results, here and at the hub."""
        self.purge_local_results(jobs, targets)
        self.purge_hub_results(jobs, targets)

    def purge_everything(self) -> None:
        """Forget all results and the history, here and at the hub."""
        self.purge_results("all")
        self.history.clear()

    def wait(self, jobs: Any = None, timeout: float | None = -1) -> bool:
        """Wait for these tasks (or other futures), or for all that are unfinished.

        Returns:
            Whether they have ended.
        """
        futures: list[Future[Any]] = []
        if jobs is None:
            ids = self.session.receiver.ledger.own()
        else:
            several = [jobs] if isinstance(jobs, int | str | Future) or not isinstance(jobs, Iterable) else list(jobs)
            futures = [job for job in several if isinstance(job, Future) and not isinstance(job, AsyncResult)]
            ids = self._job_ids([job for job in several if job not in futures])
        limit = None if timeout is None or timeout < 0 else timeout
        deadline = None if limit is None else time.monotonic() + limit
        tasks = list({i: task for i in ids if (task := self.session.task(i)) is not None}.values())
        done = True
        if tasks:
            together = AsyncResult(self, tasks, "wait")  # type: ignore[arg-type]
            done = together.wait(limit)
        wait(futures, None if deadline is None else max(0.0, deadline - time.monotonic()))
        return done and all(future.done() for future in futures)

    def wait_interactive(self, jobs: Any = None, interval: float = 1.0, timeout: float | None = -1.0) -> None:
        """Wait with a progress bar.

        Raises:
            TimeoutError: they have not ended in time.
        """
        ids = self.session.receiver.ledger.own() if jobs is None else self._job_ids(jobs)
        tasks = [task for i in dict.fromkeys(ids) if (task := self.session.task(i)) is not None]
        if tasks:
            together = AsyncResult(self, tasks, "tasks")  # type: ignore[arg-type]
            together.wait_interactive(interval, timeout)


def _nothing() -> Future[Any]:
    """The answer to what need not be asked."""
    future: Future[Any] = Future()
    future.set_result(None)
    return future
