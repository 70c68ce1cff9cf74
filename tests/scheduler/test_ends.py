"""One end for each task: results, retries, dependencies, aborts, and the death of whoever had it."""

from __future__ import annotations

import msgspec
import pytest

from secure_ipp import limits
from secure_ipp.wire import messages
from tests.scheduler.world import World, grant, refused


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


# --- deaths --------------------------------------------------------------------------------------------------


def test_when_an_engine_dies_only_the_started_task_ends_in_an_error() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    for number in range(30):
        client.submit(f"w{number}")
        engine.finish(started=1.0, completed=1.0001)
    for number in range(6):
        client.submit(f"t{number}")
    client.direct(["d"], [engine.id])
    assert len(engine.tasks) == 7
    engine.start()
    engine.die()
    assert client.status_of("t0") == "lost" and client.error_of("t0") == "EngineError"
    assert client.status_of("d") == "lost"
    assert [o.task for o in client.outcomes() if o.status == "lost"] == ["t0", "d"]
    (other,) = world.engines(1)
    assert other.drain() == [f"t{number}" for number in range(1, 6)]


def test_when_an_engine_dies_a_started_task_with_retries_is_retried() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t", retries=1)
    engine.start()
    engine.die()
    assert client.outcomes() == []
    (other,) = world.engines(1)
    assert other.start() is not None
    other.die()
    assert client.status_of("t") == "lost"


def test_a_task_that_its_engine_said_it_started_is_not_placed_anew_whatever_the_agent_says() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    running = engine.start()
    assert running is not None
    engine.say(messages.Started(running.number, world.now))
    engine.agent.say(messages.EngineDied(messages.EngineDeath(engine.uuid, 0, -9)))
    world.pass_time(2.0)
    assert client.status_of("t") == "lost"


def test_an_engine_whose_death_nobody_saw_loses_all_that_may_have_started() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    client.submit("r", retries=1)
    world.core.engine_left(engine.sink, engine.uuid, "lost", world.now)
    world.turn()
    assert client.status_of("t") == "lost"
    assert world.engines(1)[0].tasks == ["r"]


def test_last_words_are_waited_for() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    assign = engine.start()
    assert assign is not None
    engine.agent.say(messages.EngineDied(messages.EngineDeath(engine.uuid, engine.started, 0)))
    engine.say(engine.result(assign))
    world.pass_time(2.0)
    assert client.status_of("t") == "ok"
    assert world.core.board.engines.by_uuid(engine.uuid) is None


def test_a_death_after_its_connection_was_lost_is_concluded_at_once() -> None:
    world = World()
    (engine,) = world.engines(1)
    engine.die()
    assert world.core.board.engines.by_uuid(engine.uuid) is None


def test_the_agent_may_tell_the_death_of_an_engine_that_was_given_up() -> None:
    world = World()
    (engine, other) = world.engines(2)
    world.core.engine_left(engine.sink, engine.uuid, "lost", world.now)
    engine.agent.say(messages.EngineDied(messages.EngineDeath(engine.uuid, 0, -15)))
    world.pass_time(2.0)
    assert world.core.board.engines.by_uuid(other.uuid) is not None


def test_a_second_session_under_an_engines_key_does_not_end_the_engine() -> None:
    world = World()
    (engine,) = world.engines(1)
    second = object()
    assert refused(
        lambda: world.core.engine_message(second, engine.uuid, messages.Report("h", 1, 0, 0, [], []), None, world.now)
    ) == "declared-dead"
    world.core.engine_left(second, engine.uuid, "cut", world.now)
    assert world.core.board.engines.by_uuid(engine.uuid) is not None


def test_an_agents_end_is_that_of_its_engines() -> None:
    world = World()
    agent = world.agent()
    engines = [agent.engine() for _ in range(20)]
    client = world.client()
    for number in range(5):
        client.submit(f"t{number}")
    changes = world.key_changes
    agent.leave()
    assert world.key_changes == changes + 1  # the gate learns once
    assert len(world.core.board.engines) == 0
    assert {o.status for o in client.outcomes()} == {"lost"} and len(client.outcomes()) == 5
    assert world.core.agents.keys == {} and world.core.agents._of_user == {}
    roster = {i for message in client.sink.of(messages.Roster) for i in message.left}
    assert roster == {engine.id for engine in engines}


def test_the_hub_has_the_ends_before_it_forgets_the_engine() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    engine.start()
    engine.die()
    kinds = [type(message) for message in world.to_hub]
    assert kinds.index(messages.Records) < kinds.index(messages.EngineLeft)


# --- clients that go -------------------------------------------------------------------------------------------


def test_tasks_go_on_without_their_client_and_another_session_gets_the_end() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    client.leave()
    other = world.client()
    other.say(messages.Attach(["t"]))
    engine.finish()
    assert other.status_of("t") == "ok"
    assert client.outcomes() == []


