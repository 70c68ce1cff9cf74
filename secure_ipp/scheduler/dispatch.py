"""Gives tasks to engines and brings them to their one end.

Pure.  Laws: a task that was accepted ends once; without retries it is never given to a second engine once it may
have started; direct tasks go to their engine at once and in order; balanced ones wait here until an engine has room.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec.structs import replace

from secure_ipp import limits
from secure_ipp.scheduler.board import Board
from secure_ipp.scheduler.dependencies import Ended, Verdict, Waits
from secure_ipp.scheduler.engines import Engine
from secure_ipp.scheduler.outcomes import ABORTED, outcome_of, plain_error, some
from secure_ipp.scheduler.placing import Placing
from secure_ipp.scheduler.relay import Relay
from secure_ipp.scheduler.task import Task, TaskState
from secure_ipp.scheduler.tenancy import Tenancy
from secure_ipp.wire import messages
from secure_ipp.wire.messages import ErrorInfo, Status

_ASSIGNED = TaskState.ASSIGNED
_END = {"ok": TaskState.OK, "error": TaskState.ERROR, "aborted": TaskState.ABORTED, "lost": TaskState.LOST}


class Dispatch:
    """Places tasks and ends them."""

    def __init__(self, board: Board, tenancy: Tenancy) -> None:
        self._board = board
        self._tenancy = tenancy
        self.relay = Relay(board)
        self.placing = Placing(board, tenancy, self._assign, self.fail)
        self._put_shared = self.placing.shared.waiting.put
        self._blocked: dict[tuple[str, str], dict[Task, None]] = {}  # (owner, id) -> tasks that depend on it
        self._deadlines: dict[Task, None] = {}
        self._ends: deque[tuple[str, str, Ended]] = deque()
        self._settling = False

    # --- in ----------------------------------------------------------------------------------------------

    def accept(self, task: Task, now: float) -> None:
        """A new balanced task."""
        if not (task.after or task.follow or task.targets):
            self._enter(task)
            self.placing.put(task) if self._tenancy.apart else self._put_shared(task)
            return
        owner = self._board.owner(task.owner)
        try:
            waits = (
                Waits(task.after, task.after_flags, owner.known), Waits(task.follow, task.follow_flags, owner.known)
            )
        except KeyError:
            waits = None
        self._enter(task)
        if waits is None:
            self.fail(task, "InvalidDependency", "it depends on a task that is not known", now)
            return
        if task.targets and not any(self._board.engines.get(i) for i in task.targets):
            self.fail(task, "EngineError", f"none of the engines {some(task.targets)} is there", now)
            return
        task.after, task.follow = [], task.follow[:1]
        task.waits = waits
        for dependency in waits[0].open | waits[1].open:
            self._blocked.setdefault((task.owner, dependency), {})[task] = None
        self._judge(task, now)
        if task.deadline and task.waits is not None and task.state is TaskState.ACCEPTED:
            self._deadlines[task] = None

    def accept_direct(self, task: Task, engine: Engine | None, engine_id: int, now: float) -> None:
        """A task for one engine; it goes there at once."""
        self._enter(task)
        if self._tenancy.apart and engine is not None and not self.placing.direct(task, engine):
            return
        if engine is None or not engine.alive:
            self.fail(task, "EngineError", f"there is no engine {engine_id}; it may have died or been stopped", now)
            return
        self._assign(task, engine, now)

    def _enter(self, task: Task) -> None:
        self._board.owner(task.owner).live[task.id] = task
        if task.function:
            self._board.functions.hold(task.owner, task.function)

    def adopt(self, task: Task, engine: Engine, number: int, ticket: bytes) -> None:
        """A task that an engine has from before a restart."""
        self._enter(task)
        engine.outstanding[number] = task
        engine.load += 1
        task.engine, task.number, task.ticket = engine, number, ticket

    def enter_ended(self, task: Task, engine: Engine, number: int) -> None:
        """A task that an engine finished before a restart; `end` follows."""
        self._enter(task)
        task.to(TaskState.ASSIGNED)
        task.engine, task.number = engine, number

    def _judge(self, task: Task, now: float) -> None:
        assert task.waits is not None
        verdicts = {waits.verdict for waits in task.waits}
        if Verdict.IMPOSSIBLE in verdicts:
            self.fail(task, "ImpossibleDependency", "a task that it depends on did not end as required", now)
        elif verdicts == {Verdict.MET}:
            self._ready(task, task.waits[1], now)

    def _ready(self, task: Task, follow: Waits, now: float) -> None:
        self._unblock(task)
        task.places = task.targets or None
        if task.follow:
            task.places = follow.places & task.targets if task.targets else follow.places
            if not task.places:
                self.fail(task, "ImpossibleDependency", "the tasks to follow ran on different engines, or on none", now)
                return
        self._wait(task)

    def _wait(self, task: Task, *, first: bool = False) -> None:
        self.placing.put(task, first=first)

    def _unblock(self, task: Task) -> None:
        """It waits for no other task any more."""
        waits, task.waits = task.waits, None
        self._deadlines.pop(task, None)
        for dependency in () if waits is None else waits[0].open | waits[1].open:
            blocked = self._blocked.get((task.owner, dependency))
            if blocked is not None:
                blocked.pop(task, None)
                if not blocked:
                    del self._blocked[(task.owner, dependency)]

    # --- placing -------------------------------------------------------------------------------------------

    def turn(self, now: float) -> None:
        """Give out what can be given; called once after each batch of events."""
        self.placing.turn(now)

    def _assign(self, task: Task, engine: Engine, now: float) -> None:
        board = self._board
        task.to(_ASSIGNED)
        owner, task_id, attempt, function = task.owner, task.id, task.attempt, task.function
        if self._tenancy.apart:
            self.placing.occupy(engine, self._tenancy.of(owner), now)
            if task.mode != "balanced":
                engine.visitors.add(owner)
        number = engine.take(task)
        if function and (owner, function) not in engine.functions:
            self.ensure_function(engine, owner, function)
        ticket = task.ticket = board.tickets.make(owner, task_id, attempt, engine.uuid, number)
        board.send_to(
            engine.session,
            messages.Assign(number, owner, task_id, attempt, ticket, task.kind, function, task.body, task.sizes),
            None,
        )
        if task.sizes:
            self.relay.body_wanted(task, engine, now)
        board.engines.placed(engine)

    def ensure_function(self, engine: Engine, owner: str, digest: bytes) -> None:
        """See that the engine has, or will get, this function."""
        key = (owner, digest)
        if not digest or key in engine.functions:
            return
        board = self._board
        code = board.functions.get(owner, digest)
        if code is None:
            engine.wanted.add(key)
            if key not in board.wanted_functions:
                for peer in board.owner(owner).peers:
                    board.send(peer, messages.NeedFunction(digest))
            board.wanted_functions.setdefault(key, set()).add(engine)
            return
        engine.wanted.discard(key)
        engine.sent(owner, digest)
        board.send_to(engine.session, messages.EngineFunction(owner, digest, code), None)

    # --- back from engines ---------------------------------------------------------------------------------

    def take_back(self, engine: Engine, number: int) -> Task | None:
        """An assignment is over, whatever its end; None: it was over before."""
        task = engine.give_back(number)
        if task is not None:
            if task.sizes:
                self.relay.body_dropped(task)
            self._board.engines.offer(engine)
            if engine.load == 0:
                self.placing.recall_later()
        return task

    def given_back(self, engine: Engine, number: int, now: float) -> None:
        """An engine gave an assignment back that it never started."""
        task = self.take_back(engine, number)
        if task is None:
            return
        if task.withdrawn is not None:
            self.end(task, "error", now, error=task.withdrawn)
        elif task.aborting:
            self.end(task, "aborted", now, error=ABORTED)
        else:
            self.place_anew(task, now)

    def place_anew(self, task: Task, now: float) -> None:
        """It has not run, or may run again: somebody else gets it, before what came later."""
        if task.sizes and (task.session is None or not task.session.present):
            self.fail(task, "EngineError", "it cannot be placed anew: its data are gone with its client", now)
            return
        task.recalling = False
        task.to(TaskState.ACCEPTED)
        task.engine, task.number = None, -1
        task.written = task.shown = 0
        self._wait(task, first=True)

    def retry(self, task: Task, now: float) -> bool:
        """Use up a retry, if there is one."""
        if task.mode != "balanced" or task.retries <= 0 or task.aborting or task.adopted:
            return False
        task.retries -= 1
        task.attempt += 1
        self.place_anew(task, now)
        return True

    def engine_died(self, engine: Engine, started: int | None, reason: str, now: float) -> None:
        """An engine is gone.

        Args:
            started: the highest number it had started; None: nobody knows.
        """
        board = self._board
        board.engines.vacate(engine) if engine.replacing else board.engines.remove(engine)
        anew: list[Task] = []
        for number, task in list(engine.outstanding.items()):
            engine.give_back(number)
            self.relay.body_dropped(task)
            unstarted = started is not None and number > started and task.state is TaskState.ASSIGNED
            if unstarted and task.withdrawn is not None:
                self.end(task, "error", now, error=task.withdrawn)
            elif unstarted and task.aborting:
                self.end(task, "aborted", now, error=ABORTED)
            elif unstarted and task.mode == "balanced" and not task.adopted:
                anew.append(task)
            elif not self.retry(task, now):
                state = "while it ran this task" if number == started else "before it had answered"
                text = f"engine {engine.id} died {state}: {reason}"
                self.end(task, "lost", now, error=plain_error("EngineError", text))
        for task in reversed(anew):
            self.place_anew(task, now)
        self.relay.results_lost(engine)
        for key in engine.wanted:
            engines = board.wanted_functions.get(key, set())
            engines.discard(engine)
            if not engines:
                board.wanted_functions.pop(key, None)

    # --- ends ----------------------------------------------------------------------------------------------

    def fail(self, task: Task, ename: str, text: str, now: float) -> None:
        """End a task that never ran, with a clear error."""
        self.end(task, "error", now, error=plain_error(ename, text))

    def end(
        self, task: Task, status: Status, now: float, *, error: ErrorInfo | None = None,
        result: messages.Result | None = None, origin: Engine | None = None,
    ) -> None:
        """The one end of a task: its client is told, the hub gets the record, dependents are judged."""
        board, session = self._board, task.session
        task.to(_END[status])
        board.done += 1
        outcome = outcome_of(task, status, now, error, result)
        told = dict.fromkeys((session, *task.watchers)) if task.watchers else (session,)
        for peer in told:
            board.send(peer, outcome)
        streamed = bool(outcome.sizes)
        if task.stdout or task.stderr:
            tail = limits.TRACEBACK_CHARS
            outcome = replace(outcome, stdout="".join(task.stdout)[-tail:], stderr="".join(task.stderr)[-tail:])
        board.records.add(
            messages.TaskRecord(task.owner, task.kind, task.function, task.mode, task.label, outcome,
                                session.token if session is not None else b""),
            None if origin is None or streamed else (origin, task.number),
        )
        ended = Ended(status == "ok", outcome.engine)
        board.owner(task.owner).end(task.id, ended)
        if task.function:
            board.functions.release(task.owner, task.function)
        if streamed and origin is not None:
            self.relay.result_there(task, origin, sum(outcome.sizes), told)
        if task.waits is not None:
            self._unblock(task)
        if task.queued is not None:
            self.placing.withdraw(task)
        if session is not None:
            session.discharge(task.id)
        if task.charge is not None and task.charge.left:
            task.charge.release(task.id)  # another session's
        task.body = []
        if self._blocked:
            self._ends.append((task.owner, task.id, ended))
            self._settle(now)

    def _settle(self, now: float) -> None:
        """Judge whoever waited for what has ended; a loop, for chains of any length."""
        if self._settling:
            return
        self._settling = True
        try:
            while self._ends:
                owner, task_id, ended = self._ends.popleft()
                for dependent in list(self._blocked.pop((owner, task_id), ())):
                    if dependent.waits is not None:
                        for waits in dependent.waits:
                            waits.ended(task_id, ended)
                        self._judge(dependent, now)
        finally:
            self._settling = False

    def expire(self, now: float) -> None:
        """End tasks whose dependencies took too long."""
        for task in [task for task in self._deadlines if now >= task.deadline]:
            if task.state is TaskState.ACCEPTED:
                self.fail(task, "TaskTimeout", "its dependencies were not met in time", now)

    def abort(self, task: Task, now: float) -> Any:
        """End it if it has not started; returns the engine that must be asked, if one has it."""
        if task.state in (TaskState.ACCEPTED, TaskState.SUBMITTED):
            self.end(task, "aborted", now, error=ABORTED)
            return None
        if task.state is TaskState.ASSIGNED and not task.aborting:
            task.aborting = True
            return task.engine
        return None
