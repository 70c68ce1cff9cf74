"""Large results: they wait at their engine until whoever was told of them has them."""

from __future__ import annotations

from typing import Any

import pytest

from secure_ipp import limits
from secure_ipp.wire import messages
from tests.scheduler.world import SimClient, SimEngine, World, refused

MIB = limits.MIB


def large_result(world: World, *watchers: SimClient, total: int = 6 * MIB) -> tuple[SimClient, SimEngine]:
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    for watcher in watchers:
        watcher.say(messages.Attach(["t"]))
    engine.finish(sizes=[total], body=[])
    return client, engine


def send(engine: SimEngine, offsets: Any, size: int = MIB) -> None:
    for offset in offsets:
        engine.say(messages.EngineChunk(1, offset * MIB), b"y" * size)


def test_a_large_result_waits_at_its_engine_until_it_is_fetched() -> None:
    world = World()
    client, engine = large_result(world)
    (outcome,) = client.outcomes("t")
    assert outcome.sizes == [6 * MIB] and outcome.body == []
    world.hub_keeps()
    engine.receive()
    assert engine.results, "the hub has no bytes of it"
    client.say(messages.Pull("t"))
    assert engine.sink.of(messages.EnginePull)
    send(engine, range(4))
    client.say(messages.Credit("t", 4 * MIB))
    assert [credit.bytes for credit in engine.sink.of(messages.EngineCredit)] == [4 * MIB]
    send(engine, (4, 5))
    assert [chunk.offset for chunk in client.sink.of(messages.Chunk)] == [n * MIB for n in range(6)]
    client.say(messages.Received(["t"]))
    engine.receive()
    assert engine.results == {} and not world.core.dispatch.relay._results


def test_an_engine_beyond_its_credit_or_out_of_order_is_refused() -> None:
    world = World()
    client, engine = large_result(world, total=50 * MIB)
    client.say(messages.Pull("t"))
    assert refused(lambda: send(engine, range(10))) == "stream"
    client.say(messages.Pull("t"))
    send(engine, [0])
    assert refused(lambda: send(engine, [3])) == "stream"


def test_a_client_that_pulls_twice_does_no_harm_to_the_engine() -> None:
    world = World()
    client, engine = large_result(world)
    client.say(messages.Pull("t"))
    send(engine, (0, 1))
    client.say(messages.Pull("t"))
    send(engine, (2, 3))  # was under way
    send(engine, range(4))
    assert [chunk.offset // MIB for chunk in client.sink.of(messages.Chunk)] == [0, 1, 0, 1, 2, 3]


def test_credit_for_a_result_is_never_more_than_was_sent() -> None:
    world = World()
    client, engine = large_result(world)
    client.say(messages.Pull("t"))
    send(engine, [0])
    client.say(messages.Credit("t", 2**40))
    client.say(messages.Credit("t", 2**40))
    assert [credit.bytes for credit in engine.sink.of(messages.EngineCredit)] == [MIB]


def test_a_second_reader_waits_and_then_reads() -> None:
    world = World()
    second = world.client()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    second.say(messages.Attach(["t"]))
    engine.finish(sizes=[MIB], body=[])
    client.say(messages.Pull("t"))
    for _ in range(5):
        second.say(messages.Pull("t"))
    assert len(engine.sink.of(messages.EnginePull)) == 1
    send(engine, [0])
    client.say(messages.Received(["t"]))
    assert len(engine.sink.of(messages.EnginePull)) == 2
    send(engine, [0])
    second.say(messages.Received(["t"]))
    engine.receive()
    assert engine.results == {}


def test_a_session_that_was_told_may_be_slow_to_ask() -> None:
    world = World()
    (engine,) = world.engines(1)
    client, second = world.client(), world.client()
    client.submit("t")
    second.say(messages.Attach(["t"]))
    engine.finish(sizes=[MIB], body=[])
    client.say(messages.Pull("t"))
    send(engine, [0])
    client.say(messages.Received(["t"]))
    engine.receive()
    assert engine.results
    second.say(messages.Received(["t"]))  # it does not want it
    engine.receive()
    assert engine.results == {}
    second.say(messages.Pull("t"))
    assert [outcome.status for outcome in second.outcomes("t")] == ["ok", "lost"]


def test_when_a_reader_goes_the_next_one_reads() -> None:
    world = World()
    (engine,) = world.engines(1)
    client, second = world.client(), world.client()
    client.submit("t")
    second.say(messages.Attach(["t"]))
    engine.finish(sizes=[6 * MIB], body=[])
    client.say(messages.Pull("t"))
    second.say(messages.Pull("t"))
    send(engine, [0])
    client.leave()
    assert len(engine.sink.of(messages.EnginePull)) == 2
    send(engine, [1, 2])  # of the first reading
    send(engine, [0, 1])
    assert [chunk.offset // MIB for chunk in second.sink.of(messages.Chunk)] == [0, 1]


def test_an_engine_that_dies_while_its_result_is_fetched_ends_it_once() -> None:
    world = World()
    client, engine = large_result(world)
    client.say(messages.Pull("t"))
    send(engine, [0])
    engine.die()
    assert [outcome.status for outcome in client.outcomes("t")] == ["ok", "lost"]
    assert not world.core.dispatch.relay._results


def test_a_result_nobody_asked_for_yet_is_lost_when_it_is_asked_for() -> None:
    world = World()
    client, engine = large_result(world)
    engine.die()
    client.say(messages.Pull("t"))
    assert [outcome.status for outcome in client.outcomes("t")] == ["ok", "lost"]


@pytest.mark.parametrize("changes", [
    {"sizes": [limits.BODY_BYTES] * 2, "body": []}, {"sizes": [0], "body": []}, {"sizes": [5], "body": [b"x"]},
    {"body": [b"x" * limits.INLINE_BYTES, b"x"]},
])
def test_a_result_that_no_client_could_take_is_refused(changes: dict[str, Any]) -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t")
    assign = engine.start()
    assert assign is not None
    assert refused(lambda: engine.say(engine.result(assign, **changes))) == "malformed"
    assert client.outcomes() == []
