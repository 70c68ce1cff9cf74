"""Direct tasks in order, balanced ones where there is room, and what is taken back for idle engines."""

from __future__ import annotations

from typing import Any

import pytest

from secure_ipp import limits
from secure_ipp.wire import messages
from tests.scheduler.world import World


def test_direct_tasks_go_to_their_engine_at_once_and_in_order() -> None:
    world = World()
    first, second = world.engines(2)
    client = world.client()
    for number in range(50):
        client.direct([f"a{number}", f"b{number}"], [first.id, second.id])
    assert first.drain() == [f"a{number}" for number in range(50)]
    assert second.drain() == [f"b{number}" for number in range(50)]
    assert len(client.outcomes()) == 100


def test_a_direct_task_for_an_engine_that_is_not_there_fails_and_the_others_run() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.direct(["x", "y"], [77, engine.id])
    assert client.error_of("x") == "EngineError"
    assert engine.drain() == ["y"]


@pytest.mark.parametrize("scheme", ["leastload", "plainrandom"])
def test_balanced_tasks_fill_windows_and_the_rest_waits(scheme: str) -> None:
    world = World(scheme=scheme)
    engines = world.engines(3)
    client = world.client()
    for number in range(20):
        client.submit(f"t{number}")
    assert [len(engine.tasks) for engine in engines] == [limits.PREFETCH_MIN] * 3
    assert len(world.core.dispatch.placing.shared.waiting) == 20 - 3 * limits.PREFETCH_MIN
    while world.core.board.owner("alice").live:
        for engine in engines:
            if engine.start():
                engine.finish()
    assert sorted(o.task for o in client.outcomes()) == sorted(f"t{number}" for number in range(20))
    assert all(len(starts) == 1 for starts in world.starts.values())


def test_the_least_loaded_engine_is_next() -> None:
    world = World()
    first, second = world.engines(2)
    client = world.client()
    client.direct(["d"], [first.id])
    client.submit("t")
    assert second.tasks == ["t"]


def test_quick_tasks_widen_the_window_and_slow_ones_narrow_it() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    sim = world.core.board.engines.by_uuid(engine.uuid)
    assert sim is not None
    for number in range(30):
        client.submit(f"q{number}")
        engine.finish(started=1.0, completed=1.0001)
    assert sim.window == pytest.approx(limits.PREFETCH_SECONDS / 0.0001, rel=0.01)
    for number in range(30):
        client.submit(f"s{number}")
        engine.finish(started=1.0, completed=2.0)
    assert sim.window == limits.PREFETCH_MIN
    client.submit("nan")
    engine.finish(started=float("-inf"), completed=float("inf"))
    client.submit("nan2")
    engine.finish(started=float("nan"), completed=1.0)
    assert limits.PREFETCH_MIN <= sim.window <= limits.PREFETCH_MAX


def test_what_is_queued_behind_a_long_task_is_recalled_for_an_idle_engine() -> None:
    world = World()
    first, second = world.engines(2)
    client = world.client()
    for number in range(4):
        client.submit(f"t{number}")
    long_task = first.start()
    assert long_task is not None
    first.say(messages.Started(long_task.number, world.now))
    stuck = first.tasks[1]
    second.drain()
    first.receive()  # gives it back
    world.turn()
    assert second.tasks == [stuck]
    second.finish()
    assert client.status_of(stuck) == "ok"
    assert world.starts[("alice", stuck)] == [second]


def test_a_new_engine_gets_what_the_others_have_queued() -> None:
    world = World()
    (first,) = world.engines(1)
    client = world.client()
    client.submit("a")
    client.submit("b")
    first.start()
    agent = world.agent()
    second = agent.engine()
    first.receive()
    world.turn()
    assert second.tasks == ["b"]


def test_recalled_tasks_keep_their_order() -> None:
    world = World()
    (first,) = world.engines(1)
    client = world.client()
    for _ in range(20):
        client.submit(f"warm{_}")
        first.finish(started=1.0, completed=1.0005)
    for number in range(8):
        client.submit(f"t{number}")
    running = first.start()
    assert running is not None
    first.say(messages.Started(running.number, world.now))
    sim = world.core.board.engines.by_uuid(first.uuid)
    assert sim is not None
    sim.window = limits.PREFETCH_MIN
    second = world.agent().engine()
    world.turn()
    first.receive()
    world.turn()
    moved = second.tasks
    assert moved == sorted(moved) and len(moved) == 2


