"""Rogue engine hosts and rogue engines at a real, running cluster (S12, S14, S15, S16, S18).

A host holds the engine file and nothing else; an engine holds a session key that its host announced.  Both speak the
protocol by hand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from secure_ipp import limits
from secure_ipp.cluster import control
from secure_ipp.keys.capability import Capability
from secure_ipp.keys.cluster_keys import load_server
from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages
from tests.attacks.rogue import Rogue, Rogues, Trail, grant_id, issue, revoke, undisturbed
from tests.running import RunningCluster, wait_until

pytestmark = pytest.mark.live
HONEST = [0, 1]
NOTHING = messages.Report("rogue", 1, 0, 0, [], [])


@pytest.fixture(scope="module")
def town() -> Iterator[RunningCluster]:
    cluster = RunningCluster(engines=2)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def honest(town: RunningCluster) -> Any:
    client = town.client()
    client.wait_for_engines(2, timeout=30)
    return client


@pytest.fixture
def rogues(town: RunningCluster, honest: Any) -> Iterator[Rogues]:
    rogues = Rogues(town)
    with undisturbed(town, honest, HONEST):
        yield rogues
        rogues.close()
    wait_until(lambda: honest.ids == HONEST, 20, "rogue engines to be gone")


@pytest.fixture
def trail(town: RunningCluster) -> Trail:
    return Trail(town.place)


def joined(rogues: Rogues, capability: Capability | None = None) -> Rogue:
    agent = rogues.of(capability or rogues.host).come_in()
    agent.say(messages.Join("rogue", 1, []))
    return agent


def announce(agent: Rogue, *keys: bytes) -> list[messages.Announced]:
    """One answer for each key, in their order."""
    before = len(agent.all(messages.Announced))
    agent.say(messages.Announce(list(keys)))
    wait_until(lambda: len(agent.all(messages.Announced)) >= before + len(keys))
    found = agent.all(messages.Announced)[before:]
    assert [answer.key for answer in found] == list(keys)
    return found


class RogueEngine:
    """An engine of nobody's making: its agent, its link, and its place."""

    def __init__(self, rogues: Rogues, report: messages.Report | None = NOTHING) -> None:
        self.agent = joined(rogues)
        self.keys = KeyPair.generate()
        self.uuid = announce(self.agent, self.keys.public.raw)[0].uuid
        self.link = self.another(rogues)
        if report is not None:
            self.link.say(report)
            self.id = self.link.hear(messages.Registered).id
            wait_until(lambda: self.id in rogues.cluster.client().ids)

    def another(self, rogues: Rogues) -> Rogue:
        """One more session under the same key."""
        host = rogues.host
        link: Rogue = rogues.keep(Rogue(host.door, host.server_key, self.keys, "engine"))
        return link.come_in()

    def task(self, client: Any) -> tuple[Any, messages.Assign]:
        """Somebody's task that this engine was given."""
        result = client[self.id].apply_async(pow, 2, 5)
        return result, self.link.hear(messages.Assign, lambda m: m.task == result.msg_ids[0])


def result_of(assign: messages.Assign, **changes: Any) -> messages.Result:
    values = {
        "number": assign.number, "owner": assign.owner, "task": assign.task, "attempt": assign.attempt,
        "ticket": assign.ticket, "status": "error", "started": 0.0, "completed": 0.0, "body": [], "sizes": [],
        "error": messages.ErrorInfo("Forged", "forged", ["forged"]),
    }
    return messages.Result(**{**values, **changes})


# --- hosts ----------------------------------------------------------------------------------------------------


