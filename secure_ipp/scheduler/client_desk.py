"""What clients ask for.

Pure.  Every message was checked against the rights table before it came here.  Laws: a client reaches its own
identity's tasks only; messages of one session take effect in the order sent.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from secure_ipp import limits
from secure_ipp.errors import Refused
from secure_ipp.scheduler.board import Board, ClientPeer, Owner
from secure_ipp.scheduler.dispatch import Dispatch
from secure_ipp.scheduler.outcomes import plain_error, without_engine
from secure_ipp.scheduler.recovery import Recovery
from secure_ipp.scheduler.returning import Returning
from secure_ipp.scheduler.submission import Request, charge, make_task, tasks_of
from secure_ipp.scheduler.task import Task, TaskState
from secure_ipp.wire import messages

_encode = msgspec.msgpack.encode
_BODY_GONE = plain_error("EngineError", "its client went away before its data were sent")


class ClientDesk:
    """Handles `messages.FromClient`."""

    def __init__(self, board: Board, dispatch: Dispatch, recovery: Recovery, returning: Returning) -> None:
        self._board = board
        self._dispatch = dispatch
        self._recovery = recovery
        self._returning = returning
        self._held_up: set[ClientPeer] = set()  # whose backlog waits for what was resent, or for an engine to return

    # --- sessions --------------------------------------------------------------------------------------------

    def joined(self, peer: ClientPeer) -> None:
        board = self._board
        board.owner(peer.user).peers.append(peer)
        self.allowance(peer)
        board.send(peer, messages.Roster([engine.info for engine in board.engines], [], whole=True))
        for owner, digest in board.wanted_functions:
            if owner == peer.user:
                board.send(peer, messages.NeedFunction(digest))

    def allowance(self, peer: ClientPeer) -> None:
        """Tell it how much to keep here, if that is less than it would, or not what it was told before."""
        told = self._board.account(peer.user).allowance
        if told != peer.allowance:
            peer.allowance = told
            self._board.send(peer, messages.Allowance(*told))

    def left(self, peer: ClientPeer, now: float) -> None:
        """Its tasks go on; another session of the identity may ask for the results."""
        peer.present = False
        owner = self._board.owner(peer.user)
        if peer in owner.peers:
            owner.peers.remove(peer)
        self._held_up.discard(peer)
        self._recovery.drop_peer(peer)
        self._dispatch.relay.reader_gone(peer)
        self._bodies_lost(peer, now)
        peer.backlog.clear()
        peer.decided.clear()
        for task_id, made in list(peer.charges.items()):
            if task_id not in owner.live or owner.live[task_id].charge is not made:
                peer.discharge(task_id)
        if not owner.peers:
            self._board.functions.forget(peer.user)

    def _bodies_lost(self, peer: ClientPeer, now: float) -> None:
        """Tasks whose body lay with a client that went away: no engine may wait for it."""
        owner = self._board.owner(peer.user)
        under_way = self._dispatch.relay.unfinished(peer.user)
        asked: dict[Any, list[int]] = {}
        for task in list(owner.live.values()):
            if task.session is not peer or not task.sizes:
                continue
            if task.state is TaskState.ACCEPTED:
                self._dispatch.end(task, "error", now, error=_BODY_GONE)
            elif task.id in under_way and task.state is TaskState.ASSIGNED:
                task.aborting, task.withdrawn = True, _BODY_GONE
                asked.setdefault(task.engine, []).append(task.number)
        self._cancel(asked)

    def drop_stalled(self, owner: str, task_id: str, now: float) -> None:
        """An engine holds a shared body up: it is dropped from it, the others go on."""
        task = self._board.owner(owner).live.get(task_id)
        if task is None or task.engine is None:
            return
        engine, number = task.engine, task.number
        self._dispatch.take_back(engine, number)
        text = f"engine {engine.id} took no data for {limits.STALLED_STREAM_SECONDS:.0f} s and was left out"
        self._dispatch.end(task, "lost", now, error=plain_error("EngineError", text))
        self._cancel({engine: [number]})

    def _cancel(self, asked: dict[Any, list[int]]) -> None:
        for engine, numbers in asked.items():
            for start in range(0, len(numbers), limits.TASKS_NAMED):
                part = numbers[start : start + limits.TASKS_NAMED]
                self._board.send_to(engine.session, messages.Cancel(part), None)

    # --- tasks -------------------------------------------------------------------------------------------------

    def submit(self, peer: ClientPeer, message: Request, now: float) -> None:
        """A Submit or a Direct, in its turn; raises `Refused` if no honest client says it."""
        owner = self._board.owner(peer.user)
        charge(peer, owner, message)
        if peer.backlog or peer.waits_for is not None:
            peer.backlog.append(message)
        else:
            self._take(peer, owner, message, now)

    def _take(self, peer: ClientPeer, owner: Owner, message: Request, now: float) -> None:
        """Act on it, or put it first in the backlog."""
        board = self._board
        if owner.dismissed is not None:
            self._refuse(peer, message, owner.dismissed.ename, owner.dismissed.evalue)
        elif message.resend:
            self._returning.resent(peer, message)
            if self._recovery.has_parked(peer):
                self._held_up.add(peer)
        elif (
            self._recovery.has_parked(peer) or peer.decided
            or (self._recovery.expected and self._engine_may_return(message))
        ):
            self._held_up.add(peer)
            peer.backlog.appendleft(message)
        elif board.records.full:
            self._refuse(peer, message, "HubUnavailable", "the hub has been away for too long to take new work")
        elif excess := owner.account.excess():
            self._refuse(peer, message, "QuotaExceeded", excess)
        elif message.function and board.functions.get(peer.user, message.function) is None:
            peer.waits_for = message.function
            peer.backlog.appendleft(message)
            board.send(peer, messages.NeedFunction(message.function))
        elif isinstance(message, messages.Submit):
            if message.task in owner.live or message.task in owner.ended:
                self._said_before(peer, message.task)
            else:
                self._dispatch.accept(make_task(peer, message, message.task, now), now)
        else:
            self._direct(peer, message, now)

    def _engine_may_return(self, message: Request) -> bool:
        """Whether it names an engine of before a restart that has not reported yet."""
        named = message.targets if isinstance(message, messages.Submit) else message.engines
        return any(self._board.engines.expected(engine_id) for engine_id in named)

    def _direct(self, peer: ClientPeer, message: messages.Direct, now: float) -> None:
        engines = self._board.engines
        group = ""
        for task_id, engine_id in zip(message.tasks, message.engines, strict=True):
            if self._said_before(peer, task_id):
                continue
            task = make_task(peer, message, task_id, now)
            engine = engines.get(engine_id)
            if engine is not None:  # the body's stream has the name of the first task that needs it
                group = task.group = group or task_id
            self._dispatch.accept_direct(task, engine, engine_id, now)

    def _said_before(self, peer: ClientPeer, task_id: str) -> bool:
        """Whether there is or was such a task, of which its client is told."""
        owner = self._board.owner(peer.user)
        live = owner.live.get(task_id)
        if live is None and task_id not in owner.ended:
            return False
        if live is None or live.charge is not peer.charges.get(task_id):
            peer.discharge(task_id)
        self._board.send(peer, messages.Notice("error", f"the task id {task_id} was used twice; the second is ignored"))
        return True

    def _refuse(self, peer: ClientPeer, message: Request, ename: str, text: str) -> None:
        for task_id in tasks_of(message):
            self._returning.tell(peer, without_engine(task_id, "error", ename, text))

    def forbidden(self, peer: ClientPeer, message: Any, refusal: Refused) -> None:
        """A right is missing: the task or request ends with an error that names it."""
        if isinstance(message, messages.Submit | messages.Direct):
            for task_id in tasks_of(message):
                self._board.send(peer, without_engine(task_id, "error", "Refused", str(refusal)))
        elif hasattr(message, "request"):
            self._board.send(
                peer, messages.Failure(message.request, refusal.code, refusal.message[:1000], refusal.advice[:1000])
            )

    # --- functions ---------------------------------------------------------------------------------------------

    def function(self, peer: ClientPeer, message: messages.Function, now: float) -> None:
        """A function, asked for or not; raises `Refused` if its digest is not its own."""
        board = self._board
        waited_for = peer.waits_for == message.digest
        try:
            board.functions.put(peer.user, message.digest, message.code)
        except Refused as refusal:
            if refusal.code != "quota":
                raise
            if waited_for:
                self._refuse(peer, peer.backlog.popleft(), "QuotaExceeded", str(refusal))
        for engine in board.wanted_functions.pop((peer.user, message.digest), ()):
            if engine.alive:
                self._dispatch.ensure_function(engine, peer.user, message.digest)
        if waited_for:
            peer.waits_for = None
            self.drain(peer, now)

    def drain(self, peer: ClientPeer, now: float) -> None:
        """Take what waited, in order, until something must wait again."""
        owner = self._board.owner(peer.user)
        while peer.backlog and peer.waits_for is None:
            before = len(peer.backlog)
            self._take(peer, owner, peer.backlog.popleft(), now)
            if len(peer.backlog) == before:
                return

    def recover(self, now: float) -> None:
        """Decide what can be decided, and let what stood behind it go on."""
        self._returning.decide()
        for peer in list(self._held_up):
            if self._recovery.has_parked(peer):
                continue
            self._held_up.discard(peer)
            peer.backlog.extendleft(reversed(peer.decided))
            peer.decided.clear()
            self.drain(peer, now)

    # --- other requests ----------------------------------------------------------------------------------------

    def queue_status(self, peer: ClientPeer, message: messages.QueueStatus) -> None:
        """Counts (or ids, if verbose) of the asker's tasks; of everybody's with the right `observe`."""
        board = self._board
        everybody = "observe" in peer.rights
        wanted = set(message.engines)
        status: dict[str, Any] = {"engines": {}}
        for engine in board.engines:
            if wanted and engine.id not in wanted:
                continue
            ids = [t.id for t in engine.outstanding.values() if everybody or t.owner == peer.user]
            done = sum(engine.done.values()) if everybody else engine.done.get(peer.user, 0)
            status["engines"][engine.id] = {
                "queue": ids if message.verbose else len(ids), "completed": done, "tasks": len(ids),
            }
        waiting = [
            task.id
            for user, owner in board.owners.items() if everybody or user == peer.user
            for task in owner.live.values() if task.engine is None
        ]
        status["unassigned"] = waiting if message.verbose else len(waiting)
        encoded = _encode(status)
        if len(encoded) > limits.FRAME_BYTES:
            failure = messages.Failure(
                message.request, "too-large", "the answer is too large", "ask without verbose, or about fewer engines"
            )
            board.send(peer, failure)
        else:
            board.send(peer, messages.Answer(message.request, encoded))

    def abort(self, peer: ClientPeer, message: messages.Abort, now: float) -> None:
        owner = self._board.owner(peer.user)
        self._abort_untaken(peer, message)
        named = message.tasks or list(owner.live)
        tasks = [owner.live[task_id] for task_id in named if task_id in owner.live]
        if message.engines:
            wanted = set(message.engines)
            tasks = [task for task in tasks if _is_at(task, wanted)]
        asked: dict[Any, list[int]] = {}
        for task in tasks:
            engine = self._dispatch.abort(task, now)
            if engine is not None:
                asked.setdefault(engine, []).append(task.number)
        self._cancel(asked)
        if peer.waits_for is not None and (not peer.backlog or peer.backlog[0].function != peer.waits_for):
            peer.waits_for = None  # what named that function is gone
            self.drain(peer, now)
        self._board.send(peer, messages.Answer(message.request, _encode({"asked": sum(map(len, asked.values()))})))

    def _abort_untaken(self, peer: ClientPeer, message: messages.Abort) -> None:
        """Those that wait behind something else have no task here yet."""
        named, engines = set(message.tasks), set(message.engines)
        if self._recovery.has_parked(peer) and not engines:
            peer.unwanted.update(t for t in self._recovery.parked(peer) if not named or t in named)
        for waiting in (peer.decided, peer.backlog):
            left = []
            for request in waiting:
                pairs = (
                    [(request.task, -1)] if isinstance(request, messages.Submit)
                    else list(zip(request.tasks, request.engines, strict=True))
                )
                gone = {t for t, e in pairs if (not named or t in named) and (not engines or e in engines)}
                for task_id in gone:
                    aborted = without_engine(task_id, "aborted", "TaskAborted", "it was aborted before it started")
                    self._returning.tell(peer, aborted)
                stay = [(t, e) for t, e in pairs if t not in gone]
                if stay and gone:
                    request = replace(request, tasks=[t for t, _ in stay], engines=[e for _, e in stay])
                if stay:
                    left.append(request)
            waiting.clear()
            waiting.extend(left)

    def attach(self, peer: ClientPeer, message: messages.Attach) -> None:
        if peer.asked + len(message.tasks) > limits.IDENTITY_TASKS:
            raise Refused("more ends were asked for than there can be tasks", code="quota")
        self._returning.attach(peer, list(dict.fromkeys(message.tasks)))


def _is_at(task: Task, engines: set[int]) -> bool:
    """Whether one of these engines has it, or is the one that it waits for."""
    if task.engine is not None:
        return task.engine.id in engines
    return task.mode != "balanced" and task.places is not None and task.places <= engines
