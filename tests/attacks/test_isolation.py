"""Attacks from inside: by a client on another identity, by an engine or an agent on what is not its own.

Rules broken on purpose: S12 (the engine file joins, and nothing else), S14 (rights at each message), S15 (everything is
keyed by owner; another's id is like an unknown one), S16 (a result counts only from whom the task was given to),
S18 (credit and quotas).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from secure_ipp import limits
from secure_ipp.scheduler.tickets import Tickets
from secure_ipp.wire import messages
from tests.scheduler.world import HOST, KEY, SimClient, SimEngine, World, code_of, grant, refused

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


# --- S16: results ---------------------------------------------------------------------------------------------------


def two_engines() -> tuple[World, SimClient, SimEngine, SimEngine, messages.Assign]:
    """alice's task runs on the first engine."""
    world = World()
    honest, rogue = world.engines(2)
    alice = world.client("alice")
    alice.direct(["t"], [honest.id])
    assign = honest.start()
    assert assign is not None
    return world, alice, honest, rogue, assign


def test_s16_an_engine_cannot_answer_for_anothers_task() -> None:
    _, alice, honest, rogue, assign = two_engines()
    assert refused(lambda: rogue.say(honest.result(assign, body=[b"forged"]))) == "ticket"
    honest.finish()
    assert [o.body for o in alice.outcomes()] == [[b"value of t"]]


@pytest.mark.parametrize("changes", [
    {"owner": "bob"}, {"task": "other"}, {"attempt": 2}, {"number": 2}, {"ticket": b""}, {"ticket": b"x" * 16},
])
def test_s16_a_changed_answer_is_no_answer(changes: dict[str, Any]) -> None:
    world, alice, honest, _, assign = two_engines()
    bob = world.client("bob")
    assert refused(lambda: honest.say(honest.result(assign, **changes))) == "ticket"
    assert alice.outcomes() == bob.outcomes() == []


def test_s16_tickets_of_another_key_are_forged() -> None:
    _, alice, honest, _, assign = two_engines()
    forged = Tickets(b"z" * 32).make("alice", "t", 1, honest.uuid, assign.number)
    assert refused(lambda: honest.say(honest.result(assign, ticket=forged))) == "ticket"
    assert alice.outcomes() == []


def test_s16_no_two_assignments_read_alike_in_a_ticket() -> None:
    tickets = Tickets(KEY)
    made = {
        tickets.make(owner, task, attempt, engine, number)
        for owner in ("a", "a1", "1:a") for task in ("b", "1b", "2:b") for attempt in (1, 11)
        for engine in ("e", "1e") for number in (1, 11)
    }
    assert len(made) == 3 * 3 * 2 * 2 * 2


def test_s16_an_old_attempts_ticket_is_worth_nothing() -> None:
    world = World()
    rogue, honest = world.engines(2)
    alice = world.client("alice")
    alice.submit("t", retries=3)
    if not rogue.tasks:
        rogue, honest = honest, rogue
    alice.submit("filler", targets=[rogue.id])
    first = rogue.start()
    assert first is not None and first.task == "t"
    rogue.finish("error")
    runner = next(engine for engine in (rogue, honest) if "t" in engine.tasks)
    rogue.say(rogue.result(first, body=[b"changed my mind"]))
    assert alice.outcomes("t") == []
    while runner.start() is not None:
        runner.finish()
    assert [o.body for o in alice.outcomes("t")] == [[b"value of t"]]


def test_s16_a_result_said_twice_counts_once() -> None:
    world, alice, honest, _, assign = two_engines()
    honest.finish()
    honest.say(honest.result(assign, body=[b"second thoughts"]))
    world.core.board.owner("alice").ended.clear()  # even when the scheduler has forgotten the task
    honest.say(honest.result(assign, body=[b"third thoughts"]))
    assert [o.body for o in alice.outcomes()] == [[b"value of t"]]
    assert len(world.hub_keeps()) == 1


