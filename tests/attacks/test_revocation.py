"""A key that was revoked: refused, cut, its work ended, while innocents lose nothing (S17, S10, S12)."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ipp.wire import messages
from tests.scheduler.world import BIG, HOST, SimClient, SimEngine, World, code_of, grant

USERS = ("alice", "bob", "mallory")


def town(engines: int = 2) -> tuple[World, SimClient, SimClient, list[SimEngine]]:
    """Alice and Mallory at work, side by side."""
    world = World(grants=[*(grant(user) for user in USERS), grant(HOST), grant(HOST + "2")])
    made = world.engines(engines)
    return world, world.client("alice"), world.client("mallory"), made


def revoke(world: World, *users: str) -> None:
    world.grants = [one for one in world.grants if one.id not in users]
    world.core.hub_message(messages.Grants(world.core.version + 1, world.grants, []), world.now)
    world.turn()


def drain(engines: list[SimEngine]) -> list[str]:
    """Run everything; what one gives back may go to another that was looked at before, so they are asked twice."""
    done: list[str] = []
    while any([engine.tasks for engine in engines]) or any([engine.tasks for engine in engines]):  # noqa: C419  all
        for engine in engines:
            engine.start()
            if engine.running is not None:
                done.append(engine.finish().task)
    return done


def test_s17_what_waits_ends_at_once_in_an_error_that_says_why() -> None:
    world, alice, mallory, engines = town()
    for number in range(20):
        mallory.submit(f"m{number}")
        alice.submit(f"a{number}")
    revoke(world, "mallory")
    for engine in engines:
        engine.receive()
    assert all(mallory.error_of(f"m{number}") == "Revoked" for number in range(20))
    drain(engines)
    assert all(alice.status_of(f"a{number}") == "ok" for number in range(20))
    assert not any(user == "mallory" for user, _ in world.starts)


def test_s17_what_runs_is_interrupted_by_its_number_and_its_result_goes_nowhere() -> None:
    world, alice, mallory, (engine,) = town(1)
    mallory.direct(["running", "queued"], [0, 0])
    alice.direct(["behind"], [0])
    running = engine.start()
    assert running is not None and running.task == "running"
    engine.say(messages.Started(running.number, world.now))
    engine.sink.take(messages.Cancel)
    revoke(world, "mallory")
    (cancel,) = engine.sink.of(messages.Cancel)
    assert cancel.interrupt
    assert running.number in cancel.numbers
    mallory.sink.got.clear()
    engine.finish(status="ok")
    (end,) = mallory.outcomes("running")
    assert (end.status, end.body) == ("error", [])
    records = {record.outcome.task: record.outcome for record in world.hub_keeps()}
    assert records["running"].error is not None and records["running"].error.ename == "Revoked"
    assert records["running"].body == []
    assert running.number not in engine.results, "the engine may drop it"
    assert engine.drain() == ["behind"]
    assert alice.status_of("behind") == "ok"


def test_s17_no_word_of_a_revoked_session_counts_any_more() -> None:
    world, _, mallory, _ = town()
    revoke(world, "mallory")
    mallory.submit("late")
    mallory.direct(["later"], [0])
    assert mallory.error_of("late") == "Refused"
    assert not world.starts


def test_s17_functions_streams_and_large_results_of_the_revoked_are_forgotten() -> None:
    world, alice, mallory, (engine,) = town(1)
    function = b"a pickled function"
    for client, name in ((mallory, "m"), (alice, "a")):
        client.say(messages.Function(code_of(function), function))
        client.submit(name, function=code_of(function))
    engine.finish(sizes=BIG)
    engine.finish(sizes=BIG)
    mallory.submit("body", sizes=BIG)
    engine.receive()
    revoke(world, "mallory")
    core = world.core
    assert core.board.functions.get("mallory", code_of(function)) is None
    assert core.board.functions.get("alice", code_of(function)) == function
    assert [forget.owner for forget in engine.sink.take(messages.Forget)] == ["mallory"]
    assert not core.dispatch.relay.has_result("mallory", "m")
    assert core.dispatch.relay.has_result("alice", "a")
    engine.receive()
    assert mallory.error_of("body") == "Revoked"
    assert len(engine.results) == 1, "Alice's alone"


def test_s17_tasks_of_somebody_revoked_while_no_scheduler_was_there_are_taken_back() -> None:
    world, alice, mallory, (engine,) = town(1)
    mallory.direct(["runs", "waits"], [0, 0])
    alice.direct(["innocent"], [0])
    engine.start()
    known = world.records_of([engine])
    world.grants = [one for one in world.grants if one.id != "mallory"]
    world.restart(known)
    world.back([engine], world.agent())
    assert engine.tasks == ["runs", "innocent"]
    engine.finish()
    assert engine.drain() == ["innocent"]
    ends = {record.outcome.task: record.outcome.error for record in world.hub_keeps()}
    assert ends["innocent"] is None
    assert {ends[task].ename for task in ("runs", "waits")} == {"Revoked"}


def test_s12_a_revoked_join_key_ends_its_engines_and_no_others() -> None:
    world, alice, _, (engine,) = town(1)
    other = world.agent(HOST + "2").engine()
    alice.direct(["here", "there"], [engine.id, other.id])
    changes = world.key_changes
    revoke(world, HOST + "2")
    assert world.key_changes > changes
    assert world.core.agents.key_of(other.uuid) is None
    assert world.core.agents.key_of(engine.uuid) is not None
    assert alice.error_of("there") == "EngineError"
    engine.drain()
    assert alice.status_of("here") == "ok"


def test_s12_engines_of_a_join_key_revoked_while_no_scheduler_was_there_are_not_waited_for() -> None:
    world, _, _, (engine,) = town(1)
    other = world.agent(HOST + "2").engine()
    known = [*world.records_of([engine]), *world.records_of([other], HOST + "2")]
    world.grants = [one for one in world.grants if one.id != HOST + "2"]
    world.restart(known)
    world.back([engine], world.agent())
    assert not world.core.recovery.recovering


def test_s17_a_grant_that_comes_back_is_as_good_as_before() -> None:
    """Renewed after it had expired."""
    world, _, mallory, engines = town()
    world.grants = [one for one in world.grants if one.id != "mallory"]
    old = messages.GrantInfo("mallory", "mallory", "client", b"m" * 32, ["task"], 2000.0)
    world.core.hub_message(messages.Grants(2, [*world.grants, old], []), world.now)
    assert world.core.expire(1999.0, world.now) is False
    assert world.core.expire(2000.0, world.now) is True
    mallory.submit("expired")
    assert mallory.error_of("expired") == "Refused"
    new = messages.GrantInfo("mallory", "mallory", "client", b"m" * 32, ["task"], 3000.0)
    world.core.hub_message(messages.Grants(3, [*world.grants, new], []), world.now)
    world.core.expire(2000.0, world.now)
    mallory.submit("renewed")
    drain(engines)
    assert mallory.status_of("renewed") == "ok"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_s17_whoever_is_revoked_whenever_innocents_lose_nothing(seed: int, engines: int) -> None:
    rng = random.Random(seed)
    world = World(grants=[*(grant(user) for user in USERS), grant(HOST), grant(HOST + "2")])
    made = world.engines(engines)
    clients = {user: world.client(user) for user in USERS}
    sent: dict[str, list[str]] = {user: [] for user in USERS}
    gone: set[str] = set()
    for step in range(60):
        user = rng.choice([u for u in USERS if u not in gone])
        action = rng.random()
        if action < 0.55:
            name = f"{user}-{step}"
            sent[user].append(name)
            if rng.random() < 0.5:
                clients[user].submit(name)
            else:
                clients[user].direct([name], [rng.choice(made).id])
        elif action < 0.9:
            engine = rng.choice(made)
            if engine.start() is not None and rng.random() < 0.7:
                engine.finish("ok")
        elif len(gone) < 2 and user != "alice":
            gone.add(user)
            revoke(world, user)
    for engine in made:
        if engine.running is not None:
            engine.finish()
    drain(made)
    for user in USERS:
        for name in sent[user]:
            ends = clients[user].outcomes(name)
            assert len(ends) == 1, (user, name)
            assert user in gone or ends[0].status == "ok", (user, name, ends)
    assert all(len(starts) == 1 for starts in world.starts.values())
