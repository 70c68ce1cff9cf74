"""Large bodies: credit, order, engines that die or stall, sessions that go."""

from __future__ import annotations

import pytest

from secure_ipp import limits
from secure_ipp.scheduler.streams import BodyStream
from secure_ipp.scheduler.task import Task
from secure_ipp.wire import messages
from tests.scheduler.world import SimClient, SimEngine, World, refused

MIB = limits.MIB


class Upload:
    """A client's side of its streams, as `client.ledger` has it: begun by `Pull`, moved by `Credit`."""

    def __init__(self, client: SimClient, total: int, chunk: int = limits.CHUNK_BYTES) -> None:
        self.client, self.total, self.chunk = client, total, chunk
        self.name = ""
        self.sent = self.credited = 0

    def go_on(self, most: int = 1000) -> None:
        got, self.client.sink.got = self.client.sink.got, []
        self.client.sink.got = [m for m in got if not isinstance(m, messages.Pull | messages.Credit)]
        for message in got:
            if isinstance(message, messages.Pull):
                self.name, self.sent, self.credited = message.task, 0, 0
            elif isinstance(message, messages.Credit) and message.task == self.name:
                self.credited += message.bytes
                assert self.credited <= self.sent, "credit for what was never sent"
        while self.sent < self.total and self.sent - self.credited < limits.STREAM_CREDIT_BYTES and most:
            size = min(self.chunk, self.total - self.sent)
            self.client.say(messages.Chunk(self.name, self.sent), b"x" * size)
            self.sent += size
            most -= 1


def take(engine: SimEngine, count: int | None = None) -> int:
    """The engine takes its chunks, checks their order, and gives credit; returns bytes taken."""
    chunks = engine.sink.of(messages.EngineChunk)
    taken = 0
    for chunk, frame in list(zip(chunks, engine.sink.frames, strict=True))[:count]:
        expected = engine.world.__dict__.setdefault("taken", {})
        assert chunk.offset == expected.get((engine.uuid, chunk.number), 0)
        expected[(engine.uuid, chunk.number)] = chunk.offset + len(frame)
        taken += len(frame)
        engine.sink.got.remove(chunk)
        engine.say(messages.EngineCredit(chunk.number, len(frame)))
    engine.sink.frames = engine.sink.frames[len(chunks[:count]):]
    return taken


def test_a_body_streams_to_its_engine_within_the_credit() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    total = 20 * MIB + 5
    client.submit("t", sizes=[total])
    upload = Upload(client, total)
    taken = rounds = 0
    while taken < total:
        upload.go_on()
        assert sum(map(len, engine.sink.frames)) <= limits.STREAM_CREDIT_BYTES + limits.CHUNK_BYTES
        taken += take(engine)
        rounds += 1
    assert rounds < 20
    assert not world.core.dispatch.relay._bodies and not world.core.dispatch.relay._of_task
    engine.finish()
    assert client.status_of("t") == "ok"


def test_a_shared_body_leaves_its_client_once_at_the_pace_of_the_slowest() -> None:
    world = World()
    engines = world.engines(3)
    client = world.client()
    total = 9 * MIB
    client.direct(["a", "b", "c"], [engine.id for engine in engines], sizes=[total])
    assert [pull.task for pull in client.sink.of(messages.Pull)] == ["a"]
    upload = Upload(client, total)
    upload.go_on()
    for _ in range(5):
        take(engines[0])
        take(engines[1])
        upload.go_on()
    assert upload.sent <= limits.STREAM_CREDIT_BYTES + limits.CHUNK_BYTES
    for _ in range(10):
        for engine in engines:
            take(engine)
        upload.go_on()
    assert upload.sent == total
    for engine in engines:
        engine.finish()
    assert [client.status_of(task) for task in "abc"] == ["ok"] * 3


@pytest.mark.parametrize("offset,size", [(5 * MIB, MIB), (MIB, 0), (MIB, 10 * MIB)])
def test_chunks_out_of_place_are_refused(offset: int, size: int) -> None:
    world = World()
    world.engines(1)
    client = world.client()
    client.submit("t", sizes=[8 * MIB])
    client.say(messages.Chunk("t", 0), b"x" * MIB)
    assert refused(lambda: client.say(messages.Chunk("t", offset), b"x" * size)) == "stream"


def test_chunks_beyond_the_credit_are_refused() -> None:
    world = World()
    world.engines(1)
    client = world.client()
    client.submit("t", sizes=[100 * MIB])

    def flood() -> None:
        for number in range(20):
            client.say(messages.Chunk("t", number * MIB), b"x" * MIB)

    assert refused(flood) == "stream"


def test_chunks_of_no_stream_are_passed_on_to_nobody() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    for number in range(50):
        client.say(messages.Chunk("nothing", number), b"x" * MIB)
    assert engine.sink.frames == []


