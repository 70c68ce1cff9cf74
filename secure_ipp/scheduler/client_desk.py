"""What clients ask for.

Pure.  Every message was checked against the rights table before it came here.  Laws: a client reaches its own
identity's tasks only; messages of one session take effect in the order sent.
"""

from __future__ import annotations

from typing import Any

import msgspec

from secure_ipp import limits
from secure_ipp.errors import Refused
from secure_ipp.scheduler.board import Board, ClientPeer
from secure_ipp.scheduler.dispatch import Dispatch, plain_error
from secure_ipp.scheduler.recovery import Recovery, Resent
from secure_ipp.scheduler.task import Mode, Task, TaskState
from secure_ipp.wire import messages
from secure_ipp.wire.messages import Outcome

_encode = msgspec.msgpack.encode


class ClientDesk:
    """Handles `messages.FromClient`."""

    def __init__(self, board: Board, dispatch: Dispatch, recovery: Recovery) -> None:
        self._board = board
        self._dispatch = dispatch
        self._recovery = recovery
        self._parked_peers: set[ClientPeer] = set()
        self._horizons: dict[str, float] = {}

    # --- sessions --------------------------------------------------------------------------------------------

    def joined(self, peer: ClientPeer) -> None:
        self._board.owner(peer.user).peers.append(peer)
        engines = [engine.info for engine in self._board.engines]
        self._board.send(peer, messages.Roster(engines, [], whole=True))

    def left(self, peer: ClientPeer, now: float) -> None:
        """Its tasks go on; another session of the identity may ask for the results."""
        peer.present = False
        owner = self._board.owner(peer.user)
        if peer in owner.peers:
            owner.peers.remove(peer)
        peer.backlog.clear()
        self._recovery.drop_peer(peer)
        self._parked_peers.discard(peer)
        self._dispatch.relay.reader_gone(peer)
        self._bodies_lost(peer, now)

    def _bodies_lost(self, peer: ClientPeer, now: float) -> None:
        """Tasks whose body lay with a client that went away: no engine may wait for it."""
        owner = self._board.owner(peer.user)
        under_way = self._dispatch.relay.unfinished(peer.user)
        asked: dict[Any, list[int]] = {}
        for task in list(owner.live.values()):
            if task.session is not peer or not task.sizes:
                continue
            if task.state is TaskState.ACCEPTED:
                self._dispatch.fail(task, "EngineError", "its client went away before its data were sent", now)
            elif task.id in under_way and task.state is TaskState.ASSIGNED:
                task.aborting = True
                asked.setdefault(task.engine, []).append(task.number)
        self._cancel(asked)

    def drop_stalled(self, owner: str, task_id: str, now: float) -> None:
        """An engine holds a shared body up: it is dropped from it, the others go on."""
        task = self._board.owner(owner).live.get(task_id)
        if task is None or task.engine is None:
            return
        engine, number = task.engine, task.number
        engine.give_back(number)
        self._dispatch.relay.body_dropped(task)
        text = f"engine {engine.id} took no data for {limits.STALLED_STREAM_SECONDS:.0f} s and was left out"
        self._dispatch.end(task, "lost", now, error=plain_error("EngineError", text))
        self._board.send_to(engine.session, messages.Cancel([number]), None)

    def _cancel(self, asked: dict[Any, list[int]]) -> None:
        for engine, numbers in asked.items():
            self._board.send_to(engine.session, messages.Cancel(numbers), None)

    # --- tasks -------------------------------------------------------------------------------------------------

    def submit(self, peer: ClientPeer, message: Resent, now: float) -> None:
        """A Submit or a Direct, in its turn."""
        if peer.backlog or peer.waits_for is not None:
            self._queue(peer, message)
            return
        self._take(peer, message, now)

    def _queue(self, peer: ClientPeer, message: Resent) -> None:
        if len(peer.backlog) > 2 * limits.OWNER_TASKS:
            raise Refused("more unfinished tasks than a session may have", code="quota")
        peer.backlog.append(message)

    def _take(self, peer: ClientPeer, message: Resent, now: float) -> None:
        board = self._board
        if message.resend and self._resent(peer, message):
            return
        if peer in self._parked_peers:
            if self._recovery.has_parked(peer):
                self._queue(peer, message)
                return
            self._parked_peers.discard(peer)
        if board.records.full:
            self._refuse(peer, message, "HubUnavailable", "the hub has been away for too long to take new work")
            return
        if message.function and board.functions.get(peer.user, message.function) is None:
            peer.waits_for = message.function
            peer.backlog.appendleft(message)
            board.send(peer, messages.NeedFunction(message.function))
            return
        if isinstance(message, messages.Submit):
            self._balanced(peer, message, now)
        else:
            self._direct(peer, message, list(range(len(message.tasks))), now)

    def _resent(self, peer: ClientPeer, message: Resent) -> bool:
        """Whether a resent message was dealt with, or put aside until the truth is known."""
        owner = self._board.owner(peer.user)
        ids = [message.task] if isinstance(message, messages.Submit) else message.tasks
        unknown = False
        for task_id in ids:
            live = owner.live.get(task_id)
            if live is not None:
                self._attach_live(peer, live, message)
            else:
                unknown = True
        if not unknown:
            return True
        self._recovery.park(peer, message)
        self._parked_peers.add(peer)
        return True

    def _attach_live(self, peer: ClientPeer, task: Task, message: Resent) -> None:
        task.session = peer
        if task.adopted:
            described = make_task(peer, message, task.id, task.accepted_at)
            task.adopted = False
            task.body, task.sizes, task.mode = described.body, described.sizes, described.mode
            task.retries, task.targets = described.retries, described.targets
            task.label, task.submitted = described.label, described.submitted

    def _balanced(self, peer: ClientPeer, message: messages.Submit, now: float) -> None:
        owner = self._board.owner(peer.user)
        if message.task in owner.live or message.task in owner.ended:
            self._twice(peer, message.task)
            return
        task = make_task(peer, message, message.task, now)
        self._dispatch.accept(task, now)

    def _direct(self, peer: ClientPeer, message: messages.Direct, indices: list[int], now: float) -> None:
        if len(message.tasks) != len(message.engines) or len(set(message.tasks)) != len(message.tasks):
            raise Refused("a direct message whose tasks and engines do not pair", code="malformed")
        board = self._board
        owner = board.owner(peer.user)
        group = message.tasks[indices[0]] if indices else ""
        for index in indices:
            task_id, engine_id = message.tasks[index], message.engines[index]
            if task_id in owner.live or task_id in owner.ended:
                self._twice(peer, task_id)
                continue
            task = make_task(peer, message, task_id, now)
            task.group = group
            self._dispatch.accept_direct(task, board.engines.get(engine_id), engine_id, now)

    def _twice(self, peer: ClientPeer, task_id: str) -> None:
        self._board.send(peer, messages.Notice("error", f"the task id {task_id} was used twice; the second is ignored"))

    def _refuse(self, peer: ClientPeer, message: Resent, ename: str, text: str) -> None:
        ids = [message.task] if isinstance(message, messages.Submit) else message.tasks
        for task_id in ids:
            self._board.send(peer, _ended(task_id, "error", ename, text))

    def forbidden(self, peer: ClientPeer, message: Any, refusal: Refused) -> None:
        """A right is missing: the task or request ends with an error that names it."""
        if isinstance(message, messages.Submit | messages.Direct):
            self._refuse(peer, message, "Refused", str(refusal))
        elif hasattr(message, "request"):
            self._board.send(
                peer, messages.Failure(message.request, refusal.code, refusal.message[:1000], refusal.advice[:1000])
            )

    # --- functions ---------------------------------------------------------------------------------------------

    def function(self, peer: ClientPeer, message: messages.Function, now: float) -> None:
        board = self._board
        board.functions.put(peer.user, message.digest, message.code)
        for uuid in board.wanted_functions.pop((peer.user, message.digest), ()):
            engine = board.engines.by_uuid(uuid)
            if engine is not None:
                self._dispatch.ensure_function(engine, peer.user, message.digest)
        if peer.waits_for == message.digest:
            peer.waits_for = None
            self.drain(peer, now)

    def drain(self, peer: ClientPeer, now: float) -> None:
        """Take what waited, in order, until something must wait again."""
        backlog, peer.backlog = list(peer.backlog), type(peer.backlog)()
        for index, message in enumerate(backlog):
            self._take(peer, message, now)
            if peer.backlog:
                peer.backlog.extend(backlog[index + 1 :])
                return

    # --- after a restart ---------------------------------------------------------------------------------------

    def recover(self, now: float) -> None:
        """Decide what can be decided, and let what stood behind it go on."""
        for peer, message, unknown in self._recovery.decidable():
            if not peer.present:
                continue
            ended = self._board.owner(peer.user).ended
            forgotten = message.submitted <= self._horizons.get(peer.user, 0.0)
            uncertain = self._recovery.losses and message.submitted <= self._recovery.started_at
            if forgotten or uncertain or any(task_id in ended for task_id in unknown):
                for task_id in unknown:
                    self._board.send(peer, _ended(
                        task_id, "lost", "EngineError",
                        "nobody knows whether it ran: the controller was restarted and an engine was lost meanwhile, "
                        "or its record was dropped; it was not run again",
                    ))
            elif isinstance(message, messages.Submit):
                self._place_resent(peer, message, None, now)
            else:
                self._place_resent(peer, message, [message.tasks.index(task_id) for task_id in unknown], now)
        for peer in list(self._parked_peers):
            if not self._recovery.has_parked(peer):
                self._parked_peers.discard(peer)
                if peer.waits_for is None:
                    self.drain(peer, now)

    def _place_resent(self, peer: ClientPeer, message: Resent, indices: list[int] | None, now: float) -> None:
        if message.function and self._board.functions.get(peer.user, message.function) is None:
            self._refuse(peer, message, "EngineError", "its function was not sent again after a restart")
        elif isinstance(message, messages.Submit):
            self._balanced(peer, message, now)
        else:
            self._direct(peer, message, indices or [], now)

    def found(self, message: messages.Found) -> None:
        """The hub knows how these ended."""
        self._horizons[message.owner] = max(message.horizon, self._horizons.get(message.owner, 0.0))
        for outcome in message.outcomes:
            settled = self._recovery.settle(message.owner, outcome.task)
            if settled is not None:
                self._board.send(settled[0], outcome)
            for peer in self._attached.pop((message.owner, outcome.task), ()):
                self._board.send(peer, outcome)
        if message.more:
            return
        for task_id in self._recovery.answered(message.request):
            for peer in self._attached.pop((message.owner, task_id), ()):
                self._board.send(peer, _unknown(task_id))

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
            mine = [t for t in engine.outstanding.values() if everybody or t.owner == peer.user]
            ids = [task.id for task in mine]
            status["engines"][engine.id] = {
                "queue": ids if message.verbose else len(ids), "completed": engine.done, "tasks": len(ids),
            }
        waiting = [
            task.id
            for user, owner in board.owners.items() if everybody or user == peer.user
            for task in owner.live.values() if task.engine is None
        ]
        status["unassigned"] = waiting if message.verbose else len(waiting)
        board.send(peer, messages.Answer(message.request, _encode(status)))

    def abort(self, peer: ClientPeer, message: messages.Abort, now: float) -> None:
        owner = self._board.owner(peer.user)
        named = message.tasks or list(owner.live)
        tasks = [owner.live[task_id] for task_id in named if task_id in owner.live]
        if message.engines:
            wanted = set(message.engines)
            tasks = [task for task in tasks if task.engine is not None and task.engine.id in wanted]
        asked: dict[Any, list[int]] = {}
        for task in tasks:
            engine = self._dispatch.abort(task, now)
            if engine is not None:
                asked.setdefault(engine, []).append(task.number)
        self._cancel(asked)
        self._board.send(peer, messages.Answer(message.request, _encode({"asked": sum(map(len, asked.values()))})))

    def attach(self, peer: ClientPeer, message: messages.Attach) -> None:
        owner = self._board.owner(peer.user)
        ask: list[str] = []
        for task_id in message.tasks:
            task = owner.live.get(task_id)
            if task is not None:
                if task.session is None or not task.session.present:
                    task.session = peer
                elif task.session is not peer and peer not in task.watchers:
                    task.watchers.append(peer)
            else:
                self._attached.setdefault((peer.user, task_id), []).append(peer)
                ask.append(task_id)
        self._recovery.ask(peer.user, ask)

    @property
    def _attached(self) -> dict[tuple[str, str], list[ClientPeer]]:
        return self._recovery.attached


