"""Attacks on what is on record, on a real controller: edits, roll-backs, kills, full disks (S17, S20, S21)."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secure_ipp.audit.verify import Report, verify
from secure_ipp.cluster import control
from secure_ipp.cluster.registry_change import apply
from secure_ipp.errors import SecureIppError
from secure_ipp.keys import seen
from secure_ipp.keys.cluster_keys import load_issuer
from secure_ipp.keys.config import load_config
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import write_private
from secure_ipp.wire import messages
from tests.attacks.rogue import Rogues, Trail
from tests.hub.live_hub import SECONDS, LiveHub, SchedulerEnd
from tests.running import RunningCluster, argv, journal_lines, wait_until
from tests.store.records import task_record

pytestmark = pytest.mark.live


@pytest.fixture
def town() -> Iterator[RunningCluster]:
    cluster = RunningCluster(engines=1)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LiveHub]:
    live = LiveHub(tmp_path / "home")
    yield live
    live.stop()


def report(place: ClusterPlace) -> Report:
    return verify(place.journal_dir, load_config(place).issuer_key.text)


def tasks(place: ClusterPlace) -> list[str]:
    """Ids of the tasks on record."""
    return [row[1] for line in journal_lines(place) if line["event"] == "tasks_ended" for row in line["tasks"]]


def start_fails(town: RunningCluster) -> str:
    done = town.run("ipcluster", "start", "--cluster", town.name, "-n", "0", "--daemonize")
    assert done.returncode != 0
    return str(done.stderr)


def identity(x: int) -> int:
    return x


def test_s20_a_whole_day_is_on_record_and_every_part_of_it_is_missed(town: RunningCluster) -> None:
    client = town.client()
    client.wait_for_engines(1, timeout=30)
    result = client.load_balanced_view().map_async(identity, range(200), chunksize=1)
    result.get(30)
    done = town.run("secure-ipp", "keys", "issue", "guest", "--role", "client", "--out", str(town.home / "guest.json"))
    assert done.returncode == 0, done.stderr
    assert town.run("secure-ipp", "keys", "revoke", "guest").returncode == 0
    wait_until(lambda: len(tasks(town.place)) >= 200)
    town.stop()
    events = [line["event"] for line in journal_lines(town.place)]
    assert set(events) >= {
        "genesis", "hub_started", "grant_issued", "registry_loaded", "scheduler_joined", "engine_joined", "reported",
        "tasks_ended", "grant_revoked", "engine_left", "hub_stopped", "checkpoint",
    }
    assert len(set(tasks(town.place))) >= 200
    named = [line["name"] for line in journal_lines(town.place) if line["event"].startswith("grant_")]
    assert named == ["owner", "engines", "guest", "guest"]
    whole = report(town.place)
    assert whole.ok and whole.sealed == whole.last
    segment = next(town.place.journal_dir.glob("segment-*"))
    lines = segment.read_bytes().splitlines(keepends=True)
    for number in range(len(lines) - 1):
        segment.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
        assert not report(town.place).ok, number
    segment.write_bytes(b"".join(lines))
    assert report(town.place).ok


def test_s20_no_controller_goes_on_behind_an_edited_journal(town: RunningCluster) -> None:
    town.stop()
    segment = next(town.place.journal_dir.glob("segment-*"))
    before = segment.read_bytes()
    segment.write_bytes(before.replace(b'"scheduler_joined"', b'"scheduler_strays"'))
    assert "audit renew" in start_fails(town)
    segment.write_bytes(before)
    town.start()


def test_s17_a_journal_put_back_from_a_copy_stops_the_start(town: RunningCluster) -> None:
    town.stop()
    segment = next(town.place.journal_dir.glob("segment-*"))
    old = segment.read_bytes()
    town.start()
    town.stop()
    segment.write_bytes(old)
    assert "older than its key" in start_fails(town)
    done = town.run("secure-ipp", "audit", "renew", "--reason", "put back from Monday's copy", "--cluster", town.name)
    assert done.returncode == 0, done.stderr
    town.start()
    town.stop()
    found = report(town.place)
    assert found.ok
    assert any("are lost: put back from Monday's copy" in note for note in found.notes)


def test_s17_a_controller_put_back_whole_from_a_copy_closes_its_doors_to_whoever_has_seen_more(
    town: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy hangs together, so that nothing in it tells; the client's memory does."""
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "elsewhere"))  # the client's user is another one
    cluster_id = load_config(town.place).cluster_id
    town.stop()
    shutil.copytree(town.place.dir, tmp_path / "copy", ignore=shutil.ignore_patterns("run", "log"))
    town.start()
    client = town.client()
    client.wait_for_engines(1, timeout=30)
    client[:].apply_sync(identity, 1)
    newest = journal_lines(town.place)[-1]["n"]
    head = wait_until(lambda: (seen.load(cluster_id).head or None), 30)
    town.stop()  # the client remembers its newest head when it is closed
    head = seen.load(cluster_id).head
    assert head.number >= newest - 20
    for path in (tmp_path / "copy").rglob("*"):
        if path.is_file():
            shutil.copy(path, town.place.dir / path.relative_to(tmp_path / "copy"))
    town.start()
    assert report(town.place).ok
    with pytest.raises(SecureIppError):
        client, until = town.client(timeout=10), time.monotonic() + 10
        while time.monotonic() < until:  # what it had seen is compared while it works
            client.load_balanced_view().apply_async(identity, 1).get(10)
    told = wait_until(lambda: [line for line in journal_lines(town.place) if line["event"] == "fork"])
    assert told[0]["number"] == head.number
    with pytest.raises(SecureIppError, match="has seen") as caught:
        town.client(timeout=10)
    assert caught.value.code == "doors-closed"
    assert "has seen" in town.status()["journal"]["doors_closed"]
    assert "! the doors are closed" in town.run("secure-ipp", "status").stdout
    town.stop()
    done = town.run("secure-ipp", "audit", "renew", "--reason", "the disk died", "--lost-through", str(head.number))
    assert done.returncode == 0, done.stderr
    town.start()
    again = town.client()
    again.wait_for_engines(1, timeout=30)
    assert again[:].apply_sync(identity, 2) == [2]


