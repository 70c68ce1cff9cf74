"""What engines say.

Pure.  Law (S16): a result counts only from the engine that the task was given to, for the current attempt, under the
ticket of that assignment; anything else is refused or ignored, never delivered.
"""

from __future__ import annotations

from typing import Any

from secure_ipp import limits
from secure_ipp.errors import Refused
from secure_ipp.scheduler.board import Board
from secure_ipp.scheduler.client_desk import make_task
from secure_ipp.scheduler.dispatch import Dispatch
from secure_ipp.scheduler.engines import Engine
from secure_ipp.scheduler.recovery import Recovery
from secure_ipp.scheduler.task import Task, TaskState
from secure_ipp.wire import messages


class EngineDesk:
    """Handles `messages.FromEngine`."""

    def __init__(self, board: Board, dispatch: Dispatch, recovery: Recovery) -> None:
        self._board = board
        self._dispatch = dispatch
        self._recovery = recovery
        self._owed: dict[str, set[int]] = {}  # results that an engine announced in its report and has not sent

    def report(self, session: Any, uuid: str, key: bytes, agent: str, message: messages.Report, now: float) -> Engine:
        """An engine is there, or back: it gets its place and what it holds is taken over."""
        board = self._board
        remembered = self._recovery.remembered.get(key)
        if remembered is not None and remembered.info.uuid == uuid:
            engine_id = remembered.info.id
        else:
            engine_id = board.engines.free_id(message.wanted_id)
        record = messages.EngineRecord(
            messages.EngineInfo(engine_id, uuid, message.host, message.pid), key, agent,
            message.reads_cluster_dir, message.reads_join_file,
        )
        engine = Engine(engine_id, record, session)
        engine.next_number = message.highest + 1
        for live in message.live:
            self._adopt(engine, live, now)
        board.engines.add(engine)
        board.send_to(session, messages.Registered(engine_id, uuid), None)
        board.to_hub(messages.EngineJoined(record))
        board.tell_everyone(messages.Roster([record.info], []))
        self._owed[uuid] = set(message.finished)
        if not message.finished:
            self._recovery.reported(uuid)
        return engine

    def _adopt(self, engine: Engine, live: messages.LiveTask, now: float) -> None:
        settled = self._recovery.settle(live.owner, live.task)
        if settled is not None:
            task = make_task(settled[0], settled[1], live.task, now)
        else:
            task = _unseen(live.owner, live.task, now)
        task.attempt, task.state = live.attempt, TaskState.SUBMITTED
        task.to(TaskState.STARTED if live.state == "started" else TaskState.ASSIGNED)
        self._board.owner(live.owner).live[live.task] = task
        if task.function:
            self._board.functions.hold(task.owner, task.function)
        engine.outstanding[live.number] = task
        engine.load += 1
        task.engine, task.number = engine, live.number

    # --- results ---------------------------------------------------------------------------------------------

    def result(self, engine: Engine, message: messages.Result, now: float) -> None:
        board = self._board
        board.tickets.check(
            message.ticket, message.owner, message.task, message.attempt, engine.uuid, message.number
        )
        if message.error is not None and sum(map(len, message.error.traceback)) > 4 * limits.TRACEBACK_CHARS:
            raise Refused("a traceback longer than any of ours", code="too-large")  # it could not be passed on
        task = engine.outstanding.get(message.number)
        if task is None:
            self._late(engine, message, now)
            return
        if task.owner != message.owner or task.id != message.task or task.attempt != message.attempt:
            raise Refused("a result for another task than the assignment's", code="ticket")
        engine.give_back(message.number)
        engine.slow = False
        engine.observe(max(0.0, message.completed - message.started))
        self._dispatch.relay.body_dropped(task)
        board.engines.offer(engine)
        if engine.load == 0:
            self._dispatch.recall_later()
        if message.status == "error" and task.mode == "balanced" and self._again(engine, task, message, now):
            board.send_to(engine.session, messages.Kept([message.number]), None)
            return
        self._dispatch.end(task, message.status, now, result=message, origin=engine)

    def _again(self, engine: Engine, task: Task, message: messages.Result, now: float) -> bool:
        """Whether a failed task gets another try."""
        if message.error is not None and message.error.ename == "UnmetDependency":
            task.excluded.add(engine.id)
            if any(other.id not in task.excluded and (not task.targets or other.id in task.targets)
                   for other in self._board.engines):
                task.attempt += 1
                self._dispatch.place_anew(task)
                return True
            return False
        return self._dispatch.retry(task)

    def _late(self, engine: Engine, message: messages.Result, now: float) -> None:
        """A result of before a restart, or one that was sent twice."""
        owner = self._board.owner(message.owner)
        if message.task in owner.live or message.task in owner.ended:
            if (message.owner, message.task) != engine.results.get(message.number):
                self._board.send_to(engine.session, messages.Kept([message.number]), None)
        else:
            settled = self._recovery.settle(message.owner, message.task)
            task = make_task(*settled, message.task, now) if settled else _unseen(message.owner, message.task, now)
            task.attempt, task.state = message.attempt, TaskState.SUBMITTED
            task.engine, task.number = engine, message.number
            task.to(TaskState.ASSIGNED)
            if task.function:
                self._board.functions.hold(task.owner, task.function)
            owner.live[task.id] = task
            self._dispatch.end(task, message.status, now, result=message, origin=engine)
        owed = self._owed.get(engine.uuid)
        if owed is not None:
            owed.discard(message.number)
            if not owed:
                del self._owed[engine.uuid]
                self._recovery.reported(engine.uuid)

    # --- on the way ------------------------------------------------------------------------------------------

    def started(self, engine: Engine, message: messages.Started) -> None:
        task = engine.outstanding.get(message.number)
        if task is not None and task.state is TaskState.ASSIGNED:
            task.to(TaskState.STARTED)
            task.started_at = message.at
            engine.slow = True
            if engine.load > 1:
                self._dispatch.recall_later()

    def cancelled(self, engine: Engine, message: messages.Cancelled, now: float) -> None:
        for number in message.numbers:
            self._dispatch.given_back(engine, number, now)

    def output(self, engine: Engine, message: messages.EngineOutput) -> None:
        task = engine.outstanding.get(message.number)
        if task is None:
            return
        kept = task.stdout if message.name == "stdout" else task.stderr
        if sum(map(len, kept)) < limits.TRACEBACK_CHARS:
            kept.append(message.text)
        said = messages.Output(task.id, engine.id, message.name, message.text)
        for peer in (task.session, *task.watchers):
            self._board.send(peer, said)

    def display(self, engine: Engine, message: messages.EngineDisplay) -> None:
        task = engine.outstanding.get(message.number)
        if task is not None:
            shown = messages.Display(task.id, engine.id, message.kind, message.content)
            for peer in (task.session, *task.watchers):
                self._board.send(peer, shown)

    def needs_function(self, engine: Engine, message: messages.EngineNeedsFunction) -> None:
        """Its cache dropped one; only what a task on this engine names is given out."""
        if not any(t.owner == message.owner and (t.adopted or t.function == message.digest)
                   for t in engine.outstanding.values()):
            raise Refused("an engine asked for a function that none of its tasks names", code="function")
        engine.functions.discard((message.owner, message.digest))
        self._dispatch.ensure_function(engine, message.owner, message.digest)


def _unseen(owner: str, task_id: str, now: float) -> Task:
    """A task that an engine holds and whose client has not come back yet."""
    task = Task(
        owner, task_id, kind="apply", function=b"", body=[], sizes=[], submitted=now, label="", mode="direct",
        session=None, accepted_at=now,
    )
    task.adopted = True
    return task
