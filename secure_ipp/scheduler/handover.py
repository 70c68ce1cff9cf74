"""When an engine changes hands: a fresh fork takes its place under the same id (S27).

Pure.  Laws: an engine that is to change hands gets no further task, and is replaced when what it was sent has ended;
it is taken from a tenant that has let it lie for `limits.TENANT_IDLE_SECONDS`, or has had it for
`limits.TENANT_WAIT_SECONDS` while another waited as long with less than its share; who waits longest is served first,
so that nobody starves.  Those of an identity that may not be here any more are replaced in any case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from secure_ipp import limits
from secure_ipp.scheduler.board import Board
from secure_ipp.scheduler.engines import Engine
from secure_ipp.scheduler.placing import Placing, recallable
from secure_ipp.scheduler.tenancy import LEAVING, NOBODY, SHARED, Tenancy, is_identity
from secure_ipp.scheduler.waiting import Places
from secure_ipp.wire import messages

Want = tuple[str, Places | None]  # a tenant with tasks that wait, and where they may run; None: anywhere

_LOOK_SECONDS = 0.05  # between two looks at who waits


class Handover:
    """Decides who gives an engine up, to whom, and when.

    Args:
        ask: have an engine's agent put a fresh one in its place; False: the agent cannot be reached now.
        give_up: the engine, or its place, is free: nobody came to take it.
    """

    def __init__(
        self, board: Board, placing: Placing, tenancy: Tenancy, ask: Callable[[Engine], bool],
        give_up: Callable[[Engine, float], None],
    ) -> None:
        self._board = board
        self._placing = placing
        self._tenancy = tenancy
        self._ask = ask
        self._give_up = give_up
        self._since: dict[Want, float] = {}
        self._leaving: dict[Engine, None] = {}
        self._looked_at = 0.0
        self._standing: frozenset[str] = frozenset()  # tenants that may be here

    def separate(self, now: float) -> None:
        """From now on identities are kept apart; what has run until now was shared."""
        self._tenancy.apart = True
        for engine in self._board.engines:
            if engine.tenant == NOBODY and (engine.next_number > 1 or engine.record.tenant):
                engine.visitors.update(engine.done)
                self._placing.occupy(engine, SHARED, now)

    def judge(
        self, grants: Mapping[str, messages.GrantInfo], stands: Callable[[str], object | None], now: float
    ) -> None:
        """The grants have changed.

        Args:
            grants: those that there are, by identity.
            stands: why an identity may not be here; None: it may.
        """
        if self._tenancy.registry(grants, self._board.owners):
            self.separate(now)
            self._standing = frozenset(self._tenancy.of(user) for user in grants if stands(user) is None)
            self.evict(list(self._board.engines), now)

    def evict(self, engines: Iterable[Engine], now: float) -> None:
        """Those of them that are an identity's that may not be here are replaced.

        What runs there was interrupted, and has a moment to end.
        """
        standing = self._standing
        until = now + limits.REVOKED_ENGINE_SECONDS
        for engine in engines:
            if is_identity(engine.tenant) and engine.tenant not in standing:
                self._hand_over(engine, NOBODY, now)
                engine.until = until
            elif engine.tenant == LEAVING:
                if is_identity(engine.heir) and engine.heir not in standing:
                    engine.heir = NOBODY
                if is_identity(engine.former) and engine.former not in standing and not engine.until:
                    engine.until = until

    def turn(self, now: float) -> None:
        """After tasks were placed: what still waits is looked at, and what has ended is replaced."""
        if not self._tenancy.apart:
            return
        for engine in list(self._leaving):
            self._go_on(engine, now)
        if not 0 <= now - self._looked_at < _LOOK_SECONDS:
            self._looked_at = now
            self._look(now)

    # --- who waits -------------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        for engine in self._board.engines:
            if engine.load or engine.idle_number != engine.next_number:
                engine.idle_since, engine.idle_number = now, engine.next_number
        wants = self._wants()
        held = self._held()
        share = max(1, len(self._board.engines) // max(1, len(held.keys() | {tenant for tenant, _ in wants})))
        self._since = {
            want: now if self._is_served(want, held, share) else self._since.get(want, now) for want in wants
        }
        for want in sorted(self._since, key=self._since.__getitem__):
            if want[1] is None:
                self._serve_anywhere(want[0], wants[want], now - self._since[want], held, share, now)
            elif not self._is_served(want, held, share):
                self._serve_there(*want, now - self._since[want], now)
        self._placing.forget_empty()
        self._board.engines.forget_tenants()

    def _wants(self) -> dict[Want, int]:
        """Who waits for an engine, and for how many at most."""
        found: dict[Want, int] = {}
        for tenant, lane in self._placing.lanes.items():
            if len(lane.waiting):
                found[(tenant, None)] = len(lane.waiting)
            found |= {(tenant, places): 1 for places in lane.reserved.places()}
        for engine in self._board.engines.worth_recalling():  # behind a long task nothing waits here
            if engine.slow and engine.tenant not in (NOBODY, LEAVING) and next(recallable(engine), None) is not None:
                found.setdefault((engine.tenant, None), 1)
        return found

    def _held(self) -> Counter[str]:
        """How many engines each tenant has, or is about to get."""
        held = Counter(e.heir if e.tenant == LEAVING else e.tenant for e in self._board.engines)
        del held[NOBODY]
        return held

    def _is_served(self, want: Want, held: Counter[str], share: int) -> bool:
        tenant, places = want
        if places is None:
            return held[tenant] >= share
        return any(
            engine.tenant in (tenant, NOBODY) or (engine.tenant == LEAVING and engine.heir == tenant)
            for engine in self._board.engines.allowed(places)
        )

    # --- what it gets ----------------------------------------------------------------------------------------

    def _serve_there(self, tenant: str, places: Places | None, waited: float, now: float) -> None:
        """One engine of those that will do."""
        assert places is not None
        others = [e for e in self._board.engines.allowed(places) if e.tenant not in (tenant, NOBODY, LEAVING)]
        found = self._idle(others, now)
        if not found and waited >= limits.TENANT_WAIT_SECONDS:
            found = self._ripe(others, now)
        if found:
            self._hand_over(found[0], tenant, now)

    def _serve_anywhere(
        self, tenant: str, wanted: int, waited: float, held: Counter[str], share: int, now: float,
    ) -> None:
        """Engines that lie idle; and its share of those that do not."""
        engines = list(self._board.engines)
        wanted -= sum(e.tenant in (tenant, NOBODY) and e.load == 0 for e in engines)
        wanted -= sum(e.tenant == LEAVING and e.heir == tenant for e in engines)
        others = [e for e in engines if e.tenant not in (tenant, NOBODY, LEAVING)]
        for engine in self._idle(others, now)[: max(0, wanted)]:
            self._pass_on(engine, tenant, held, now)
            wanted -= 1
        if waited < limits.TENANT_WAIT_SECONDS:
            return
        for engine in self._ripe([e for e in others if e.tenant != LEAVING], now):
            if wanted <= 0 or held[tenant] >= share:
                return
            if held[engine.tenant] > share or not held[tenant]:
                self._pass_on(engine, tenant, held, now)
                wanted -= 1

    def _pass_on(self, engine: Engine, tenant: str, held: Counter[str], now: float) -> None:
        held[engine.tenant] -= 1
        held[tenant] += 1
        self._hand_over(engine, tenant, now)

    def _idle(self, engines: list[Engine], now: float) -> list[Engine]:
        """Those that their tenants let lie, the longest first."""
        found = [e for e in engines if e.load == 0 and now - e.idle_since >= _patience(e)]
        return sorted(found, key=lambda engine: engine.idle_since)

    def _ripe(self, engines: list[Engine], now: float) -> list[Engine]:
        """Those that their tenants have had for long enough, the longest first."""
        found = [e for e in engines if now - e.held_since >= limits.TENANT_WAIT_SECONDS]
        return sorted(found, key=lambda engine: engine.held_since)

    # --- changing hands --------------------------------------------------------------------------------------

    def _hand_over(self, engine: Engine, heir: str, now: float) -> None:
        """It gets nothing more; what it has not started goes to others of its tenant, but for direct tasks."""
        engine.former, engine.heir, engine.tenant = engine.tenant, heir, LEAVING
        self._leaving[engine] = None
        self._placing.recall(engine, list(recallable(engine)))
        details = {"engine": str(engine.id), "uuid": engine.uuid, "from": engine.former, "to": heir}
        self._board.to_hub(messages.AuditEvent("engine-changes-hands", now, details))
        self._go_on(engine, now)

    def _go_on(self, engine: Engine, now: float) -> None:
        """One step of an engine on its way out."""
        board = self._board
        if board.engines.get(engine.id) is not engine:
            del self._leaving[engine]  # the next one is there; or it died of itself
        elif engine.replacing:
            if now >= engine.until:
                del self._leaving[engine]
                self._give_up(engine, now)
        elif self._is_over(engine, now):
            for batch in board.records.batches():  # its results go with it
                board.to_hub(batch)
            if self._ask(engine):
                engine.replacing, engine.until = True, now + limits.TENANT_FORK_SECONDS
                self._say_goodbye(engine)

    def _is_over(self, engine: Engine, now: float) -> bool:
        """Whether it may end."""
        if engine.until and now >= engine.until:
            return True
        if engine.load:
            engine.idle_since = now
            return False
        return not (engine.results or engine.owed) or now - engine.idle_since >= limits.TENANT_RESULT_SECONDS

    def _say_goodbye(self, engine: Engine) -> None:
        text = f"engine {engine.id} was given to another identity; what was in its namespace is gone"
        for user in engine.visitors:
            owner = self._board.owners.get(user)
            for peer in owner.peers if owner is not None and owner.dismissed is None else ():
                self._board.send(peer, messages.Notice("warning", text))


def _patience(engine: Engine) -> float:
    """For how long an engine must have lain idle; results that nobody fetched would go with it."""
    return limits.TENANT_RESULT_SECONDS if engine.results or engine.owed else limits.TENANT_IDLE_SECONDS
