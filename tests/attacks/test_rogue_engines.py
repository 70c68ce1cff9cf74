"""Attacks by engines and agents that were let in: on tasks, functions and engines that are not theirs.

Rules broken on purpose: S12 (the engine file joins, and nothing else), S16 (a result counts only from whom the task
was given to, after a restart of the scheduler, too).
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