def test_owners_take_turns() -> None:
    world = World()
    (engine,) = world.engines(1)
    alice, bob = world.client("alice"), world.client("bob")
    for number in range(20):
        alice.submit(f"a{number}")
    for number in range(3):
        bob.submit(f"b{number}")
    ran = engine.drain()
    assert {"b0", "b1", "b2"} <= set(ran[: limits.PREFETCH_MIN + 6])


def test_tasks_for_some_engines_do_not_starve_the_others() -> None:
    world = World()
    (engine,) = world.engines(1)
    alice, bob = world.client("alice"), world.client("bob")
    for number in range(20):
        alice.submit(f"a{number}", targets=[engine.id])
    bob.submit("b")
    assert "b" in engine.drain()[: limits.PREFETCH_MIN + 2]


def test_a_task_for_some_engines_runs_on_one_of_them() -> None:
    world = World()
    engines = world.engines(3)
    client = world.client()
    for number in range(12):
        client.submit(f"t{number}", targets=[engines[0].id, engines[2].id])
    assert engines[1].tasks == []
    for _ in range(6):
        engines[0].finish()
        engines[2].finish()
    assert len(client.outcomes()) == 12


def test_a_task_whose_engines_have_all_gone_fails_even_if_nobody_is_left() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    for number in range(4):
        client.submit(f"t{number}", targets=[engine.id])
    client.submit("anywhere")
    engine.start()
    engine.die()
    assert client.status_of("t0") == "lost"
    assert [client.error_of(f"t{number}") for number in (1, 2, 3)] == ["EngineError"] * 3
    assert client.outcomes("anywhere") == []
    client.submit("late", targets=[engine.id])
    assert client.error_of("late") == "EngineError"


def test_without_engines_tasks_wait() -> None:
    world = World()
    client = world.client()
    client.submit("t")
    assert client.outcomes() == []
    assert world.engines(1)[0].tasks == ["t"]


def test_aborted_tasks_leave_nothing_in_the_queues() -> None:
    world = World()
    client = world.client()
    for number in range(500):
        client.submit(f"t{number}")
        client.say(messages.Abort(1, [f"t{number}"]))
    waiting = world.core.dispatch.placing.shared.waiting
    assert len(waiting) == 0
    assert sum(map(len, waiting._queues.values())) <= 200
    (engine,) = world.engines(1)
    for number in range(500):
        client.submit(f"r{number}", targets=[engine.id])
    for number in range(500):
        client.say(messages.Abort(1, [f"r{number}"]))
    engine.drain()
    reserved = world.core.dispatch.placing.shared.reserved
    assert len(reserved) == 0 and not reserved._waiting


def test_many_waiting_tasks_for_one_engine_cost_nothing_while_it_is_busy() -> None:
    world = World()
    (engine, other) = world.engines(2)
    client = world.client()
    for number in range(2000):
        world.core.client_message(client.peer, world.submit(f"t{number}", targets=[engine.id]), None, world.now)
    world.turn()
    looked = 0
    original = world.core.board.engines.with_room_among

    def count(*args: Any) -> object:
        nonlocal looked
        looked += 1
        return original(*args)

    world.core.board.engines.with_room_among = count  # type: ignore[assignment,method-assign]
    for number in range(100):
        client.submit(f"o{number}")
        other.drain()
    assert looked < 300


@pytest.mark.parametrize("wanted,got", [(5, 5), (0, 0), (2**31 - 1, 0)])
def test_an_engine_gets_the_rank_it_wants_unless_it_is_absurd(wanted: int, got: int) -> None:
    world = World()
    agent = world.agent()
    assert agent.engine(wanted_id=wanted).id == got
    assert agent.engine(wanted_id=wanted).id != got  # the same rank twice
    assert agent.engine().id <= 7