def test_an_engine_cannot_give_credit_for_what_was_not_sent() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t", sizes=[50 * MIB])
    upload = Upload(client, 50 * MIB)
    upload.go_on(2)
    engine.receive()
    engine.say(messages.EngineCredit(1, 50 * MIB))
    upload.go_on(0)  # asserts that it is not credited beyond what it has sent
    assert upload.credited == 2 * MIB


def test_an_engine_that_dies_mid_stream_is_replaced_and_the_body_pulled_again() -> None:
    world = World()
    first, second = world.engines(2)
    client = world.client()
    total = 10 * MIB
    client.submit("t", sizes=[total])
    engine, other = (first, second) if first.tasks else (second, first)
    upload = Upload(client, total)
    upload.go_on()
    take(engine, 2)
    engine.die()
    assert other.tasks == ["t"]
    client.say(messages.Chunk("t", upload.sent), b"x" * MIB)  # still under way when the engine died
    for _ in range(10):
        upload.go_on()
        take(other)
    other.finish()
    assert client.status_of("t") == "ok"


def test_the_stream_of_a_group_outlives_the_task_that_names_it() -> None:
    world = World()
    first, second, third = world.engines(3)
    client = world.client()
    total = 10 * MIB
    client.direct(["a", "b", "c"], [first.id, second.id, third.id], sizes=[total])
    upload = Upload(client, total)
    upload.go_on()
    take(second)
    take(third, 1)
    first.die()
    assert client.status_of("a") == "lost"
    assert [pull.task for pull in client.sink.of(messages.Pull)] == ["b"]
    client.say(messages.Chunk("a", upload.sent), b"x" * MIB)  # of the name that is gone
    for _ in range(20):
        upload.go_on()
        take(second)
        take(third)
    second.finish()
    third.finish()
    assert [client.status_of(task) for task in "bc"] == ["ok", "ok"]
    assert not world.core.dispatch.relay._bodies and not world.core.dispatch.relay._of_task


def test_a_group_is_named_by_a_task_whose_engine_is_there() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.direct(["gone", "there"], [55, engine.id], sizes=[MIB])
    assert [pull.task for pull in client.sink.of(messages.Pull)] == ["there"]


def test_a_stalled_engine_is_left_out_and_the_others_go_on() -> None:
    world = World()
    first, second = world.engines(2)
    client = world.client()
    total = 12 * MIB
    client.direct(["a", "b"], [first.id, second.id], sizes=[total])
    upload = Upload(client, total)
    world.pass_time(limits.STALLED_STREAM_SECONDS + 1)  # the client was slow: nobody's fault
    upload.go_on()
    take(second)
    world.pass_time(1.0)
    assert client.outcomes() == []
    world.pass_time(limits.STALLED_STREAM_SECONDS)
    assert client.status_of("a") == "lost"
    first.sink.frames.clear()
    first.sink.take(messages.EngineChunk)
    for _ in range(10):
        upload.go_on()
        take(second)
    second.finish()
    assert client.status_of("b") == "ok"
    first.receive()
    assert first.tasks == []


def test_a_client_that_goes_mid_stream_leaves_no_engine_waiting() -> None:
    world = World()
    (engine,) = world.engines(1)
    client, other = world.client(), world.client()
    for number in range(4):
        client.submit(f"t{number}", sizes=[MIB])
    other.say(messages.Attach([f"t{number}" for number in range(4)]))
    client.leave()
    engine.receive()
    assert engine.tasks == []
    assert [other.error_of(f"t{number}") for number in range(4)] == ["EngineError"] * 4


def test_a_task_whose_client_has_gone_is_not_placed_where_its_data_cannot_come() -> None:
    world = World()
    first, second = world.engines(2)
    client, other = world.client(), world.client()
    client.submit("t", sizes=[MIB], retries=3)
    engine, spare = (first, second) if first.tasks else (second, first)
    upload = Upload(client, MIB)
    upload.go_on()
    take(engine)
    client.leave()
    other.say(messages.Attach(["t"]))
    other.leave()
    third = world.client()
    engine.start()
    engine.die()
    assert spare.tasks == []
    assert third.outcomes() == [] and world.core.board.owner("alice").live == {}


def test_counting_the_slowest_is_not_done_for_each_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = BodyStream("t0", 4 * MIB)
    for number in range(3000):
        task = Task("o", f"t{number}", "apply", b"", [], [], 0, "", "direct", None, 0, f"t{number}")
        stream.add(task, None, number, 0.0)
    counted = 0
    original = BodyStream._moved_from

    def count(self: BodyStream, before: int) -> None:
        nonlocal counted
        was = self._so_slow
        original(self, before)
        counted += was == 1

    monkeypatch.setattr(BodyStream, "_moved_from", count)
    for offset in range(0, 4 * MIB, MIB):
        stream.chunk(offset, MIB, 0.0)
        for number in range(3000):
            stream.taken(f"t{number}", MIB, 0.0)
    assert stream.over and counted == 4
