"""After the scheduler was restarted, or a session was lost: what ran is not run again, and every task gets its end."""

from __future__ import annotations

import pytest

from secure_ipp import limits
from secure_ipp.wire import messages
from tests.scheduler.world import HOST, SimClient, SimEngine, World, code_of, refused

CODE = b"a function"
DIGEST = code_of(CODE)


def restarted(count: int = 2, tasks: int = 0) -> tuple[World, list[SimEngine], SimClient]:
    """A world whose scheduler was killed with this many balanced tasks out."""
    world = World()
    engines = world.engines(count)
    client = world.client()
    for number in range(tasks):
        client.submit(f"t{number}")
    for engine in engines:
        engine.receive()
    world.now += 5.0
    world.restart(world.records_of(engines))
    return world, engines, client


def test_nothing_resent_is_placed_before_all_engines_have_spoken() -> None:
    world, engines, _ = restarted()
    client = world.client()
    client.submit("t", resend=1)
    world.hub_answers()
    agent = world.agent()
    world.back(engines[:1], agent)
    assert engines[0].tasks == []
    world.back(engines[1:], agent)
    assert [engine.tasks for engine in engines].count(["t"]) == 1


def test_nor_before_the_hub_has_answered() -> None:
    world, engines, _ = restarted(1)
    client = world.client()
    world.back(engines, world.agent())
    client.submit("t", resend=2)
    assert engines[0].tasks == []
    (lookup,) = world.hub_answers()
    assert (lookup.owner, lookup.tasks) == ("alice", ["t"])
    assert engines[0].tasks == ["t"]


@pytest.mark.parametrize("client_first", [True, False])
def test_what_an_engine_holds_is_taken_over(client_first: bool) -> None:
    world = World()
    (engine,) = world.engines(1)
    old = world.client()
    old.say(messages.Function(DIGEST, CODE))
    for task in ("run", "queued"):
        old.submit(task, function=DIGEST, retries=1)
    engine.start()
    world.restart(world.records_of([engine]))

    def resend(client: SimClient) -> None:
        client.say(messages.Function(DIGEST, CODE))
        for task in ("run", "queued"):
            client.submit(task, function=DIGEST, retries=1, resend=2)

    client = world.client()
    if client_first:
        resend(client)
    world.back([engine], world.agent())
    if not client_first:
        resend(client)
    world.hub_answers()
    assert engine.tasks == ["run", "queued"]
    engine.die()  # the started one uses up its retry, the queued one has not run
    other = world.agent().engine()
    assert sorted(other.drain()) == ["queued", "run"]
    assert {client.status_of(task) for task in ("run", "queued")} == {"ok"}
    assert not world.core.board.functions._held and client.peer.charges == {}


def test_results_of_before_the_restart_reach_their_client() -> None:
    world = World()
    (engine,) = world.engines(1)
    old = world.client()
    old.submit("t")
    old.submit("large")
    engine.finish()
    engine.finish(sizes=[5 * limits.MIB], body=[])
    world.restart(world.records_of([engine]))
    client = world.client()
    client.submit("t", resend=2)
    client.submit("large", resend=2)
    world.hub_answers()
    world.back([engine], world.agent())
    assert client.status_of("t") == client.status_of("large") == "ok"
    assert all(len(starts) == 1 for starts in world.starts.values())
    client.say(messages.Pull("large"))
    assert engine.sink.of(messages.EnginePull)
    assert not world.core.recovery.recovering


def test_results_whose_client_comes_later_are_found_at_the_hub() -> None:
    world = World()
    (engine,) = world.engines(1)
    world.client().submit("t")
    engine.finish()
    world.restart(world.records_of([engine]))
    world.back([engine], world.agent())
    client = world.client()
    client.submit("t", resend=2)
    (record,) = world.hub_keeps()
    world.hub_answers([record.outcome])
    assert client.status_of("t") == "ok" and engine.tasks == []


def test_a_large_result_that_the_hub_knows_waits_for_its_engine() -> None:
    world = World()
    (engine,) = world.engines(1)
    world.client().submit("t")
    engine.finish(sizes=[5 * limits.MIB], body=[])
    (record,) = world.hub_keeps()
    world.restart(world.records_of([engine]))
    client, watcher = world.client(), world.client()
    client.submit("t", resend=2)
    watcher.say(messages.Attach(["t"]))
    world.hub_answers([record.outcome])
    assert client.outcomes() == [], "its engine may still come with it"
    world.back([engine], world.agent())
    for session in (client, watcher):
        assert session.status_of("t") == "ok"
        session.say(messages.Pull("t"))
    assert len(engine.sink.of(messages.EnginePull)) == 1


