"""A world for the scheduler's core: clients, agents, engines and a hub as plain objects, and time by hand.

Engines do what engines do (run in number order, keep results until `Kept`, give back what has not started) when a
test says so; every start is written down.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from secure_ipp.errors import Refused
from secure_ipp.scheduler.core import Core
from secure_ipp.wire import messages

KEY = b"k" * 32
HOST = "agents"
RIGHTS = ["task", "direct", "control"]
BIG = [300_000]
_TAKEN = (messages.Assign, messages.Cancel, messages.Kept, messages.Registered)


def grant(
    user: str, rights: list[str] | None = None, key: bytes = b"", *, own: bool = False, parent: str = "",
) -> messages.GrantInfo:
    role = "agent" if user.startswith(HOST) else "client"
    given = ["join"] if role == "agent" else RIGHTS if rights is None else rights
    made = messages.GrantInfo(user, user, role, key or hashlib.sha256(user.encode()).digest(), given, 0.0)
    return msgspec.structs.replace(made, tenancy="own" if own else "shared", parent=parent)


def code_of(function: bytes) -> bytes:
    return hashlib.sha256(function).digest()


class Sink:
    """A session, as the core knows it: something that messages go to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.got: list[Any] = []
        self.frames: list[Any] = []

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.got if type(message) is kind]

    def take(self, kind: type) -> list[Any]:
        found = self.of(kind)
        self.got = [message for message in self.got if type(message) is not kind]
        return found


@dataclass(eq=False)
class SimEngine:
    """An engine; it does nothing of itself."""

    world: World
    sink: Sink
    uuid: str
    key: bytes
    agent: SimAgent
    queue: dict[int, messages.Assign] = field(default_factory=dict)
    running: messages.Assign | None = None
    highest: int = 0
    started: int = 0
    results: dict[int, messages.Result] = field(default_factory=dict)
    alive: bool = True
    id: int = -1

    def say(self, message: Any, frame: Any = None) -> None:
        self.world.core.engine_message(self.sink, self.uuid, message, frame, self.world.now)

    def report(self, **changes: Any) -> None:
        live = [self._live(self.running, "started")] if self.running is not None else []
        live += [self._live(assign, "queued") for assign in self.queue.values()]
        report = messages.Report("host", 1, self.highest, self.started, live, sorted(self.results))
        self.say(msgspec.structs.replace(report, **changes))
        for result in list(self.results.values()):
            self.say(result)
        self.world.turn()

    @staticmethod
    def _live(assign: messages.Assign, state: Any) -> messages.LiveTask:
        return messages.LiveTask(
            assign.owner, assign.task, assign.attempt, assign.number, assign.ticket, state
        )

    def receive(self) -> None:
        """Take in what came, until nothing more comes."""
        while any(isinstance(message, _TAKEN) for message in self.sink.got):
            got, self.sink.got = self.sink.got, []
            self._take(got)
            self.sink.got = [m for m in got if not isinstance(m, _TAKEN)] + self.sink.got
            self.world.turn()

    def _take(self, got: list[Any]) -> None:
        for message in got:
            match message:
                case messages.Assign():
                    assert message.number == self.highest + 1, "numbers rise by one"
                    self.highest = message.number
                    self.queue[message.number] = message
                case messages.Cancel():
                    back = [number for number in message.numbers if self.queue.pop(number, None) is not None]
                    if back:
                        self.say(messages.Cancelled(back))
                case messages.Kept():
                    for number in message.numbers:
                        self.results.pop(number, None)
                case messages.Registered():
                    self.id = message.id

    def start(self) -> messages.Assign | None:
        """Start the next task, if there is one."""
        self.receive()
        if self.running is None and self.queue:
            number = min(self.queue)
            self.running = self.queue.pop(number)
            self.started = number
            self.world.starts[(self.running.owner, self.running.task)].append(self)
            self.world.order[(self.uuid, self.running.owner)].append(self.running.task)
        return self.running

    def result(self, assign: messages.Assign, status: Any = "ok", **changes: Any) -> messages.Result:
        error = None if status == "ok" else messages.ErrorInfo("ValueError", "bad", ["bad"])
        made = messages.Result(
            assign.number, assign.owner, assign.task, assign.attempt, assign.ticket, status, self.world.now,
            self.world.now + 1.0, [] if changes.get("sizes") else [b"value of " + assign.task.encode()], [], error,
        )
        return msgspec.structs.replace(made, **changes)

    def finish(self, status: Any = "ok", **changes: Any) -> messages.Assign:
        """Finish the running task, or the next one."""
        assign = self.start()
        assert assign is not None, "nothing to finish"
        self.running = None
        result = self.result(assign, status, **changes)
        self.results[assign.number] = result
        self.say(result)
        self.world.turn()
        self.receive()
        return assign

    def drain(self) -> list[str]:
        """Run everything; the ids, in order."""
        done = []
        while self.start() is not None:
            done.append(self.finish().task)
        return done

    @property
    def tasks(self) -> list[str]:
        """What it has: running first."""
        self.receive()
        running = [] if self.running is None else [self.running.task]
        return running + [assign.task for assign in self.queue.values()]

    def die(self, *, told: bool = True) -> None:
        """Its process ends; its agent tells, with the number started."""
        self.alive = False
        self.world.core.engine_lost(self.sink, self.uuid, self.world.now)
        if told:
            death = messages.EngineDeath(self.uuid, self.started, -9)
            self.agent.say(messages.EngineDied(death))
        self.world.turn()


