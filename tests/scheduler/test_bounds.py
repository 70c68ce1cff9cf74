"""Records on their way to the hub, rights, quotas, and questions."""

from __future__ import annotations

import msgspec
import pytest

from secure_ipp import limits
from secure_ipp.wire import messages
from tests.scheduler.world import World, grant, refused

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
