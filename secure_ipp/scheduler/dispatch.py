"""Gives tasks to engines and brings them to their one end.

Pure.  Laws: a task that was accepted ends once; without retries it is never given to a second engine once it may
have started; direct tasks go to their engine at once and in order; balanced ones wait here until an engine has room.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from secure_ipp import limits
from secure_ipp.scheduler.board import Board
from secure_ipp.scheduler.dependencies import Ended, Verdict, engines_to_follow, judge
from secure_ipp.scheduler.engines import Engine
from secure_ipp.scheduler.relay import Relay
from secure_ipp.scheduler.task import Task, TaskState
from secure_ipp.scheduler.waiting import Waiting
from secure_ipp.wire import messages
from secure_ipp.wire.messages import ErrorInfo, Outcome, Status

_END = {"ok": TaskState.OK, "error": TaskState.ERROR, "aborted": TaskState.ABORTED, "lost": TaskState.LOST}


def plain_error(ename: str, text: str) -> ErrorInfo:
    """An error that the scheduler itself reports."""
    return ErrorInfo(ename, text, [f"{ename}: {text}"])


class Dispatch:
    """Places tasks and ends them."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.relay = Relay(board)
        self.waiting = Waiting()
        self._constrained: list[Task] = []
        self._blocked: dict[tuple[str, str], list[Task]] = {}  # (owner, id) -> tasks that depend on it
        self._deadlines: list[Task] = []
        self._recall_due = False

    # --- in ----------------------------------------------------------------------------------------------

    def accept(self, task: Task, now: float) -> None:
        """A balanced task, new or placed anew."""
        board = self._board
        owner = board.owner(task.owner)
        owner.live[task.id] = task
        if task.function:
            board.functions.hold(task.owner, task.function)
        if task.targets and not any(board.engines.get(i) for i in task.targets):
            self.fail(task, "EngineError", f"none of the engines {sorted(task.targets)} is there", now)
            return
        if task.deadline:
            self._deadlines.append(task)
        if not (task.after or task.follow):
            self.waiting.put(task)
            return
        for dependency in {*task.after, *task.follow}:
            if dependency in owner.live and dependency != task.id:
                self._blocked.setdefault((task.owner, dependency), []).append(task)
        self._judge(task, now)

    def accept_direct(self, task: Task, engine: Engine | None, engine_id: int, now: float) -> None:
        """A task for one engine; it goes there at once."""
        board = self._board
        board.owner(task.owner).live[task.id] = task
        if task.function:
            board.functions.hold(task.owner, task.function)
        if engine is None or not engine.alive:
            self.fail(task, "EngineError", f"there is no engine {engine_id}; it may have died or been stopped", now)
            return
        self._assign(task, engine, now)

    def _judge(self, task: Task, now: float) -> None:
        known = self._board.owner(task.owner).known
        verdicts = (judge(task.after, task.after_flags, known), judge(task.follow, task.follow_flags, known))
        if Verdict.INVALID in verdicts:
            self.fail(task, "InvalidDependency", "it depends on a task that is not known", now)
        elif Verdict.IMPOSSIBLE in verdicts:
            self.fail(task, "ImpossibleDependency", "a task that it depends on did not end as required", now)
        elif verdicts == (Verdict.MET, Verdict.MET):
            self._ready(task, now)

    def _ready(self, task: Task, now: float) -> None:
        if task.follow and not engines_to_follow(task.follow, task.follow_flags, self._board.owner(task.owner).known):
            self.fail(task, "ImpossibleDependency", "the tasks to follow ran on different engines, or on none", now)
            return
        task.after = []
        self.waiting.put(task)

    # --- placing -------------------------------------------------------------------------------------------

    def turn(self, now: float) -> None:
        """Give out what can be given; called once after each batch of events."""
        engines = self._board.engines
        if self._constrained:
            again, self._constrained = self._constrained, []
            for constrained in again:
                if constrained.state is TaskState.ACCEPTED:
                    self._place_constrained(constrained, now)
        while (engine := engines.with_room()) is not None:
            task = self.waiting.next()
            if task is None:
                break
            if task.constrained:
                self._place_constrained(task, now)
            else:
                self._assign(task, engine, now)
        if self._recall_due and not len(self.waiting):
            self._recall_due = False
            self._recall()

    def _place_constrained(self, task: Task, now: float) -> None:
        known = self._board.owner(task.owner).known
        follow = engines_to_follow(task.follow, task.follow_flags, known) if task.follow else frozenset()
        engines = self._board.engines
        engine = engines.with_room_for(task, follow)
        if engine is not None:
            self._assign(task, engine, now)
        elif engines.allowed(task, follow) or not len(engines):
            self._constrained.append(task)
        else:
            self.fail(task, "ImpossibleDependency", "no engine that is there may run it", now)

    def _assign(self, task: Task, engine: Engine, now: float) -> None:
        board = self._board
        task.to(TaskState.ASSIGNED)
        number = engine.take(task)
        self.ensure_function(engine, task.owner, task.function)
        ticket = board.tickets.make(task.owner, task.id, task.attempt, engine.uuid, number)
        board.send_to(
            engine.session,
            messages.Assign(
                number, task.owner, task.id, task.attempt, ticket, task.kind, task.function, task.body, task.sizes
            ),
            None,
        )
        if task.sizes:
            self.relay.body_wanted(task, engine, now)
        board.engines.offer(engine)

    def ensure_function(self, engine: Engine, owner: str, digest: bytes) -> None:
        """See that the engine has, or will get, this function."""
        if not digest or (owner, digest) in engine.functions:
            return
        board = self._board
        code = board.functions.get(owner, digest)
        if code is None:
            board.wanted_functions.setdefault((owner, digest), set()).add(engine.uuid)
            for peer in board.owner(owner).peers[:1]:
                board.send(peer, messages.NeedFunction(digest))
            return
        engine.functions.add((owner, digest))
        board.send_to(engine.session, messages.EngineFunction(owner, digest, code), None)

    def _recall(self) -> None:
        """Take queued tasks back for engines that have nothing to do."""
        idle = len(self._board.engines.idle())
        for engine in self._board.engines.worth_recalling():
            if idle <= 0:
                return
            queued = [
                number for number, task in engine.outstanding.items()
                if task.mode == "balanced" and not task.recalling and not task.aborting
            ]
            numbers = queued[1:] if engine.load == len(queued) else queued
            numbers = numbers[-max(idle, (len(numbers) + 1) // 2):]
            for number in numbers:
                engine.outstanding[number].recalling = True
            if numbers:
                idle -= len(numbers)
                self._board.send_to(engine.session, messages.Cancel(numbers), None)

    def recall_later(self) -> None:
        """An engine has nothing to do, or another is stuck in a long task."""
        self._recall_due = True

    # --- back from engines ---------------------------------------------------------------------------------

    def given_back(self, engine: Engine, number: int, now: float) -> None:
        """An engine gave an assignment back that it never started."""
        task = engine.give_back(number)
        if task is None:
            return
        self.relay.body_dropped(task)
        self._board.engines.offer(engine)
        if task.aborting:
            self.end(task, "aborted", now, error=plain_error("TaskAborted", "it was aborted before it started"))
        elif task.mode == "balanced":
            self.place_anew(task)
        else:
            self.fail(task, "EngineError", "its engine gave it back", now)

    def place_anew(self, task: Task) -> None:
        """It has not run, or may run again: somebody else gets it, before what came later."""
        task.recalling = False
        task.to(TaskState.ACCEPTED)
        task.engine, task.number = None, -1
        self.waiting.put(task, first=True)

    def retry(self, task: Task) -> bool:
        """Use up a retry, if there is one."""
        if task.mode != "balanced" or task.retries <= 0 or task.aborting:
            return False
        task.retries -= 1
        task.attempt += 1
        self.place_anew(task)
        return True

    def engine_died(self, engine: Engine, started: int | None, reason: str, now: float) -> None:
        """An engine is gone.

        Args:
            started: the highest number it had started; None: nobody knows.
        """
        self._board.engines.remove(engine)
        anew: list[Task] = []
        for number, task in list(engine.outstanding.items()):
            engine.give_back(number)
            self.relay.body_dropped(task)
            if task.aborting and started is not None and number > started:
                self.end(task, "aborted", now, error=plain_error("TaskAborted", "it was aborted before it started"))
            elif task.mode == "balanced" and started is not None and number > started and not task.adopted:
                anew.append(task)
            elif not self.retry(task):
                state = "while it ran this task" if number == started else "before it had answered"
                text = f"engine {engine.id} died {state}: {reason}"
                self.end(task, "lost", now, error=plain_error("EngineError", text))
        for task in reversed(anew):
            self.place_anew(task)
        self.relay.results_lost(engine, now)

    # --- ends ----------------------------------------------------------------------------------------------

    def fail(self, task: Task, ename: str, text: str, now: float) -> None:
        """End a task that never ran, with a clear error."""
        self.end(task, "error", now, error=plain_error(ename, text))

    def end(
        self, task: Task, status: Status, now: float, *, error: ErrorInfo | None = None,
        result: messages.Result | None = None, origin: Engine | None = None,
    ) -> None:
        """The one end of a task: its client is told, the hub gets the record, dependents are judged."""
        board = self._board
        task.to(_END[status])
        board.done += 1
        engine = task.engine
        outcome = Outcome(
            task=task.id, status=status, engine=engine.id if engine is not None else -1,
            engine_uuid=engine.uuid if engine is not None else "", submitted=task.submitted,
            started=result.started if result is not None else 0.0,
            completed=result.completed if result is not None else now,
            body=result.body if result is not None else [], sizes=result.sizes if result is not None else [],
            error=error if result is None else result.error, received=task.accepted_at, attempts=task.attempt,
            execution_count=result.execution_count if result is not None else 0,
        )
        board.send(task.session, outcome)
        for watcher in task.watchers:
            board.send(watcher, outcome)
        if task.stdout or task.stderr:
            outcome = _with_output(outcome, task)
        streamed = bool(outcome.sizes)
        board.records.add(
            messages.TaskRecord(task.owner, task.kind, task.function, task.mode, task.label, outcome,
                                task.session.token if task.session is not None else b""),
            None if origin is None or streamed else (origin, task.number),
        )
        owner = board.owner(task.owner)
        owner.end(task, Ended(status == "ok", outcome.engine))
        if task.function:
            board.functions.release(task.owner, task.function)
        if streamed and origin is not None:
            self.relay.result_there(task, origin, sum(outcome.sizes))
        task.body = []
        for dependent in self._blocked.pop((task.owner, task.id), ()):
            if dependent.state is TaskState.ACCEPTED and (dependent.after or dependent.follow):
                self._judge(dependent, now)

    def expire(self, now: float) -> None:
        """End tasks whose dependencies took too long."""
        waiting = []
        for task in self._deadlines:
            if task.state is not TaskState.ACCEPTED:
                continue
            if now >= task.deadline:
                self.fail(task, "TaskTimeout", "its dependencies were not met in time", now)
            else:
                waiting.append(task)
        self._deadlines = waiting

    def abort(self, task: Task, now: float) -> Any:
        """End it if it has not started; returns the engine that must be asked, if one has it."""
        if task.state in (TaskState.ACCEPTED, TaskState.SUBMITTED):
            self.end(task, "aborted", now, error=plain_error("TaskAborted", "it was aborted before it started"))
            return None
        if task.state is TaskState.ASSIGNED and not task.aborting:
            task.aborting = True
            return task.engine
        return None


def _with_output(outcome: Outcome, task: Task) -> Outcome:
    tail = limits.TRACEBACK_CHARS
    return replace(outcome, stdout="".join(task.stdout)[-tail:], stderr="".join(task.stderr)[-tail:])