def test_s16_an_engine_gives_back_only_what_it_was_asked_for() -> None:
    world, alice, honest, _, assign = two_engines()
    assert refused(lambda: honest.say(messages.Cancelled([assign.number]))) == "cancelled"
    honest.say(messages.Cancelled([5, 6]))
    alice.say(messages.Abort(1, ["t"]))
    honest.say(messages.Started(assign.number, world.now))
    assert refused(lambda: honest.say(messages.Cancelled([assign.number]))) == "cancelled"


def test_s16_an_engine_asks_only_for_functions_of_its_tasks() -> None:
    world, alice, honest, rogue, _ = two_engines()
    code = b"her function"
    alice.say(messages.Function(code_of(code), code))
    alice.direct(["f"], [honest.id], function=code_of(code))
    assert refused(lambda: rogue.say(messages.EngineNeedsFunction("alice", code_of(code)))) == "function"
    assert refused(lambda: honest.say(messages.EngineNeedsFunction("bob", code_of(code)))) == "function"
    assert refused(lambda: honest.say(messages.EngineNeedsFunction("alice", b"d" * 32))) == "function"
    assert rogue.sink.of(messages.EngineFunction) == []
    assert not world.core.board.wanted_functions


def test_s16_after_a_restart_an_engine_cannot_claim_a_task_it_never_had() -> None:
    world, _, honest, rogue, assign = two_engines()
    world.restart(world.records_of([honest, rogue]))
    alice = world.client("alice")
    alice.direct(["t"], [honest.id], resend=2)
    agent = world.agent()
    for key in (honest.key, rogue.key):
        agent.announce(key)
    claim = messages.LiveTask("alice", "t", 1, assign.number, assign.ticket, "started")
    report = messages.Report("h", 1, 5, 5, [claim], [])
    assert refused(lambda: rogue.say(report)) == "ticket"
    forged = msgspec.structs.replace(claim, ticket=b"")
    assert refused(lambda: rogue.say(msgspec.structs.replace(report, live=[forged]))) == "ticket"
    assert world.core.board.engines.by_uuid(rogue.uuid) is None
    honest.report()
    world.hub_answers()
    world.pass_time(limits.RECOVERY_SECONDS + 1)
    honest.finish()
    assert alice.status_of("t") == "ok"


def test_s16_after_a_restart_results_need_their_tickets_and_their_announcement() -> None:
    world, _, honest, rogue, assign = two_engines()
    world.restart(world.records_of([honest, rogue]))
    alice = world.client("alice")
    alice.direct(["t"], [honest.id], resend=2)
    agent = world.agent()
    world.back([rogue], agent)
    assert refused(lambda: rogue.say(honest.result(assign, body=[b"forged"]))) == "ticket"
    world.back([honest], agent)
    honest.say(honest.result(msgspec.structs.replace(assign, number=assign.number)))
    assert alice.status_of("t") == "ok"


@pytest.mark.parametrize("live", [
    lambda a: [a, a], lambda a: [msgspec.structs.replace(a, number=0), a][::-1],
])
def test_s16_a_report_that_contradicts_itself_is_refused(live: Callable[[Any], list[Any]]) -> None:
    world, _, honest, _, assign = two_engines()
    world.restart(world.records_of([honest]))
    world.agent().announce(honest.key)
    claim = messages.LiveTask("alice", "t", 1, assign.number, assign.ticket, "started")
    assert refused(lambda: honest.say(messages.Report("h", 1, 5, 5, live(claim), []))) == "malformed"
    assert refused(lambda: honest.say(messages.Report("h", 1, 2**60, 5, [], []))) == "malformed"
    assert refused(lambda: honest.say(messages.Report("h", 1, 0, 0, [claim], []))) == "malformed"


# --- S12: agents -----------------------------------------------------------------------------------------------------


