"""What an engine was given and has not started: which task may run, and what must be said meanwhile.

Pure: messages in, actions out.  Laws.
- Tasks start in the order of their numbers; one that still waits for its body or its function holds up all behind it.
- A number is taken once; a repetition is ignored.
- `claim` decides between running a task and giving it back; whoever is first wins.  It alone may be called by the
  thread that runs tasks, everything else belongs to the thread that talks.
- A function or a body that is not what was announced ends its task with an error and disturbs no other.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass

from secure_ipp import limits
from secure_ipp.engine.functions import CachedFunction, FunctionCache
from secure_ipp.errors import ProtocolError
from secure_ipp.payload.body import Assembly
from secure_ipp.payload.objects import Buffer
from secure_ipp.payload.tracebacks import error_info
from secure_ipp.wire.messages import (
    Assign,
    Cancel,
    Cancelled,
    EngineChunk,
    EngineCredit,
    EngineFunction,
    EngineNeedsFunction,
    ErrorInfo,
    LiveTask,
    Message,
)

log = logging.getLogger("secure_ipp.engine")


class Task:
    """One assignment on its way to being run.

    Attributes:
        body: the buffers; empty until they are complete.
        function: what `assign.function` names, once it is here.
        error: why it must not run at all.
        since: when it was started, seconds since the epoch; 0: not yet.
    """

    __slots__ = ("assembly", "assign", "body", "error", "function", "number", "since")

    def __init__(self, assign: Assign) -> None:
        self.number = assign.number
        self.assign = assign
        self.body: list[Buffer] = list(assign.body)
        self.function: CachedFunction | None = None
        self.error: ErrorInfo | None = None
        self.assembly: Assembly | None = None
        self.since = 0.0

    @property
    def complete(self) -> bool:
        return self.error is not None or (
            self.assembly is None and (self.function is not None or not self.assign.function)
        )


@dataclass(frozen=True, slots=True)
class Start:
    """Hand this task to the thread that runs user code; it must `claim` it first."""

    task: Task


@dataclass(frozen=True, slots=True)
class Say:
    """Send this to the scheduler."""

    message: Message


Action = Start | Say
_NOTHING: list[Action] = []


class TaskBoard:
    """All tasks of this engine that are not finished."""

    def __init__(self, functions: FunctionCache | None = None) -> None:
        self.highest = 0  # number ever received
        self.started = 0  # highest number ever claimed
        self.running: Task | None = None
        self._functions = functions or FunctionCache()
        self._unclaimed: dict[int, Task] = {}
        self._line: deque[Task] = deque()  # not yet handed over, in order
        self._wanted: dict[tuple[str, bytes], list[Task]] = {}

    # --- the thread that runs tasks ------------------------------------------------------------------------

    def claim(self, task: Task) -> bool:
        """Take a task to run it; False if it was given back meanwhile."""
        self.running = task  # before it leaves the queue, so that a report never misses it
        if self._unclaimed.pop(task.number, None) is None:  # one atomic step between two threads
            self.running = None
            return False
        self.started = task.number
        return True

    def finished(self) -> None:
        """The running task has ended, and its result has been handed on."""
        self.running = None

    # --- the thread that talks -----------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return self.running is not None or bool(self._unclaimed)

    def live(self) -> list[LiveTask]:
        """For the report: what is here and unfinished, in order."""
        running = self.running
        tasks = [] if running is None else [(running, "started")]
        tasks += [(task, "queued") for _, task in sorted(self._unclaimed.copy().items()) if task is not running]
        return [
            LiveTask(task.assign.owner, task.assign.task, task.assign.attempt, task.number,
                     task.assign.ticket, "started" if state == "started" else "queued")
            for task, state in tasks
        ]

    def assign(self, message: Assign) -> list[Action]:
        """A new task."""
        if message.number <= self.highest:
            return _NOTHING
        self.highest = message.number
        task = Task(message)
        self._unclaimed[message.number] = task
        said: list[Action] = []
        if message.sizes:
            try:
                assembly = Assembly(message.sizes)
            except ProtocolError as error:
                task.error = error_info(error)
            else:
                task.assembly = assembly
                self._assembled(task)
        if message.function:
            task.function = self._functions.get(message.owner, message.function)
            if task.function is None:
                key = (message.owner, message.function)
                waiting = self._wanted.get(key)
                if waiting is None:
                    self._wanted[key] = [task]
                    said.append(Say(EngineNeedsFunction(*key)))
                else:
                    waiting.append(task)
        if not self._line and task.complete:
            said.append(Start(task))
            return said
        self._line.append(task)
        return said

    def function(self, message: EngineFunction) -> list[Action]:
        """A function, asked for or not (unverified bytes)."""
        waiting = self._wanted.pop((message.owner, message.digest), [])
        try:
            function = self._functions.put(message.owner, message.digest, message.code)
        except ProtocolError as error:
            log.error("function %s of %s: %s", message.digest.hex()[:16], message.owner, error.message)
            for task in waiting:
                task.error = error_info(error)
        else:
            for task in waiting:
                task.function = function
        return self._advance() if waiting else _NOTHING

    def chunk(self, message: EngineChunk, piece: memoryview) -> list[Action]:
        """A piece of a task's body; copied."""
        task = self._unclaimed.get(message.number)
        if task is None or task.assembly is None:
            return _NOTHING
        try:
            task.assembly.add(message.offset, piece)
        except ProtocolError as error:
            log.error("body of assignment %d: %s", message.number, error.message)
            task.error = error_info(error)
            task.assembly = None
            return self._advance()
        said: list[Action] = [Say(EngineCredit(message.number, piece.nbytes))]
        self._assembled(task)
        return said + self._advance() if task.assembly is None else said

    def cancel(self, message: Cancel) -> list[Action]:
        """Give back what was not claimed."""
        given_back = [number for number in message.numbers if self._give_back(number)]
        if not given_back:
            return _NOTHING
        return [Say(Cancelled(given_back)), *self._advance()]

    def forget(self, owner: str) -> None:
        """Drop what is kept for this owner."""
        self._functions.forget(owner)

    def new_session(self) -> list[Action]:
        """The scheduler has forgotten what it was sending: drop what will never be complete, ask for the rest anew.

        With a task whose body was under way go all behind it, so that they are placed anew in their order, and so
        does what a report has no room for; to be called before `live`.
        """
        for place, task in enumerate(self._line):
            if task.assembly is not None:
                for dropped in list(self._line)[place:]:
                    self._give_back(dropped.number)
                break
        for number in sorted(self._unclaimed.copy())[limits.REPORTED_TASKS - 1 :]:
            self._give_back(number)
        self._wanted = {key: waiting for key, waiting in self._wanted.items() if waiting}
        return [Say(EngineNeedsFunction(*key)) for key in self._wanted]

    def _give_back(self, number: int) -> bool:
        task = self._unclaimed.pop(number, None)
        if task is None:
            return False
        if task in self._line:
            self._line.remove(task)
        waiting = self._wanted.get((task.assign.owner, task.assign.function))
        if waiting and task in waiting:
            waiting.remove(task)
        return True

    def _assembled(self, task: Task) -> None:
        if task.assembly is not None and task.assembly.complete:
            task.body = task.assembly.buffers()
            task.assembly = None

    def _advance(self) -> list[Action]:
        ready: list[Action] = []
        while self._line and self._line[0].complete:
            ready.append(Start(self._line.popleft()))
        return ready
