"""One end for each task: results, retries, dependencies, aborts, and the death of whoever had it."""

from __future__ import annotations

import pytest

from secure_ipp import limits
from secure_ipp.wire import messages
from tests.scheduler.world import World


def unmet() -> dict[str, object]:
    return {"error": messages.ErrorInfo("UnmetDependency", "", [])}


# --- retries -------------------------------------------------------------------------------------------------


def test_a_failed_task_is_retried_as_often_as_asked() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t", retries=2)
    engine.finish("error")
    engine.finish("error")
    assert client.outcomes() == []
    engine.finish("error")
    (outcome,) = client.outcomes("t")
    assert (outcome.status, outcome.attempts) == ("error", 3)


def test_a_direct_task_is_never_retried() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.direct(["t"], [engine.id])
    engine.finish("error")
    assert client.status_of("t") == "error"


def test_an_error_without_words_gets_some() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    engine.finish("error", error=None)
    assert client.error_of("t") == "EngineError"


def test_an_unmet_dependency_sends_the_task_to_another_engine() -> None:
    world = World()
    first, second = world.engines(2)
    client = world.client()
    client.submit("t")
    engine, other = (first, second) if first.tasks else (second, first)
    engine.finish("error", **unmet())
    assert other.tasks == ["t"] and engine.tasks == []
    other.finish("error", **unmet())
    assert client.error_of("t") == "UnmetDependency"


def test_an_unmet_dependency_does_not_leave_the_targets() -> None:
    world = World()
    first, second = world.engines(2)
    client = world.client()
    client.submit("t", targets=[first.id])
    first.finish("error", **unmet())
    assert client.error_of("t") == "UnmetDependency"
    assert second.tasks == []


def test_a_task_excluded_everywhere_ends_when_the_last_other_engine_goes() -> None:
    world = World()
    first, second = world.engines(2)
    client = world.client()
    client.direct([f"d{n}" for n in range(limits.PREFETCH_MIN)], [second.id] * limits.PREFETCH_MIN)
    client.submit("t")
    first.finish("error", **unmet())
    assert second.tasks[-1] != "t"
    second.die()
    assert client.error_of("t") == "ImpossibleDependency"


# --- dependencies --------------------------------------------------------------------------------------------


def test_a_task_waits_for_those_it_comes_after() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.direct(["d"], [engine.id])
    client.submit("a")
    client.submit("c", after=["a", "d"])
    assert engine.drain() == ["d", "a", "c"]


def test_any_of_several_will_do() -> None:
    world = World()
    engines = world.engines(2)
    client = world.client()
    client.direct(["x", "y"], [engines[0].id, engines[1].id])
    client.submit("t", after=["x", "y"], after_flags=4)
    engines[0].finish()
    assert client.outcomes("t") == []
    assert sum(engine.tasks.count("t") for engine in engines) == 1


@pytest.mark.parametrize("ends,flags,expected", [
    (["ok", "ok"], 5, "runs"), (["ok", "error"], 5, "ImpossibleDependency"), (["error", "error"], 3, "runs"),
    (["ok", "error"], 7, "runs"), (["error", "ok"], 4, "runs"), (["error", "error"], 4, "ImpossibleDependency"),
    (["ok", "ok"], 2, "ImpossibleDependency"), (["ok", "ok"], 1, "ImpossibleDependency"),
])
@pytest.mark.parametrize("before", [True, False])
def test_which_ends_count(ends: list[str], flags: int, expected: str, before: bool) -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.direct(["x", "y"], [engine.id] * 2)
    if before:
        client.submit("t", after=["x", "y"], after_flags=flags)
    for status in ends:
        engine.finish(status)
    if not before:
        client.submit("t", after=["x", "y"], after_flags=flags)
    engine.drain()
    assert (client.error_of("t") or "runs") == expected


def test_an_unknown_id_is_invalid_at_once() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t", after=["never seen"])
    client.submit("u", follow=["never seen"])
    client.submit("self", after=["self"])
    assert [client.error_of(task) for task in ("t", "u", "self")] == ["InvalidDependency"] * 3
    assert engine.tasks == []


