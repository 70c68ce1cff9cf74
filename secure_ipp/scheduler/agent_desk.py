"""What agents say: hosts that join, keys of engines to be, engines that died.

Pure.  Laws (S12): the engine file lets a host join and nothing else; a session key is good for one engine of the
agent that announced it; a key that was ever known, in whatever role, is refused as a new one.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any

from secure_ipp.errors import Refused
from secure_ipp.scheduler.board import Board
from secure_ipp.scheduler.dispatch import Dispatch
from secure_ipp.scheduler.engines import Engine
from secure_ipp.scheduler.recovery import Recovery
from secure_ipp.wire import messages

_DEATH_SECONDS = 1.0  # what an engine said before it died may be under way for so long


class AgentPeer:
    """A host's agent.

    Attributes:
        engines: uuids of the engines that it announced, alive or to be.
    """

    __slots__ = ("engines", "limit", "present", "session", "user")

    def __init__(self, session: Any, user: str, limit: int) -> None:
        self.session = session
        self.user = user
        self.limit = limit
        self.present = True
        self.engines: set[str] = set()


class SessionKey:
    """A key that an agent announced for one engine."""

    __slots__ = ("agent", "key", "user", "uuid")

    def __init__(self, key: bytes, uuid: str, agent: AgentPeer) -> None:
        self.key = key
        self.uuid = uuid
        self.agent = agent
        self.user = agent.user


def random_id() -> str:
    """A grant id: 128 random bits, base64url."""
    return base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()


class AgentDesk:
    """Handles `messages.FromAgent`.

    Args:
        keys_changed: called when the gate must learn or forget session keys.
        new_id: makes grant ids.
    """

    def __init__(
        self, board: Board, dispatch: Dispatch, recovery: Recovery, keys_changed: Callable[[], None],
        new_id: Callable[[], str] = random_id,
    ) -> None:
        self._board = board
        self._dispatch = dispatch
        self._recovery = recovery
        self._keys_changed = keys_changed
        self._new_id = new_id
        self.keys: dict[bytes, SessionKey] = {}
        self._by_uuid: dict[str, SessionKey] = {}
        self._spent: set[bytes] = set()  # keys of engines that ended
        self.reserved: frozenset[bytes] = frozenset()  # keys of the registry, present and past
        self._agents: list[AgentPeer] = []
        self._deaths: dict[str, tuple[float, messages.EngineDeath]] = {}

    def key_of(self, uuid: str) -> SessionKey | None:
        return self._by_uuid.get(uuid)

    def agent_of(self, engine: Engine) -> AgentPeer | None:
        key = self._by_uuid.get(engine.uuid)
        return key.agent if key is not None and key.agent.present else None

    # --- sessions ----------------------------------------------------------------------------------------------

    def joined(self, agent: AgentPeer) -> None:
        self._agents.append(agent)

    def join(self, agent: AgentPeer, message: messages.Join, now: float) -> None:
        """It says which of its engines died while nobody listened."""
        for death in message.dead:
            known = self._by_uuid.get(death.uuid)
            if known is not None and known.user != agent.user:
                raise Refused("an agent reported the death of another one's engine", code="agent")
            self._recovery.declared_dead(death.uuid)
            if known is not None:
                self._bury(death, now)

    def left(self, agent: AgentPeer, reason: str, now: float) -> None:
        """Its engines go with it."""
        agent.present = False
        self._agents.remove(agent)
        for uuid in list(agent.engines):
            known = self._by_uuid.get(uuid)
            if known is not None and known.agent is agent:
                self._end(uuid, None, f"its agent is gone ({reason})", now)

    # --- keys ----------------------------------------------------------------------------------------------------

    def announce(self, agent: AgentPeer, message: messages.Announce) -> None:
        answers = [self._announced(agent, key) for key in message.keys]
        self._keys_changed()
        for answer in answers:
            self._board.send_to(agent.session, answer, None)

    def _announced(self, agent: AgentPeer, key: bytes) -> messages.Announced:
        known = self.keys.get(key)
        if known is not None:
            if known.user != agent.user or (known.agent is not agent and known.agent.present):
                return messages.Announced(key, "", "this key is another engine's")
            known.agent = agent
            agent.engines.add(known.uuid)
            return messages.Announced(key, known.uuid)
        if key in self.reserved or key in self._spent:
            return messages.Announced(key, "", "this key was known before; an engine needs a new one")
        in_use = sum(1 for other in self.keys.values() if other.user == agent.user)
        if in_use >= agent.limit:
            return messages.Announced(key, "", f"this engine file allows {agent.limit} engines, and they are there")
        remembered = self._recovery.remembered.get(key)
        same = remembered is not None and remembered.agent == agent.user
        uuid = remembered.info.uuid if remembered is not None and same else self._new_id()
        self.keys[key] = self._by_uuid[uuid] = SessionKey(key, uuid, agent)
        agent.engines.add(uuid)
        return messages.Announced(key, uuid)

    # --- deaths ----------------------------------------------------------------------------------------------------

    def died(self, agent: AgentPeer, message: messages.EngineDied, now: float) -> None:
        if message.death.uuid not in agent.engines:
            raise Refused("an agent reported the death of an engine that is not its own", code="agent")
        self._bury(message.death, now)

    def _bury(self, death: messages.EngineDeath, now: float) -> None:
        """Wait a moment for its last words, which travel on another connection."""
        self._deaths[death.uuid] = (now + _DEATH_SECONDS, death)

    def connection_lost(self, uuid: str, now: float) -> None:
        """An engine's connection is gone; if it is known to be dead, there is nothing left to hear."""
        if uuid in self._deaths:
            self._conclude(uuid, now)

    def tick(self, now: float) -> None:
        for uuid in [uuid for uuid, (due, _) in self._deaths.items() if now >= due]:
            self._conclude(uuid, now)

    def never_connected(self, uuid: str, now: float) -> bool:
        """Whether a dead engine has no connection to wait for."""
        return uuid in self._deaths and self._board.engines.by_uuid(uuid) is None

    def _conclude(self, uuid: str, now: float) -> None:
        _, death = self._deaths.pop(uuid)
        how = f"signal {-death.status}" if death.status < 0 else f"exit code {death.status}"
        self._end(uuid, death.started, death.reason or how, now)

    def engine_gone(self, uuid: str, reason: str, now: float) -> None:
        """Its session is over without a word of its agent."""
        if uuid in self._by_uuid:
            known = self._by_uuid[uuid]
            if known.agent.present:
                self._board.send_to(known.agent.session, messages.StopEngine(uuid), None)
            self._end(uuid, None, reason, now)

    def _end(self, uuid: str, started: int | None, reason: str, now: float) -> None:
        known = self._by_uuid.pop(uuid, None)
        if known is not None:
            self.keys.pop(known.key, None)
            self._spent.add(known.key)
            known.agent.engines.discard(uuid)
            self._keys_changed()
        self._deaths.pop(uuid, None)
        engine = self._board.engines.by_uuid(uuid)
        self._recovery.declared_dead(uuid)
        if engine is None:
            return
        self._dispatch.engine_died(engine, started, reason, now)
        self._board.to_hub(messages.EngineLeft(uuid, reason[:1000]))
        self._board.tell_everyone(messages.Roster([], [engine.id], False, {engine.id: reason[:1000]}))

    # --- on behalf of clients --------------------------------------------------------------------------------------

    def signal(self, engines: list[Engine], signum: int) -> list[int]:
        """Pass a signal on; returns ids of engines whose agent cannot be reached."""
        return self._tell(engines, lambda uuid: messages.SignalEngine(uuid, signum))

    def stop(self, engines: list[Engine], restart: bool) -> list[int]:
        return self._tell(engines, lambda uuid: messages.StopEngine(uuid, restart))

    def _tell(self, engines: list[Engine], say: Callable[[str], messages.Message]) -> list[int]:
        missed = []
        for engine in engines:
            agent = self.agent_of(engine)
            if agent is None:
                missed.append(engine.id)
            else:
                self._board.send_to(agent.session, say(engine.uuid), None)
        return missed
