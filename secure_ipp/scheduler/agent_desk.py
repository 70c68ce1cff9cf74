"""What agents say: hosts that join, keys of engines to be, engines that died.

Pure.  Laws (S12): the engine file lets a host join and nothing else; a session key is good for one engine of the
agent that announced it; a key that was ever known, in whatever role, is refused as a new one.
"""

from __future__ import annotations

import base64
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from secure_ipp import limits
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
        counted: its key is good for a number of joins, so that the hub is asked whether it may join.
        waiting: what it said meanwhile; None: it may say what it likes.
        refusal: why it must go.
        vacated: engines that it was asked to replace; who is announced next takes the first one's place.
    """

    __slots__ = (
        "counted", "engines", "instance", "limit", "present", "refusal", "refused_at", "session", "token", "user",
        "vacated", "waiting",
    )

    def __init__(self, session: Any, user: str, limit: int, token: bytes = b"", *, counted: bool = False) -> None:
        self.session = session
        self.user = user
        self.limit = limit
        self.token = token
        self.counted = counted
        self.waiting: list[Any] | None = [] if counted else None
        self.refusal: Refused | None = None
        self.instance = b""
        self.present = True
        self.engines: set[str] = set()
        self.refused_at = 0.0  # when a refused announcement of it last went on record
        self.vacated: deque[Engine] = deque()


class SessionKey:
    """A key that an agent announced for one engine.

    Attributes:
        place: the engine whose place it takes.
    """

    __slots__ = ("agent", "key", "place", "user", "uuid")

    def __init__(self, key: bytes, uuid: str, agent: AgentPeer) -> None:
        self.key = key
        self.uuid = uuid
        self.agent = agent
        self.user = agent.user
        self.place: Engine | None = None


def random_id() -> str:
    """A grant id: 128 random bits, base64url."""
    return base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()


class AgentDesk:
    """Handles `messages.FromAgent`.

    Args:
        keys_changed: called when the gate must learn or forget session keys.
        new_id: makes grant ids.
        own: the controller's own public keys, which no engine has either.
    """

    def __init__(
        self, board: Board, dispatch: Dispatch, recovery: Recovery, keys_changed: Callable[[], None],
        new_id: Callable[[], str] = random_id, own: frozenset[bytes] = frozenset(),
    ) -> None:
        self._board = board
        self._dispatch = dispatch
        self._recovery = recovery
        self._keys_changed = keys_changed
        self._new_id = new_id
        self.keys: dict[bytes, SessionKey] = {}
        self._by_uuid: dict[str, SessionKey] = {}
        self._of_user: dict[str, int] = {}  # how many keys each join key has in use
        self._spent: OrderedDict[bytes, None] = OrderedDict()  # keys of engines that ended
        self._asking: dict[bytes, AgentPeer] = {}  # by session: who waits for the hub's word
        self._counted: dict[tuple[str, bytes], AgentPeer] = {}  # by join key and instance: who was let in by it
        self._own = own
        self._reserved = own  # and keys of the registry, present and past
        self._unconnected: set[str] = set()  # engines whose connection is gone, for now
        self._keys_differ = False  # from those that the gate knows
        self._answers: list[tuple[Any, messages.Announced]] = []  # until the gate knows the keys
        self._deaths: dict[str, tuple[float, messages.EngineDeath]] = {}

    def key_of(self, uuid: str) -> SessionKey | None:
        return self._by_uuid.get(uuid)

    def agent_of(self, engine: Engine) -> AgentPeer | None:
        key = self._by_uuid.get(engine.uuid)
        return key.agent if key is not None and key.agent.present else None

    # --- sessions ----------------------------------------------------------------------------------------------

    def join(self, agent: AgentPeer, message: messages.Join, now: float) -> None:
        """It says which of its engines died while nobody listened."""
        for death in message.dead:
            known, remembered = self._by_uuid.get(death.uuid), self._recovery.by_uuid(death.uuid)
            owner = known.user if known is not None else remembered.agent if remembered is not None else agent.user
            if owner != agent.user:
                raise Refused("an agent reported the death of another one's engine", code="agent")
            if known is None:
                self._recovery.declared_dead(death.uuid)
            elif known.agent is agent or not known.agent.present:
                self._bury(death, now)

    def ask(self, agent: AgentPeer, instance: bytes) -> None:
        """Whether it may join; the hub counts, and answers."""
        if agent.waiting is not None and agent.token not in self._asking:
            agent.instance = instance
            self._asking[agent.token] = agent
            self._board.to_hub(messages.JoinAsked(agent.user, agent.token, instance))

    def ask_again(self) -> None:
        """Another hub knows nothing of what was asked."""
        for agent in self._asking.values():
            self._board.to_hub(messages.JoinAsked(agent.user, agent.token, agent.instance))

    def answered(self, message: messages.JoinAnswered) -> list[tuple[AgentPeer, Any]]:
        """What the agent that may go on said meanwhile; nothing, if it may not, or is gone."""
        agent = self._asking.pop(message.session, None)
        if agent is None or not agent.present:
            return []
        if message.code:
            agent.refusal = Refused(message.reason, message.advice, code=message.code)
            return []
        name = agent.user, agent.instance
        before = self._counted.get(name)
        if before is not None:  # one join is one host at a time, though hosts may tell each other the instance
            before.refusal = Refused("another agent came under the name of this one", code="replaced")
        self._counted[name] = agent
        said, agent.waiting = agent.waiting or [], None
        return [(agent, one) for one in said]

    def left(self, agent: AgentPeer, reason: str, now: float) -> None:
        """Its engines go with it."""
        agent.present = False
        self._asking.pop(agent.token, None)
        if self._counted.get((agent.user, agent.instance)) is agent:
            del self._counted[agent.user, agent.instance]
        for uuid in list(agent.engines):
            known = self._by_uuid.get(uuid)
            if known is not None and known.agent is agent:
                self._end(uuid, None, f"its agent is gone ({reason})", now)

    # --- keys ----------------------------------------------------------------------------------------------------

    def announce(self, agent: AgentPeer, message: messages.Announce, now: float) -> None:
        """Keys of engines to be; answered at the end of the turn."""
        answers = [self._announced(agent, key) for key in message.keys]
        self._answers += [(agent.session, answer) for answer in answers]
        refused = [answer for answer in answers if not answer.uuid]
        if refused and now >= agent.refused_at + limits.GATE_LOG_SECONDS:
            agent.refused_at = now
            details = {"user": agent.user, "reason": refused[0].reason, "count": str(len(refused))}
            self._board.to_hub(messages.AuditEvent("announcement-refused", now, details))

    def _announced(self, agent: AgentPeer, key: bytes) -> messages.Announced:
        known = self.keys.get(key)
        if known is not None:
            if known.user != agent.user or (known.agent is not agent and known.agent.present):
                return messages.Announced(key, "", "this key is another engine's")
            known.agent = agent
            agent.engines.add(known.uuid)
            return messages.Announced(key, known.uuid)
        if key in self._reserved or key in self._spent:
            return messages.Announced(key, "", "this key was known before; an engine needs a new one")
        in_use = self._of_user.get(agent.user, 0)
        if in_use >= agent.limit:
            return messages.Announced(key, "", f"this engine file allows {agent.limit} engines, and they are there")
        if len(self.keys) >= limits.TARGETS:
            return messages.Announced(key, "", f"a cluster has at most {limits.TARGETS} engines, and they are there")
        remembered = self._recovery.by_key(key)
        if remembered is not None and remembered.agent != agent.user:
            return messages.Announced(key, "", "this key is another engine's")
        uuid = remembered.info.uuid if remembered is not None else self._new_id()
        self.keys[key] = self._by_uuid[uuid] = made = SessionKey(key, uuid, agent)
        if agent.vacated and remembered is None:
            made.place = agent.vacated.popleft()
        self._of_user[agent.user] = in_use + 1
        self._keys_differ = True
        agent.engines.add(uuid)
        return messages.Announced(key, uuid)

    def registry(self, reserved: frozenset[bytes], limits_of: Mapping[str, int], now: float) -> None:
        """The registry has changed.

        Args:
            reserved: keys that it holds or ever held; engines under one of them end.
            limits_of: engines that each join key in force allows; engines of any other key end with it.
        """
        self._reserved = reserved | self._own
        for known in list(self.keys.values()):
            known.agent.limit = limits_of.get(known.user, 0)
            if known.key in reserved:
                self._end(known.uuid, None, "its key is in the registry now", now)
            elif known.user not in limits_of:
                self._end(known.uuid, None, "the key that its host joined with was revoked or has expired", now)
        for uuid in self._recovery.joined_without(limits_of):
            self._end(uuid, None, "the key that its host had joined with was revoked or has expired", now)

    def turn(self) -> None:
        """The gate learns and forgets once in a turn, however many keys came and went, and before anybody is told."""
        if self._keys_differ:
            self._keys_differ = False
            self._keys_changed()
        answers, self._answers = self._answers, []
        for session, answer in answers:
            self._board.send_to(session, answer, None)

    # --- deaths ----------------------------------------------------------------------------------------------------

    def died(self, agent: AgentPeer, message: messages.EngineDied, now: float) -> None:
        uuid = message.death.uuid
        if uuid in agent.engines:
            self._bury(message.death, now)
        elif uuid in self._by_uuid:
            raise Refused("an agent reported the death of an engine that is not its own", code="agent")
        # else it was given up here before its agent knew

    def _bury(self, death: messages.EngineDeath, now: float) -> None:
        """Wait a moment for its last words, which travel on another connection, if there still is one."""
        self._deaths[death.uuid] = (now + _DEATH_SECONDS, death)
        engine = self._board.engines.by_uuid(death.uuid)
        if death.uuid in self._unconnected or engine is None or engine.replacing:
            self._conclude(death.uuid, now)

    def connection_lost(self, uuid: str, now: float) -> None:
        """An engine's connection is gone; if it is known to be dead, there is nothing left to hear."""
        if uuid in self._deaths:
            self._conclude(uuid, now)
        elif uuid in self._by_uuid:
            self._unconnected.add(uuid)

    def connection_back(self, uuid: str) -> None:
        self._unconnected.discard(uuid)

    def tick(self, now: float) -> None:
        for uuid in [uuid for uuid, (due, _) in self._deaths.items() if now >= due]:
            self._conclude(uuid, now)

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
            del self.keys[known.key]
            self._spent[known.key] = None
            if len(self._spent) > limits.SPENT_KEYS:
                self._spent.popitem(last=False)
            left = self._of_user[known.user] - 1
            if left:
                self._of_user[known.user] = left
            else:
                del self._of_user[known.user]
            known.agent.engines.discard(uuid)
            self._keys_differ = True
        self._deaths.pop(uuid, None)
        self._unconnected.discard(uuid)
        engine = self._board.engines.by_uuid(uuid)
        self._recovery.declared_dead(uuid)
        if engine is None:
            return
        engine.replacing = engine.replacing and known is not None and known.agent.present
        self._dispatch.engine_died(engine, started, reason, now)
        # the hub must know the ends before it forgets the engine: after a restart nobody else does
        for batch in self._board.records.batches():
            self._board.to_hub(batch)
        self._board.to_hub(messages.EngineLeft(uuid, reason[:1000]))
        if not engine.replacing:
            self._tell_of_end(engine, reason)

    def _tell_of_end(self, engine: Engine, reason: str) -> None:
        self._board.tell_everyone(messages.Roster([], [engine.id], False, {engine.id: reason[:1000]}))

    # --- replacing -------------------------------------------------------------------------------------------------

    def replace(self, engine: Engine) -> bool:
        """Have a fresh engine take the place of this one; False: its agent cannot be reached."""
        agent = self.agent_of(engine)
        if agent is None:
            return False
        agent.vacated.append(engine)
        self._board.send_to(agent.session, messages.StopEngine(engine.uuid, True), None)
        return True

    def give_up(self, engine: Engine, now: float) -> None:
        """Nobody came to take its place."""
        reason = "it was to be replaced by a fresh one, which did not come"
        engine.replacing = False
        if engine.alive:
            self.engine_gone(engine.uuid, reason, now)
        else:
            self._board.engines.remove(engine)
            self._tell_of_end(engine, reason)

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
