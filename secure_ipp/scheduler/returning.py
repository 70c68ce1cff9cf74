"""What comes back after a session or a scheduler was lost: resent requests, questions for ends, tasks on engines.

Pure.  Law: what may have started is never placed again; of what nobody knows, its client is told so, once.
"""

from __future__ import annotations

from msgspec.structs import replace

from secure_ipp import limits
from secure_ipp.scheduler.board import Board, ClientPeer
from secure_ipp.scheduler.dispatch import Dispatch
from secure_ipp.scheduler.outcomes import unknown, without_engine
from secure_ipp.scheduler.recovery import Recovery
from secure_ipp.scheduler.submission import Request, make_task, tasks_of, unseen_task
from secure_ipp.scheduler.task import Task, TaskState
from secure_ipp.wire import messages
from secure_ipp.wire.messages import Outcome

_NOBODY_KNOWS = (
    "nobody knows whether it ran: the controller was restarted and an engine was lost meanwhile, or its record was "
    "dropped; it was not run again"
)


class Returning:
    """Decides about what was resent, with `Recovery`, which keeps it meanwhile."""

    def __init__(self, board: Board, dispatch: Dispatch, recovery: Recovery) -> None:
        self._board = board
        self._dispatch = dispatch
        self._recovery = recovery
        self._horizons: dict[str, float] = {}  # by owner: what was submitted before may be forgotten

    def forget_owner(self, owner: str) -> None:
        self._horizons.pop(owner, None)

    # --- clients -----------------------------------------------------------------------------------------------

    def resent(self, peer: ClientPeer, message: Request) -> None:
        """Those of its tasks that live go on for this session; what became of the others is found out."""
        live = self._board.owner(peer.user).live
        unseen = []
        for task_id in tasks_of(message):
            task = live.get(task_id)
            if task is None:
                unseen.append(task_id)
            else:
                self._go_on(peer, task, message)
        if unseen:
            self._recovery.park(peer, message, unseen)

    def _go_on(self, peer: ClientPeer, task: Task, message: Request) -> None:
        task.session = peer
        if task.charge is not None:
            task.charge.release(task.id)
        described = make_task(peer, message, task.id, task.accepted_at)
        task.charge = described.charge
        if task.adopted:
            task.adopted = False
            for name in ("body", "function", "kind", "label", "mode", "retries", "sizes", "submitted", "targets"):
                setattr(task, name, getattr(described, name))
            task.places = task.targets or None
            if task.function:
                self._board.functions.hold(task.owner, task.function)

    def attach(self, peer: ClientPeer, tasks: list[str]) -> None:
        """This session wants to know how these end, or ended."""
        live = self._board.owner(peer.user).live
        self._recovery.ask(peer, [task_id for task_id in tasks if not self._watch(peer, live.get(task_id))])

    def _watch(self, peer: ClientPeer, task: Task | None) -> bool:
        if task is None:
            return False
        if task.session is None or not task.session.present:
            task.session = peer
        elif task.session is not peer and peer not in task.watchers:
            task.watchers = [*(watcher for watcher in task.watchers if watcher.present), peer]
        return True

    # --- engines -----------------------------------------------------------------------------------------------

    def known_by_engine(self, owner: str, task_id: str, now: float) -> Task | None:
        """A task that an engine reports: as its client resent it, or bare; None if it is known otherwise."""
        here = self._board.owner(owner)
        if task_id in here.live or task_id in here.ended:
            return None
        settled = self._recovery.settle(owner, task_id)
        task = unseen_task(owner, task_id, now) if settled is None else make_task(*settled, task_id, now)
        task.state = TaskState.SUBMITTED  # who knows how far it is, says so next
        task.places = task.targets or None
        for peer in self._recovery.asked(owner, task_id):
            self._watch(peer, task)
        return task

    # --- the hub -----------------------------------------------------------------------------------------------

    def found(self, message: messages.Found) -> None:
        """The hub knows how these ended."""
        owner = message.owner
        self._horizons[owner] = max(message.horizon, self._horizons.get(owner, 0.0))
        for outcome in message.outcomes:
            place = (owner, outcome.task)
            if not self._recovery.wanted(place):
                continue
            if outcome.sizes and self._recovery.recovering and not self._dispatch.relay.has_result(*place):
                self._recovery.held[place] = outcome  # its engine may still come and have the result
            else:
                self._tell_all(owner, outcome)
        if not message.more:
            self._recovery.answered(message.request)

    def _tell_all(self, owner: str, outcome: Outcome) -> None:
        settled = self._recovery.settle(owner, outcome.task)
        peers = self._recovery.asked(owner, outcome.task)
        for peer in dict.fromkeys(peers if settled is None else [settled[0], *peers]):
            self.tell(peer, outcome)

    def tell(self, peer: ClientPeer, outcome: Outcome) -> None:
        """The end of a task that does not live here."""
        peer.discharge(outcome.task)
        if outcome.sizes:
            self._dispatch.relay.told(peer, outcome.task)
        self._board.send(peer, outcome)

    # --- decisions ---------------------------------------------------------------------------------------------

    def decide(self) -> None:
        """Tell the ends that are known, or that nobody knows; what may be placed goes to its session's `decided`."""
        for owner, task_id in self._recovery.unfound():
            held = self._recovery.held.get((owner, task_id))
            task = self._board.owner(owner).live.get(task_id)
            for peer in self._recovery.asked(owner, task_id):
                if not self._watch(peer, task):
                    self.tell(peer, held or unknown(task_id))
        for peer, message, tasks in self._recovery.decidable():
            place = [task_id for task_id in tasks if peer.present and not self._ended(peer, message, task_id)]
            if place:
                peer.decided.append(_fresh(message, place, used_up=self._uncertain(message)))

    def _uncertain(self, message: Request) -> bool:
        """Whether an engine that was lost unseen may have started it."""
        recovery = self._recovery
        before = message.submitted <= recovery.started_at + limits.CLOCK_SKEW_SECONDS
        return recovery.losses and (before or message.resend == 2)

    def _ended(self, peer: ClientPeer, message: Request, task_id: str) -> bool:
        """Whether this resent task needs no placing; then its client is told what is to be told."""
        owner = self._board.owner(peer.user)
        held = self._recovery.held.pop((peer.user, task_id), None)
        if held is not None:
            self.tell(peer, held)
        elif task_id in owner.live:
            self._go_on(peer, owner.live[task_id], message)
        elif task_id in peer.unwanted:
            self.tell(peer, without_engine(task_id, "aborted", "TaskAborted", "it was aborted before it started"))
        elif (
            task_id in owner.ended
            or message.submitted <= self._horizons.get(peer.user, 0.0)
            or (self._uncertain(message) and not (isinstance(message, messages.Submit) and message.retries))
        ):
            self.tell(peer, without_engine(task_id, "lost", "EngineError", _NOBODY_KNOWS))
        else:
            return False
        peer.unwanted.discard(task_id)
        return True


def _fresh(message: Request, tasks: list[str], *, used_up: bool) -> Request:
    """The same request, as if it came for the first time, with these tasks of it."""
    if isinstance(message, messages.Submit):
        return replace(message, resend=0, retries=message.retries - 1 if used_up else message.retries)
    wanted = set(tasks)
    pairs = [(t, e) for t, e in zip(message.tasks, message.engines, strict=True) if t in wanted]
    return replace(message, resend=0, tasks=[t for t, _ in pairs], engines=[e for _, e in pairs])
