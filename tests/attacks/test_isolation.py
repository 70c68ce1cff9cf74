"""Attacks from inside by a client: on another identity's tasks, output and functions, on rights, on room.

Rules broken on purpose: S14 (rights at each message), S15 (everything is keyed by owner; another's id is like an
unknown one), S18 (credit and quotas).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from secure_ipp import limits
from secure_ipp.wire import messages
from tests.scheduler.world import HOST, SimClient, World, code_of, grant, refused

MIB = limits.MIB


def said_since(client: SimClient, action: Callable[[], None]) -> list[Any]:
    before = len(client.sink.got)
    action()
    return client.sink.got[before:]


# --- S15: another's id is like an unknown one ------------------------------------------------------------------


@pytest.mark.parametrize("what", [
    lambda t: messages.Abort(1, [t]),
    lambda t: messages.Attach([t]),
    lambda t: messages.Pull(t),
    lambda t: messages.Credit(t, 5),
    lambda t: messages.Received([t]),
    lambda t: messages.Submit("dependent", "apply", b"", [b"x"], [], 1.0, after=[t]),
    lambda t: messages.Submit("dependent", "apply", b"", [b"x"], [], 1.0, follow=[t]),
    lambda t: messages.QueueStatus(1, [], True),
    lambda t: messages.Submit("resent", "apply", b"", [b"x"], [], 1.0, resend=2, after=[t]),
])
@pytest.mark.parametrize("state", ["live", "ended", "large"])
def test_s15_anothers_id_is_answered_exactly_like_an_unknown_one(what: Callable[[str], Any], state: str) -> None:
    answers = []
    for hers in ("her-task", "unknown!"):
        world = World()
        (engine,) = world.engines(1)
        alice, eve = world.client("alice"), world.client("bob")
        alice.submit("her-task")
        if state == "ended":
            engine.finish()
        elif state == "large":
            engine.finish(sizes=[5 * MIB], body=[])
        to_alice, to_engine = len(alice.sink.got), len(engine.sink.got)
        said = said_since(eve, lambda: (eve.say(what(hers)), world.hub_answers())[0])  # noqa: B023
        assert (len(alice.sink.got), len(engine.sink.got)) == (to_alice, to_engine)
        text = repr(said).replace(hers, "ID")
        assert "her-task" not in text
        answers.append(text)
        if state == "live":
            engine.finish()
            assert alice.status_of("her-task") == "ok"
        elif state == "large":
            alice.say(messages.Pull("her-task"))
            assert engine.sink.of(messages.EnginePull)
    assert answers[0] == answers[1]


def test_s15_one_id_used_by_two_owners_is_two_tasks() -> None:
    world = World()
    (engine,) = world.engines(1)
    alice, bob = world.client("alice"), world.client("bob")
    for client in (alice, bob):
        client.submit("same")
        client.submit("after", after=["same"])
    while (assign := engine.start()) is not None:
        engine.finish(body=[assign.owner.encode()])
    for client in (alice, bob):
        assert [o.body for o in client.outcomes()] == [[client.user.encode()]] * 2


def test_s15_nobody_overhears_output() -> None:
    world = World()
    (engine,) = world.engines(1)
    alice, eve = world.client("alice"), world.client("bob")
    alice.submit("t")
    eve.submit("t")  # the same name
    eve.say(messages.Attach(["her-other"]))
    assign = engine.start()
    assert assign is not None and assign.owner == "alice"
    for said in (messages.EngineOutput(1, "stdout", "secret"), messages.EngineDisplay(1, "display_data", "secret"),
                 messages.EngineOutput(77, "stdout", "secret")):
        engine.say(said)
    engine.finish()
    assert "secret" in repr(alice.sink.got) and "secret" not in repr(eve.sink.got)


def test_s15_without_observe_the_queue_shows_ones_own_only() -> None:
    world = World()
    (engine,) = world.engines(1)
    alice, eve = world.client("alice"), world.client("bob")
    for number in range(10):
        alice.submit(f"t{number}")
    engine.finish()
    status = eve.answer(messages.QueueStatus(1, [], True))
    assert status == {"engines": {engine.id: {"queue": [], "completed": 0, "tasks": 0}}, "unassigned": []}


def test_s15_abort_of_everything_is_of_ones_own() -> None:
    world = World()
    (engine,) = world.engines(1)
    alice, eve = world.client("alice"), world.client("bob")
    for number in range(5):
        alice.submit(f"t{number}")
    eve.say(messages.Abort(1, []))
    eve.say(messages.Abort(2, [], [engine.id]))
    assert len(engine.drain()) == 5


def test_s15_a_function_under_a_false_digest_poisons_nobody() -> None:
    world = World()
    world.engines(1)
    alice, eve = world.client("alice"), world.client("bob")
    digest = code_of(b"honest")
    assert refused(lambda: eve.say(messages.Function(digest, b"evil"))) == "digest"
    eve.say(messages.Function(digest, b"honest"))  # the right one, in another's cache
    alice.submit("t", function=digest)
    assert [m.digest for m in alice.sink.of(messages.NeedFunction)] == [digest]
    assert eve.sink.of(messages.NeedFunction) == []


def test_s15_one_session_cannot_read_anothers_answers_from_the_hub() -> None:
    world = World()
    alice, eve = world.client("alice"), world.client("bob")
    alice.say(messages.Ask(1, b"?"))
    world.core.hub_message(messages.Forwarded(alice.peer.token, messages.Answer(1, b"hers")), world.now)
    assert "hers" in repr(alice.sink.got) and "hers" not in repr(eve.sink.got)


# --- S14: rights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message,right", [
    (messages.Submit("t", "apply", b"", [], [], 1.0), "task"),
    (messages.Direct(["t"], [0], "execute", b"", [b"x"], [], 1.0), "direct"),
    (messages.Signal(1, [], 9), "control"),
    (messages.Shutdown(1, [], controller=True), "control"),
    (messages.Shutdown(1, [0], restart=True), "control"),
])
def test_s14_without_the_right_nothing_happens(message: Any, right: str) -> None:
    others = [r for r in ("task", "direct", "observe", "control", "admin") if r != right]
    world = World(grants=[grant("alice", others), grant(HOST)])
    (engine,) = world.engines(1)
    client = world.client()
    said = said_since(client, lambda: client.say(message))
    assert len(said) == 1 and repr(right) in repr(said)
    assert engine.sink.got == [] and engine.agent.sink.got == [] and world.hub_got(messages.StopController) == []


@pytest.mark.parametrize("message", [
    messages.Result(1, "alice", "t", 1, b"", "ok", 1.0, 1.0, [], []), messages.Report("h", 1, 0, 0, [], []),
    messages.Announce([b"k" * 32]), messages.Assign(1, "a", "t", 1, b"", "apply", b"", [], []),
    messages.Grants(1, [], []), messages.StopController("alice"), messages.Goodbye(),
])
def test_s14_what_is_no_clients_to_say_does_nothing(message: Any) -> None:
    world = World()
    client = world.client()
    before = len(world.to_hub)
    try:
        client.say(message)
    except Exception as error:
        assert type(error).__name__ == "Refused"
    assert [type(m) for m in world.to_hub[before:]] in ([], [messages.AuditEvent])
    assert len(world.core.board.engines) == 0


def test_s14_an_agent_whose_grant_is_gone_has_no_word() -> None:
    world = World()
    agent = world.agent()
    world.core.hub_message(messages.Grants(2, [grant("alice")], []), world.now)
    assert refused(lambda: agent.announce(b"n" * 32)) == "no-right"


@pytest.mark.parametrize("message", [messages.Submit("t", "apply", b"", [], [], 1.0), messages.Join("h", 1, [])])
def test_s14_an_engine_says_only_what_engines_say(message: Any) -> None:
    world = World()
    (engine,) = world.engines(1)
    assert refused(lambda: engine.say(message)) == "not-allowed"


# --- S18: floods --------------------------------------------------------------------------------------------------


def test_s18_chunks_beyond_the_credit_cut_the_sender_and_reach_nobody() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.submit("t", sizes=[1000 * MIB])

    def flood() -> None:
        for number in range(1000):
            client.say(messages.Chunk("t", number * MIB), b"x" * MIB)

    assert refused(flood) == "stream"
    assert sum(map(len, engine.sink.frames)) <= limits.STREAM_CREDIT_BYTES + limits.CHUNK_BYTES


def test_s18_requests_that_wait_for_a_function_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OWNER_TASKS", 50)
    world = World()
    client = world.client()

    def flood() -> None:
        for number in range(1000):
            client.submit(f"t{number}", function=b"f" * 32)

    assert refused(flood) == "quota"
    assert len(client.peer.backlog) <= 101
    client.leave()
    owner = world.core.board.owner("alice")
    assert (owner.account.tasks, owner.account.bytes) == (0, 0)
