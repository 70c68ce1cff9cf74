"""What engines say.

Pure.  Law (S16): what an engine says of a task counts only for an assignment that it was given, under the ticket of
that assignment and for the current attempt; anything else is refused or ignored, never delivered.
"""

from __future__ import annotations

from typing import Any

from secure_ipp import limits
from secure_ipp.errors import Refused
from secure_ipp.scheduler.agent_desk import SessionKey
from secure_ipp.scheduler.board import Board
from secure_ipp.scheduler.dispatch import Dispatch
from secure_ipp.scheduler.engines import Engine
from secure_ipp.scheduler.handover import Handover
from secure_ipp.scheduler.quota import body_bytes
from secure_ipp.scheduler.recovery import Recovery
from secure_ipp.scheduler.returning import Returning
from secure_ipp.scheduler.task import Task, TaskState
from secure_ipp.scheduler.tenancy import NOBODY, SHARED, UNKNOWN, Tenancy
from secure_ipp.scheduler.tickets import check_same
from secure_ipp.wire import messages

_OUTPUT_CHARS = limits.OUTPUT_BYTES_PER_TASK + limits.OUTPUT_EVENT_BYTES  # and the words that say that it was cut


class EngineDesk:
    """Handles `messages.FromEngine`."""

    def __init__(
        self, board: Board, dispatch: Dispatch, recovery: Recovery, returning: Returning, handover: Handover,
        tenancy: Tenancy,
    ) -> None:
        self._board = board
        self._dispatch = dispatch
        self._handover = handover
        self._tenancy = tenancy
        self._recovery = recovery
        self._returning = returning

    # --- reports ---------------------------------------------------------------------------------------------

    def report(self, session: Any, known: SessionKey, message: messages.Report, now: float) -> Engine:
        """An engine is there, or back: it gets its place and what it holds is taken over.

        Raises:
            Refused: it says that it holds what it was never given.
        """
        uuid, place = known.uuid, known.place
        self._check_report(uuid, message)
        board = self._board
        remembered = self._recovery.by_uuid(uuid)
        if place is not None and (place.alive or board.engines.get(place.id) is not place):
            place = None  # given up meanwhile
        if place is not None:
            board.engines.remove(place)
            engine_id = place.id
        elif remembered is not None and board.engines.get(remembered.info.id) is None:
            engine_id = remembered.info.id
        else:
            engine_id = board.engines.free_id(message.wanted_id)
        record = messages.EngineRecord(
            messages.EngineInfo(engine_id, uuid, message.host[: limits.HOST_CHARS], message.pid), known.key, known.user,
            message.reads_cluster_dir, message.reads_join_file, self._tenant(remembered, now),
        )
        engine = Engine(engine_id, record, session)
        if self._tenancy.apart:
            engine.tenant, engine.held_since = record.tenant, now
            engine.visitors = {live.owner for live in message.live} | ({record.tenant} - {NOBODY})
        engine.next_number = message.highest + 1
        unwanted = [live.number for live in message.live if not self._adopt(engine, live, now)]
        engine.owed = set(message.finished)
        board.engines.add(engine)
        board.send_to(session, messages.Registered(engine_id, uuid), None)
        if unwanted:
            board.send_to(session, messages.Cancel(unwanted), None)
        board.to_hub(messages.EngineJoined(record))
        if place is not None and place.heir != NOBODY:
            self._dispatch.placing.occupy(engine, place.heir, now)  # before somebody else is quicker
        board.tell_everyone(messages.Roster([record.info], []))
        if not engine.owed:
            self._recovery.reported(uuid)
        if engine.load == 0:
            self._dispatch.placing.recall_later()
        return engine

    def _tenant(self, remembered: messages.EngineRecord | None, now: float) -> str:
        """Whose work it has held, by the hub's word alone: who has run code there may have taught it to lie."""
        if remembered is None:
            return NOBODY  # its key was never good for anything before
        tenant = remembered.tenant
        if tenant not in (NOBODY, SHARED) and not self._tenancy.apart:
            self._handover.separate(now)
        return tenant if tenant != NOBODY or not self._tenancy.apart else UNKNOWN

    def _check_report(self, uuid: str, message: messages.Report) -> None:
        numbers = [live.number for live in message.live]
        if message.highest >= 2**53 or numbers != sorted(set(numbers)) or max(numbers, default=0) > message.highest:
            raise Refused("a report that contradicts itself", code="malformed")
        for live in message.live:
            self._board.tickets.check(live.ticket, live.owner, live.task, live.attempt, uuid, live.number)

    def _adopt(self, engine: Engine, live: messages.LiveTask, now: float) -> bool:
        """Whether the task is this engine's from now on."""
        task = self._returning.known_by_engine(live.owner, live.task, now)
        if task is None:
            return False
        task.attempt = live.attempt
        task.to(TaskState.STARTED if live.state == "started" else TaskState.ASSIGNED)
        self._dispatch.adopt(task, engine, live.number, live.ticket)
        return True

    # --- results ---------------------------------------------------------------------------------------------

    def result(self, engine: Engine, message: messages.Result, now: float) -> None:
        """How an assignment ended; raises `Refused` if it was none of this engine's."""
        number = message.number
        task = engine.outstanding.get(number)
        if task is None:
            self._board.tickets.check(
                message.ticket, message.owner, message.task, message.attempt, engine.uuid, number
            )
        else:
            check_same(message.ticket, task.ticket)
        body_bytes(message.body, message.sizes)
        if message.error is not None and sum(map(len, message.error.traceback)) > 4 * limits.TRACEBACK_CHARS:
            raise Refused("a traceback longer than any of ours", code="too-large")  # it could not be passed on
        if task is None:
            self._late(engine, message, now)
            return
        if task.owner != message.owner or task.id != message.task or task.attempt != message.attempt:
            raise Refused("a result for another task than the assignment's", code="ticket")
        engine.slow = False
        engine.observe(message.owner, message.completed - message.started)
        self._dispatch.take_back(engine, number)
        if task.aborting and task.withdrawn is not None and self._board.owner(task.owner).dismissed is not None:
            self._board.send_to(engine.session, messages.Kept([number]), None)
            self._dispatch.end(task, "error", now, error=task.withdrawn)
            return
        if message.status == "error" and self._again(engine, task, message, now):
            self._board.send_to(engine.session, messages.Kept([number]), None)
            return
        self._dispatch.end(task, message.status, now, result=message, origin=engine)

    def _again(self, engine: Engine, task: Task, message: messages.Result, now: float) -> bool:
        """Whether a failed task gets another try."""
        if task.mode != "balanced" or task.adopted or task.aborting:
            return False
        if message.error is not None and message.error.ename == "UnmetDependency":
            excluded = task.excluded | {engine.id}
            if not self._board.engines.allowed((task.places, excluded)):
                return False
            task.excluded = excluded
            task.attempt += 1
            self._dispatch.place_anew(task, now)
            return True
        return self._dispatch.retry(task, now)

    def _late(self, engine: Engine, message: messages.Result, now: float) -> None:
        """A result of before a restart; or one that nobody wants any more, such as of a task that was taken away."""
        announced = message.number in engine.owed
        engine.owed.discard(message.number)
        task = self._returning.known_by_engine(message.owner, message.task, now) if announced else None
        if task is not None:
            task.attempt = message.attempt
            self._dispatch.enter_ended(task, engine, message.number)
            self._dispatch.end(task, message.status, now, result=message, origin=engine)
        elif (message.owner, message.task) != engine.results.get(message.number):
            self._board.send_to(engine.session, messages.Kept([message.number]), None)
        if announced and not engine.owed:
            self._recovery.reported(engine.uuid)

    # --- on the way ------------------------------------------------------------------------------------------

    def started(self, engine: Engine, message: messages.Started) -> None:
        task = engine.outstanding.get(message.number)
        if task is not None and task.state is TaskState.ASSIGNED:
            task.to(TaskState.STARTED)
            engine.slow = True
            if engine.load > 1:
                self._dispatch.placing.recall_later()

    def cancelled(self, engine: Engine, message: messages.Cancelled, now: float) -> None:
        """Assignments that it was asked to give back, and has not started.

        Raises:
            Refused: it was not asked, or said before that it had started one.
        """
        for number in message.numbers:
            task = engine.outstanding.get(number)
            if task is not None and (task.state is TaskState.STARTED or not (task.aborting or task.recalling)):
                raise Refused("an engine gave back what it was not asked for", code="cancelled")
        for number in reversed(message.numbers):  # each goes before what waits: the first of them in the end
            self._dispatch.given_back(engine, number, now)

    def output(self, engine: Engine, message: messages.EngineOutput) -> None:
        task = engine.outstanding.get(message.number)
        if task is None:
            return
        if task.printed < limits.TRACEBACK_CHARS:
            (task.stdout if message.name == "stdout" else task.stderr).append(message.text)
        task.printed += len(message.text)
        self._count(task, len(message.text), 0)
        self._show(task, messages.Output(task.id, engine.id, message.name, message.text))

    def display(self, engine: Engine, message: messages.EngineDisplay) -> None:
        task = engine.outstanding.get(message.number)
        if task is not None:
            self._count(task, 0, len(message.content))
            self._show(task, messages.Display(task.id, engine.id, message.kind, message.content))

    def _count(self, task: Task, written: int, shown: int) -> None:
        """Our engines cut a task's output; one that does not is none of ours (S18)."""
        task.written += written
        task.shown += shown
        if task.written > _OUTPUT_CHARS or task.shown > limits.DISPLAY_BYTES_PER_TASK:
            raise Refused("more output of a task than an engine may pass on", code="quota")

    def _show(self, task: Task, shown: messages.Message) -> None:
        for peer in (task.session, *task.watchers):
            self._board.send(peer, shown)

    def needs_function(self, engine: Engine, message: messages.EngineNeedsFunction) -> None:
        """Its cache dropped one; only what a task on this engine names is given out."""
        if not any(t.owner == message.owner and (t.adopted or t.function == message.digest)
                   for t in engine.outstanding.values()):
            raise Refused("an engine asked for a function that none of its tasks names", code="function")
        if len(engine.wanted) > len(engine.outstanding):
            raise Refused("an engine asked for more functions than it has tasks", code="function")
        engine.functions.pop((message.owner, message.digest), None)
        self._dispatch.ensure_function(engine, message.owner, message.digest)