def test_a_watcher_sees_output_and_end_once() -> None:
    world = World()
    (engine,) = world.engines(1)
    client, watcher = world.client(), world.client()
    client.submit("t")
    for _ in range(3):
        watcher.say(messages.Attach(["t", "t"]))
        client.say(messages.Attach(["t"]))
    assign = engine.start()
    assert assign is not None
    engine.say(messages.EngineOutput(assign.number, "stdout", "hello"))
    engine.finish()
    for session in (client, watcher):
        assert [o.text for o in session.sink.of(messages.Output)] == ["hello"]
        assert session.status_of("t") == "ok"
    (record,) = world.hub_keeps()
    assert record.outcome.stdout == "hello"


def test_an_end_of_a_moment_ago_is_at_the_hub_before_anyone_asks_for_it() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    engine.finish()
    other = world.client()
    other.say(messages.Attach(["t"]))
    kinds = [type(message) for message in world.to_hub]
    assert kinds.index(messages.Records) < kinds.index(messages.Lookup)
    (record,) = world.hub_keeps()
    world.hub_answers([record.outcome])
    assert other.status_of("t") == "ok"


def test_output_is_kept_up_to_a_bound() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    assign = engine.start()
    assert assign is not None
    for _ in range(20):
        engine.say(messages.EngineOutput(assign.number, "stderr", "x" * 10_000))
    engine.finish()
    (record,) = world.hub_keeps()
    assert len(record.outcome.stderr) == limits.TRACEBACK_CHARS


# --- the hub ---------------------------------------------------------------------------------------------------


def test_small_results_are_kept_by_their_engine_until_the_hub_has_them() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    engine.finish()
    assert set(engine.results) == {1}
    assert [record.outcome.task for record in world.hub_keeps()] == ["t"]
    engine.receive()
    assert engine.results == {}


def test_a_hub_that_is_new_gets_again_what_it_may_not_have() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    engine.finish()
    world.core.flush_records()
    world.to_hub.clear()
    world.core.hub_welcome(False)
    assert [type(message) for message in world.to_hub][:2] == [messages.Records, messages.HubRoster]
    world.hub_keeps()
    engine.receive()
    assert engine.results == {}


def test_without_a_hub_there_is_an_end_to_new_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_UNACKNOWLEDGED", 3)
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    for number in range(4):
        client.submit(f"t{number}")
        engine.drain()
    assert client.error_of("t3") == "HubUnavailable"
    world.hub_keeps()
    client.submit("again")
    assert engine.drain() == ["again"]


def test_record_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECORDS_BYTES", 1000)
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    engine.finish(body=[b"x" * 2000])
    client.submit("u")
    assert client.error_of("u") == "HubUnavailable"
    world.hub_keeps()
    client.submit("v")
    assert engine.tasks == ["v"]


# --- rights and quotas -----------------------------------------------------------------------------------------


def test_a_missing_right_is_named() -> None:
    world = World(grants=[grant("alice", ["direct"]), grant("agents")])
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    (outcome,) = client.outcomes("t")
    assert outcome.error is not None and "'task'" in outcome.error.evalue
    client.say(messages.Signal(9, [], 2))
    (failure,) = client.sink.of(messages.Failure)
    assert (failure.request, failure.code) == (9, "no-right")
    for _ in range(50):
        client.submit("t")
    assert len([e for e in world.hub_got(messages.AuditEvent) if e.event == "forbidden"]) == 1
    assert engine.tasks == [] and client.peer.charges == {}


def test_rights_are_those_of_now() -> None:
    world = World()
    client = world.client()
    world.core.hub_message(messages.Grants(2, [grant("alice", [])], []), world.now)
    client.submit("t")
    assert client.error_of("t") == "Refused"


def test_who_lost_the_grant_loses_what_has_not_started() -> None:
    world = World()
    (engine,) = world.engines(1)
    alice, bob = world.client("alice"), world.client("bob")
    for number in range(5):
        alice.submit(f"a{number}")
    bob.submit("b")
    running = engine.start()
    assert running is not None and running.owner == "alice"
    others = [g for g in world.grants if g.id != "alice"]
    world.core.hub_message(messages.Grants(2, others, [world.grants[0].key]), world.now)
    alice.leave()
    engine.receive()
    assert engine.drain() == ["a0", "b"]
    world.core.hub_message(messages.Grants(3, others, [world.grants[0].key]), world.now)
    assert "alice" not in world.core.board.owners


def test_a_session_with_too_much_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OWNER_TASKS", 10)
    world = World()
    client = world.client()
    for number in range(20):
        client.submit(f"t{number}")
    assert refused(lambda: client.submit("more")) == "quota"


def test_a_session_with_too_many_bytes_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OWNER_TASK_BYTES", 1000)
    world = World()
    client = world.client()
    client.submit("t", body=[b"x" * 1000])
    client.submit("u", body=[b"x" * 1000])
    assert refused(lambda: client.submit("v", body=[b"x"])) == "quota"


def test_an_identity_with_too_much_gets_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDENTITY_TASKS", 5)
    world = World()
    first, second = world.client(), world.client()
    for number in range(5):
        first.submit(f"t{number}")
    second.submit("u")
    assert second.error_of("u") == "QuotaExceeded"
    (engine,) = world.engines(1)
    engine.drain()
    second.submit("v")
    assert engine.drain() == ["v"]