def test_s17_a_head_that_was_never_signed_closes_no_doors(town: RunningCluster) -> None:
    """Any holder of a file could close the cluster to all others, if its word were enough."""
    rogues, trail = Rogues(town), Trail(town.place)
    try:
        rogue = rogues.of(rogues.owner).come_in()
        line = json.dumps({"n": 10**9, "prev": "x", "event": "checkpoint", "at": 1.0, "index": 10**6, "registry": 9999})
        rogue.say(messages.Seen(line, b"p" * 32))
        trail.wait("head-unproven")
    finally:
        rogues.close()
    client = town.client()
    client.wait_for_engines(1, timeout=30)
    assert client[:].apply_sync(identity, 3) == [3]
    assert not town.status()["journal"]["doors_closed"]


def test_s10_a_registry_put_back_while_no_controller_ran_revives_nobody(town: RunningCluster) -> None:
    """The journal has seen the newer version."""
    old = town.place.registry.read_bytes()
    issuer = load_issuer(town.place)
    apply(town.place, issuer, lambda registry: registry.without_grant(registry.named("engines").id))
    wait_until(lambda: [line for line in journal_lines(town.place) if line["event"] == "grant_revoked"])
    town.stop()
    write_private(town.place.registry, old, exclusive=False)
    with subprocess.Popen(
        argv("ipcluster", "start", "--cluster", town.name, "-n", "0", "--daemonize"), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "SECURE_IPP_HOME": str(town.home)},
    ) as start:
        try:
            refused = wait_until(
                lambda: [line for line in journal_lines(town.place) if line["event"] == "registry_refused"], 20
            )
            assert "was seen before" in refused[-1]["reason"] or "in force already" in refused[-1]["reason"]
            with pytest.raises(SecureIppError):
                town.client(timeout=3)
            assert start.poll() != 0  # it does not call that a start
        finally:
            start.send_signal(signal.SIGINT)


def test_s20_kill_9_of_the_hub_under_load_loses_no_task_that_ended(town: RunningCluster) -> None:
    client = town.client()
    client.wait_for_engines(1, timeout=30)
    view, ids, stop = client.load_balanced_view(), list[str](), threading.Event()

    def work() -> None:
        while not stop.is_set():
            result = view.map_async(identity, range(20), chunksize=1)
            result.get(60)
            ids.extend(result.msg_ids)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(4):
            hub = town.pids()["hub"]
            before = len(ids)
            wait_until(lambda before=before: len(ids) > before + 40, 60)
            os.kill(hub, signal.SIGKILL)
            wait_until(lambda hub=hub: town.pids()["hub"] != hub, 30)
    finally:
        stop.set()
        worker.join(90)
    wait_until(lambda: set(ids) <= set(tasks(town.place)), 30, "all tasks on record")
    town.stop()
    found = report(town.place)
    assert found.ok, found.findings
    assert [line["event"] for line in journal_lines(town.place)].count("gap") == 4


