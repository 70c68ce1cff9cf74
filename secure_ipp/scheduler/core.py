"""The scheduler's decisions, whole: events in, messages out.

Pure: no socket, no clock, no file.  `process.py` tells it what happened and when, and sends what it says.
Law (S14): every message of a peer passes the rights table here, whatever door it came through.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from secure_ipp import limits
from secure_ipp.access import rights
from secure_ipp.errors import Refused
from secure_ipp.scheduler.agent_desk import AgentDesk, AgentPeer, random_id
from secure_ipp.scheduler.board import Board, ClientPeer, Send
from secure_ipp.scheduler.client_desk import ClientDesk
from secure_ipp.scheduler.dismissal import EXPIRED, REVOKED, Dismissal
from secure_ipp.scheduler.dispatch import Dispatch
from secure_ipp.scheduler.engine_desk import EngineDesk
from secure_ipp.scheduler.engines import Engine
from secure_ipp.scheduler.handover import Handover
from secure_ipp.scheduler.heads import Heads
from secure_ipp.scheduler.recovery import Recovery
from secure_ipp.scheduler.returning import Returning
from secure_ipp.scheduler.tenancy import Tenancy
from secure_ipp.scheduler.tickets import Tickets
from secure_ipp.wire import messages

_encode = msgspec.msgpack.encode


class Core:
    """All desks over one board.

    Args:
        send: (session, message, frame or None) towards clients, engines and agents.
        to_hub: towards the hub.
        ticket_key: 32 random bytes, the same after a restart.
        keys_changed: the gate must learn or forget session keys.
        now: seconds since the epoch.
        own_keys, heads: the controller's public keys; the journal's heads.
    """

    def __init__(
        self, *, send: Send, to_hub: Callable[[messages.Message], None], ticket_key: bytes, scheme: str,
        rng: random.Random, keys_changed: Callable[[], None], now: float, new_id: Callable[[], str] = random_id,
        own_keys: frozenset[bytes] = frozenset(), heads: Heads | None = None,
    ) -> None:
        self.board = Board(send=send, to_hub=to_hub, tickets=Tickets(ticket_key), scheme=scheme, rng=rng)
        self.recovery = Recovery(self.board, now)
        self.tenancy = Tenancy()
        self.dispatch = Dispatch(self.board, self.tenancy)
        self.returning = Returning(self.board, self.dispatch, self.recovery)
        self.clients = ClientDesk(self.board, self.dispatch, self.recovery, self.returning)
        self.agents = AgentDesk(self.board, self.dispatch, self.recovery, keys_changed, new_id, own_keys)
        self.handover = Handover(
            self.board, self.dispatch.placing, self.tenancy, self.agents.replace, self.agents.give_up
        )
        self.engines = EngineDesk(self.board, self.dispatch, self.recovery, self.returning, self.handover, self.tenancy)
        self.dismissal = Dismissal(self.board, self.dispatch)
        self.grants: dict[str, messages.GrantInfo] = {}
        self._expired: set[str] = set()  # of those
        self._trusted = 0.0  # the time by which they are judged, as it was last told
        self._reserved: frozenset[bytes] = frozenset()  # keys of the registry, present and past
        self.version = 0
        self.heads = heads or Heads(random.SystemRandom().randbytes(32))
        self._peers: dict[bytes, ClientPeer] = {}  # by session token

    # --- clients -----------------------------------------------------------------------------------------------

    def client_joined(self, session: Any, user: str, token: bytes) -> ClientPeer:
        peer = ClientPeer(session, user, token, self._rights(user))
        self._peers[token] = peer
        self.clients.joined(peer)
        self.heads.joined(self.board, peer)
        return peer

    def client_left(self, peer: ClientPeer, now: float) -> None:
        self._peers.pop(peer.token, None)
        self.clients.left(peer, now)
        self._forget_strangers()

    def client_message(self, peer: ClientPeer, message: Any, frame: Any, now: float) -> None:
        """A client's message; raises `Refused` if it must be cut."""
        kind = type(message)
        try:
            rights.check("client", peer.rights, kind.__name__)
        except Refused as refusal:
            if now >= peer.forbidden_at + limits.GATE_LOG_SECONDS:
                peer.forbidden_at = now
                self._audit("forbidden", now, user=peer.user, message=kind.__name__)
            self.clients.forbidden(peer, message, refusal)
            return
        if kind is messages.Submit or kind is messages.Direct:  # by far the most; a match is slower
            self.clients.submit(peer, message, now)
            return
        match message:
            case messages.Function():
                self.clients.function(peer, message, now)
            case messages.Chunk():
                self.dispatch.relay.body_chunk(peer, message, frame, now)
            case messages.Credit():
                self.dispatch.relay.result_taken(peer, message.task, message.bytes)
            case messages.Pull():
                self.dispatch.relay.pull(peer, message.task)
            case messages.Received():
                for task_id in message.tasks:
                    self.dispatch.relay.received(peer, task_id)
            case messages.Abort():
                self.clients.abort(peer, message, now)
            case messages.Attach():
                self.clients.attach(peer, message)
            case messages.QueueStatus():
                self.clients.queue_status(peer, message)
            case messages.Signal():
                self._signal(peer, message, now)
            case messages.Shutdown():
                self._shutdown(peer, message, now)
            case messages.Ask():
                self._ask(peer, message)
            case messages.Seen():
                self.heads.said(self.board, peer, message, now)
            case _:
                raise Refused(f"a {type(message).__name__} has no place here", code="malformed")

    def _ask(self, peer: ClientPeer, message: messages.Ask) -> None:
        if peer.questions >= limits.QUESTIONS:
            failure = messages.Failure(message.request, "quota", "too many questions wait for an answer", "ask later")
            self.board.send(peer, failure)
            return
        peer.questions += 1
        self.board.to_hub(messages.Forward(peer.user, peer.token, message.request, message.body))

    def _answered(self, message: messages.Forwarded) -> None:
        peer = self._peers.get(message.session)
        if peer is not None:
            peer.questions = max(0, peer.questions - 1)
            self.board.send(peer, message.answer)

    def _named(self, ids: list[int]) -> tuple[list[Engine], list[int]]:
        """The engines of these ids (all, if none is named), and ids that nobody has."""
        if not ids:
            return list(self.board.engines), []
        found = [(i, self.board.engines.get(i)) for i in ids]
        return [engine for _, engine in found if engine is not None], [i for i, engine in found if engine is None]

    def _signal(self, peer: ClientPeer, message: messages.Signal, now: float) -> None:
        engines, missing = self._named(message.engines)
        missing += self.agents.signal(engines, message.signum)
        self._audit("signal", now, user=peer.user, signal=str(message.signum), engines=str(len(engines)))
        self._answer(peer, message.request, engines, missing)

    def _shutdown(self, peer: ClientPeer, message: messages.Shutdown, now: float) -> None:
        engines, missing = self._named(message.engines)
        if message.engines or not message.controller:
            missing += self.agents.stop(engines, message.restart)
        self._audit("shutdown", now, user=peer.user, controller=str(message.controller), engines=str(len(engines)))
        self._answer(peer, message.request, engines, missing)
        if message.controller:
            self.board.to_hub(messages.StopController(peer.user))

    def _answer(self, peer: ClientPeer, request: int, engines: list[Engine], missing: list[int]) -> None:
        told = [engine.id for engine in engines if engine.id not in missing]
        self.board.send(peer, messages.Answer(request, _encode({"engines": told, "missing": missing})))

    # --- engines -----------------------------------------------------------------------------------------------

    def engine_message(self, session: Any, uuid: str, message: Any, frame: Any, now: float) -> None:
        """An engine's message; raises `Refused` if it must be cut."""
        kind = type(message)
        rights.check("engine", (), kind.__name__)
        engine = self.board.engines.by_uuid(uuid)
        if kind is messages.Report:
            known = self.agents.key_of(uuid)
            if known is None or engine is not None:
                raise Refused("an engine reported twice, or was declared dead", code="declared-dead")
            reported = self.engines.report(session, known, message, now)
            self.handover.evict([reported], now)
            for user in {task.owner for task in reported.outstanding.values()}:
                why = self.stands(user)
                if why is not None:  # revoked while no scheduler was there
                    self.dismissal.dismiss(user, why, now)
            return
        if engine is None or engine.session is not session:
            raise Refused("an engine must report before it says anything else", code="no-report")
        if kind is messages.Result:  # by far the most; a match is slower
            self.engines.result(engine, message, now)
            return
        match message:
            case messages.EngineOutput():
                self.engines.output(engine, message)
            case messages.EngineDisplay():
                self.engines.display(engine, message)
            case messages.Started():
                self.engines.started(engine, message)
            case messages.Cancelled():
                self.engines.cancelled(engine, message, now)
            case messages.EngineCredit():
                self.dispatch.relay.body_taken(engine, message.number, message.bytes, now)
            case messages.EngineChunk():
                self.dispatch.relay.result_chunk(engine, message, frame)
            case messages.EngineNeedsFunction():
                self.engines.needs_function(engine, message)
            case _:
                raise Refused(f"a {type(message).__name__} has no place here", code="malformed")

    def engine_lost(self, session: Any, uuid: str, now: float) -> None:
        """Its connection is gone; it may come back."""
        if self._speaks_for(session, uuid):
            self.agents.connection_lost(uuid, now)

    def engine_back(self, session: Any, uuid: str) -> None:
        if self._speaks_for(session, uuid):
            self.agents.connection_back(uuid)

    def engine_left(self, session: Any, uuid: str, reason: str, now: float) -> None:
        """Its session is over; one that never reported was given up for another try, and ends nothing."""
        engine = self.board.engines.by_uuid(uuid)
        if engine is not None and engine.session is session:
            self.agents.engine_gone(uuid, reason, now)

    def _speaks_for(self, session: Any, uuid: str) -> bool:
        """Whether this is the engine's session, and not a second one under the same key."""
        engine = self.board.engines.by_uuid(uuid)
        return engine is None or engine.session is session

    # --- agents ------------------------------------------------------------------------------------------------

    def agent_joined(self, session: Any, user: str, token: bytes = b"") -> AgentPeer:
        grant = self.grants.get(user)
        if grant is None:
            return AgentPeer(session, user, 0)
        return AgentPeer(session, user, grant.engines, token, counted=grant.joins > 0)

    def agent_message(self, agent: AgentPeer, message: Any, now: float) -> None:
        """An agent's message; raises `Refused` if it must be cut."""
        rights.check("agent", self._rights(agent.user), type(message).__name__)
        if agent.waiting is not None:
            if isinstance(message, messages.Join):
                self.agents.ask(agent, message.instance)
            if len(agent.waiting) >= limits.SAID_BEFORE_JOINED:
                raise Refused("an agent went on talking before it had joined", code="quota")
            agent.waiting.append(message)
            return
        match message:
            case messages.Join():
                self.agents.join(agent, message, now)
            case messages.Announce():
                self.agents.announce(agent, message, now)
            case messages.EngineDied():
                self.agents.died(agent, message, now)
            case messages.EngineStarted():
                pass  # its own report follows; this only tells the agent's log
            case _:
                raise Refused(f"a {type(message).__name__} has no place here", code="malformed")

    # --- the hub -----------------------------------------------------------------------------------------------

    def hub_welcome(self, resumed: bool) -> None:
        """The link to the hub is there; a new one has forgotten what was not acknowledged by message."""
        if resumed:
            return
        board = self.board
        for peer in self._peers.values():
            peer.questions = 0
        board.records.hub_is_new()
        self.flush_records()  # the ends on engines that have left, before the roster without them
        board.to_hub(messages.HubRoster([engine.record for engine in board.engines if engine.alive]))
        for lookup in self.recovery.hub_is_new():
            board.to_hub(lookup)
        self.agents.ask_again()

    def hub_message(self, message: Any, now: float) -> None:
        match message:
            case messages.HubRoster():
                self.recovery.roster(message.engines, now)
            case messages.Grants():
                self.grants_came(message, self._trusted)
                self.judge(now)
            case messages.RecordsKept():
                self._results_kept(message.number)
            case messages.Found():
                self.returning.found(message)
            case messages.Forwarded():
                self._answered(message)
            case messages.JoinAnswered():
                for agent, said in self.agents.answered(message):
                    self.agent_message(agent, said, now)
            case messages.Head():
                self.heads.told(self.board, self._peers.values(), message.line)
            case _:
                pass  # beats are the process's

    def grants_came(self, message: messages.Grants, trusted: float) -> None:
        """Grants came, went or changed; `judge` follows, when the gate knows it and sessions are cut."""
        self.version = message.version
        self.grants = {grant.id: grant for grant in message.grants}
        self._expired = self._expired_at(trusted)
        self.board.allow(self.grants)
        self._reserved = frozenset(grant.key for grant in message.grants) | frozenset(message.retired)

    def expire(self, trusted: float, now: float) -> bool:
        """See which grants have expired, or were renewed; whether there was any.

        Args:
            trusted: seconds since the epoch, by the hub's clock mark.
            now: by this host's clock.
        """
        expired = self._expired_at(trusted)
        if expired == self._expired:
            return False
        self._expired = expired
        self.judge(now)
        return True

    def _expired_at(self, trusted: float) -> set[str]:
        self._trusted = trusted
        return {user for user, grant in self.grants.items() if grant.expires and trusted >= grant.expires}

    def stands(self, user: str) -> messages.ErrorInfo | None:
        """Why this identity may not be here; None: it may."""
        if user not in self.grants:
            return REVOKED
        return EXPIRED if user in self._expired else None

    def judge(self, now: float) -> None:
        """Rights are those of now (S14); who has no grant in force any more loses its tasks and engines (S17)."""
        self.handover.judge(self.grants, self.stands, now)
        for peer in self._peers.values():
            peer.rights = self._rights(peer.user)
            self.clients.allowance(peer)
        for user in list(self.board.owners):
            why = self.stands(user)
            if why is None:
                self.dismissal.readmit(user)
            else:
                self.dismissal.dismiss(user, why, now)
        join_keys = {user: grant.engines for user, grant in self.grants.items() if user not in self._expired}
        self.agents.registry(self._reserved, join_keys, now)
        self._forget_strangers()

    def _forget_strangers(self) -> None:
        """Identities without a grant, without sessions and without tasks leave nothing here."""
        for user in [u for u, owner in self.board.owners.items() if u not in self.grants and owner.idle]:
            del self.board.owners[user]
            self.returning.forget_owner(user)

    def _results_kept(self, number: int) -> None:
        kept: dict[Any, list[int]] = {}
        for engine, assignment in self.board.records.kept(number):
            kept.setdefault(engine, []).append(assignment)
        for engine, numbers in kept.items():
            if engine.alive:
                self.board.send_to(engine.session, messages.Kept(numbers), None)

    def _rights(self, user: str) -> frozenset[str]:
        return frozenset() if self.stands(user) is not None else frozenset(self.grants[user].rights)

    # --- time --------------------------------------------------------------------------------------------------

    def turn(self, now: float) -> None:
        """After each batch of events."""
        self.clients.recover(now)
        self.dispatch.turn(now)
        self.handover.turn(now)
        self.agents.turn()
        lookups = self.recovery.lookups()
        if lookups:
            self.flush_records()  # what ended a moment ago must be known there
        for lookup in lookups:
            self.board.to_hub(lookup)

    def flush_records(self) -> None:
        for batch in self.board.records.batches():
            self.board.to_hub(batch)

    def tick(self, now: float) -> None:
        """A few times a second."""
        self.agents.tick(now)
        self.dispatch.expire(now)
        for uuid in self.recovery.overdue(now):
            self.recovery.declared_dead(uuid)
        for owner, task_id in self.dispatch.relay.stalled(now):
            self.clients.drop_stalled(owner, task_id, now)

    def status(self) -> messages.SchedulerStatus:
        """What the hub shows; the process adds clients and the gate."""
        running = sum(engine.load for engine in self.board.engines)
        return messages.SchedulerStatus(
            [], len(self.dispatch.placing), running, self.board.done, 0, self.recovery.recovering
        )

    def _audit(self, event: str, at: float, **details: str) -> None:
        self.board.to_hub(messages.AuditEvent(event, at, details))
