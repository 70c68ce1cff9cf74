"""Results that are not there yet: a future of one call's tasks.

Laws: the future ends when its last task has; values are unpickled by whoever asks for them, once; its callbacks run
in the session's callback thread, or in the caller's if it has ended; it holds its tasks, so that dropping it frees
their results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any, NoReturn

from secure_ipp.client.errors import CompositeError, TaskAborted, TimeoutError, WrongMoment
from secure_ipp.client.progress import progress_bar
from secure_ipp.client.session import answer
from secure_ipp.client.taskfacts import TaskFacts
from secure_ipp.client.tasks import Task
from secure_ipp.client.trust import said
from secure_ipp.errors import SecureIppError

if TYPE_CHECKING:
    from secure_ipp.client.client import Client

_ABORT_SECONDS = 10.0  # for the answer to an abort
_FAILED = SecureIppError("a task failed; ask for the result")  # stands in the future until somebody asks


class AsyncResult(futures.Future[Any], TaskFacts):
    """The result of a call, some time.

    Args:
        tasks: of the call, made by this client and not yet sent, or known to it.
        fname: what was called, for messages.
        single: the result is the value of the one task, not a list.
        return_exceptions: errors are among the values rather than raised.
    """

    _chunks_of_one = False  # parts of a map are lists of chunks, whatever its chunksize

    def __init__(
        self, client: Client, tasks: Sequence[Task], fname: str = "unknown", *, single: bool = False,
        targets: Any = None, owner: bool = False, return_exceptions: bool = False,
    ) -> None:
        super().__init__()
        self._client = client
        self._session = client.session
        self._tasks = tasks
        self._fname = fname
        self._single = single
        self._targets = targets
        self.owner = owner
        self._return_exceptions = return_exceptions
        self._cancelled = False
        self._failures = 0
        self._listening = 0  # threads that wait for single tasks
        self._arrivals: list[Task] | None = None
        self._values: list[Any] | None = None
        self._errors: list[Any] = []
        self._parts: tuple[AsyncResult, ...] | None = None
        self.streaming = 0
        self._watch()

    def _watch(self) -> None:
        own = (self,)
        ended: list[Task] = []
        with self._session.receiver.lock:
            for task in self._tasks:
                if task.outcome is not None:
                    ended.append(task)
                elif task.groups:
                    task.groups = (*task.groups, self)
                else:
                    task.groups = own
            self._pending = len(self._tasks) - len(ended)
            self._failures = sum(task.outcome is not None and task.outcome.status != "ok" for task in ended)
        if len(ended) == len(self._tasks):
            self._complete()

    # --- called by the I/O thread ------------------------------------------------------------------------------

    def task_ended(self, task: Task) -> bool:
        """One task more has ended; whether somebody waits for single ones."""
        assert task.outcome is not None
        if task.outcome.status != "ok":
            self._failures += 1
        if self._arrivals is not None:
            self._arrivals.append(task)
        self._pending -= 1
        if self._pending == 0:
            self._complete()
            return False
        return self._listening > 0

    def tell_watchers(self) -> None:
        """Wake those who wait for single tasks."""
        with self._condition:
            self._condition.notify_all()

    def _complete(self) -> None:
        if self._failures:
            self.set_exception(_FAILED)
        else:
            self.set_result(None)

    def _invoke_callbacks(self) -> None:
        if self._done_callbacks:
            self._session.receiver.callbacks.call(super()._invoke_callbacks)  # type: ignore[misc]

    # --- waiting -----------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = -1, return_when: str | None = None) -> Any:
        """Wait until all tasks have ended, or `timeout` seconds (-1 or None: as long as it takes).

        Returns:
            Whether they have; given `return_when`, two sets of results of single tasks: done and pending.
        """
        limit = _limit(timeout)
        if return_when is not None:
            done, pending = futures.wait(self.split(), limit, return_when)
            return set(done), set(pending)
        return self._wait(limit)

    def _wait(self, limit: float | None) -> bool:
        if not self.done():
            self._session.check_waiting()
            with self._condition:
                self._condition.wait_for(self._is_finished, limit)
        return self.done()

    def _is_finished(self) -> bool:
        return self._state == futures._base.FINISHED

    def _wait_for(self, condition: Callable[[], bool], limit: float | None) -> bool:
        """Wait for something about single tasks."""
        if condition():
            return True
        with self._condition:
            self._listening += 1
            try:
                return bool(self._condition.wait_for(lambda: condition() or self.done(), limit))
            finally:
                self._listening -= 1

    def get(
        self, timeout: float | None = None, return_exceptions: bool | None = None, return_when: str | None = None, *,
        results: str | None = None, allow: Any = None,
    ) -> Any:
        """The result.

        Args:
            timeout: seconds; None or negative: as long as it takes.
            return_exceptions: put errors among the values.
            return_when: FIRST_EXCEPTION raises as soon as a task has failed.
            results, allow: what it may hold, from now on (see `Client`).

        Raises:
            TimeoutError: it is not there in time.
            UntrustedResult: it holds more than it may.
            RemoteError: the task failed; CompositeError: some of several did.
        """
        if results is not None or allow is not None:
            self._trust, self._values = said(self._trust_of(self._tasks[0]), results, allow), None
        keep = self._return_exceptions if return_exceptions is None else return_exceptions
        limit = _limit(timeout)
        if return_when == futures.FIRST_EXCEPTION and not keep:
            self._wait_for(lambda: self._failures > 0, limit)
            if self._failures and not self.done():
                failed = [t for t in self._tasks if t.outcome is not None and t.outcome.status != "ok"]
                self._raise([self._value(task) for task in failed])  # all of them ended badly
        if not self._wait(limit):
            raise TimeoutError("Result not ready.")
        values = self._all_values()
        if not keep and self._errors:
            self._raise(self._errors)
        return self._reconstruct(values)

    def _value(self, task: Task) -> Any:
        return task.result(self._trust_of(task))

    def _all_values(self) -> list[Any]:
        if self._values is None:
            self._values = [self._value(task) for task in self._tasks]
            self._errors = [value for task, value in zip(self._tasks, self._values, strict=True) if task.bad]
        return self._values

    def _raise(self, errors: Sequence[Any]) -> NoReturn:
        if self._single:
            raise errors[0]
        raise CompositeError(f"one or more exceptions raised in: {self._fname}", errors)

    def _reconstruct(self, values: list[Any]) -> Any:
        if self._chunks_of_one:
            return [value if isinstance(value, BaseException) else [value] for value in values]
        return values[0] if self._single else list(values)

    def result(self, timeout: float | None = None) -> Any:
        """As `get`."""
        return self.get(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error that `get` would raise, or None."""
        if not self._wait(_limit(timeout)):
            raise TimeoutError("Result not ready.")
        try:
            self.get(0)
        except SecureIppError as error:
            return error
        return None

    @property
    def r(self) -> Any:
        """The result, however long it takes."""
        return self.get()

    def ready(self) -> bool:
        """Have all tasks ended?"""
        return self.done()

    def successful(self) -> bool:
        """Did all tasks end well?

        Raises:
            WrongMoment: they have not ended.
        """
        if not self.done():
            raise WrongMoment("this result is not there yet", "wait for it first")
        self._all_values()
        return not self._errors

    def wait_for_output(self, timeout: float | None = -1) -> bool:
        """Wait until all output is here: an engine's output comes before its task's end."""
        return self._wait(_limit(timeout))

    @property
    def sent(self) -> bool:
        """Have the arguments left this process, so that they may be changed?"""
        return all(task.sent for task in self._tasks)

    def wait_for_send(self, timeout: float | None = -1) -> bool:
        """Wait until `sent`.

        Raises:
            TimeoutError: they have not left in time.
        """
        limit = _limit(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        while not self.sent:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("Still waiting to be sent")
            self._wait(0.005)
        return True

    def wait_interactive(
        self, interval: float = 0.1, timeout: float | None = -1, widget: bool | None = None,
        return_when: str = futures.ALL_COMPLETED,
    ) -> None:
        """Wait with a progress bar.

        Raises:
            TimeoutError: it is not there in time.
        """
        limit = _limit(timeout)
        deadline = None if limit is None else time.monotonic() + limit
        with progress_bar(widget, total=len(self), desc=self._fname, unit="tasks") as bar:
            while True:
                finished = self.done() or (return_when == futures.FIRST_EXCEPTION and self._failures > 0)
                finished = finished or (return_when == futures.FIRST_COMPLETED and self.progress > 0)
                bar.update(self.progress - bar.n)
                if finished:
                    return
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError("Result not ready.")
                self._wait(interval if deadline is None else min(interval, max(0.0, deadline - time.monotonic())))

    # --- ending it ---------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """End the tasks that have not started.

        Raises:
            WrongMoment: all have ended.
        """
        if self.done():
            raise WrongMoment("this cannot be aborted: it has ended")
        ids = [task.id for task in self._tasks if task.outcome is None]
        if ids:
            answer(self._session.abort(ids), _ABORT_SECONDS)

    def cancel(self) -> bool:
        """Abort, and say whether no task had started."""
        if self.done():
            return False
        self.abort()
        self._wait_for(self.done, 1.0)
        self._cancelled = self.done() and all(isinstance(value, TaskAborted) for value in self._all_values())
        return self._cancelled

    def cancelled(self) -> bool:
        """Did `cancel` end it?"""
        return self._cancelled

    def running(self) -> bool:
        return not self.done()

    # --- parts -------------------------------------------------------------------------------------------------

    def split(self) -> tuple[AsyncResult, ...]:
        """Results of the single tasks, for `concurrent.futures.wait` and the like; a single one is its own part."""
        if len(self._tasks) == 1 and type(self) is AsyncResult:
            return (self,)
        if self._parts is None:
            self._parts = tuple(self._part(task) for task in self._tasks)
        return self._parts

    def _part(self, task: Task) -> AsyncResult:
        return AsyncResult(
            self._client, [task], self._fname, single=True, owner=False, return_exceptions=self._return_exceptions
        )

    @classmethod
    def join(cls, *async_results: AsyncResult) -> AsyncResult:
        """One result of the tasks of several."""
        if not async_results:
            raise WrongMoment("there is nothing to join")
        first = async_results[0]
        tasks = [task for one in async_results for task in one._tasks]
        joined = AsyncResult(
            first._client, tasks, first._fname, owner=False, return_exceptions=first._return_exceptions
        )
        joined._chunks_of_one = all(one._chunks_of_one for one in async_results)
        return joined

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def progress(self) -> int:
        """How many tasks have ended."""
        return len(self._tasks) - self._pending

    def __iter__(self) -> Iterator[Any]:
        if self._single:
            raise TypeError("a result of a single task cannot be iterated")
        for task in self._tasks:
            yield from self._pieces(self._arrived(task))

    def _arrived(self, task: Task) -> Any:
        """The value of one task, when it is there; raises its error."""
        self._session.check_waiting()
        self._wait_for(lambda: task.outcome is not None, None)
        value = self._value(task)
        if task.bad and not self._return_exceptions:
            raise CompositeError(f"one or more exceptions raised in: {self._fname}", [value])
        return value

    def _pieces(self, value: Any) -> Iterable[Any]:
        return self._reconstruct([value])  # type: ignore[no-any-return]

    def __getitem__(self, key: int | slice | str) -> Any:
        if isinstance(key, str):
            return self._metadata_item(key)
        if not self.done():
            raise TimeoutError("Result not ready.")
        return self.get()[key]

    def get_dict(self, timeout: float | None = -1) -> dict[int, Any]:
        """The values by engine id.

        Raises:
            ValueError: an engine has more than one.
        """
        self.get(timeout)
        engines = [task.outcome.engine for task in self._tasks if task.outcome is not None]
        if len(set(engines)) < len(engines):
            raise ValueError("an engine has more than one of these results: they cannot be a dict by engine")
        return dict(zip(engines, self._all_values(), strict=True))

    @property
    def result_dict(self) -> dict[int, Any]:
        return self.get_dict()

    def __repr__(self) -> str:
        state = "pending" if not self.done() else "failed" if self._failures else "finished"
        return f"<{type(self).__name__}({self._fname}): {state}>"


class AsyncHubResult(AsyncResult):
    """The result of tasks that another session of this identity sent."""

    @property
    def sent(self) -> bool:
        return True


def _limit(timeout: float | None) -> float | None:
    return None if timeout is None or timeout < 0 else timeout