def test_s21_without_room_work_goes_on_nobody_is_let_in_and_all_recovers(town: RunningCluster) -> None:
    client = town.client()
    client.wait_for_engines(1, timeout=30)
    hub = town.pids()["hub"]
    size = max(path.stat().st_size for path in town.place.journal_dir.glob("segment-*"))
    limit = resource.prlimit(hub, resource.RLIMIT_FSIZE)
    resource.prlimit(hub, resource.RLIMIT_FSIZE, (size + 20, limit[1]))
    result = client.load_balanced_view().map_async(identity, range(100), chunksize=1)
    assert list(result.get(30)) == list(range(100))
    shown = wait_until(lambda: town.status()["journal"]["problem"])
    assert "cannot write the journal" in shown
    assert "no new work is taken" in town.run("secure-ipp", "status").stdout
    with pytest.raises(SecureIppError):  # the gate has not heard from the hub
        wait_until(lambda: town.client(timeout=4).close(), 20)
    resource.prlimit(hub, resource.RLIMIT_FSIZE, limit)
    wait_until(lambda: not town.status()["journal"]["problem"], 20)
    wait_until(lambda: set(result.msg_ids) <= set(tasks(town.place)), 20)
    town.client()
    assert town.pids()["hub"] == hub
    told = [line for line in journal_lines(town.place) if line["event"] == "write_failed"]
    assert told and told[0]["at"] - told[0]["since"] > 0.5
    town.stop()
    assert report(town.place).ok


SMALL = (
    'cp -a "$1" "$2" && mount -t tmpfs -o size=512k,mode=0700 none "$1" && cp -a "$2/." "$1" &&'
    ' exec "$3" -P -m secure_ipp.hub'
)


def small_disk(hub: LiveHub, tmp_path: Path) -> Path:
    """Start the hub with its journal on a file system of 512 KiB; where that is seen from here."""
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SMALL, "sh", str(hub.place.journal_dir),
             str(tmp_path / "copy"), sys.executable]
    hub.process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "SECURE_IPP_HOME": str(hub.home)},
    )
    assert hub.process.stdin is not None
    hub.process.stdin.write(hub.bootstrap())
    hub.process.stdin.flush()
    if not hub.event():
        assert hub.process.stderr is not None
        pytest.skip(f"no mount namespace here: {hub.process.stderr.read().decode()[:200]}")
    return Path(f"/proc/{hub.process.pid}/root{hub.place.journal_dir}")


def test_s21_a_full_file_system_refuses_and_recovers(hub: LiveHub, tmp_path: Path) -> None:
    inside = small_disk(hub, tmp_path)
    end = SchedulerEnd(hub)

    def problem() -> str:
        return str(ask(hub)["journal"]["problem"])

    try:
        end.wait_for(messages.Beat)
        (inside / "filler").touch()
        with pytest.raises(OSError), (inside / "filler").open("wb") as file:
            while True:
                file.write(b"x" * 512)
                file.flush()
        owner = next(grant.id for grant in hub.registry().grants if grant.role == "client")
        end.send(*(messages.Records(n, [task_record(owner, f"t{n}-{m}") for m in range(50)]) for n in range(20)))
        wait_until(problem, SECONDS)
        end.came.clear()
        threading.Event().wait(1.5)
        assert not [message for message in end.came if isinstance(message, messages.Beat | messages.RecordsKept)]
        (inside / "filler").unlink()
        wait_until(lambda: not problem(), SECONDS)
        end.wait_for(messages.Beat)
        found = verify(inside, load_config(hub.place).issuer_key.text)
        assert found.ok, found.findings
    finally:
        end.close()


def ask(hub: LiveHub) -> dict[str, Any]:
    return control.ask(hub.place, "status")


def test_s20_texts_of_peers_forge_no_line_for_the_owner(town: RunningCluster) -> None:
    head = json.loads(town.run("secure-ipp", "audit", "head").stdout)
    assert head["cluster_id"] == load_config(town.place).cluster_id
    forged = 'x"}\n{"n":99999,"prev":"","event":"stop_asked","user":"mallory","granted":true}\n\x1b[2J'
    with pytest.raises(SecureIppError):
        control.ask(town.place, forged)
    for words in (["show"], ["show", "--json"], ["export", "--format", "csv"]):
        shown = town.run("secure-ipp", "audit", *words).stdout
        assert shown.isascii() and all(line.isprintable() for line in shown.splitlines())
        assert not [line for line in shown.splitlines() if "#99999" in line]
    assert report(town.place).ok
