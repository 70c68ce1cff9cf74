"""The laws over whole lives, in random order of events: one end for each task, at most one start without retries.

The engines, agents and clients here are honest; what happens to them is not kind.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from secure_ipp import limits
from secure_ipp.wire import messages
from tests.scheduler.test_fuzz import check
from tests.scheduler.world import HOST, SimAgent, SimClient, SimEngine, World

HOSTS = (HOST, HOST + "2")
which = st.integers(0, 5)


class Book:
    """What an honest client keeps of its tasks, over all its sessions."""

    def __init__(self, world: World, user: str) -> None:
        self.user = user
        self.open: dict[str, Any] = {}  # unfinished: the request that said it
        self.ended: dict[str, messages.Outcome] = {}
        self.client: SimClient = world.client(user)
        self.count = 0

    def new_id(self) -> str:
        self.count += 1
        return f"{self.user}{self.count}"

    def say(self, request: Any) -> None:
        for task in _tasks(request):
            self.open[task] = request
        self.client.say(request)
        self.read()

    def read(self) -> None:
        for outcome in self.client.sink.take(messages.Outcome):
            assert outcome.task.startswith(self.user), "somebody else's outcome"
            assert outcome.task not in self.ended, "a second end"
            assert outcome.task in self.open
            assert outcome.known
            del self.open[outcome.task]
            self.ended[outcome.task] = outcome
        assert not self.client.sink.of(messages.Notice)

    def come_back(self, world: World) -> None:
        """A new session: all that is unfinished is said again."""
        self.client = world.client(self.user)
        said = []
        for request in self.open.values():
            if request not in said:
                said.append(request)
        for request in said:
            self.client.say(self.again(request))
        self.read()

    def again(self, request: Any) -> Any:
        fields = dict(zip(request.__struct_fields__, _values(request), strict=True)) | {"resend": 2}
        if isinstance(request, messages.Direct):
            pairs = [(t, e) for t, e in zip(request.tasks, request.engines, strict=True) if t in self.open]
            fields |= {"tasks": [t for t, _ in pairs], "engines": [e for _, e in pairs]}
        return type(request)(**fields)


def _values(request: Any) -> list[Any]:
    return [getattr(request, name) for name in request.__struct_fields__]


def _tasks(request: Any) -> list[str]:
    return [request.task] if isinstance(request, messages.Submit) else request.tasks


class Lives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.books = [Book(self.world, user) for user in ("alice", "bob")]
        self.agents: list[SimAgent] = [self.world.agent(host) for host in HOSTS]
        self.engines: list[SimEngine] = [agent.engine() for agent in self.agents]
        self.retriable: set[str] = set()
        self.direct: dict[tuple[str, str], list[str]] = {}  # (engine, user) -> direct tasks in the order sent
        self.recorded: dict[str, messages.Outcome] = {}
        self.unwanted: set[str] = set()  # aborted; if that was lost in a restart, they come when they come
        self.awaited: list[messages.EngineRecord] = []  # of an earlier scheduler, and not heard of since
        self.horizon = 0.0

    def hub_looks(self) -> None:
        """The hub forgets whom it awaited when the scheduler does; what they may have run is behind its horizon."""
        if self.awaited and not self.world.core.recovery.recovering:
            self.awaited = []
            self.horizon = self.world.now

    def engine(self, number: int) -> SimEngine | None:
        alive = [engine for engine in self.engines if engine.alive]
        return alive[number % len(alive)] if alive else None

    # --- clients ---------------------------------------------------------------------------------------------

    @rule(who=which, retries=st.sampled_from([0, 0, 0, 1, 2]), count=st.integers(1, 4), after=st.booleans())
    def submit(self, who: int, retries: int, count: int, after: bool) -> None:
        book = self.books[who % 2]
        for _ in range(count):
            task = book.new_id()
            if retries:
                self.retriable.add(task)
            waits = list(book.open)[:2] if after else []
            waits = [t for t in waits if t in self.world.core.board.owner(book.user).live]
            book.say(self.world.submit(task, retries=retries, after=waits, after_flags=7))

    @rule(who=which, first=which, second=which)
    def send_direct(self, who: int, first: int, second: int) -> None:
        book = self.books[who % 2]
        engines = {e.id: e for e in (self.engine(first), self.engine(second)) if e is not None}
        if not engines:
            return
        pairs = [(book.new_id(), engine) for engine in engines.values()]
        for task, engine in pairs:
            self.direct.setdefault((engine.uuid, book.user), []).append(task)
        book.say(self.world.direct([task for task, _ in pairs], [engine.id for _, engine in pairs]))

    @rule(who=which, every=st.booleans())
    def abort(self, who: int, every: bool) -> None:
        book = self.books[who % 2]
        named = [] if every else list(book.open)[::2]
        self.unwanted.update(named or book.open)
        book.client.say(messages.Abort(1, named))
        book.read()

    @rule(who=which)
    def lose_client(self, who: int) -> None:
        book = self.books[who % 2]
        book.read()
        book.client.leave()
        book.come_back(self.world)

    # --- engines ---------------------------------------------------------------------------------------------

    @rule(number=which, said=st.booleans())
    def start(self, number: int, said: bool) -> None:
        engine = self.engine(number)
        running = engine.start() if engine is not None else None
        if engine is not None and running is not None and said:
            engine.say(messages.Started(running.number, self.world.now))
            self.world.turn()

    @rule(number=which, status=st.sampled_from(["ok", "ok", "error", "unmet"]), count=st.integers(1, 5))
    def finish(self, number: int, status: str, count: int) -> None:
        for _ in range(count):
            engine = self.engine(number)
            if engine is None or engine.start() is None:
                return
            if status == "unmet":
                assert engine.running is not None
                self.retriable.add(engine.running.task)  # may start again elsewhere: it has not run
                engine.finish("error", error=messages.ErrorInfo("UnmetDependency", "", []))
            else:
                engine.finish(status)

    @rule(number=which)
    def listen(self, number: int) -> None:
        engine = self.engine(number)
        if engine is not None:
            engine.receive()

    @rule(number=which, told=st.booleans())
    def die(self, number: int, told: bool) -> None:
        engine = self.engine(number)
        if engine is None:
            return
        engine.die(told=told)
        if not told:
            self.world.core.engine_left(engine.sink, engine.uuid, "it did not come back", self.world.now)
            self.world.turn()

    @precondition(lambda self: len([engine for engine in self.engines if engine.alive]) < 5)
    @rule(number=which)
    def join(self, number: int) -> None:
        self.engines.append(self.agents[number % 2].engine())

    @rule(number=which)
    def lose_agent(self, number: int) -> None:
        self.agents[number % 2].leave()
        self.agents[number % 2] = self.world.agent(HOSTS[number % 2])

    # --- the hub and time ------------------------------------------------------------------------------------

    @rule()
    def hub_answers(self) -> None:
        for record in self.world.hub_keeps():
            self.recorded.setdefault(record.outcome.task, record.outcome)
        self.world.hub_answers(list(self.recorded.values()), self.horizon)

    @rule(seconds=st.sampled_from([0.1, 2.0, 40.0]))
    def time(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        self.hub_looks()

    @rule(lost=st.sets(which, max_size=2), died=st.booleans())
    def restart_scheduler(self, lost: set[int], died: bool) -> None:
        """It is killed: what was not said yet is never said; the hub has what was sent to it."""
        world = self.world
        for book in self.books:
            book.read()
        for engine in self.engines:
            if engine.alive:
                engine.receive()
        for batch in world.hub_got(messages.Records):
            for record in batch.records:
                self.recorded.setdefault(record.outcome.task, record.outcome)
        self.hub_looks()
        old = [engine for engine in self.engines if engine.alive]
        here = {engine.uuid: world.records_of([engine], engine.agent.user)[0] for engine in old}
        gone = {message.uuid for message in world.hub_got(messages.EngineLeft)}
        self.awaited = [record for record in self.awaited if record.info.uuid not in gone | here.keys()]
        world.restart([*here.values(), *self.awaited])
        if died:
            for book in self.books:
                book.come_back(world)
        self.agents = [world.agent(host) for host in HOSTS]
        for number, engine in enumerate(old):
            if number in lost:
                engine.alive = False
                self.awaited.append(here[engine.uuid])
                continue
            world.back([engine], self.agents[HOSTS.index(engine.agent.user)])
        if not died:
            for book in self.books:
                book.come_back(world)

    # --- laws ------------------------------------------------------------------------------------------------

    @invariant()
    def books_agree(self) -> None:
        check(self.world)
        for book in self.books:
            book.read()
            owner = self.world.core.board.owner(book.user)
            assert set(owner.live) <= set(book.open)

    @invariant()
    def nothing_is_started_twice(self) -> None:
        for (_, task), engines in self.world.starts.items():
            assert len(engines) == 1 or task in self.retriable, task

    @invariant()
    def direct_tasks_start_in_the_order_sent(self) -> None:
        for (uuid, user), sent in self.direct.items():
            place = {task: number for number, task in enumerate(sent) if task not in self.unwanted}
            started = [place[task] for task in self.world.order[(uuid, user)] if task in place]
            assert started == sorted(started)

    def teardown(self) -> None:
        """When all have spoken, every task has its end."""
        self.hub_answers()
        self.time(limits.RECOVERY_SECONDS + 1)
        self.hub_answers()
        self.agents.append(self.world.agent())
        self.engines.append(self.agents[-1].engine())
        for _ in range(200):
            for engine in self.engines:
                if engine.alive:
                    engine.drain()
            self.world.pass_time(1.0)
            self.hub_answers()
            if not any(self.world.core.board.owner(book.user).live for book in self.books):
                break
        self.books_agree()
        self.nothing_is_started_twice()
        for book in self.books:
            assert book.open == {}, "a task without an end"
            assert book.client.peer.charges == {}
        assert all(engine.load == 0 for engine in self.world.core.board.engines)


def step(lives: Lives, dice: random.Random) -> None:
    """One event, by chance; work is more frequent than misfortune."""
    number, flag = dice.randrange(6), dice.random() < 0.5
    match dice.choices(_EVENTS, _WEIGHTS)[0]:
        case "submit":
            lives.submit(number, dice.choice([0, 0, 0, 1]), dice.randint(1, 4), dice.random() < 0.3)
        case "direct":
            lives.send_direct(number, dice.randrange(6), dice.randrange(6))
        case "abort":
            lives.abort(number, dice.random() < 0.2)
        case "start":
            lives.start(number, flag)
        case "finish":
            lives.finish(number, dice.choice(["ok", "ok", "error", "unmet"]), dice.randint(1, 4))
        case "listen":
            lives.listen(number)
        case "die":
            lives.die(number, flag)
        case "join":
            if len([engine for engine in lives.engines if engine.alive]) < 5:
                lives.join(number)
        case "time":
            lives.time(dice.choice([0.1, 2.0, 40.0]))
        case "restart":
            lives.restart_scheduler({n for n in range(4) if dice.random() < 0.2}, flag)
        case "hub":
            lives.hub_answers()
        case "client":
            lives.lose_client(number)
        case "agent":
            lives.lose_agent(number)


_EVENTS = ["submit", "direct", "abort", "start", "finish", "listen", "die", "join", "time", "restart", "hub", "client",
           "agent"]
_WEIGHTS = [20, 12, 3, 14, 16, 6, 3, 6, 4, 3, 8, 3, 1]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(st.integers(0, 2**64))
def test_long_lives(seed: int) -> None:
    lives, dice = Lives(), random.Random(seed)
    for _ in range(80):
        step(lives, dice)
        lives.books_agree()
    lives.direct_tasks_start_in_the_order_sent()
    lives.teardown()


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True,
)
