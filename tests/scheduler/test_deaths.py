"""What dies with an engine, an agent or a client, and what goes on."""

from __future__ import annotations

from secure_ipp import limits
from secure_ipp.wire import messages
from tests.scheduler.world import World, refused

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
