"""The hub as a process: started as the supervisor does, spoken to as the scheduler and the owner's commands do."""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages
from secure_ipp.wire.codec import encode_message
from secure_ipp.wire.intruder import try_door
from tests.hub.engines import engine
from tests.hub.live_hub import SECONDS, LiveHub, SchedulerEnd
from tests.store.records import task_record

pytestmark = pytest.mark.live


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LiveHub]:
    live = LiveHub(tmp_path / "home")
    yield live
    live.stop()


@pytest.fixture
def scheduler(hub: LiveHub) -> Iterator[SchedulerEnd]:
    assert hub.start()["event"] == "ready"
    end = SchedulerEnd(hub)
    yield end
    end.close()


def control(hub: LiveHub, line: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(hub.place.control_socket()))
        connection.sendall(line + b"\n")
        with connection.makefile("rb") as lines:
            return json.loads(lines.readline())


def owner_id(hub: LiveHub) -> str:
    return next(grant.id for grant in hub.registry().grants if grant.role == "client")


def test_starts_serves_and_ends_in_order(hub: LiveHub) -> None:
    ready = hub.start()
    assert ready == {"event": "ready", "pid": hub.process.pid}
    for path in (hub.place.hub_socket(), hub.place.control_socket()):
        found = os.lstat(path)
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) & 0o077 == 0
    assert control(hub, b'{"do":"ping"}') == {"pid": hub.process.pid}
    hub.process.terminate()
    assert hub.ended() == 0
    assert not os.path.lexists(hub.place.hub_socket())
    assert not os.path.lexists(hub.place.control_socket())
    assert [line["event"] for line in hub.audit()] == [
        "hub_started", "grant_issued", "grant_issued", "registry_loaded", "hub_stopped",
    ]


def test_scheduler_is_told_roster_grants_and_beats(hub: LiveHub, scheduler: SchedulerEnd) -> None:
    assert scheduler.wait_for(messages.HubRoster).engines == []
    grants = scheduler.wait_for(messages.Grants)
    registry = hub.registry()
    assert {grant.key for grant in grants.grants} == {grant.key.raw for grant in registry.grants}
    assert {grant.role for grant in grants.grants} == {"client", "agent"}
    for _ in range(3):
        assert scheduler.wait_for(messages.Beat).version == registry.version


def test_records_look_ups_and_questions(hub: LiveHub, scheduler: SchedulerEnd) -> None:
    owner = owner_id(hub)
    scheduler.send(messages.Records(1, [task_record(owner, f"t{n}", body=[b"CANARY"]) for n in range(3)]))
    assert scheduler.wait_for(messages.RecordsKept).number == 1
    scheduler.send(messages.Lookup(2, owner, ["t1", "unknown"]))
    found = scheduler.wait_for(messages.Found)
    assert [(outcome.task, outcome.body) for outcome in found.outcomes] == [("t1", [b"CANARY"])]
    scheduler.send(messages.Forward(owner, b"s" * 16, 3, encode_message(messages.History())))
    forwarded = scheduler.wait_for(messages.Forwarded)
    assert forwarded.session == b"s" * 16
    assert msgspec.msgpack.decode(forwarded.answer.body)["tasks"] == ["t0", "t1", "t2"]
    ended = [row[1] for line in hub.audit() if line["event"] == "tasks_ended" for row in line["tasks"]]
    assert ended == ["t0", "t1", "t2"]
    assert "CANARY" not in str(hub.audit())


def test_engines_are_remembered_for_the_next_scheduler(hub: LiveHub, scheduler: SchedulerEnd) -> None:
    scheduler.send(messages.EngineJoined(engine(0)), messages.Records(1, []))
    scheduler.wait_for(messages.RecordsKept)
    second = SchedulerEnd(hub)
    try:
        roster = second.wait_for(messages.HubRoster)
        assert [record.info.uuid for record in roster.engines] == ["engine-0"]
    finally:
        second.close()
    assert scheduler.wait_failed().code == "replaced"


def test_stop_reaches_the_supervisor_only_with_the_right(hub: LiveHub, scheduler: SchedulerEnd) -> None:
    owner = owner_id(hub)
    scheduler.send(messages.StopController("nobody"), messages.StopController(owner))
    assert hub.event() == {"event": "stop", "by": owner}
    asked = [(line["user"], line["granted"]) for line in hub.audit() if line["event"] == "stop_asked"]
    assert asked == [("nobody", False), (owner, True)]


def test_s30_a_stranger_never_gets_through_the_link(hub: LiveHub) -> None:
    hub.start()
    endpoint = f"ipc://{hub.place.hub_socket()}"
    assert try_door(endpoint, hub.hub_keys.public, KeyPair.generate()) == "refused"
    assert try_door(endpoint, KeyPair.generate().public, hub.scheduler_keys) != "admitted"
    assert try_door(endpoint, hub.hub_keys.public, hub.scheduler_keys) == "admitted"
    stranger = SchedulerEnd(hub, KeyPair.generate())
    try:
        assert stranger.wait_failed().code == "key-refused"
    finally:
        stranger.close()
    wait_until(lambda: "400" in [line["details"]["status"] for line in hub.audit() if line["event"] == "at_link"])


