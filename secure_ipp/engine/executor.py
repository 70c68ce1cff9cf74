"""Runs tasks, one after the other, in the namespace of the shell.  The only room that calls `exec` and `eval`.

Laws.
- Whatever user code does, short of ending the process, comes out as one result: exceptions of every kind, values
  that cannot be pickled, interrupts.
- KeyboardInterrupt is raised only while user code runs; at any other time SIGINT does nothing.
- The assignment's number is on the shared page before the first line of user code runs.
- Names that a function carried along are beneath the namespace while its task runs; those of a pushed function, which
  stays, as long as the namespace does.
"""

from __future__ import annotations

import builtins
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from secure_ipp.engine.functions import CachedFunction
from secure_ipp.engine.output import Event
from secure_ipp.engine.shared_page import SharedPage
from secure_ipp.engine.shell import EngineShell
from secure_ipp.engine.streams import Capture
from secure_ipp.engine.tasks import Task
from secure_ipp.errors import ProtocolError
from secure_ipp.payload import calls
from secure_ipp.payload.body import Stream, as_body
from secure_ipp.payload.context import LoadContext, layered
from secure_ipp.payload.functions import LoadedFunction, load_function
from secure_ipp.payload.objects import Buffer, dumps, unshared
from secure_ipp.payload.tracebacks import error_info, plain_error
from secure_ipp.wire.messages import ErrorInfo, Result

_OUR_FILES = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_NONE = dumps(None)


@dataclass(frozen=True, slots=True)
class Finished:
    """A task's end: its output, its result, and the result's bytes if they do not travel in it."""

    output: list[Event]
    result: Result
    stream: Stream | None