def test_s12_keys_that_were_known_are_refused_as_session_keys(
    rogues: Rogues, town: RunningCluster, trail: Trail
) -> None:
    """A client's, the server's, join keys, a retired one, one twice, another host's."""
    gone = issue(town.place, ("task",))
    revoke(town.place, gone)
    other = issue(town.place, ("join",), "engine", engines=5)
    others_key, mine = KeyPair.generate().public.raw, KeyPair.generate().public.raw
    assert announce(joined(rogues, other), others_key)[0].uuid
    agent = joined(rogues)
    known = [
        rogues.owner.public_key.raw, load_server(town.place).keys.public.raw, rogues.host.public_key.raw,
        other.public_key.raw, gone.public_key.raw, others_key,
    ]
    answers = announce(agent, *known)
    assert [answer.uuid for answer in answers] == [""] * len(known) and all(answer.reason for answer in answers)
    once, twice = announce(agent, mine, mine)
    assert once.uuid and twice.uuid == once.uuid, "one engine, however often it is said"
    trail.wait("announcement-refused", user=grant_id(town.place, rogues.host.name))


def test_s12_a_key_whose_engine_has_ended_never_comes_back(rogues: Rogues) -> None:
    agent, keys = joined(rogues), KeyPair.generate()
    uuid = announce(agent, keys.public.raw)[0].uuid
    agent.say(messages.EngineDied(messages.EngineDeath(uuid, 0, 0)))
    wait_until(lambda: not announce(agent, keys.public.raw)[0].uuid, 5)
    stale = rogues.keep(Rogue(rogues.host.door, rogues.host.server_key, keys, "engine", patience=2.0))
    stale.refused()
    assert stale.welcome is None


def test_s12_no_more_engines_than_the_join_key_allows(rogues: Rogues, town: RunningCluster) -> None:
    """Announced and never started, they count; when their host goes, so do the keys."""
    capability = issue(town.place, ("join",), "engine", engines=3)
    pairs = [KeyPair.generate() for _ in range(5)]
    agent = joined(rogues, capability)
    answers = announce(agent, *(keys.public.raw for keys in pairs))
    assert [bool(answer.uuid) for answer in answers] == [True, True, True, False, False]
    second = joined(rogues, capability)
    assert not announce(second, KeyPair.generate().public.raw)[0].uuid, "the limit is the key's, not the session's"
    agent.say(messages.Goodbye("gone"))
    wait_until(lambda: announce(second, KeyPair.generate().public.raw)[0].uuid, 10)
    left = rogues.keep(Rogue(capability.door, capability.server_key, pairs[0], "engine", patience=2.0))
    left.refused()
    assert left.welcome is None


def test_s12_announcements_without_end_cost_the_others_nothing(rogues: Rogues, town: RunningCluster) -> None:
    """Many keys in small messages, and the same ones again and again."""
    capability = issue(town.place, ("join",), "engine", engines=4000)
    agent = joined(rogues, capability)
    keys = [os.urandom(32) for _ in range(3000)]
    agent.say(*(messages.Announce([key]) for key in keys))
    agent.say(*(messages.Announce([key]) for key in keys))
    wait_until(lambda: len(agent.all(messages.Announced)) == 2 * len(keys), 60)


def test_s12_the_engine_file_is_no_client_and_no_engine(rogues: Rogues, trail: Trail) -> None:
    for door, role in ((rogues.owner.door, "client"), (rogues.owner.door, "agent"), (rogues.host.door, "client"),
                       (rogues.host.door, "engine"), (rogues.host.door, "scheduler")):
        rogue = rogues.of(rogues.host, role, doors=door, patience=2.0)
        rogue.refused()
        assert rogue.welcome is None
    trail.wait("gate", door="client", reason="unknown key")
    trail.wait("cut", door="engine", code="role")


@pytest.mark.parametrize(
    "message",
    [
        messages.Submit("a", "execute", b"", [b"1", b"{}"], [], 0.0),
        messages.Direct(["a"], [0], "execute", b"", [b"1", b"{}"], [], 0.0), messages.Shutdown(1, [], True),
        messages.Attach(["a"]), messages.Ask(1, b""), messages.Forward("x", b"", 1, b""), NOTHING,
    ],
    ids=lambda message: type(message).__name__,
)
def test_s14_a_host_speaks_for_nobody_else(rogues: Rogues, trail: Trail, message: messages.Message) -> None:
    """A client's, the scheduler's or an engine's messages over an agent's link."""
    agent = joined(rogues)
    agent.say(message)
    assert agent.refused().code == "malformed"
    trail.wait("cut", door="engine", code="malformed")