def test_a_large_result_whose_engine_never_comes_is_lost_when_it_is_asked_for() -> None:
    world = World()
    (engine,) = world.engines(1)
    world.client().submit("t")
    engine.finish(sizes=[5 * limits.MIB], body=[])
    (record,) = world.hub_keeps()
    world.restart(world.records_of([engine]))
    client = world.client()
    client.submit("t", resend=2)
    world.hub_answers([record.outcome])
    world.pass_time(limits.RECOVERY_SECONDS + 1)
    client.say(messages.Pull("t"))
    assert [o.status for o in client.outcomes("t")] == ["ok", "lost"]


def test_what_the_hub_knows_is_not_run_again() -> None:
    world, engines, old = restarted(1, tasks=1)
    engine = engines[0]
    engine.queue.clear()
    world.back([engine], world.agent())
    client = world.client()
    client.submit("t0", resend=2)
    ended = messages.Outcome("t0", "ok", 0, engine.uuid, 1.0, 2.0, 3.0, [b"r"], [])
    world.hub_answers([ended])
    assert client.outcomes() == [ended] and engine.tasks == [] and old.outcomes() == []


def test_an_engine_declared_dead_means_lost_and_never_run_twice() -> None:
    world, engines, _ = restarted(2, tasks=2)
    started = engines[0].start()
    assert started is not None
    client = world.client()
    for number in range(2):
        client.submit(f"t{number}", resend=2, submitted=1000.0)
    world.hub_answers()
    agent = world.agent()
    world.back(engines[1:], agent)
    world.pass_time(limits.RECOVERY_SECONDS - 1)
    assert client.outcomes() == []
    world.pass_time(2.0)
    assert client.status_of(started.task) == "lost"
    engines[1].drain()
    assert sorted(o.task for o in client.outcomes()) == ["t0", "t1"]
    # and when it comes after all, it is not welcome
    (announced,) = agent.announce(engines[0].key)
    assert announced.uuid != engines[0].uuid


def test_with_retries_a_task_that_may_have_run_is_run_again() -> None:
    world, engines, _ = restarted(2)
    client = world.client()
    client.submit("t", resend=2, retries=2, submitted=1000.0)
    world.hub_answers()
    world.back(engines[1:], world.agent())
    world.pass_time(limits.RECOVERY_SECONDS + 1)
    engines[1].finish("error")
    assert client.outcomes() == []
    engines[1].finish("error")
    assert client.status_of("t") == "error"


def test_what_the_hub_may_have_forgotten_is_not_run_again() -> None:
    world, engines, _ = restarted(1)
    world.back(engines, world.agent())
    client = world.client()
    client.submit("old", resend=2, submitted=500.0)
    client.submit("new", resend=2, submitted=700.0)
    world.hub_answers(horizon=600.0)
    assert client.status_of("old") == "lost"
    assert engines[0].tasks == ["new"]


def test_order_is_that_of_before_and_new_tasks_come_behind() -> None:
    world, engines, _ = restarted(1)
    (engine,) = engines
    client = world.client()
    client.direct(["a", "b"], [engine.id] * 2, resend=2)
    client.direct(["c"], [engine.id], resend=1)
    client.direct(["new"], [engine.id])
    client.submit("balanced")
    world.back([engine], world.agent())
    assert engine.tasks == []
    world.hub_answers()
    assert engine.drain() == ["a", "b", "c", "new", "balanced"]
    assert client.peer.charges == {}


def test_a_part_of_a_direct_request_may_have_ended() -> None:
    world, engines, _ = restarted(2)
    world.back(engines, world.agent())
    client = world.client()
    client.direct(["a", "b"], [engine.id for engine in engines], resend=2)
    ended = messages.Outcome("a", "ok", engines[0].id, engines[0].uuid, 1.0, 2.0, 3.0, [b"r"], [])
    world.hub_answers([ended])
    assert engines[0].tasks == [] and engines[1].drain() == ["b"]
    assert [client.status_of(task) for task in "ab"] == ["ok", "ok"]


def test_a_resent_function_is_asked_for_if_it_is_gone() -> None:
    world, engines, _ = restarted(1)
    (engine,) = engines
    world.back([engine], world.agent())
    client = world.client()
    client.direct(["a"], [engine.id], function=DIGEST, resend=2)
    client.direct(["b"], [engine.id])
    world.hub_answers()
    client.say(messages.Function(DIGEST, CODE))
    assert engine.drain() == ["a", "b"]