class Executor:
    """Belongs to the process's main thread, which alone gets signals."""

    def __init__(self, shell: EngineShell, capture: Capture, page: SharedPage) -> None:
        self._shell = shell
        self._capture = capture
        self._page = page
        self._in_user_code = False
        self._number = 0  # of the task that runs
        self._meant = 0  # number of the task that the next signal is for; 0: whichever runs then
        self._unwanted = 0  # number of a task that is not to run
        self.namespace: dict[str, Any] = shell.user_ns
        self._kinds: dict[str, Callable[[Task], list[Buffer]]] = {
            "apply": self._apply, "execute": self._execute, "push": self._push, "pull": self._pull,
            "clear": self._clear,
        }
        self._pushed: dict[str, Any] = {}  # carried by functions that were pushed, and stay
        self._count = 0
        self._contexts: tuple[LoadContext, ...] = ()
        self._cell_error: ErrorInfo | None = None

    def take_signals(self) -> None:
        """Make SIGINT interrupt user code, and nothing else."""
        signal.signal(signal.SIGINT, self._interrupted)

    def interrupt(self, number: int) -> None:
        """Interrupt this task and no other, soon; for the thread that talks."""
        self._meant = number
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _interrupted(self, _signum: int, _frame: FrameType | None) -> None:
        meant, self._meant = self._meant, 0
        if meant:
            self._unwanted = meant  # if it has not come to its code yet, it never will
        if self._in_user_code and meant in (0, self._number):
            raise KeyboardInterrupt

    def run(self, task: Task) -> Finished:
        """Run one task to its end."""
        started = task.since = time.time()
        self._number = task.number
        self._page.started = task.number
        self._capture.begin(task.number)
        self._count = 0
        self._contexts = ()
        self._cell_error = None
        error = task.error
        body: list[bytes] = []
        sizes: list[int] = []
        stream = None
        if error is None:
            try:
                try:
                    self._in_user_code = True
                    if self._unwanted == task.number:
                        raise KeyboardInterrupt
                    buffers = self._kinds[task.assign.kind](task)
                finally:
                    self._in_user_code = False
                error = self._cell_error
                if error is None:
                    body, sizes, stream = as_body(unshared(buffers))
            except BaseException as exception:  # noqa: BLE001  the edge of user code: all of it becomes a result
                error = self._describe(exception)
        output = self._capture.end()
        assign = task.assign
        result = Result(
            assign.number, assign.owner, assign.task, assign.attempt, assign.ticket, "error" if error else "ok",
            started, time.time(), body, sizes, error, self._count,
        )
        return Finished(output, result, stream)

    # --- kinds of tasks ------------------------------------------------------------------------------------

    def _apply(self, task: Task) -> list[Buffer]:
        context = LoadContext(self.namespace, self._resolve)
        digest = task.assign.function
        code, args, kwargs = calls.read_call(task.body, context, with_function=bool(digest))
        if digest:
            function = self._loaded(task.function)
        else:
            function = load_function(code, LoadContext(self.namespace, self._resolve))
        self._contexts = (function.context, context)
        one, other = function.context, context
        if one.layer is None and other.layer is None:
            return dumps(function.call(*args, **kwargs))
        with layered(self.namespace, {**vars(builtins), **self._pushed, **one.carried, **other.carried}):
            return dumps(function.call(*args, **kwargs))

    def _loaded(self, cached: CachedFunction | None) -> LoadedFunction:
        if cached is None:
            raise ProtocolError("a task's function is missing")
        if cached.loaded is not None:
            return cached.loaded
        loaded = load_function(cached.code, LoadContext(self.namespace, self._resolve))
        if not loaded.rebuild_each_time:
            cached.loaded = loaded
        return loaded

    def _execute(self, task: Task) -> list[Buffer]:
        code, flags = calls.read_execute(task.body)
        shell = self._shell
        shell.last_traceback = None
        run_cell: Callable[..., Any] = shell.run_cell
        outcome = run_cell(code, store_history=flags.store_history and not flags.silent, silent=flags.silent)
        if flags.store_history and not flags.silent:
            self._count = max(0, shell.execution_count - 1)
        failure = outcome.error_before_exec or outcome.error_in_exec
        if failure is not None:
            told = error_info(failure)
            self._cell_error = plain_error(told.ename, told.evalue, shell.last_traceback or list(told.traceback))
        return _NONE

    def _push(self, task: Task) -> list[Buffer]:
        context = LoadContext(self.namespace, self._resolve)
        for target, value in calls.read_push(task.body, context).items():
            if target.isidentifier():
                self.namespace[target] = value
            else:
                self._assign(target, value)
        if context.carried:
            self._pushed.update(context.carried)
            self.namespace["__builtins__"] = {**vars(builtins), **self._pushed}
        return _NONE

    def _assign(self, target: str, value: object) -> None:
        """Set what an expression such as "a.b" or "a[0]" stands for."""
        names = {"__pushed__": value}
        exec(f"({target}) = __pushed__", self.namespace, names)  # noqa: S102  the namespace is its client's own
        del names["__pushed__"]
        self.namespace.update(names)  # "a, b" sets names

    def _pull(self, task: Task) -> list[Buffer]:
        names = calls.read_pull(task.body)
        if isinstance(names, str):
            return dumps(self._resolve(names))
        return dumps([self._resolve(name) for name in names])

    def _clear(self, _task: Task) -> list[Buffer]:
        reset: Callable[..., None] = self._shell.reset
        reset(new_session=False)
        self._pushed.clear()
        self.namespace["__builtins__"] = builtins
        return _NONE

    def _resolve(self, name: str) -> object:
        return eval(name, self.namespace)  # noqa: S307  the namespace is its client's own

    # --- errors --------------------------------------------------------------------------------------------

    def _describe(self, exception: BaseException) -> ErrorInfo:
        advice = ""
        if isinstance(exception, ImportError) and not _raised_by_user(exception):
            advice = (
                f"the task needs module {exception.name!r}, which this engine cannot import: install it where the "
                "engine runs, put it on the engine's path, or define the function in __main__"
            )
        elif isinstance(exception, NameError):
            for context in self._contexts:
                reason = context.left_out.get(exception.name or "")
                if reason:
                    advice = f"{exception.name} was not sent along: {reason}; push it to the engines"
        return error_info(exception, skip=_OUR_FILES, advice=advice)


def _raised_by_user(error: ImportError) -> bool:
    """Did an import in user code fail, rather than one that rebuilding the task made?"""
    frames = error.__traceback__
    while frames is not None:
        where = frames.tb_frame.f_code.co_filename
        if not where.startswith((_OUR_FILES, "<frozen")) and "cloudpickle" not in where:
            return True
        frames = frames.tb_next
    return False