def reason(announced: list[messages.Announced]) -> str:
    (answer,) = announced
    assert answer.uuid == "" and answer.reason
    return answer.reason


def test_s12_known_keys_are_refused() -> None:
    world = World()
    agent, other = world.agent(), world.agent(HOST + "2")
    retired = b"r" * 32
    world.core.hub_message(messages.Grants(2, world.grants, [retired]), world.now)
    engine = agent.engine()
    assert "known before" in reason(agent.announce(retired))
    for known in world.grants:
        assert "known before" in reason(agent.announce(known.key))
    assert "another engine's" in reason(other.announce(engine.key))
    assert agent.announce(engine.key)[0].uuid == engine.uuid  # its own, again
    engine.die()
    assert "known before" in reason(agent.announce(engine.key))


def test_s12_a_join_key_has_a_limit_over_all_its_agents() -> None:
    few = msgspec.structs.replace(grant(HOST), engines=3)
    world = World(grants=[few, grant(HOST + "2")])
    first, second = world.agent(), world.agent()
    first.engine()
    first.engine()
    engine = second.engine()
    assert "allows 3" in reason(second.announce(b"4" * 32))
    assert world.agent(HOST + "2").announce(b"5" * 32)[0].uuid
    engine.die()
    assert second.announce(b"6" * 32)[0].uuid


def test_s12_an_agent_cannot_end_anothers_engine() -> None:
    world = World()
    engine = world.agent().engine()
    neighbour, stranger = world.agent(), world.agent(HOST + "2")
    death = messages.EngineDeath(engine.uuid, 0, -9)
    for agent in (neighbour, stranger):
        assert refused(lambda: agent.say(messages.EngineDied(death))) == "agent"  # noqa: B023
    assert refused(lambda: stranger.say(messages.Join("h", 1, [death]))) == "agent"
    neighbour.say(messages.Join("h", 1, [death]))  # under the same join key: not believed, either
    world.pass_time(5.0)
    assert world.core.board.engines.by_uuid(engine.uuid) is not None


def test_s12_nor_after_a_restart_before_its_agent_is_back() -> None:
    world = World()
    engine = world.agent().engine()
    world.restart(world.records_of([engine]))
    stranger = world.agent(HOST + "2")
    death = messages.EngineDeath(engine.uuid, 0, -9)
    assert refused(lambda: stranger.say(messages.Join("h", 1, [death]))) == "agent"
    assert "another engine's" in reason(stranger.announce(engine.key))
    stranger.say(messages.EngineDied(death))  # of nobody that is there: ignored
    assert not world.core.recovery.losses
    world.back([engine], world.agent())
    assert world.core.board.engines.by_uuid(engine.uuid) is not None


def test_s12_a_key_that_the_registry_takes_ends_the_engine_under_it() -> None:
    world = World()
    agent = world.agent()
    engine, other = agent.engine(), agent.engine()
    world.core.hub_message(messages.Grants(2, [*world.grants, grant("new", key=engine.key)], []), world.now)
    assert world.core.board.engines.by_uuid(engine.uuid) is None
    assert engine.key not in world.core.agents.keys
    assert world.core.board.engines.by_uuid(other.uuid) is not None


def test_s12_spent_keys_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SPENT_KEYS", 10)
    world = World()
    agent = world.agent()
    for _ in range(30):
        agent.engine().die()
    assert len(world.core.agents._spent) == 10
    assert world.core.agents.keys == {} and world.core.agents._deaths == {} and world.core.agents._unconnected == set()


def test_s12_an_engine_under_no_announced_key_is_nobody() -> None:
    world = World()
    report = messages.Report("h", 1, 0, 0, [], [])
    assert refused(lambda: world.core.engine_message(object(), "who", report, None, world.now)) == "declared-dead"
    (engine,) = world.engines(1)
    assert refused(lambda: world.core.engine_message(object(), engine.uuid, messages.Started(1, 1.0), None, 1.0)) == (
        "no-report"
    )


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
