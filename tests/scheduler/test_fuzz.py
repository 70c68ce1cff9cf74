"""No peer can end the scheduler: valid messages in any state meet with an answer, silence, or a refusal.

Whoever speaks is a client, an engine or an agent that the gate admitted; what is said is what a decoder would let
through.  An exception other than `Refused` or `ProtocolError` would be the end of the process.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.errors import ProtocolError, Refused
from secure_ipp.wire import messages
from secure_ipp.wire.codec import encode_message
from tests.scheduler.world import HOST, SimEngine, World, code_of

CODES = [b"one", b"two"]
ODD_NUMBERS = [2**62, 0, 7]
ODD_TIMES = [float("inf"), float("nan"), -1.0, 0.0, 3000.0]
STEPS = 150


class Speech:
    """Says what peers might say: mostly sensible, often stale, sometimes absurd; from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0

    def pick(self, *options: Any) -> Any:
        return self.random.choice(options)

    def odds(self, percent: int) -> bool:
        return self.random.random() * 100 < percent

    def task(self) -> str:
        """One of the last few, or a new one."""
        if self.odds(30) or not self.count:
            self.count += 1
            return f"t{self.count}"
        return f"t{max(1, self.count - self.random.randrange(8))}"

    def several(self, most: int = 3) -> list[str]:
        return [self.task() for _ in range(self.random.randint(0, most))]

    def number(self) -> int:
        return self.pick(*ODD_NUMBERS) if self.odds(10) else self.random.randint(1, 12)

    def time(self) -> float:
        return self.pick(*ODD_TIMES) if self.odds(20) else self.random.uniform(900.0, 1100.0)

    def engine_ids(self, most: int = 3) -> list[int]:
        return [self.random.randint(0, 4) for _ in range(self.random.randint(0, most))]

    def digest(self) -> bytes:
        return self.pick(b"", b"", b"", *map(code_of, CODES), b"d" * 32 if self.odds(10) else b"")

    def body(self) -> dict[str, Any]:
        if self.odds(5):
            return self.pick({"body": [b"x"], "sizes": [5]}, {"body": [], "sizes": [0]}, {"body": [b"x" * 131_072] * 2})
        return self.pick({"body": [b"x"]}, {"body": []}, {"body": [], "sizes": [300_000]})

    def submit(self) -> Any:
        made = messages.Submit(
            self.task(), "apply", self.digest(), [], [], self.time(), resend=self.pick(0, 0, 0, 1, 2),
            retries=self.pick(0, 0, 1), timeout=self.pick(0.0, 0.0, 1.0),
            after=self.several(2) if self.odds(30) else [], follow=self.several(2) if self.odds(20) else [],
            after_flags=self.pick(5, 5, 7, self.random.randint(0, 7)), follow_flags=self.pick(5, 4, 7),
            targets=self.engine_ids() if self.odds(30) else [],
        )
        return msgspec.structs.replace(made, **self.body())

    def direct(self) -> Any:
        engines = self.engine_ids() or [0]
        tasks = [self.task() for _ in engines]
        if not self.odds(3):
            tasks, engines = list(dict.fromkeys(tasks)), engines[: len(set(tasks))]
        made = messages.Direct(
            tasks, engines, "apply", self.digest(), [], [], self.time(), broadcast=self.odds(20),
            resend=self.pick(0, 0, 0, 1, 2),
        )
        return msgspec.structs.replace(made, **self.body())

    def of_client(self) -> Any:
        code, request = self.pick(*CODES), self.random.randint(0, 5)
        if self.odds(55):
            return self.pick(self.submit, self.submit, self.direct)()
        return self.pick(
            messages.Function(code_of(code), code), messages.Function(code_of(code), code),
            messages.Function(self.digest(), code) if self.odds(10) else messages.Function(code_of(code), code),
            messages.Chunk(self.task(), self.pick(0, 0, 100_000, 200_000)),
            messages.Credit(self.task(), self.number()), messages.Pull(self.task()), messages.Pull(self.task()),
            messages.Received(self.several()), messages.Attach(self.several()),
            messages.Abort(request, self.several() if self.odds(95) else [], self.pick([], [], self.engine_ids())),
            messages.QueueStatus(request, self.engine_ids(), self.odds(50)),
            messages.Signal(request, self.engine_ids(), 2), messages.Ask(request, b"?"),
            messages.Shutdown(request, self.engine_ids(), self.odds(50), self.odds(50)), messages.Goodbye(),
        )

    def of_engine(self) -> Any:
        error = messages.ErrorInfo(self.pick("ValueError", "UnmetDependency"), "x", ["x"])
        owner = self.pick("alice", "bob", "nobody")
        return self.pick(
            msgspec.structs.replace(
                messages.Result(
                    self.number(), owner, self.task(), self.pick(1, 1, 2), b"", self.pick("ok", "error", "lost"),
                    self.time(), self.time(), [], [], self.pick(None, error)
                ), **self.body(),
            ),
            messages.Started(self.number(), self.time()), messages.EngineOutput(self.number(), "stdout", "text"),
            messages.EngineDisplay(self.number(), "error", "{}"), messages.Cancelled([self.number()]),
            messages.EngineNeedsFunction(owner, self.digest()), messages.EngineNeedsFunction("alice", self.digest()),
            messages.EngineChunk(self.number(), self.pick(0, 0, 100_000, 200_000)), messages.EnginePull(self.number()),
            messages.EngineCredit(self.number(), self.number()), messages.EngineCredit(self.number(), 300_000),
            messages.Report("h", 1, self.number(), self.number(), [], [self.number()]), messages.Goodbye(),
        )

    def step(self) -> tuple[str, int, Any, int]:
        which = self.random.randint(0, 3)
        kind = self.random.choices(
            ["client", "honest", "flow", "engine", "agent", "death", "world"], [40, 25, 15, 6, 2, 2, 10]
        )[0]
        what = {
            "client": self.of_client, "engine": self.of_engine,
            "honest": lambda: self.pick("start", "ok", "ok", "error", "unmet", "large", "started", "receive"),
            "flow": lambda: self.pick("up", "up", "down", "down", "function", "pull", "received"),
            "agent": lambda: messages.Announce([bytes([self.random.randrange(4)]) * 32]),
            "death": lambda: self.random.randint(0, 5),
            "world": lambda: self.pick(
                "time", "hub", "hub", "leave", "more", "lost", "agent gone", "keep", "keep", "restart", "restart all",
                "grants", "hub new", "die",
            ),
        }[kind]()
        return kind, which, what, self.pick(100_000, 100_000, 100_000, 0, 300_000)