def make_task(peer: ClientPeer, message: Resent, task_id: str, now: float) -> Task:
    """A task as its client described it."""
    mode: Mode = "balanced"
    if isinstance(message, messages.Direct):
        mode = "broadcast" if message.broadcast else "direct"
    task = Task(
        peer.user, task_id, kind=message.kind, function=message.function, body=message.body, sizes=message.sizes,
        submitted=message.submitted, label=message.label, mode=mode, session=peer, accepted_at=now,
    )
    if isinstance(message, messages.Submit):
        task.retries = message.retries
        if message.targets:
            task.targets = frozenset(message.targets)
        if message.after or message.follow:
            task.after, task.follow = message.after, message.follow
            task.after_flags, task.follow_flags = message.after_flags, message.follow_flags
            task.deadline = now + message.timeout if message.timeout else 0.0
    return task


def _ended(task_id: str, status: Any, ename: str, text: str) -> Outcome:
    return Outcome(
        task=task_id, status=status, engine=-1, engine_uuid="", submitted=0.0, started=0.0, completed=0.0, body=[],
        sizes=[], error=plain_error(ename, text),
    )


def _unknown(task_id: str) -> Outcome:
    return Outcome(
        task=task_id, status="error", engine=-1, engine_uuid="", submitted=0.0, started=0.0, completed=0.0, body=[],
        sizes=[], error=plain_error("KeyError", f"no task {task_id} of this identity is known"), known=False,
    )
