"""Engines of one's own (S27): no engine holds two tenants' work, nobody starves, and tasks end as they do elsewhere."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from secure_ipp import limits
from secure_ipp.scheduler.tenancy import NOBODY, SHARED, UNKNOWN, Tenancy
from secure_ipp.wire import messages
from tests.scheduler.world import HOST, SimAgent, SimEngine, World, grant

ALONE = [grant("alice"), grant("bob"), grant("carol", own=True), grant("dave", own=True), grant(HOST)]


def town(
    engines: int, grants: list[messages.GrantInfo] | None = None, scheme: str = "leastload"
) -> tuple[World, SimAgent]:
    world = World(grants=grants or ALONE, scheme=scheme)
    agent = world.agent()
    for _ in range(engines):
        agent.engine()
    return world, agent


def at(agent: SimAgent, engine_id: int) -> SimEngine:
    return next(engine for engine in agent.engines if engine.id == engine_id)


def settle(world: World, agent: SimAgent, seconds: float, *, run: bool = True) -> None:
    """Let time pass while engines work and the agent does as it is told."""
    for _ in range(round(seconds / 0.1)):
        if run:
            for engine in agent.engines:
                if engine.start() is not None:
                    engine.finish()
        world.pass_time(0.1)
        agent.obey()


def owners_of(engine: SimEngine) -> set[str]:
    return {owner for (uuid, owner) in engine.world.order if uuid == engine.uuid}


# --- who is whose tenant -----------------------------------------------------------------------------------


def test_sharers_are_one_tenant_and_a_derived_identity_is_its_roots() -> None:
    tenancy = Tenancy()
    grants = [grant("a"), grant("b"), grant("c", own=True), grant("c1", own=True, parent="c"),
              grant("c2", own=True, parent="c1"), grant("a1", parent="a"), grant("d", own=True)]
    assert tenancy.registry({one.id: one for one in grants}, ())
    assert [tenancy.of(one.id) for one in grants] == [SHARED, SHARED, "c", "c", "c", SHARED, "d"]
    assert tenancy.of("nobody-known") == "nobody-known"


def test_nobody_is_kept_apart_while_all_share() -> None:
    tenancy = Tenancy()
    assert not tenancy.registry({"a": grant("a"), HOST: grant(HOST)}, ())
    assert not tenancy.registry({"a": grant("a", own=True)}, ())
    assert tenancy.of("a") == SHARED, "it does not change while it is known"


# --- the law -----------------------------------------------------------------------------------------------


def test_s27_an_engine_gets_one_tenants_work_only() -> None:
    world, agent = town(2)
    carol, alice, bob = world.client("carol"), world.client("alice"), world.client("bob")
    for number in range(20):
        carol.submit(f"c{number}")
        alice.submit(f"a{number}")
        bob.submit(f"b{number}")
    for engine in agent.engines:
        engine.drain()
    assert {frozenset(owners_of(engine)) for engine in agent.engines} == {
        frozenset({"carol"}), frozenset({"alice", "bob"})
    }


def test_s27_a_direct_task_waits_until_the_engine_is_a_fresh_one_under_the_same_id() -> None:
    world, agent = town(2)
    carol, alice = world.client("carol"), world.client("alice")
    alice.direct(["a0", "a1"], [0, 1])
    for engine in agent.engines:
        engine.drain()
    first = at(agent, 0)
    carol.direct(["c0"], [0])
    carol.direct(["c1"], [0])
    assert first.tasks == [] and carol.outcomes() == []
    settle(world, agent, 0.2, run=False)
    assert first.alive, "alice may be between two calls"
    alice.sink.take(messages.Roster)
    settle(world, agent, 0.6, run=False)
    fresh = at(agent, 0)
    assert fresh.uuid != first.uuid and not first.alive
    assert fresh.drain() == ["c0", "c1"]
    assert at(agent, 1).alive and owners_of(at(agent, 1)) == {"alice"}, "the other one stays"
    (roster,) = alice.sink.of(messages.Roster)
    assert roster.left == [] and [info.id for info in roster.joined] == [0], "for clients the id never went"
    (notice,) = alice.sink.of(messages.Notice)
    assert "engine 0 was given to another identity" in notice.text
    assert not carol.sink.of(messages.Notice)


def test_s27_order_is_kept_while_an_engine_changes_hands_and_after() -> None:
    world, agent = town(1)
    carol, alice = world.client("carol"), world.client("alice")
    alice.direct(["a"], [0])
    at(agent, 0).drain()
    for number in range(5):
        carol.direct([f"c{number}"], [0])
    settle(world, agent, 1.0, run=False)
    for number in range(5, 40):
        carol.direct([f"c{number}"], [0])
    assert at(agent, 0).drain() == [f"c{number}" for number in range(40)]


def test_s27_a_busy_engine_is_given_up_when_what_it_was_sent_has_ended() -> None:
    world, agent = town(1)
    carol, alice = world.client("carol"), world.client("alice")
    engine = at(agent, 0)
    for number in range(10):
        alice.submit(f"a{number}")
    engine.start()
    carol.submit("c")
    for _ in range(40):
        world.pass_time(0.1)
        engine.receive()
    assert engine.alive and engine.tasks == ["a0"], "what had not started was taken back"
    engine.finish()
    settle(world, agent, 0.5)
    assert carol.status_of("c") == "ok"
    settle(world, agent, 5)
    assert all(alice.status_of(f"a{number}") == "ok" for number in range(10))
    assert all(len(engines) == 1 for engines in world.starts.values()), "each ran once"


def test_s27_direct_tasks_that_were_sent_are_not_taken_back() -> None:
    world, agent = town(1)
    carol, alice = world.client("carol"), world.client("alice")
    engine = at(agent, 0)
    alice.direct(["a0"], [0])
    alice.direct(["a1"], [0])
    engine.start()
    carol.submit("c")
    for _ in range(30):
        world.pass_time(0.1)
    alice.direct(["a2"], [0])
    assert engine.drain() == ["a0", "a1"], "a2 waits for the engine to be alice's again"
    settle(world, agent, 3.0)
    assert carol.status_of("c") == "ok" and alice.status_of("a2") == "ok"
    served = [world.starts[place][0] for place in (("alice", "a1"), ("carol", "c"), ("alice", "a2"))]
    assert len(set(served)) == 3, "each on a fork of its own"


def test_s27_an_engine_that_nobody_has_had_is_taken_before_anybody_elses() -> None:
    world, agent = town(3)
    carol, alice = world.client("carol"), world.client("alice")
    alice.direct(["a"], [0])
    at(agent, 0).drain()
    world.pass_time(10)
    carol.submit("c")
    assert at(agent, 0).tasks == [] and at(agent, 0).alive
    assert [engine.tasks for engine in agent.engines if engine.tasks] == [["c"]]


def test_s27_results_that_nobody_fetched_keep_an_engine_for_a_while() -> None:
    world, agent = town(1)
    carol, alice = world.client("carol"), world.client("alice")
    alice.submit("a")
    engine = at(agent, 0)
    engine.finish(sizes=[300_000])
    carol.submit("c")
    settle(world, agent, 10)
    assert engine.alive
    alice.say(messages.Received(["a"]))
    settle(world, agent, 1)
    assert not engine.alive and carol.status_of("c") == "ok"


def test_s27_a_place_that_nobody_takes_is_given_up_with_a_clear_error() -> None:
    world, agent = town(1)
    carol, alice = world.client("carol"), world.client("alice")
    alice.direct(["a"], [0])
    at(agent, 0).drain()
    carol.direct(["c"], [0])
    for _ in range(10):
        world.pass_time(0.1)
    (order,) = agent.sink.take(messages.StopEngine)
    assert order.restart
    at(agent, 0).die()
    assert carol.outcomes() == []
    world.pass_time(limits.TENANT_FORK_SECONDS + 1)
    world.pass_time(1)
    assert carol.error_of("c") == "EngineError"
    assert carol.sink.of(messages.Roster)[-1].left == [0]


def test_s27_tasks_bound_to_engines_and_to_tasks_find_their_way() -> None:
    world, agent = town(2)
    carol, alice = world.client("carol"), world.client("alice")
    alice.direct(["a0", "a1"], [0, 1])
    for engine in agent.engines:
        engine.drain()
    carol.submit("c1", targets=[1])
    carol.submit("c2", after=["c1"])
    carol.submit("c3", follow=["c1"])
    settle(world, agent, 6)
    assert [carol.status_of(name) for name in ("c1", "c2", "c3")] == ["ok"] * 3
    assert {world.starts[("carol", name)][0].id for name in ("c1", "c3")} == {1}


def test_s27_a_waiting_direct_task_can_be_aborted() -> None:
    world, _ = town(1)
    carol, alice = world.client("carol"), world.client("alice")
    alice.direct(["a"], [0])
    carol.direct(["c0"], [0])
    carol.direct(["c1"], [0])
    carol.say(messages.Abort(1, ["c0"]))
    assert carol.status_of("c0") == "aborted"
    carol.say(messages.Abort(2, [], [0]))
    assert carol.status_of("c1") == "aborted"


def test_a_second_engine_is_found_for_what_is_stuck_behind_a_long_task() -> None:
    world, agent = town(2)
    carol, alice = world.client("carol"), world.client("alice")
    alice.direct(["a"], [0])
    at(agent, 0).drain()
    carol.submit("c0")
    carol.submit("c1")
    (stuck,) = [engine for engine in agent.engines if engine.tasks]
    assert stuck.tasks == ["c0", "c1"]
    stuck.start()
    stuck.say(messages.Started(stuck.started, world.now))
    for _ in range(20):
        world.pass_time(0.1)
        agent.obey()
        stuck.receive()
    assert at(agent, 0).tasks == ["c1"] and stuck.tasks == ["c0"]


# --- others come and go ------------------------------------------------------------------------------------


def test_s27_what_ran_before_anybody_was_kept_apart_was_shared() -> None:
    world, agent = town(2, [grant("alice"), grant(HOST)])
    alice = world.client("alice")
    alice.direct(["a"], [1])
    at(agent, 1).drain()
    world.grants = ALONE
    world.core.hub_message(messages.Grants(2, ALONE, []), world.now)
    carol = world.client("carol")
    carol.submit("c")
    assert at(agent, 0).tasks == ["c"] and at(agent, 1).tasks == []
    told = world.hub_got(messages.EngineJoined)[-2:]
    assert [(record.engine.info.id, record.engine.tenant) for record in told] == [(1, SHARED), (0, "carol")]


def test_s27_revocation_replaces_the_engines_of_that_identity_alone() -> None:
    world, agent = town(3)
    carol, dave, alice = (world.client(user) for user in ("carol", "dave", "alice"))
    for number, client in enumerate((carol, dave, alice)):
        client.direct([f"t{number}"], [number])
        at(agent, number).drain()
    before = [at(agent, number) for number in range(3)]
    left = [one for one in ALONE if one.id != "carol"]
    world.core.hub_message(messages.Grants(2, left, []), world.now)
    settle(world, agent, 0.3)
    assert not before[0].alive and before[1].alive and before[2].alive
    assert at(agent, 0).uuid != before[0].uuid and owners_of(at(agent, 0)) == set()
    dave.submit("more")
    settle(world, agent, 1)
    assert dave.status_of("more") == "ok"


def test_s27_a_revoked_identitys_task_that_does_not_end_is_ended() -> None:
    world, agent = town(1)
    carol = world.client("carol")
    carol.submit("c")
    engine = at(agent, 0)
    engine.start()
    world.core.hub_message(messages.Grants(2, [one for one in ALONE if one.id != "carol"], []), world.now)
    world.turn()
    assert not agent.sink.of(messages.StopEngine), "it was interrupted, and has a moment"
    world.pass_time(limits.REVOKED_ENGINE_SECONDS + 0.1)
    (fresh,) = agent.obey()
    assert not engine.alive and fresh.id == 0
    assert carol.outcomes("c") and carol.outcomes("c")[0].status != "ok"


def test_s27_a_child_goes_without_its_parents_engines() -> None:
    grants = [*ALONE, grant("child", own=True, parent="carol")]
    world, agent = town(1, grants)
    child, carol = world.client("child"), world.client("carol")
    child.direct(["x"], [0])
    engine = at(agent, 0)
    engine.drain()
    carol.direct(["c"], [0])
    assert engine.drain() == ["c"], "what a holder handed on works where the holder works"
    world.core.hub_message(messages.Grants(2, ALONE, []), world.now)
    settle(world, agent, 2)
    assert engine.alive


# --- restarts ----------------------------------------------------------------------------------------------


def records(world: World) -> list[messages.EngineRecord]:
    """What the hub knows of engines."""
    known: dict[str, messages.EngineRecord] = {}
    for message in world.to_hub:
        if isinstance(message, messages.EngineJoined):
            known[message.engine.info.uuid] = message.engine
        elif isinstance(message, messages.EngineLeft):
            known.pop(message.uuid, None)
    return list(known.values())


def test_s27_after_a_restart_of_the_scheduler_engines_are_whose_they_were() -> None:
    world, agent = town(2)
    carol, alice = world.client("carol"), world.client("alice")
    carol.direct(["c"], [0])
    alice.direct(["a"], [1])
    engines = list(agent.engines)
    for engine in engines:
        engine.drain()
    world.restart(records(world))
    agent = world.agent()
    world.back(engines, agent)
    carol, alice = world.client("carol"), world.client("alice")
    alice.direct(["x", "y"], [0, 1])
    assert engines[0].tasks == [] and engines[1].tasks == ["y"]
    settle(world, agent, 1)
    assert not engines[0].alive and at(agent, 0).uuid != engines[0].uuid and alice.status_of("x") == "ok"


@pytest.mark.parametrize("lie", [False, True])
def test_s27_an_engine_of_which_nobody_knows_whose_it_is_serves_nobody(lie: bool) -> None:
    """The scheduler was killed before the hub heard; the engine's own word would be that of whoever ran there."""
    world, agent = town(1)
    carol = world.client("carol")
    carol.direct(["c"], [0])
    (engine,) = engines = list(agent.engines)
    engine.drain()
    world.restart([replace(record, tenant=NOBODY) for record in records(world)])
    agent = world.agent()
    (announced,) = agent.announce(engine.key)
    assert announced.uuid == engine.uuid
    engine.agent = agent
    agent.engines += engines
    if lie:
        engine.results.clear()
        engine.report(highest=0, started=0)
    else:
        engine.report()
    assert world.core.board.engines.get(0).tenant == UNKNOWN  # type: ignore[union-attr]
    for user in ("carol", "alice"):
        world.client(user).submit(f"task of {user}")
    assert engine.tasks == []
    settle(world, agent, 1)
    assert not engine.alive