class Play:
    """Carries the steps out; only refusals may come back, and they cut whoever earned them."""

    def __init__(self) -> None:
        self.world = World()
        self.begin()

    def begin(self) -> None:
        self.clients = [self.world.client(user) for user in ("alice", "alice", "bob")]
        self.agents = [self.world.agent(), self.world.agent(HOST + "2")]
        self.engines: list[SimEngine] = [self.agents[0].engine(), self.agents[1].engine()]

    def step(self, kind: str, which: int, what: Any, size: int) -> None:
        try:
            self.act(kind, which, what, size)
        except (Refused, ProtocolError) as refusal:
            assert refusal.code
            if kind == "client":
                client = self.clients[which % len(self.clients)]
                client.leave()
                self.clients[self.clients.index(client)] = self.world.client(client.user)
            elif kind == "engine":
                engine = self.engines[which % len(self.engines)]
                self.world.core.engine_left(engine.sink, engine.uuid, "cut", self.world.now)
        self.world.turn()

    def act(self, kind: str, which: int, what: Any, size: int) -> None:
        world = self.world
        if kind == "client":
            self.clients[which % len(self.clients)].say(what, b"x" * size)
        elif kind == "engine":
            engine = self.engines[which % len(self.engines)]
            if isinstance(what, messages.Result):
                ticket = world.core.board.tickets.make(what.owner, what.task, what.attempt, engine.uuid, what.number)
                what = msgspec.structs.replace(what, ticket=ticket)  # it had such a task, once
            engine.say(what, b"x" * size)
        elif kind == "honest":
            self.honest(self.engines[which % len(self.engines)], what)
        elif kind == "flow":
            self.flow(which, what)
        elif kind == "agent":
            self.agents[which % 2].say(what)
        elif kind == "death":
            engine = self.engines[which % len(self.engines)]
            death = messages.EngineDeath(engine.uuid, what, -9)
            self.agents[which % 2].say(messages.EngineDied(death) if what % 2 else messages.Join("h", 1, [death]))
        else:
            self.happen(which, what)

    def honest(self, engine: SimEngine, what: str) -> None:
        if not engine.alive or self.world.core.board.engines.by_uuid(engine.uuid) is None:
            return
        engine.receive()
        assign = None if what == "receive" else engine.start()
        if assign is None or what == "start":
            return
        if what == "started":
            engine.say(messages.Started(assign.number, self.world.now))
            return
        changes: dict[str, Any] = {}
        if what == "unmet":
            changes = {"error": messages.ErrorInfo("UnmetDependency", "", [])}
        elif what == "large":
            changes = {"sizes": [300_000], "body": []}
        engine.finish("ok" if what in ("ok", "large") else "error", **changes)

    def flow(self, which: int, what: str) -> None:
        """What honest peers answer to what they were sent."""
        client, engine = self.clients[which % len(self.clients)], self.engines[which % len(self.engines)]
        for message in client.sink.got:
            if what == "up" and isinstance(message, messages.Pull):
                client.say(messages.Chunk(message.task, 0), b"x" * 100_000)
                client.say(messages.Chunk(message.task, 100_000), b"x" * 200_000)
            elif what == "function" and isinstance(message, messages.NeedFunction):
                for code in CODES:
                    client.say(messages.Function(code_of(code), code))
            elif what in ("pull", "received") and isinstance(message, messages.Outcome) and message.sizes:
                client.say(messages.Pull(message.task) if what == "pull" else messages.Received([message.task]))
        if what == "down" and self.world.core.board.engines.by_uuid(engine.uuid) is not None:
            for message in engine.sink.got:
                if isinstance(message, messages.EnginePull):
                    engine.say(messages.EngineChunk(message.number, 0), b"x" * 300_000)
                elif isinstance(message, messages.EngineChunk):
                    engine.say(messages.EngineCredit(message.number, 100_000))

    def happen(self, which: int, what: str) -> None:
        world = self.world
        match what:
            case "time":
                world.pass_time(10.0 * which)
            case "hub":
                world.hub_answers(horizon=500.0 * which)
            case "keep":
                records = [record.outcome for record in world.hub_keeps()]
                world.hub_answers(records)
            case "leave":
                self.clients.pop(which % len(self.clients)).leave()
                self.clients.append(world.client("alice"))
            case "more":
                self.engines.append(self.agents[which % 2].engine())
            case "lost":
                engine = self.engines[which % len(self.engines)]
                world.core.engine_lost(engine.sink, engine.uuid, world.now)
                if which % 2:
                    world.core.engine_left(engine.sink, engine.uuid, "lost", world.now)
            case "agent gone":
                self.agents[which % 2].leave()
                self.agents[which % 2] = world.agent([HOST, HOST + "2"][which % 2])
                self.engines.append(self.agents[which % 2].engine())
            case "grants":
                grants = world.grants[which % 2 :]
                world.core.hub_message(messages.Grants(which, grants, []), world.now)
                world.core.hub_message(messages.Grants(which + 1, world.grants, []), world.now)
            case "hub new":
                world.core.hub_welcome(False)
            case "die":
                engine = self.engines[which % len(self.engines)]
                if engine.uuid in engine.agent.peer.engines and world.core.agents.key_of(engine.uuid) is not None:
                    engine.die()
            case "restart" | "restart all":
                old = [engine for engine in self.engines if world.core.board.engines.by_uuid(engine.uuid) is not None]
                for engine in old:
                    engine.receive()
                world.restart([record for engine in old for record in world.records_of([engine], engine.agent.user)])
                self.begin()
                for engine in old if what == "restart all" else old[:1]:
                    agent = next(agent for agent in self.agents if agent.user == engine.agent.user)
                    world.back([engine], agent)
                    self.engines.append(engine)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(st.integers(0, 2**64))
def test_no_peer_can_end_the_scheduler(seed: int) -> None:
    play, speech = Play(), Speech(seed)
    for _ in range(STEPS):
        play.step(*speech.step())
        check(play.world)


def check(world: World) -> None:
    """What must hold in any state."""
    board = world.core.board
    for engine in board.engines:
        assert engine.load == len(engine.outstanding)
        assert all(task.engine is engine and task.number == number for number, task in engine.outstanding.items())
    held: dict[tuple[str, bytes], int] = {}
    for user, owner in board.owners.items():
        for task in owner.live.values():
            if task.function:
                held[(user, task.function)] = held.get((user, task.function), 0) + 1
            if task.engine is not None:
                assert task.engine.outstanding[task.number] is task
        charged = sum(1 for task in owner.live.values() if task.charge is not None)
        assert owner.account.tasks >= charged
    assert board.functions._held == held
    live = sum(len(owner.live) for owner in board.owners.values())
    placed = sum(engine.load for engine in board.engines)
    blocked = {task for waiters in world.core.dispatch._blocked.values() for task in waiters}
    queued = len(world.core.dispatch.placing)
    assert live == placed + len(blocked) + queued
    for message in world.to_hub:
        assert len(encode_message(message)) < limits.MAX_FRAME_BYTES
