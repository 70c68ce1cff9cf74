"""Rotating the server's key of a real cluster: under load, stopped, killed in the middle; and files that missed it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

import secure_ipp as ipp
from secure_ipp.cluster.aware import wait_until_aware
from secure_ipp.cluster.registry_change import apply
from secure_ipp.errors import ControllerUnreachable
from secure_ipp.keys import server_rotation as rotation
from secure_ipp.keys.cluster_keys import load_server
from secure_ipp.keys.desk import Desk
from tests.keys.killing import killed_at
from tests.running import RunningCluster, journal_lines, short_directory, wait_until

pytestmark = pytest.mark.live
TASKS = 2000


@pytest.fixture
def cluster() -> Iterator[RunningCluster]:
    running = RunningCluster(engines=2)
    running.start()
    yield running
    running.stop()


def rotate(cluster: RunningCluster, *args: str) -> dict[str, Any]:
    done = cluster.run("secure-ipp", "keys", "rotate", *args, "--json")
    assert done.returncode == 0, done.stderr + cluster.logs()
    return dict(json.loads(done.stdout))


def phase(cluster: RunningCluster) -> str:
    return str(rotate(cluster, "--status")["phase"])


def nap(number: int) -> int:
    import time

    time.sleep(0.003)
    return number


def test_s33_thousands_of_tasks_go_on_over_two_rotations(
    cluster: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECURE_IPP_HOME", str(short_directory()))  # what this client sees is its own affair
    early = short_directory() / "early.json"
    shutil.copy(cluster.place.client_file, early)
    first, second = cluster.client(), cluster.client()
    first.wait_for_engines(2, timeout=30)
    engines = {engine: first[engine].apply_sync(pid_there) for engine in first.ids}
    for _ in range(2):
        old = load_server(cluster.place).keys.public
        running = [client.load_balanced_view().map_async(nap, range(TASKS)) for client in (first, second)]
        wait_until(lambda running=running: max(result.progress for result in running) > TASKS // 50, 30)
        facts = rotate(cluster, "--now")
        assert min(result.progress for result in running) < TASKS, "it was over before the switch"
        assert facts["in_force"] and facts["phase"] == "steady" and facts["former"][-1] == old.fingerprint
        for result in running:
            assert list(result.get(60)) == list(range(TASKS))
        assert not cluster.place.next_server_key.exists() and load_server(cluster.place).keys.public != old
    assert {engine: first[engine].apply_sync(pid_there) for engine in first.ids} == engines  # none was started again
    assert cluster.client()[:].apply_sync(nap, 7) == [7, 7]  # the owner's own file was rewritten

    with ipp.Client(str(early), timeout=10) as again:  # this user's clients have seen what the file has not
        assert again.ids == first.ids
    monkeypatch.setenv("SECURE_IPP_HOME", str(short_directory()))
    with pytest.raises(ControllerUnreachable, match="rotated") as caught:
        ipp.Client(str(early), timeout=2)
    assert "ask the cluster's owner for a new one" in caught.value.advice

    stated = [line for line in journal_lines(cluster.place) if line["event"] == "server_key_stated"]
    assert [line["number"] for line in stated] == [1, 2, 3, 4]
    assert not [line for line in journal_lines(cluster.place) if line.get("what") == "probe-unanswered"]


def pid_there() -> int:
    import os

    return os.getpid()


def test_s33_an_announced_key_is_known_to_all_and_can_be_withdrawn(cluster: RunningCluster) -> None:
    client = cluster.client()
    client.wait_for_engines(2, timeout=30)
    before = load_server(cluster.place).keys
    facts = rotate(cluster)
    assert facts["phase"] == "announced" and facts["in_force"]
    wait_until(lambda: rotate(cluster, "--status")["unaware"] == 0, 20)
    said = cluster.run("secure-ipp", "keys", "rotate", "--status").stdout
    assert "everybody who is connected knows it" in said and facts["next"] in said
    assert rotate(cluster, "--abort")["phase"] == "steady"
    assert load_server(cluster.place).keys == before
    assert client[:].apply_sync(nap, 1) == [1, 1]
    rotate(cluster, "--now")
    assert client[:].apply_sync(nap, 2) == [2, 2] and load_server(cluster.place).keys != before


def test_s33_after_the_switch_every_restart_has_the_new_key(cluster: RunningCluster) -> None:
    client = cluster.client()
    client.wait_for_engines(2, timeout=30)
    rotate(cluster, "--now")
    for name in ("scheduler", "hub"):
        before = cluster.pids()[name]
        os.kill(before, signal.SIGKILL)
        wait_until(lambda name=name, before=before: cluster.pids()[name] != before, 20)
        assert client[:].apply_sync(nap, 3) == [3, 3]
    with cluster.client() as other:
        assert other[:].apply_sync(nap, 4) == [4, 4]


def test_s33_a_stopped_cluster_starts_with_its_new_key() -> None:
    cluster = RunningCluster(engines=1)
    cluster.start()
    try:
        assert cluster.stop().returncode == 0
        facts = rotate(cluster, "--now")
        assert facts["controller"] == "stopped" and not facts["in_force"] and facts["phase"] == "steady"
        cluster.start()
        client = cluster.client()
        client.wait_for_engines(1, timeout=30)
        assert client[:].apply_sync(nap, 1) == [1]
        assert [line["number"] for line in journal_lines(cluster.place) if line["event"] == "server_key_stated"] == [2]
    finally:
        cluster.stop()


def test_s33_a_command_that_is_killed_at_a_running_cluster_is_gone_on_with(cluster: RunningCluster) -> None:
    """kill -9 at every third write of a rotation: work goes on, status says where it stands, the next one goes on."""
    client = cluster.client()
    client.wait_for_engines(2, timeout=30)
    desk, seen = Desk(cluster.place, apply), set()

    def whole() -> None:
        """As the command does it."""
        rotation.announce(desk, now=time.time())
        doors = rotation.look(cluster.place).doors
        assert doors is not None
        wait_until_aware(cluster.place, doors.number)
        rotation.switch(desk, now=time.time())

    for step in range(2, 200, 3):
        if not killed_at(step, whole):
            break
        now = phase(cluster)
        seen.add(now)
        assert client[:].apply_sync(nap, step) == [step, step]
        rotate(cluster, *(["--switch", "--anyway"] if now == "switched" else ["--now"]))
        assert phase(cluster) == "steady" and not cluster.place.next_server_key.exists()
    else:
        pytest.fail("it never ended")
    assert seen >= {"steady", "announced", "switched"}
    assert client[:].apply_sync(nap, 0) == [0, 0]
    with ipp.Client(str(cluster.place.client_file), timeout=20) as other:
        assert other[:].apply_sync(nap, 5) == [5, 5]
