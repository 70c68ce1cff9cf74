"""After a restart: which resent tasks ran, run, or may be placed.

Pure.  A client resends what it has not seen the end of.  Nothing resent is placed until every engine on the hub's
roster has reported what it holds or is declared dead, and the hub has said which of the tasks have ended.  Law: a
task that may have started is never placed again; if nobody can tell, it ends in one clear error.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from secure_ipp import limits
from secure_ipp.scheduler.board import Board, ClientPeer
from secure_ipp.wire import messages

Resent = messages.Submit | messages.Direct
Place = tuple[str, str]  # owner, task


@dataclass(slots=True, eq=False)
class _Parked:
    peer: ClientPeer
    message: Resent
    waiting_for: set[str]  # its tasks that the hub has not answered for


class Recovery:
    """Parks what was resent until it is known what became of it.

    Attributes:
        expected: uuids of engines that the hub remembers and that have not reported.
        losses: an engine was declared dead while nobody was there to see what it had started.
        held: ends that the hub knows and whose large results an engine may still report.
    """

    def __init__(self, board: Board, started_at: float) -> None:
        self._board = board
        self.started_at = started_at  # what was submitted before may have met an earlier scheduler
        self._parked: OrderedDict[Place, _Parked] = OrderedDict()  # in the order sent
        self._parked_of: dict[ClientPeer, int] = {}  # how many
        self._lookups: dict[int, tuple[str, list[str]]] = {}
        self._fresh: dict[str, list[str]] = {}
        self._number = 0
        self._until: float | None = None
        self._attached: dict[Place, list[ClientPeer]] = {}  # who asked for the end of a task not live here
        self._unfound: dict[Place, None] = {}  # those that the hub does not know
        self._remembered: dict[bytes, messages.EngineRecord] = {}  # by key: engines of before the restart
        self._by_uuid: dict[str, messages.EngineRecord] = {}
        self.expected: set[str] = set()
        self.held: dict[Place, messages.Outcome] = {}
        self.losses = False
        self._hub_spoke = False

    # --- engines of before -----------------------------------------------------------------------------------

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
            if self._board.engines.by_uuid(engine.info.uuid) is None:
                self._board.engines.expect(engine.info.id)
                self._remembered[engine.key] = self._by_uuid[engine.info.uuid] = engine
                self.expected.add(engine.info.uuid)
        self._until = now + limits.RECOVERY_SECONDS

    def by_key(self, key: bytes) -> messages.EngineRecord | None:
        """The engine of before the restart that had this session key, if it may still come back."""
        return self._remembered.get(key)

    def by_uuid(self, uuid: str) -> messages.EngineRecord | None:
        return self._by_uuid.get(uuid)

    def joined_without(self, join_keys: Collection[str]) -> list[str]:
        """Engines of before the restart whose host joined with none of these."""
        return [uuid for uuid, engine in self._by_uuid.items() if engine.agent not in join_keys]

    def reported(self, uuid: str) -> None:
        """It has said all that it holds."""
        self.expected.discard(uuid)

    def declared_dead(self, uuid: str) -> None:
        """It is gone for good: its key is not welcome any more."""
        remembered = self._by_uuid.pop(uuid, None)
        if remembered is not None:
            del self._remembered[remembered.key]
            self._board.engines.expect_no_more(remembered.info.id)
        if uuid in self.expected:
            self.expected.discard(uuid)
            self.losses = True

    def overdue(self, now: float) -> set[str]:
        """Engines that had their time to report."""
        if self._until is None or now < self._until:
            return set()
        return set(self.expected)

    # --- parking --------------------------------------------------------------------------------------------

    def park(self, peer: ClientPeer, message: Resent, tasks: list[str]) -> None:
        """Hold a resent message until it is known what became of these tasks of it."""
        parked = _Parked(peer, message, set(tasks))
        for task_id in tasks:
            place = (peer.user, task_id)
            self._unpark(place)
            self._parked[place] = parked
            self._parked_of[peer] = self._parked_of.get(peer, 0) + 1
        self._fresh.setdefault(peer.user, []).extend(tasks)

    def _unpark(self, place: Place) -> _Parked | None:
        parked = self._parked.pop(place, None)
        if parked is not None:
            parked.waiting_for.discard(place[1])
            left = self._parked_of[parked.peer] - 1
            if left:
                self._parked_of[parked.peer] = left
            else:
                del self._parked_of[parked.peer]
        return parked

    def has_parked(self, peer: ClientPeer) -> bool:
        return peer in self._parked_of

    def parked(self, peer: ClientPeer) -> list[str]:
        """Its tasks of which it is not known what became."""
        return [task_id for (_, task_id), parked in self._parked.items() if parked.peer is peer]

    def settle(self, owner: str, task_id: str) -> tuple[ClientPeer, Resent] | None:
        """This task is accounted for (it lives on an engine, or its end is known)."""
        self.held.pop((owner, task_id), None)
        parked = self._unpark((owner, task_id))
        return None if parked is None else (parked.peer, parked.message)

    def drop_peer(self, peer: ClientPeer) -> None:
        """Its session is over; what it asked need not be answered."""
        for place in [place for place, parked in self._parked.items() if parked.peer is peer]:
            self._unpark(place)
            self.held.pop(place, None)
        if peer.asked:
            for place, peers in list(self._attached.items()):
                if peer in peers:
                    peers.remove(peer)
                    if not peers:
                        self._forget_asked(place)

    def decidable(self) -> list[tuple[ClientPeer, Resent, list[str]]]:
        """What no engine knows, once all have spoken and the hub has: (peer, message, those of its tasks)."""
        if not self._parked or self.recovering:
            return []
        found: dict[_Parked, list[str]] = {}
        for (_, task_id), parked in self._parked.items():
            if not parked.waiting_for:
                found.setdefault(parked, []).append(task_id)
        for parked, tasks in found.items():
            for task_id in tasks:
                self._unpark((parked.peer.user, task_id))
        return [(parked.peer, parked.message, tasks) for parked, tasks in found.items()]

    # --- asking for ends ------------------------------------------------------------------------------------

    def ask(self, peer: ClientPeer, tasks: list[str]) -> None:
        """A session wants to know how these ended, which do not live here."""
        for task_id in tasks:
            peers = self._attached.setdefault((peer.user, task_id), [])
            if peer not in peers:
                peers.append(peer)
                peer.asked += 1
        if tasks:
            self._fresh.setdefault(peer.user, []).extend(tasks)

    def asked(self, owner: str, task_id: str) -> list[ClientPeer]:
        """Who asked for this one; they are told, or watch it, from now on."""
        place = (owner, task_id)
        peers = self._attached.get(place, [])
        if peers:
            self._forget_asked(place)
        for peer in peers:
            peer.asked -= 1
        return peers

    def _forget_asked(self, place: Place) -> None:
        del self._attached[place]
        self._unfound.pop(place, None)
        if place not in self._parked:
            self.held.pop(place, None)

    def wanted(self, place: Place) -> bool:
        """Somebody waits for the end of this task."""
        return place in self._parked or place in self._attached

    def unfound(self) -> list[Place]:
        """Asked for, and neither engines nor the hub know them."""
        return [] if self.recovering else list(self._unfound)

    # --- the hub --------------------------------------------------------------------------------------------

    def lookups(self) -> list[messages.Lookup]:
        """Questions for the hub about what was parked or asked since the last call."""
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

    def answered(self, request: int) -> None:
        """The hub has said all it knows of these tasks."""
        owner, tasks = self._lookups.pop(request, ("", []))
        for task_id in tasks:
            place = (owner, task_id)
            parked = self._parked.get(place)
            if parked is not None:
                parked.waiting_for.discard(task_id)
            if place in self._attached:
                self._unfound[place] = None
