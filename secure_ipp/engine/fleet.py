"""The engines of one agent: which there are, which there should be, and what is to be done about it.

Pure: events in, actions out; no processes, no sockets, no clock.

Laws (S12).
- Each engine has a fresh key; its public half is announced, and the engine is started only after the answer.
- After a new session everything is announced again; an engine that is not known any more, or under another id, is
  stopped, and a fresh one takes its place.
- A death is kept until the scheduler has heard of it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages


class State(enum.Enum):
    """An engine's way."""

    ANNOUNCED = "announced"  # its key waits for an answer
    STARTING = "starting"  # its process was asked for
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


_NEXT = {
    State.ANNOUNCED: {State.STARTING, State.ENDED},
    State.STARTING: {State.RUNNING, State.STOPPING, State.ENDED},
    State.RUNNING: {State.STOPPING, State.ENDED},
    State.STOPPING: {State.ENDED},
    State.ENDED: set[State](),
}


class Member:
    """One engine.

    Attributes:
        restart: another takes its place when it has ended.
        asked: its end was asked for.
        disowned: the controller has ended its tasks without knowing of its end, and need not hear of it.
    """

    __slots__ = ("asked", "disowned", "keys", "pid", "restart", "state", "uuid")

    def __init__(self, keys: KeyPair) -> None:
        self.keys = keys
        self.uuid = ""
        self.pid = 0
        self.state = State.ANNOUNCED
        self.restart = False
        self.asked = False
        self.disowned = False

    def to(self, state: State) -> None:
        if state not in _NEXT[self.state]:
            raise RuntimeError(f"an engine cannot go from {self.state.value} to {state.value}")
        self.state = state


@dataclass(frozen=True, slots=True)
class Say:
    """Send this to the scheduler; `death` names the engine whose death it tells of."""

    message: messages.Message
    death: str = ""


@dataclass(frozen=True, slots=True)
class StartEngine:
    """Start a process for this engine."""

    member: Member


@dataclass(frozen=True, slots=True)
class SignalProcess:
    member: Member
    signum: int


@dataclass(frozen=True, slots=True)
class StopProcess:
    """Ask it to end, and kill it if it does not."""

    member: Member


@dataclass(frozen=True, slots=True)
class Complain:
    """Tell the user that there will be no such engine."""

    reason: str


@dataclass(frozen=True, slots=True)
class Remark:
    """Tell the user what happens; nothing is wrong with it."""

    text: str


Action = Say | StartEngine | SignalProcess | StopProcess | Complain | Remark


class Fleet:
    """All engines of this agent.

    Args:
        join: makes the first message of a session from the deaths not yet heard of.
        new_keys: makes key pairs.
    """

    def __init__(
        self, join: Callable[[list[messages.EngineDeath]], messages.Join], new_keys: Callable[[], KeyPair]
    ) -> None:
        self._join = join
        self._new_keys = new_keys
        self._members: dict[bytes, Member] = {}  # by public key
        self._deaths: dict[str, messages.EngineDeath] = {}
        self.crashed = 0  # ended, and nobody had asked for it
        self.stopping = False

    def begin(self, engines: int) -> None:
        """So many are wanted."""
        for _ in range(engines):
            self._add()

    @property
    def empty(self) -> bool:
        return not self._members

    @property
    def members(self) -> list[Member]:
        return list(self._members.values())

    def by_uuid(self, uuid: str) -> Member | None:
        return next((member for member in self._members.values() if uuid and member.uuid == uuid), None)

    # --- the scheduler -------------------------------------------------------------------------------------

    def welcome(self, resumed: bool) -> list[Action]:
        """A session is there."""
        if resumed:
            return []
        keys = [key for key, member in self._members.items() if member.state is not State.STOPPING]
        said: list[Action] = [Say(self._join(list(self._deaths.values())))]
        if keys:
            said.append(Say(messages.Announce(keys)))
        return said

    def announced(self, message: messages.Announced) -> list[Action]:
        """The answer for one key."""
        member = self._members.get(message.key)
        if member is None:
            return []
        if member.state is not State.ANNOUNCED:
            return [] if member.uuid == message.uuid else self._replace(member, message)
        if not message.uuid:
            self._end(member)
            return [Complain(message.reason or "the scheduler refused an engine's key")]
        member.uuid = message.uuid
        member.to(State.STARTING)
        return [StartEngine(member)]

    def _replace(self, member: Member, message: messages.Announced) -> list[Action]:
        """The controller was away for too long, or has lost its memory; the tasks of this engine have ended there."""
        if member.state is State.STOPPING:
            return []
        reason = message.reason or "the controller does not remember it"
        member.restart, member.disowned = not self.stopping, True
        actions: list[Action] = [Remark(f"engine {member.uuid} is replaced by a fresh one: {reason}")]
        if message.uuid:
            actions.append(Say(messages.EngineDied(messages.EngineDeath(message.uuid, 0, 0, reason))))
        return [*actions, *self._stop(member)]

    def heard_of_death(self, uuid: str) -> None:
        """The scheduler has it."""
        self._deaths.pop(uuid, None)

    def signal(self, message: messages.SignalEngine) -> list[Action]:
        member = self.by_uuid(message.uuid)
        if member is None or member.state is not State.RUNNING:
            return []
        return [SignalProcess(member, message.signum)]

    def stop(self, message: messages.StopEngine) -> list[Action]:
        """End an engine, perhaps for another one to take its place."""
        member = self.by_uuid(message.uuid)
        if member is None:
            return []
        member.restart = message.restart
        return self._stop(member)

    def stop_all(self) -> list[Action]:
        """It is over."""
        self.stopping = True
        actions: list[Action] = []
        for member in self.members:
            member.restart = False
            if member.state is State.ANNOUNCED:
                self._end(member)
            else:
                actions += self._stop(member)
        return actions

    # --- processes -----------------------------------------------------------------------------------------

    def running(self, uuid: str, pid: int) -> list[Action]:
        """Its process is there."""
        member = self.by_uuid(uuid)
        if member is None:
            return []
        member.pid = pid
        if member.state is State.STARTING:
            member.to(State.RUNNING)
        return [Say(messages.EngineStarted(uuid, pid))]

    def exited(self, uuid: str, status: int, started: int, reason: str = "") -> list[Action]:
        """Its process is gone.

        Args:
            status: exit code, or minus the signal.
            started: the highest assignment number that it had started.
        """
        member = self.by_uuid(uuid)
        if member is None:
            return []
        actions: list[Action] = []
        if not member.disowned:
            death = messages.EngineDeath(uuid, started, status, reason or _in_words(status, member.asked))
            self._deaths[uuid] = death
            actions.append(Say(messages.EngineDied(death), uuid))
        if not member.asked and status != 0:
            self.crashed += 1
        self._end(member)
        if member.restart and not self.stopping:
            actions.append(Say(messages.Announce([self._add()])))
        return actions

    def _add(self) -> bytes:
        keys = self._new_keys()
        self._members[keys.public.raw] = Member(keys)
        return keys.public.raw

    def _stop(self, member: Member) -> list[Action]:
        if member.state not in (State.STARTING, State.RUNNING):
            return []
        member.asked = True
        member.to(State.STOPPING)
        return [StopProcess(member)]

    def _end(self, member: Member) -> None:
        member.to(State.ENDED)
        del self._members[member.keys.public.raw]


def _in_words(status: int, asked: bool) -> str:
    if asked:
        return "it was stopped"
    if status < 0:
        return f"it was killed by signal {-status}"
    return "it ended" if status == 0 else f"it ended with exit code {status}"
