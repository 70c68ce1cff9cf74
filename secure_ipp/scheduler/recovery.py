"""After a restart: which resent tasks ran, run, or may be placed.

Pure.  A client resends what it has not seen the end of.  Nothing resent is placed until every engine on the hub's
roster has reported what it holds or is declared dead, and the hub has said which of the tasks have ended.  Law: a
task that may have started is never placed again; if nobody can tell, it ends in one clear error.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from secure_ipp import limits
from secure_ipp.scheduler.board import Board, ClientPeer
from secure_ipp.wire import messages

Resent = messages.Submit | messages.Direct


@dataclass(slots=True)
class _Parked:
    peer: ClientPeer
    message: Resent
    waiting_for: set[str]  # its tasks that the hub has not answered for


class Recovery:
    """Parks what was resent until it is known what became of it.

    Attributes:
        expected: uuids of engines that the hub remembers and that have not reported.
        losses: an engine was declared dead while nobody was there to see what it had started.
    """

    def __init__(self, board: Board, started_at: float) -> None:
        self._board = board
        self.started_at = started_at  # what was submitted before may have met an earlier scheduler
        self._parked: OrderedDict[tuple[str, str], _Parked] = OrderedDict()  # (owner, task), in the order sent
        self._lookups: dict[int, tuple[str, list[str]]] = {}
        self._fresh: dict[str, list[str]] = {}
        self._number = 0
        self._until: float | None = None
        self.attached: dict[tuple[str, str], list[ClientPeer]] = {}  # who asked for the end of a task not live here
        self.remembered: dict[bytes, messages.EngineRecord] = {}  # by key: engines of before the restart
        self.expected: set[str] = set()
        self.losses = False
        self._hub_spoke = False

    @property
    def recovering(self) -> bool:
        """Engines that may hold tasks have not reported."""
        return bool(self.expected) or not self._hub_spoke

    def roster(self, engines: list[messages.EngineRecord], now: float) -> None:
        """The hub says who was there before this scheduler started."""
        if self._hub_spoke:
            return
        self._hub_spoke = True
        for engine in engines:
            self._board.engines.reserve_id(engine.info.id)
            self.remembered[engine.key] = engine
            if self._board.engines.by_uuid(engine.info.uuid) is None:
                self.expected.add(engine.info.uuid)
        self._until = now + limits.RECOVERY_SECONDS

    def reported(self, uuid: str) -> None:
        self.expected.discard(uuid)

    def declared_dead(self, uuid: str) -> None:
        if uuid in self.expected:
            self.expected.discard(uuid)
            self.losses = True

    def overdue(self, now: float) -> set[str]:
        """Engines that had their time to report."""
        if self._until is None or now < self._until:
            return set()
        return set(self.expected)

    # --- parking --------------------------------------------------------------------------------------------

    def park(self, peer: ClientPeer, message: Resent) -> None:
        """Hold a resent message until it is known what became of its tasks."""
        tasks = _tasks(message)
        parked = _Parked(peer, message, set(tasks))
        for task_id in tasks:
            self._parked[(peer.user, task_id)] = parked
        self._fresh.setdefault(peer.user, []).extend(tasks)

    def has_parked(self, peer: ClientPeer) -> bool:
        return any(parked.peer is peer for parked in self._parked.values())

    def ask(self, owner: str, tasks: list[str]) -> None:
        """Ask the hub how these ended."""
        if tasks:
            self._fresh.setdefault(owner, []).extend(tasks)

    def lookups(self) -> list[messages.Lookup]:
        """Questions for the hub about what was parked since the last call."""
        found = []
        for owner, tasks in self._fresh.items():
            for start in range(0, len(tasks), limits.TASKS_NAMED):
                self._number += 1
                part = tasks[start : start + limits.TASKS_NAMED]
                self._lookups[self._number] = (owner, part)
                found.append(messages.Lookup(self._number, owner, part))
        self._fresh = {}
        return found

    def hub_is_new(self) -> list[messages.Lookup]:
        """The hub's link is new: what it has not answered is asked again."""
        return [messages.Lookup(number, owner, tasks) for number, (owner, tasks) in self._lookups.items()]

    def answered(self, request: int) -> list[str]:
        """The hub has said all it knows of these tasks."""
        owner, tasks = self._lookups.pop(request, ("", []))
        for task_id in tasks:
            parked = self._parked.get((owner, task_id))
            if parked is not None:
                parked.waiting_for.discard(task_id)
        return tasks

    def settle(self, owner: str, task_id: str) -> tuple[ClientPeer, Resent] | None:
        """This task is accounted for (it lives on an engine, or its end is known)."""
        parked = self._parked.pop((owner, task_id), None)
        return None if parked is None else (parked.peer, parked.message)

    def drop_peer(self, peer: ClientPeer) -> None:
        for key in [key for key, parked in self._parked.items() if parked.peer is peer]:
            del self._parked[key]

    def decidable(self) -> list[tuple[ClientPeer, Resent, list[str]]]:
        """What neither an engine nor the hub knows, once all have spoken: (peer, message, its unknown tasks)."""
        if self.recovering:
            return []
        found: OrderedDict[int, tuple[ClientPeer, Resent, list[str]]] = OrderedDict()
        for (_, task_id), parked in self._parked.items():
            if parked.waiting_for:
                continue
            entry = found.setdefault(id(parked), (parked.peer, parked.message, []))
            entry[2].append(task_id)
        for peer, _, tasks in found.values():
            for task_id in tasks:
                del self._parked[(peer.user, task_id)]
        return list(found.values())


def _tasks(message: Resent) -> list[str]:
    return [message.task] if isinstance(message, messages.Submit) else list(message.tasks)