def test_following_means_the_same_engine() -> None:
    world = World()
    engines = world.engines(3)
    client = world.client()
    client.direct(["x", "y"], [engines[1].id, engines[2].id])
    client.submit("t", follow=["x"])
    client.submit("both", follow=["x", "y"])
    client.submit("either", follow=["x", "y"], follow_flags=4)
    client.submit("elsewhere", follow=["x"], targets=[engines[0].id])
    for engine in engines:
        engine.drain()
    assert client.outcomes("t")[0].engine == engines[1].id
    assert client.error_of("both") == client.error_of("elsewhere") == "ImpossibleDependency"
    assert client.outcomes("either")[0].engine in {engines[1].id, engines[2].id}


def test_a_followed_engine_that_died_makes_it_impossible() -> None:
    world = World()
    first, second = world.engines(2)
    client = world.client()
    client.direct(["x"], [first.id])
    first.drain()
    first.die()
    client.submit("t", follow=["x"])
    assert client.error_of("t") == "ImpossibleDependency"
    assert second.tasks == []


def test_dependencies_time_out_and_only_they() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.direct(["x"], [engine.id])
    for number in range(5):
        client.submit(f"busy{number}")
    client.submit("t", after=["x"], timeout=5.0)
    client.submit("met", timeout=5.0)
    world.pass_time(4.0)
    assert client.outcomes() == []
    world.pass_time(2.0)
    assert client.error_of("t") == "TaskTimeout"
    assert len(client.outcomes()) == 1
    engine.drain()
    assert client.status_of("met") == "ok"


def test_a_long_chain_of_dependents_falls_without_depth() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.direct(["t0"], [engine.id])
    for number in range(1, 5000):
        message = world.submit(f"t{number}", after=[f"t{number - 1}"])
        world.core.client_message(client.peer, message, None, world.now)
    engine.finish("error")
    assert len(client.outcomes()) == 5000
    assert client.error_of("t4999") == "ImpossibleDependency"
    assert not world.core.dispatch._blocked


def test_dependents_that_end_early_leave_nothing_behind() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.direct(["x"], [engine.id])
    for number in range(100):
        client.submit(f"t{number}", after=["x"], timeout=1.0)
        client.say(messages.Abort(1, [f"t{number}"]))
    assert not world.core.dispatch._blocked and not world.core.dispatch._deadlines


def test_what_a_task_follows_may_be_forgotten_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUTCOMES_PER_OWNER", 2)
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.direct(["x"], [engine.id])
    client.submit("t", follow=["x"])
    for number in range(6):
        client.direct([f"d{number}"], [engine.id])
    engine.drain()
    assert client.status_of("t") == "ok"


# --- aborts --------------------------------------------------------------------------------------------------


def test_abort_ends_what_has_not_started() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.direct(["run", "queued"], [engine.id] * 2)
    for number in range(4):
        client.submit(f"t{number}")
    engine.start()
    client.say(messages.Abort(1, []))
    engine.receive()
    assert client.outcomes("run") == []
    assert {o.task for o in client.outcomes() if o.status == "aborted"} == {"queued", "t0", "t1", "t2", "t3"}
    engine.finish()
    assert client.status_of("run") == "ok"


def test_abort_of_a_task_that_starts_meanwhile_lets_it_run() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t", retries=3)
    engine.start()
    client.say(messages.Abort(1, ["t"]))
    engine.finish("error")
    assert client.status_of("t") == "error"  # not retried: it is not wanted any more


def test_abort_on_some_engines_only() -> None:
    world = World()
    first, second = world.engines(2)
    client = world.client()
    client.direct(["a", "b"], [first.id, second.id])
    client.say(messages.Abort(1, [], [second.id]))
    first.drain()
    second.receive()
    assert (client.status_of("a"), client.status_of("b")) == ("ok", "aborted")


def test_more_numbers_than_a_message_holds_are_cancelled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TASKS_NAMED", 10)
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    for number in range(25):
        client.direct([f"t{number}"], [engine.id])
    engine.tasks.clear()
    client.say(messages.Abort(1, []))
    assert [len(cancel.numbers) for cancel in engine.sink.of(messages.Cancel)] == [10, 10, 5]