@dataclass(eq=False)
class SimAgent:
    world: World
    user: str
    sink: Sink
    peer: Any
    engines: list[SimEngine] = field(default_factory=list)

    def say(self, message: Any) -> None:
        self.world.core.agent_message(self.peer, message, self.world.now)

    def announce(self, *keys: bytes) -> list[messages.Announced]:
        self.sink.take(messages.Announced)
        self.say(messages.Announce(list(keys)))
        self.world.core.agents.turn()
        return self.sink.take(messages.Announced)

    def engine(self, **report: Any) -> SimEngine:
        """One more engine, which reports."""
        world = self.world
        world.engine_count += 1
        key = hashlib.sha256(f"engine {world.engine_count}".encode()).digest()
        (announced,) = self.announce(key)
        assert announced.uuid, announced.reason
        engine = SimEngine(world, Sink(announced.uuid), announced.uuid, key, self)
        self.engines.append(engine)
        engine.report(**report)
        engine.receive()
        return engine

    def obey(self) -> list[SimEngine]:
        """End the engines that it was asked to end, and make those that take their places."""
        made = []
        for order in self.sink.take(messages.StopEngine):
            engine = next((engine for engine in self.engines if engine.uuid == order.uuid), None)
            if engine is not None and engine.alive:
                self.engines.remove(engine)
                engine.die()
                if order.restart:
                    made.append(self.engine())
        return made

    def leave(self) -> None:
        self.world.core.agents.left(self.peer, "gone", self.world.now)
        for engine in self.engines:
            engine.alive = False
        self.world.turn()


@dataclass(eq=False)
class SimClient:
    world: World
    user: str
    sink: Sink
    peer: Any

    def say(self, message: Any, frame: Any = None) -> None:
        self.world.core.client_message(self.peer, message, frame, self.world.now)
        self.world.turn()

    def submit(self, task: str, **fields: Any) -> None:
        self.say(self.world.submit(task, **fields))

    def direct(self, tasks: list[str], engines: list[int], **fields: Any) -> None:
        self.say(self.world.direct(tasks, engines, **fields))

    def outcomes(self, task: str | None = None) -> list[messages.Outcome]:
        return [outcome for outcome in self.sink.of(messages.Outcome) if task is None or outcome.task == task]

    def status_of(self, task: str) -> str:
        (outcome,) = self.outcomes(task)
        return outcome.status

    def error_of(self, task: str) -> str:
        (outcome,) = self.outcomes(task)
        return "" if outcome.error is None else outcome.error.ename

    def answer(self, message: Any) -> Any:
        self.sink.take(messages.Answer)
        self.say(message)
        (answer,) = self.sink.take(messages.Answer)
        return msgspec.msgpack.decode(answer.body, strict=False) if answer.body else None

    def leave(self) -> None:
        self.world.core.client_left(self.peer, self.world.now)
        self.world.turn()


