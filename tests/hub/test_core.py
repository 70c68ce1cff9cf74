"""What the hub does about each event: actions, and their order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from secure_ipp import limits
from secure_ipp.audit import record as audit
from secure_ipp.errors import EnvironmentProblem, ProtocolError, Refused
from secure_ipp.hub.actions import Action, Adopted, Compare, InForce, Send, Stop, Write
from secure_ipp.hub.core import Hub
from secure_ipp.store.memory import MemoryStore
from secure_ipp.wire import messages
from tests.hub.engines import client, engine, join_key, live
from tests.store.records import task_record

NOW = 1000.0


class Harness:
    """A hub with a clock that stands still."""

    def __init__(self) -> None:
        self.store = MemoryStore(started=NOW)
        self.hub = Hub(cluster="work", pid=1, store=self.store, started=NOW, before={})

    def handle(self, message: messages.Message) -> list[Action]:
        return self.hub.handle(message, NOW)


def sent(actions: list[Action]) -> list[Any]:
    return [action.message for action in actions if isinstance(action, Send)]


def written(actions: list[Action]) -> list[Any]:
    return [record for action in actions if isinstance(action, Write) for record in action.records]


@pytest.fixture
def harness() -> Harness:
    return Harness()


@pytest.fixture
def running(harness: Harness) -> Harness:
    harness.hub.registry_loaded(live(client("alice", "task"), client("boss", "control"), join_key(), version=3), NOW)
    harness.hub.scheduler_joined(50, NOW)
    return harness


# --- the registry and the beat -----------------------------------------------------------------------------


def test_before_the_registry_is_read_there_is_no_beat_and_no_grant(harness: Harness) -> None:
    assert harness.hub.beat(NOW) == []
    assert [type(message) for message in sent(harness.hub.scheduler_joined(50, NOW))] == [messages.HubRoster]


def test_grants_spread_after_they_are_on_record(harness: Harness) -> None:
    actions = harness.hub.registry_loaded(live(client("alice", "task"), version=3), NOW)
    assert [type(action) for action in actions] == [Write, Adopted, Send, Send]
    assert [type(message) for message in sent(actions)] == [messages.Grants, messages.Beat]
    assert harness.hub.beat(NOW) == [Send(messages.Beat(3, 1, NOW))]


def test_an_unreadable_registry_stops_the_beat(running: Harness) -> None:
    assert running.hub.beat(NOW)
    actions = running.hub.registry_refused(EnvironmentProblem("gone"), NOW)
    assert sent(actions) == []
    assert written(actions) == [audit.RegistryRefused(at=NOW, reason="gone")]
    assert running.hub.beat(NOW) == []
    assert [type(message) for message in sent(running.hub.scheduler_joined(51, NOW))] == [messages.HubRoster]
    assert running.hub.status(NOW)["registry"] == {
        "version": None, "problem": "gone", "grants": [], "in_force": False,
        "derived_problem": "not read yet",
    }


# --- the scheduler's sessions --------------------------------------------------------------------------------


def test_a_new_session_is_told_roster_grants_and_beat(running: Harness) -> None:
    running.handle(messages.EngineJoined(engine(0)))
    roster, grants, beat = sent(running.hub.scheduler_joined(51, NOW))
    assert roster == messages.HubRoster([engine(0)])
    assert grants.version == beat.version == 3


def test_restart_of_the_scheduler_is_told_from_a_lost_link(running: Harness) -> None:
    running.handle(messages.EngineJoined(engine(0)))
    [same] = written(running.hub.scheduler_joined(50, NOW))
    assert not same.restarted
    [gone] = written(running.handle(messages.HubRoster([])))
    assert isinstance(gone, audit.EngineLeft)
    running.handle(messages.EngineJoined(engine(1)))
    [other] = written(running.hub.scheduler_joined(51, NOW))
    assert other.restarted
    assert running.handle(messages.HubRoster([])) == []
    [awaited] = running.hub.status(NOW)["engines"]
    assert awaited["state"] == "awaited"


def scheduler_status(*clients: messages.ClientRecord, recovering: bool) -> messages.SchedulerStatus:
    return messages.SchedulerStatus(
        clients=list(clients), tasks_waiting=1, tasks_running=2, tasks_done=3, gate_refused=4, recovering=recovering
    )


def test_the_end_of_recovery_ends_the_waiting(running: Harness) -> None:
    running.handle(messages.EngineJoined(engine(0)))
    running.hub.scheduler_joined(51, NOW)
    assert running.handle(scheduler_status(recovering=True)) == []
    [left] = written(running.handle(scheduler_status(recovering=False)))
    assert left.uuid == "engine-0"
    assert running.hub.status(NOW)["engines"] == []


def test_what_a_lost_engine_may_have_run_is_behind_the_horizon_of_every_later_scheduler(harness: Harness) -> None:
    harness.hub.registry_loaded(live(client("alice", "task"), version=3), NOW)
    harness.hub.scheduler_joined(50, NOW)
    harness.handle(messages.EngineJoined(engine(0)))
    harness.hub.scheduler_joined(51, NOW)
    harness.hub.handle(scheduler_status(recovering=False), NOW + 40.0)
    harness.hub.scheduler_joined(52, NOW + 50.0)
    [found] = sent(harness.handle(messages.Lookup(5, "alice", ["a"])))
    assert found.horizon == NOW + 40.0


def test_a_recovery_too_short_to_be_seen_ends_the_waiting_too(running: Harness) -> None:
    running.handle(messages.EngineJoined(engine(0)))
    running.hub.scheduler_joined(51, NOW)
    running.handle(messages.HubRoster([]))
    [left] = written(running.handle(scheduler_status(recovering=False)))
    assert left.uuid == "engine-0"


def test_what_the_hub_itself_sends_is_not_taken_from_a_scheduler(running: Harness) -> None:
    for message in (messages.Beat(9), messages.Grants(9, [], []), messages.RecordsKept(1), messages.Goodbye()):
        with pytest.raises((ProtocolError, Refused)):
            running.handle(message)


# --- engines ------------------------------------------------------------------------------------------------


def test_engines_come_and_go_on_record(running: Harness) -> None:
    [joined] = written(running.handle(messages.EngineJoined(engine(0, host="h" * 1000))))
    assert (joined.uuid, joined.engine, joined.agent) == ("engine-0", 0, "join-key")
    assert len(joined.host) == limits.AUDIT_TEXT_CHARS
    assert running.handle(messages.EngineJoined(engine(0))) == []
    [left] = written(running.handle(messages.EngineLeft("engine-0", "killed")))
    assert (left.uuid, left.reason) == ("engine-0", "killed")
    assert running.handle(messages.EngineLeft("engine-0", "killed")) == []


# --- records --------------------------------------------------------------------------------------------------


def test_records_are_kept_written_and_then_acknowledged(running: Harness) -> None:
    actions = running.handle(messages.Records(7, [task_record("alice", "t")]))
    assert [type(action) for action in actions] == [Write, Send]
    assert sent(actions) == [messages.RecordsKept(7)]
    assert [record.outcome.task for record in running.store.get("alice", ["t"])] == ["t"]


def test_a_batch_that_comes_twice_is_acknowledged_twice_and_written_once(running: Harness) -> None:
    batch = messages.Records(7, [task_record("alice", "t"), task_record("alice", "t"), task_record("bob", "t")])
    [one] = written(running.handle(batch))
    assert [(row.owner, row.task) for row in one.tasks] == [("alice", "t"), ("bob", "t")]
    again = running.handle(batch)
    assert written(again) == []
    assert sent(again) == [messages.RecordsKept(7)]


def test_the_record_of_a_task_is_a_summary_without_its_result(running: Harness) -> None:
    canary = b"CANARY-result"
    record = task_record("alice", "t", body=[canary], traceback=["CANARY-traceback"], status="error")
    [summary] = written(running.handle(messages.Records(1, [record])))
    line = audit.line(summary)
    assert b"CANARY" not in line
    [row] = summary.tasks
    assert row.function == "01" * 32
    assert (row.owner, row.task, row.status) == ("alice", "t", "error")


# --- look-ups ---------------------------------------------------------------------------------------------------


def test_a_look_up_finds_what_that_owner_has_with_its_result(running: Harness) -> None:
    running.store.add([task_record("alice", "a", body=[b"r"]), task_record("bob", "b")])
    [found] = sent(running.handle(messages.Lookup(5, "alice", ["a", "b", "unknown"])))
    assert (found.request, found.owner, found.horizon, found.more) == (5, "alice", NOW, False)
    assert [(outcome.task, outcome.body) for outcome in found.outcomes] == [("a", [b"r"])]


def test_a_look_up_that_finds_nothing_is_answered(running: Harness) -> None:
    [found] = sent(running.handle(messages.Lookup(5, "nobody", ["a"])))
    assert found.outcomes == []
    assert not found.more


def test_a_large_look_up_comes_in_parts_that_a_link_can_carry(running: Harness) -> None:
    names = [f"t{n}" for n in range(40)]
    running.store.add([task_record("alice", name, body=[bytes(100 * 1024)]) for name in names])
    found = sent(running.handle(messages.Lookup(5, "alice", names)))
    assert len(found) > 1
    assert [part.more for part in found] == [True] * (len(found) - 1) + [False]
    assert [outcome.task for part in found for outcome in part.outcomes] == names
    assert max(len(msgspec.msgpack.encode(part)) for part in found) < limits.FRAME_BYTES


# --- the rest -----------------------------------------------------------------------------------------------------


def test_what_the_scheduler_reports_is_kept_as_its_word(running: Harness) -> None:
    [report] = written(running.handle(messages.AuditEvent("admitted", 5.0, {"address": "x" * 1000})))
    assert (report.what, report.when, report.at) == ("admitted", 5.0, NOW)
    assert len(report.details["address"]) == limits.AUDIT_TEXT_CHARS


def test_stop_needs_the_live_right(running: Harness) -> None:
    actions = running.handle(messages.StopController("boss"))
    assert written(actions) == [audit.StopAsked(at=NOW, user="boss", granted=True)]
    assert actions[-1] == Stop("boss")


@pytest.mark.parametrize("user", ["alice", "nobody", "join-key", ""])
def test_stop_without_the_right_is_recorded_and_not_done(running: Harness, user: str) -> None:
    actions = running.handle(messages.StopController(user))
    assert actions == [Write((audit.StopAsked(at=NOW, user=user, granted=False),))]


def test_stop_without_a_registry_is_not_done(running: Harness) -> None:
    running.hub.registry_refused(EnvironmentProblem("gone"), NOW)
    assert not any(isinstance(action, Stop) for action in running.handle(messages.StopController("boss")))


def test_forwarded_questions_are_answered_to_their_session(running: Harness) -> None:
    whois = msgspec.msgpack.encode(messages.Whois())
    [forwarded] = sent(running.handle(messages.Forward("alice", b"s" * 16, 4, whois)))
    assert forwarded.session == b"s" * 16
    assert forwarded.answer.request == 4


def test_status_is_plain_data_and_shows_no_key(running: Harness) -> None:
    running.handle(messages.EngineJoined(engine(1)))
    running.handle(messages.EngineJoined(engine(0)))
    peer = messages.ClientRecord(user="alice", name="alice", host="h", pid=1, address="127.0.0.1", since=2.0)
    running.handle(scheduler_status(peer, recovering=False))
    status = running.hub.status(NOW)
    encoded = msgspec.json.encode(status)
    assert [entry["id"] for entry in status["engines"]] == [0, 1]
    assert status["engines"][0]["joined_with"] == "engines"
    assert status["clients"][0]["user"] == "alice"
    assert status["scheduler"]["tasks_running"] == 2
    assert b"....." not in encoded  # the padding of the test keys
    running.hub.scheduler_left("crashed", NOW)
    assert running.hub.status(NOW)["scheduler"]["connected"] is False
    assert running.hub.status(NOW)["clients"] == []


# --- grants in force ---------------------------------------------------------------------------------------


def test_s10_in_force_is_what_the_connected_scheduler_has_confirmed(running: Harness) -> None:
    assert not running.hub.in_force(3)
    assert running.handle(messages.GrantsInForce(3, 1)) == [InForce(3)]
    assert running.hub.in_force(3)
    running.hub.registry_loaded(live(client("alice", "task"), version=4), NOW)
    assert not running.hub.in_force(3), "it may be that nothing of version 4 is known there yet"
    assert running.handle(messages.GrantsInForce(3, 1)) == []
    assert running.handle(messages.GrantsInForce(4, 2)) == [InForce(4)]
    assert running.hub.in_force(4)
    assert not running.hub.in_force(5)
    running.hub.scheduler_left("gone", NOW)
    assert not running.hub.in_force(4)
    running.hub.scheduler_joined(51, NOW)
    assert not running.hub.in_force(4), "another scheduler knows nothing of what an earlier one confirmed"


# --- heads of the journal -----------------------------------------------------------------------------------------


def test_a_head_is_told_at_once_and_to_the_next_scheduler(running: Harness) -> None:
    assert sent(running.hub.head("line")) == [messages.Head("line")]
    assert messages.Head("line") in sent(running.hub.scheduler_joined(8, NOW))


def test_s17_what_a_client_has_seen_closes_the_doors_for_the_next_scheduler_too(running: Harness) -> None:
    seen = messages.SeenHead("alice", 7, "h", 1)
    assert running.handle(seen) == [Compare(seen)]
    actions = running.hub.behind(seen, "a client has seen more", NOW)
    assert [type(action) for action in actions] == [Write, Send]
    assert written(actions) == [audit.Fork(at=NOW, user="alice", number=7, hash="h", reason="a client has seen more")]
    [closed] = sent(actions)
    assert isinstance(closed, messages.DoorsClosed)
    assert closed in sent(running.hub.scheduler_joined(8, NOW))