def test_s10_a_damaged_registry_stops_the_beat_and_a_good_one_brings_it_back(
    hub: LiveHub, scheduler: SchedulerEnd
) -> None:
    scheduler.wait_for(messages.Beat)
    good = hub.place.registry.read_bytes()
    write(hub.place.registry, good.replace(b'"version"', b'"Version"'))
    wait_until(lambda: control(hub, b'{"do":"status"}')["registry"]["problem"])
    scheduler.came.clear()
    scheduler.send(messages.Forward(owner_of(good), b"s" * 16, 3, encode_message(messages.Whois())))
    assert scheduler.wait_for(messages.Forwarded).answer.code == "registry"
    assert not [message for message in scheduler.came if isinstance(message, messages.Beat)]
    write(hub.place.registry, good)
    assert scheduler.wait_for(messages.Grants).version == 1
    scheduler.wait_for(messages.Beat)
    assert [line["event"] for line in hub.audit() if line["event"].startswith("registry")] == [
        "registry_loaded", "registry_refused", "registry_loaded",
    ]


def test_s21_without_room_nothing_is_acknowledged_and_no_beat_is_sent(
    hub: LiveHub, scheduler: SchedulerEnd
) -> None:
    scheduler.wait_for(messages.Beat)
    owner = owner_id(hub)
    size = max(path.stat().st_size for path in hub.place.journal_dir.iterdir())
    limit = resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (size + 10, limit[1]))
    scheduler.send(messages.Records(1, [task_record(owner, "t")]))
    wait_until(lambda: control(hub, b'{"do":"status"}')["journal"]["problem"])
    scheduler.came.clear()
    scheduler.send(messages.Forward(owner, b"s" * 16, 3, encode_message(messages.Whois())))
    assert scheduler.wait_for(messages.Forwarded).answer.code == "journal"
    assert not [m for m in scheduler.came if isinstance(m, messages.RecordsKept | messages.Beat)]
    resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, limit)
    assert scheduler.wait_for(messages.RecordsKept).number == 1
    scheduler.wait_for(messages.Beat)
    told = hub.audit()
    assert [row[1] for line in told if line["event"] == "tasks_ended" for row in line["tasks"]] == ["t"]
    assert [line["problem"] for line in told if line["event"] == "write_failed"]


def test_s17_a_journal_that_cannot_be_read_is_on_record_and_what_follows_goes_on(
    hub: LiveHub, scheduler: SchedulerEnd
) -> None:
    scheduler.wait_for(messages.Beat)
    segment = next(hub.place.journal_dir.glob("segment-*.jsonl"))
    segment.chmod(0o644)
    scheduler.send(messages.SeenHead(owner_id(hub), 1, "no such hash", 0))
    wait_until(lambda: any(line.get("what") == "not-compared" for line in hub.audit()))
    segment.chmod(0o600)
    scheduler.wait_for(messages.Beat)
    scheduler.send(messages.SeenHead(owner_id(hub), 1, "no such hash", 0))
    wait_until(lambda: any(line["event"] == "fork" for line in hub.audit()))


def test_the_supervisor_s_death_ends_it_at_once(hub: LiveHub) -> None:
    hub.start()
    hub.process.stdin.close()
    assert hub.ended() == 3
    assert not os.path.lexists(hub.place.hub_socket())
    assert not os.path.lexists(hub.place.control_socket())


def test_a_hub_that_was_killed_leaves_nothing_in_the_way_of_the_next(hub: LiveHub) -> None:
    hub.start()
    hub.process.kill()
    hub.ended()
    assert os.path.lexists(hub.place.control_socket())
    assert hub.start()["event"] == "ready"
    assert control(hub, b'{"do":"ping"}')["pid"] == hub.process.pid


@pytest.mark.parametrize(
    "line", [b"{}\n", b"garbage\n", b"x" * 100_000 + b"\n", b'{"cluster":"work","secret":"CANARY"}\n'], ids=range(4)
)
def test_what_is_no_bootstrap_is_an_error_that_quotes_nothing(hub: LiveHub, line: bytes) -> None:
    failed = hub.start(line)
    assert failed["event"] == "failed"
    assert failed["advice"]
    assert hub.ended() == 1
    assert b"CANARY" not in json.dumps(failed).encode() + hub.process.stderr.read()


@pytest.mark.parametrize("field", ["link_server_secret", "link_server_public", "scheduler_public"])
def test_keys_that_are_none_or_do_not_match_are_an_error(hub: LiveHub, field: str) -> None:
    failed = hub.start(hub.bootstrap(**{field: "CANARY"}))
    assert failed["event"] == "failed"
    assert "CANARY" not in json.dumps(failed)
    assert hub.ended() == 1


def test_s11_the_secret_is_nowhere_to_be_seen(hub: LiveHub) -> None:
    hub.start()
    secret = hub.hub_keys.secret.text
    for name in ("cmdline", "environ"):
        try:
            shown = Path(f"/proc/{hub.process.pid}/{name}").read_bytes()
        except PermissionError:
            continue  # not dumpable: the kernel shows it to root only
        assert secret.encode() not in shown
    hub.process.terminate()
    hub.ended()
    for path in hub.place.log_dir.iterdir():
        assert secret not in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def write(path: Path, data: bytes) -> None:
    new = path.with_suffix(".test")
    new.touch(mode=0o600)
    new.write_bytes(data)
    os.replace(new, path)


def owner_of(registry: bytes) -> str:
    return next(grant["id"] for grant in json.loads(registry)["grants"] if grant["role"] == "client")


def wait_until(condition: Callable[[], Any]) -> None:
    """For what another process does without telling us."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