class World:
    """A core and all around it.

    Args:
        remembered: what a hub remembers of engines of before.
    """

    def __init__(
        self, *, scheme: str = "leastload", grants: list[messages.GrantInfo] | None = None, now: float = 1000.0,
        remembered: list[messages.EngineRecord] | None = None,
    ) -> None:
        self.now = now
        self.starts: dict[tuple[str, str], list[SimEngine]] = defaultdict(list)
        self.order: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.engine_count = 0
        self.sessions = 0
        self.scheme = scheme
        self.grants = grants or [grant("alice"), grant("bob"), grant(HOST), grant(HOST + "2")]
        self.restart(remembered or [])

    def restart(self, remembered: list[messages.EngineRecord]) -> None:
        """A new core, with the old ticket key."""
        self.to_hub: list[Any] = []
        self.key_changes = 0
        self.core = Core(
            send=_send, to_hub=self.to_hub.append, ticket_key=KEY, scheme=self.scheme, rng=random.Random(7),
            keys_changed=self._keys_changed, now=self.now,
        )
        self.core.hub_welcome(False)
        self.core.hub_message(messages.HubRoster(remembered), self.now)
        self.core.hub_message(messages.Grants(1, self.grants, []), self.now)
        self.turn()

    def _keys_changed(self) -> None:
        self.key_changes += 1

    def turn(self) -> None:
        self.core.turn(self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.core.tick(self.now)
        self.turn()

    # --- peers -----------------------------------------------------------------------------------------------

    def client(self, user: str = "alice") -> SimClient:
        self.sessions += 1
        sink = Sink(f"{user} {self.sessions}")
        return SimClient(self, user, sink, self.core.client_joined(sink, user, self.sessions.to_bytes(16, "big")))

    def agent(self, user: str = HOST) -> SimAgent:
        sink = Sink(user)
        agent = SimAgent(self, user, sink, self.core.agent_joined(sink, user))
        agent.say(messages.Join("host", 1, []))
        return agent

    def engines(self, count: int) -> list[SimEngine]:
        agent = self.agent()
        return [agent.engine() for _ in range(count)]

    def back(self, engines: list[SimEngine], agent: SimAgent) -> None:
        """After a restart: these announce their keys again, connect and report."""
        for engine in engines:
            (announced,) = agent.announce(engine.key)
            assert announced.uuid == engine.uuid, announced
            engine.agent, engine.sink = agent, Sink(engine.uuid)
            agent.engines.append(engine)
            engine.report()
            engine.receive()

    def records_of(self, engines: list[SimEngine], user: str = HOST) -> list[messages.EngineRecord]:
        """What the hub remembers of them."""
        return [
            messages.EngineRecord(messages.EngineInfo(engine.id, engine.uuid, "host", 1), engine.key, user)
            for engine in engines
        ]

    # --- messages --------------------------------------------------------------------------------------------

    def submit(self, task: str, **fields: Any) -> messages.Submit:
        body = [] if fields.get("sizes") else [b"args"]
        return msgspec.structs.replace(messages.Submit(task, "apply", b"", body, [], self.now), **fields)

    def direct(self, tasks: list[str], engines: list[int], **fields: Any) -> messages.Direct:
        body = [] if fields.get("sizes") else [b"args"]
        return msgspec.structs.replace(messages.Direct(tasks, engines, "apply", b"", body, [], self.now), **fields)

    # --- the hub ---------------------------------------------------------------------------------------------

    def hub_got(self, kind: type) -> list[Any]:
        return [message for message in self.to_hub if type(message) is kind]

    def hub_keeps(self) -> list[messages.TaskRecord]:
        """The hub takes all records and acknowledges them."""
        self.core.flush_records()
        batches = self.hub_got(messages.Records)
        self.to_hub[:] = [message for message in self.to_hub if not isinstance(message, messages.Records)]
        for batch in batches:
            self.core.hub_message(messages.RecordsKept(batch.number), self.now)
        self.turn()
        return [record for batch in batches for record in batch.records]

    def hub_answers(self, known: list[messages.Outcome] | None = None, horizon: float = 0.0) -> list[messages.Lookup]:
        """The hub answers all look-ups with these ends."""
        lookups = self.hub_got(messages.Lookup)
        self.to_hub[:] = [message for message in self.to_hub if not isinstance(message, messages.Lookup)]
        for lookup in lookups:
            found = [outcome for outcome in known or [] if outcome.task in lookup.tasks]
            self.core.hub_message(messages.Found(lookup.request, lookup.owner, found, horizon), self.now)
        self.turn()
        return lookups


def _send(sink: Sink, message: Any, frame: Any) -> None:
    sink.got.append(message)
    if frame is not None:
        sink.frames.append(frame)


def refused(action: Any) -> str:
    """The code of the refusal that this must meet with."""
    try:
        action()
    except Refused as refusal:
        return refusal.code
    raise AssertionError("it was not refused")