def test_s27_a_tenant_that_is_gone_after_a_restart_is_not_forgotten() -> None:
    """Nobody is kept apart any more, but there is an engine with what a revoked identity left in it."""
    world, agent = town(1)
    world.client("carol").direct(["c"], [0])
    (engine,) = engines = list(agent.engines)
    engine.drain()
    known = records(world)
    world.grants = [grant("alice"), grant(HOST)]
    world.restart(known)
    agent = world.agent()
    world.back(engines, agent)
    alice = world.client("alice")
    alice.direct(["a"], [0])
    assert engine.tasks == []
    settle(world, agent, 2)
    assert not engine.alive and alice.status_of("a") == "ok"


# --- whatever happens --------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["submit", "direct", "start", "finish", "die", "time", "obey", "revoke", "abort"]),
              st.integers(0, 3), st.integers(0, 3)),
    min_size=15, max_size=150,
)


@given(steps=STEPS, scheme=st.sampled_from(["leastload", "plainrandom"]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_s27_no_engine_ever_serves_two_tenants_and_every_task_ends_once(
    steps: list[tuple[str, int, int]], scheme: str
) -> None:
    world, agent = town(3, scheme=scheme)
    users = ["alice", "bob", "carol", "dave"]
    clients = {user: world.client(user) for user in users}
    sent: dict[str, list[str]] = defaultdict(list)
    revoked = ""
    for number, (what, one, two) in enumerate(steps):
        client = clients[users[one]]
        alive = [engine for engine in agent.engines if engine.alive]
        if what == "submit" and users[one] != revoked:
            client.submit(f"t{number}")
            sent[users[one]].append(f"t{number}")
        elif what == "direct" and users[one] != revoked:
            client.direct([f"t{number}"], [two])
            sent[users[one]].append(f"t{number}")
        elif what == "start" and alive:
            alive[two % len(alive)].start()
        elif what == "finish" and alive and alive[two % len(alive)].start() is not None:
            alive[two % len(alive)].finish()
        elif what == "die" and len(alive) > 2:
            alive[0].die()
            agent.engines.remove(alive[0])
            agent.engine()
        elif what == "time":
            world.pass_time(0.3 * (1 + two))
        elif what == "obey":
            agent.obey()
        elif what == "abort" and sent[users[one]]:
            client.say(messages.Abort(number, [sent[users[one]][-1]]))
        elif what == "revoke" and one == 2 and not revoked:
            revoked = "carol"
            world.core.hub_message(messages.Grants(2, [g for g in ALONE if g.id != revoked], []), world.now)
            world.turn()
        check_the_law(world)
    settle(world, agent, 25)
    check_the_law(world)
    for user, client in clients.items():
        for task in sent[user]:
            assert len(client.outcomes(task)) == 1, (user, task)
    assert all(len(engines) == 1 for engines in world.starts.values())
    assert len(world.core.dispatch.placing) == 0


def check_the_law(world: World) -> None:
    tenant = {"alice": SHARED, "bob": SHARED, "carol": "carol", "dave": "dave"}
    held: dict[str, set[str]] = defaultdict(set)
    for uuid, owner in world.order:
        held[uuid].add(tenant[owner])
    for engine in world.core.board.engines:
        held[engine.uuid] |= {tenant[task.owner] for task in engine.outstanding.values()}
    assert all(len(tenants) <= 1 for tenants in held.values()), held


@given(
    engines=st.integers(1, 4), backlog=st.lists(st.integers(1, 60), min_size=4, max_size=4),
    directs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_s27_nobody_starves(engines: int, backlog: list[int], directs: list[tuple[int, int]]) -> None:
    """Three tenants with endless work, on few engines: each has its turn within bounded time, again and again."""
    world, agent = town(engines)
    users = ["alice", "bob", "carol", "dave"]
    clients = {user: world.client(user) for user in users}
    count = dict.fromkeys(users, 0)
    for user, size in zip(users, backlog, strict=True):
        for _ in range(size):
            clients[user].submit(f"{user} {count[user]}")
            count[user] += 1
    for number, (one, where) in enumerate(directs):
        clients[users[one]].direct([f"!{number}"], [where % engines])
    served = dict.fromkeys(users, 0)
    for _ in range(3):
        before = dict(served)
        for _ in range(140):  # 14 seconds: three turns, and the time that it takes to change hands
            for engine in agent.engines:
                if engine.start() is not None:
                    user = engine.running.owner  # type: ignore[union-attr]
                    task = engine.finish().task
                    served[user] += 1
                    if not task.startswith("!"):
                        clients[user].submit(f"{user} {count[user]}")
                        count[user] += 1
            world.pass_time(0.1)
            agent.obey()
        assert all(served[user] > before[user] for user in users), (before, served)
    for number, (one, _) in enumerate(directs):
        assert clients[users[one]].status_of(f"!{number}") == "ok"
