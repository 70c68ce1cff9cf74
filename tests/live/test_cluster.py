"""The `Cluster` object, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

import secure_ipp as ipp
from secure_ipp.errors import EnvironmentProblem, UsageError
from tests.running import RunningCluster, command, gone, our_processes, wait_until

pytestmark = pytest.mark.live


def throwaway_homes() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("secure-ipp-throwaway-*"))


@pytest.fixture(autouse=True)
def apart(own_tmp: Path) -> Path:
    """Throw-away homes of other programs do not count."""
    return own_tmp


def cluster_processes() -> set[int]:
    return {p.pid for p in our_processes() if any("secure_ipp." in word for word in p.cmdline())}


def test_with_gives_a_connected_client_and_leaves_nothing(home: Path) -> None:
    processes, homes = cluster_processes(), throwaway_homes()
    with ipp.Cluster(n=2) as client:
        assert len(client.ids) == 2
        assert len(set(client[:].apply_sync(os.getpid))) == 2
        assert len(cluster_processes() - processes) >= 5
        assert len(throwaway_homes() - homes) == 1
    assert cluster_processes() == processes and throwaway_homes() == homes
    assert list(home.iterdir()) == []


def test_throwaway_results_may_be_of_any_type(home: Path) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    with ipp.Cluster(n=1) as client:
        assert client[0].apply_sync(lambda: Point(3)).x == 3


def test_an_exception_in_the_block_leaves_nothing(home: Path) -> None:
    processes, homes = cluster_processes(), throwaway_homes()
    with pytest.raises(ZeroDivisionError), ipp.Cluster(n=1):
        raise ZeroDivisionError
    assert cluster_processes() == processes and throwaway_homes() == homes


def test_coroutines_do_the_same(home: Path) -> None:
    async def main() -> list[int]:
        async with ipp.Cluster(n=1) as client:
            return list(client.ids)

    assert asyncio.run(main()) == [0]


def test_the_sync_twins_work_inside_a_running_loop(home: Path) -> None:
    async def main() -> int:
        cluster = ipp.Cluster(n=1)
        client = cluster.start_and_connect_sync()
        try:
            return len(client.ids)
        finally:
            await cluster.stop_cluster()

    assert asyncio.run(main()) == 1


def test_the_users_own_keys_are_used_when_there_are_any(home: Path) -> None:
    assert command("secure-ipp", "keys", "init", "--host", "127.0.0.1", "--bind", "127.0.0.1").returncode == 0
    cluster = ipp.Cluster(n=1)
    client = cluster.start_and_connect_sync()
    try:
        assert cluster.place.home == home
        assert client[:].apply_sync(lambda: 5) == [5]
        with ipp.Cluster(n=1) as other:  # that cluster is running, so this one has keys of its own
            assert other[:].apply_sync(os.getpid) != client[:].apply_sync(os.getpid)
        with pytest.raises(EnvironmentProblem, match="is running already"):
            ipp.Cluster(n=1, cluster="default").start_cluster_sync()
        again = ipp.Cluster.from_file(cluster.place.state_file)
        with again.connect_client_sync() as second:
            assert second.ids == client.ids
    finally:
        cluster.stop_cluster_sync()
    with pytest.raises(EnvironmentProblem, match="no controller"):
        ipp.Cluster.from_file()
    assert (home / "default" / "cluster.toml").exists()


def test_engine_sets_come_and_go(home: Path) -> None:
    cluster = ipp.Cluster(n=1)
    client = cluster.start_and_connect_sync()
    try:
        name = cluster.start_engines_sync(2)
        client.wait_for_engines(3, timeout=30)
        cluster.stop_engines_sync(name)
        wait_until(lambda: len(client.ids) == 1, 10)
        with pytest.raises(UsageError, match="no engine set"):
            cluster.stop_engines_sync(name)
    finally:
        cluster.stop_cluster_sync()


def test_engines_are_signalled_and_restarted(home: Path) -> None:
    cluster = ipp.Cluster(n=1)
    client = cluster.start_and_connect_sync()
    try:
        (before,) = client[:].apply_sync(os.getpid)
        running = client[:].apply_async(__import__("time").sleep, 60)
        wait_until(lambda: _interrupted(cluster, running), 20)
        old = list(client.ids)
        cluster.restart_engines_sync()
        wait_until(lambda: len(client.ids) == 1 and list(client.ids) != old, 30)
        assert client[:].apply_sync(os.getpid) != [before]
    finally:
        cluster.stop_cluster_sync()


def _interrupted(cluster: ipp.Cluster, running: ipp.AsyncResult) -> bool:
    """An interrupt that comes before the task has started interrupts nothing, so it is sent until one counts."""
    cluster.signal_engines_sync(signal.SIGINT)
    running.wait(1)
    return running.ready() and not running.successful()


def interpreter(code: str, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "SECURE_IPP_HOME": str(home)},
    )


CODE = """
    import os, sys, time, secure_ipp as ipp
    cluster = ipp.Cluster(n=1)
    client = cluster.start_and_connect_sync()
    started = [cluster._controller.pid, *(agent.pid for agent in cluster._agents.values())]
    print(*client[:].apply_sync(os.getpid), *started, cluster.place.home, flush=True)
    {last}
"""


@pytest.mark.parametrize("how", ["the end", "an exception", "killed"])
def test_the_end_of_the_interpreter_ends_the_cluster(home: Path, how: str) -> None:
    last = {"the end": "pass", "an exception": "1 / 0", "killed": "time.sleep(60)"}[how]
    process = interpreter(CODE.format(last=last), home)
    assert process.stdout is not None
    *pids, where = process.stdout.readline().split()
    if how == "killed":
        process.kill()
    process.wait(20)
    process.stdout.close()
    assert gone([int(pid) for pid in pids], 12)
    wait_until(lambda: not Path(where).exists(), 5)


def test_what_is_not_offered_is_said() -> None:
    with pytest.raises(UsageError, match="not offered"):
        ipp.Cluster(n=1, engines="mpi")
    with pytest.raises(UsageError):
        ipp.Cluster(n=0)
    with pytest.raises(UsageError, match="not been started"):
        _ = ipp.Cluster(n=1).place


def test_an_engine_in_a_cluster_of_the_commands(cluster: RunningCluster) -> None:
    """A `Cluster` that finds a running one leaves it running."""
    found = ipp.Cluster.from_file(cluster.place.state_file)
    with found.connect_client_sync() as client:
        assert len(client.ids) == 2
    assert len(cluster.status()["engines"]) == 2