def test_s12_a_host_does_not_end_another_hosts_engines(
    rogues: Rogues, town: RunningCluster, honest: Any, trail: Trail
) -> None:
    """By reports of their death, under the same join key and under another."""
    victims = [engine["uuid"] for engine in control.ask(town.place, "status")["engines"]]
    deaths = [messages.EngineDeath(uuid, 1 << 40, 0) for uuid in victims]
    other = issue(town.place, ("join",), "engine", engines=5)
    for capability in (rogues.host, other):
        for message in (messages.EngineDied(deaths[0]), messages.Join("rogue", 1, deaths)):
            agent = joined(rogues, capability)
            agent.say(message)
            if capability is other or isinstance(message, messages.EngineDied):
                assert agent.refused().code == "agent"
            else:
                assert announce(agent, KeyPair.generate().public.raw)[0].uuid, "it was heard"
    trail.wait("cut", door="engine", code="agent")
    assert honest.ids == HONEST


# --- engines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        messages.Result(1, "o", "t", 1, bytes(16), "ok", 0.0, 0.0, [], []), messages.Started(1, 0.0),
        messages.EngineOutput(1, "stdout", "x"), messages.Cancelled([1]), messages.EngineNeedsFunction("o", bytes(32)),
        messages.EngineCredit(1, 1), messages.EnginePull(1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_s16_an_engine_without_a_report_says_nothing(rogues: Rogues, trail: Trail, message: messages.Message) -> None:
    engine = RogueEngine(rogues, report=None)
    engine.link.say(message)
    assert engine.link.refused().code == "no-report"
    trail.wait("cut", user=engine.uuid, code="no-report")


@pytest.mark.parametrize(
    "changes",
    [
        {"ticket": bytes(16)}, {"ticket": os.urandom(16)}, {"task": "another"}, {"owner": "another"}, {"attempt": 2},
        {"number": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_s16_a_result_that_is_not_the_assignments_is_refused(
    rogues: Rogues, honest: Any, trail: Trail, changes: dict[str, Any]
) -> None:
    engine = RogueEngine(rogues)
    task, assign = engine.task(honest)
    engine.link.say(result_of(assign, **changes))
    assert engine.link.refused().code == "ticket"
    trail.wait("cut", user=engine.uuid, code="ticket")
    with pytest.raises(Exception, match="EngineError"):
        task.get(30)


def test_s16_another_engines_task_is_not_answered(rogues: Rogues, honest: Any) -> None:
    """With all that a holder of other tasks can know: the owner, the id, and a ticket of its own."""
    engine = RogueEngine(rogues)
    _, assign = engine.task(honest)
    victim = honest[0].apply_async(time.sleep, 1.0)
    engine.link.say(result_of(assign, task=victim.msg_ids[0]))
    assert engine.link.refused().code == "ticket"
    assert victim.get(30) is None


def test_s16_a_replayed_result_counts_once(rogues: Rogues, honest: Any, trail: Trail) -> None:
    engine = RogueEngine(rogues)
    task, assign = engine.task(honest)
    engine.link.say(result_of(assign))
    with pytest.raises(Exception, match="forged"):
        task.get(30)
    for status in ("ok", "error", "aborted"):
        engine.link.say(result_of(assign, status=status))
    again, second = engine.task(honest)
    assert second.number == assign.number + 1
    engine.link.say(result_of(second))
    with pytest.raises(Exception, match="forged"):
        again.get(30)
    trail.wait("task_ended", task=second.task)
    ended = [line for line in trail.lines() if line["event"] == "task_ended" and line["task"] == assign.task]
    assert len(ended) == 1 and ended[0]["status"] == "error"


def test_s16_a_report_claims_no_task_that_was_not_given(rogues: Rogues, town: RunningCluster, honest: Any) -> None:
    victim = honest[0].apply_async(time.sleep, 1.0)
    owner = grant_id(town.place, rogues.owner.name)
    claim = messages.LiveTask(owner, victim.msg_ids[0], 1, 1, bytes(16), "started")
    engine = RogueEngine(rogues, report=None)
    engine.link.say(messages.Report("rogue", 1, 1, 1, [claim], []))
    assert engine.link.refused().code == "ticket"
    assert victim.get(30) is None


def test_s12_a_second_report_under_one_key_changes_nothing(rogues: Rogues, honest: Any) -> None:
    engine = RogueEngine(rogues)
    second = engine.another(rogues)
    second.say(NOTHING)
    assert second.refused().code == "declared-dead"
    task, assign = engine.task(honest)
    engine.link.say(result_of(assign))
    with pytest.raises(Exception, match="forged"):
        task.get(30)


def test_s18_absurd_numbers_in_a_report_harm_nobody(rogues: Rogues, town: RunningCluster, honest: Any) -> None:
    """The largest id, names as long as they may be: later engines and clients must still fit in messages."""
    report = messages.Report("h" * limits.TEXT_CHARS, 2**63 - 1, 2**52, 2**52, [], [], wanted_id=2**31 - 1)
    first = RogueEngine(rogues, report=report)
    second = RogueEngine(rogues, report=report)
    assert max(first.id, second.id) < limits.TARGETS
    assert {first.id, second.id} <= set(town.client().ids)
    third = RogueEngine(rogues, report=None)
    third.link.say(messages.Report("rogue", 1, 2**63 - 1, 0, [], []))
    assert third.link.refused().code == "malformed"


@pytest.mark.parametrize("offset, size", [(8, 100), (16, 8), (8, limits.FRAME_BYTES), (2**62, 8)])
def test_s18_chunks_that_do_not_fit_end_the_engine(
    rogues: Rogues, honest: Any, trail: Trail, offset: int, size: int
) -> None:
    """After 8 of 64 bytes: too long, with a gap, giant, far away."""
    engine = RogueEngine(rogues)
    task, assign = engine.task(honest)
    engine.link.say(result_of(assign, status="ok", error=None, sizes=[64]))
    engine.link.hear(messages.EnginePull)
    engine.link.say(messages.EngineChunk(assign.number, 0), frame=bytes(8))
    engine.link.say(messages.EngineChunk(assign.number, offset), frame=bytes(size))
    assert engine.link.refused().code == "stream"
    trail.wait("cut", user=engine.uuid, code="stream")
    with pytest.raises(Exception, match="EngineError"):
        task.get(30)


@pytest.mark.parametrize("rich", [False, True])
def test_s18_output_without_end_ends_the_engine(rogues: Rogues, honest: Any, trail: Trail, rich: bool) -> None:
    """A rogue engine does not keep to the bound on output that ours keep; its reader must not pay for it."""
    engine = RogueEngine(rogues)
    task, assign = engine.task(honest)
    bound, size = limits.OUTPUT_BYTES_PER_TASK, limits.OUTPUT_EVENT_BYTES
    said: messages.Message = messages.EngineOutput(assign.number, "stdout", "x" * size)
    if rich:
        bound, size = limits.DISPLAY_BYTES_PER_TASK, limits.FRAME_BYTES // 2
        said = messages.EngineDisplay(assign.number, "display_data", "y" * size)
    for _ in range(bound // size + 3):
        engine.link.say(said)
    assert engine.link.refused().code == "quota"
    trail.wait("cut", user=engine.uuid, code="quota")
    with pytest.raises(Exception, match="EngineError"):
        task.get(60)
    assert len(task.stdout) <= limits.OUTPUT_BYTES_PER_TASK + limits.OUTPUT_EVENT_BYTES