def test_aborts_reach_what_is_not_decided_yet() -> None:
    world, engines, _ = restarted(1)
    (engine,) = engines
    client = world.client()
    client.submit("a", resend=2)
    client.direct(["b", "c"], [engine.id] * 2, resend=2)
    client.submit("new")
    client.say(messages.Abort(1, ["a", "c", "new"]))
    world.back([engine], world.agent())
    world.hub_answers()
    assert [client.status_of(task) for task in ("a", "c", "new")] == ["aborted"] * 3
    assert engine.drain() == ["b"]
    assert client.peer.unwanted == set() and client.peer.charges == {}


def test_new_tasks_for_an_engine_that_may_come_back_wait_for_it() -> None:
    world, engines, _ = restarted(2)
    first, second = engines
    client = world.client()
    client.direct(["a"], [first.id])
    client.submit("b", targets=[first.id])
    assert client.outcomes() == []
    agent = world.agent()
    world.back([first], agent)
    assert first.drain() == ["a", "b"]
    client.direct(["c"], [second.id])
    world.pass_time(limits.RECOVERY_SECONDS + 1)
    assert client.error_of("c") == "EngineError"


def test_a_remembered_id_is_not_given_to_another_engine() -> None:
    world, engines, _ = restarted(2)
    agent = world.agent()
    assert agent.engine(wanted_id=engines[1].id).id not in {engine.id for engine in engines}
    ids = [engine.id for engine in engines]
    world.back(engines, agent)
    assert [engine.id for engine in engines] == ids


def test_a_session_that_was_lost_goes_on_with_its_tasks() -> None:
    world = World()
    (engine,) = world.engines(1)
    old = world.client()
    old.submit("live")
    old.submit("ended")
    old.submit("refused", after=["unknown"])
    running = engine.finish()
    left = {"live", "ended"} - {running.task}
    old.leave()
    records = world.hub_keeps()
    client = world.client()
    for task in ("live", "ended", "never seen"):
        client.submit(task, resend=2 if task != "never seen" else 1)
    world.hub_answers([record.outcome for record in records])
    assert client.status_of(running.task) == "ok"
    assert set(engine.drain()) == left | {"never seen"}
    assert all(len(starts) == 1 for starts in world.starts.values())
    assert {client.status_of(task) for task in ("live", "ended", "never seen")} == {"ok"}


def test_asked_for_ends_wait_for_engines_to_report() -> None:
    world = World()
    (engine,) = world.engines(1)
    world.client().submit("t")
    engine.receive()
    world.restart(world.records_of([engine]))
    client = world.client()
    client.say(messages.Attach(["t", "unknown"]))
    world.hub_answers()
    assert client.outcomes() == []
    world.back([engine], world.agent())
    assert client.error_of("unknown") == "KeyError" and not client.outcomes("unknown")[0].known
    engine.finish()
    assert client.status_of("t") == "ok"


def test_questions_the_hub_did_not_answer_are_asked_again() -> None:
    world, engines, _ = restarted(1)
    world.back(engines, world.agent())
    client = world.client()
    client.submit("t", resend=2)
    world.to_hub.clear()
    world.core.hub_welcome(False)
    world.hub_answers()
    assert engines[0].tasks == ["t"]


def test_an_engine_that_announces_results_and_does_not_send_them_is_not_waited_for_forever() -> None:
    world, engines, _ = restarted(1)
    (engine,) = engines
    agent = world.agent()
    agent.announce(engine.key)
    engine.agent = agent
    engine.report(finished=[1, 2, 3])
    assert world.core.recovery.recovering
    world.pass_time(limits.RECOVERY_SECONDS + 1)
    assert not world.core.recovery.recovering


def test_what_a_gone_session_left_to_be_decided_is_forgotten() -> None:
    world, _, _ = restarted(1)
    client = world.client()
    for number in range(10):
        client.submit(f"t{number}", resend=1)
    client.say(messages.Attach([f"x{number}" for number in range(10)]))
    client.leave()
    recovery = world.core.recovery
    assert not recovery._parked and not recovery._parked_of and not recovery._attached
    world.hub_answers()
    assert not recovery._lookups and not recovery._unfound


def test_ends_that_are_asked_for_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDENTITY_TASKS", 10)
    world = World()
    client = world.client()
    client.say(messages.Attach([f"x{number}" for number in range(10)]))
    assert refused(lambda: client.say(messages.Attach(["y"]))) == "quota"
    world.hub_answers()
    client.say(messages.Attach(["y"]))


def test_a_death_while_nobody_listened_is_told_at_the_join() -> None:
    world, engines, _ = restarted(2)
    agent = world.agent()
    agent.say(messages.Join("host", 1, [messages.EngineDeath(engines[0].uuid, 3, -9)]))
    assert world.core.recovery.expected == {engines[1].uuid}
    assert world.core.recovery.losses
    assert world.core.recovery.by_uuid(engines[0].uuid) is None
    assert agent.user == HOST