def test_all_is_paid_back() -> None:
    world = World()
    engines = world.engines(2)
    client = world.client()
    for number in range(30):
        client.submit(f"t{number}", after=["t0"] if number > 20 else [])
        client.direct([f"a{number}", f"b{number}"], [0, 1 if number % 2 else 99])
    client.say(messages.Abort(1, [f"t{number}" for number in range(0, 30, 3)]))
    for engine in engines * 3:
        engine.drain()
    assert len(client.outcomes()) == 90
    owner = world.core.board.owner("alice")
    assert client.peer.charges == {} and owner.live == {}
    for account in (owner.account, client.peer.account):
        assert (account.tasks, account.bytes) == (0, 0)
    assert all(engine.load == 0 and not engine.outstanding for engine in world.core.board.engines)


@pytest.mark.parametrize("fields", [
    {"body": [b"x"], "sizes": [5]}, {"body": [], "sizes": [0]}, {"body": [b"x" * 100_000] * 2},
    {"body": [], "sizes": [limits.BODY_BYTES, 1]},
])
def test_a_body_that_cannot_be_is_refused(fields: dict[str, list[object]]) -> None:
    world = World()
    client = world.client()
    message = msgspec.structs.replace(world.submit("t"), **fields)
    assert refused(lambda: client.say(message)) == "malformed"


@pytest.mark.parametrize("tasks,engines", [(["a"], [0, 1]), (["a", "a"], [0, 0]), ([], [])])
def test_a_direct_message_that_does_not_pair_is_refused_when_it_comes(tasks: list[str], engines: list[int]) -> None:
    world = World()
    client = world.client()
    client.submit("first", function=b"f" * 32)  # all else must wait behind it
    assert refused(lambda: client.direct(tasks, engines)) == "malformed"


def test_a_task_id_is_used_once() -> None:
    world = World()
    (engine,) = world.engines(1)
    client, other = world.client(), world.client()
    client.submit("t")
    assert refused(lambda: client.submit("t")) == "malformed"
    other.submit("t")
    assert len(other.sink.of(messages.Notice)) == 1
    engine.drain()
    other.submit("t")
    assert len(other.sink.of(messages.Notice)) == 2
    assert other.peer.charges == {} and engine.tasks == []


# --- questions ---------------------------------------------------------------------------------------------------


def test_queue_status_counts_ones_own() -> None:
    world = World(grants=[grant("alice"), grant("bob", ["task", "direct", "observe"]), grant("agents")])
    (engine,) = world.engines(1)
    alice, bob = world.client("alice"), world.client("bob")
    for number in range(3):
        alice.submit(f"a{number}")
    bob.submit("b")
    engine.finish()
    status = alice.answer(messages.QueueStatus(1, []))
    assert status["engines"][engine.id] == {"queue": 2, "completed": 1, "tasks": 2}
    status = bob.answer(messages.QueueStatus(1, [], True))
    assert len(status["engines"][engine.id]["queue"]) + len(status["unassigned"]) == 3
    assert status["engines"][engine.id]["completed"] == 1


def test_an_answer_that_is_too_large_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FRAME_BYTES", 100)
    world = World()
    client = world.client()
    for number in range(50):
        client.submit(f"t{number}")
    client.say(messages.QueueStatus(5, [], True))
    (failure,) = client.sink.of(messages.Failure)
    assert (failure.request, failure.code) == (5, "too-large")


def test_questions_for_the_hub_are_stamped_answered_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUESTIONS", 2)
    world = World()
    client, other = world.client(), world.client()
    for request in (1, 2, 3):
        client.say(messages.Ask(request, b"?"))
    forwards = world.hub_got(messages.Forward)
    assert [(f.user, f.session, f.request) for f in forwards] == [("alice", client.peer.token, n) for n in (1, 2)]
    assert [failure.code for failure in client.sink.of(messages.Failure)] == ["quota"]
    world.core.hub_message(messages.Forwarded(client.peer.token, messages.Answer(1, b"!")), world.now)
    assert len(client.sink.of(messages.Answer)) == 1 and other.sink.of(messages.Answer) == []
    client.say(messages.Ask(4, b"?"))
    assert len(world.hub_got(messages.Forward)) == 3


def test_signals_and_stops_go_to_the_agents_of_the_engines() -> None:
    world = World()
    first, second = world.engines(2)
    client = world.client()
    told = client.answer(messages.Signal(1, [first.id, 55], 2))
    assert told == {"engines": [first.id], "missing": [55]}
    assert [m.uuid for m in first.agent.sink.of(messages.SignalEngine)] == [first.uuid]
    client.answer(messages.Shutdown(1, [second.id], restart=True))
    assert [(m.uuid, m.restart) for m in second.agent.sink.of(messages.StopEngine)] == [(second.uuid, True)]
    client.answer(messages.Shutdown(1, [], controller=True))
    assert [m.user for m in world.hub_got(messages.StopController)] == ["alice"]
