"""Every process is killed once, under load: each task ends in one result or one clear error, and none runs twice.

Tasks write one line to a file when they run, so that the file says what ran and how often.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

import secure_ipp as ipp
from secure_ipp.cluster import state
from secure_ipp.cluster.cluster import Cluster

pytestmark = pytest.mark.live


def run_and_note(path: str, item: int, seconds: float) -> int:
    import os
    import time

    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{item}\n".encode())
    os.close(descriptor)
    time.sleep(seconds)
    return item


def die_once(path: str) -> str:
    """Kills its engine the first time that it runs."""
    import os
    import signal

    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@pytest.fixture
def crashed(home: Path) -> Any:
    """A cluster of its own for each test, since each breaks it."""
    cluster = Cluster(3, engine_timeout=60)
    client = cluster.start_and_connect_sync()
    yield cluster, client
    client.close()
    pids = [p.pid for p in _family(cluster)]
    cluster.stop_cluster_sync()
    _gone(pids, 10)


def _state(cluster: Cluster) -> Any:
    found = state.read_state(cluster.place)
    assert found is not None
    return found


def _family(cluster: Cluster) -> list[psutil.Process]:
    """Its processes, the dead that nobody has waited for left out."""
    living = [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in living if "secure_ipp" in " ".join(p.cmdline())]


def _gone(pids: list[int], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]:
            return
        time.sleep(0.05)
    raise AssertionError("processes are left")


def _until(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def _ends(results: list[Any], seconds: float = 60.0) -> tuple[list[Any], list[Exception]]:
    """Every result's one end, within a time."""
    values, errors = [], []
    deadline = time.monotonic() + seconds
    for result in results:
        try:
            values.append(result.get(timeout=max(0.1, deadline - time.monotonic())))
        except ipp.TimeoutError:
            raise
        except Exception as error:
            errors.append(error)
    return values, errors


def test_a_killed_engine_is_reported_at_once_and_only_its_running_task_is_lost(crashed: Any, tmp_path: Path) -> None:
    _cluster, client = crashed
    pids = client[:].apply_sync(os.getpid)
    victim = client.ids[0]
    running = client[victim].apply_async(time.sleep, 60)
    view = client.load_balanced_view()
    notes = str(tmp_path / "notes")
    others = [view.apply_async(run_and_note, notes, item, 0.05) for item in range(60)]
    _until(lambda: (tmp_path / "notes").exists())
    killed = time.monotonic()
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(ipp.EngineError):
        running.get(timeout=10)
    assert time.monotonic() - killed < 5
    values, errors = _ends(others)
    assert len(values) + len(errors) == 60
    assert len(errors) <= 1  # the one that it ran, if any
    ran = Counter((tmp_path / "notes").read_text().split())
    assert max(ran.values()) == 1
    _until(lambda: victim not in client.ids)


def test_a_task_that_kills_its_engine_is_retried_when_asked(crashed: Any, tmp_path: Path) -> None:
    _, client = crashed
    view = client.load_balanced_view()
    with view.temp_flags(retries=2):
        assert view.apply_sync(die_once, str(tmp_path / "died")) == "survived"
    with pytest.raises(ipp.EngineError):
        view.apply_async(die_once, str(tmp_path / "died too")).get(timeout=20)
    assert len(client.ids) == 1


def test_killing_the_agent_takes_its_engines_down(crashed: Any) -> None:
    cluster, client = crashed
    pids = client[:].apply_sync(os.getpid)
    pending = client[:].apply_async(time.sleep, 60)
    agents = [p for p in _family(cluster) if "secure_ipp.engine.agent" in " ".join(p.cmdline())]
    assert len(agents) == 1
    agents[0].kill()
    _gone(pids, 5)
    with pytest.raises(ipp.CompositeError):
        pending.get(timeout=60)
    _until(lambda: client.ids == [], 60)


@pytest.mark.parametrize("process", ["hub", "scheduler"])
def test_a_killed_controller_process_is_restarted_and_no_task_runs_twice(
    crashed: Any, tmp_path: Path, process: str
) -> None:
    cluster, client = crashed
    view = client.load_balanced_view()
    path = tmp_path / "notes"
    results = [view.apply_async(run_and_note, str(path), item, 0.01) for item in range(600)]
    direct = [client[1].apply_async(run_and_note, str(path), 1000 + item, 0.001) for item in range(50)]
    _until(lambda: path.exists() and len(path.read_text().split()) > 30)
    before = getattr(_state(cluster), process)
    os.kill(before, signal.SIGKILL)
    later = [view.apply_async(run_and_note, str(path), 2000 + item, 0.001) for item in range(50)]
    values, errors = _ends([*results, *direct, *later], 90)
    assert len(values) + len(errors) == 700
    assert errors == []
    ran = Counter(path.read_text().split())
    assert [item for item, times in ran.items() if times > 1] == []
    assert set(values) == {*range(600), *range(1000, 1050), *range(2000, 2050)}
    after = getattr(_state(cluster), process)
    assert after != before
    assert client[:].apply_sync(lambda: 1) == [1, 1, 1]


def test_scheduler_and_an_engine_killed_together_leave_one_end_for_each_task(crashed: Any, tmp_path: Path) -> None:
    cluster, client = crashed
    pids = client[:].apply_sync(os.getpid)
    view = client.load_balanced_view()
    path = tmp_path / "notes"
    results = [view.apply_async(run_and_note, str(path), item, 0.01) for item in range(200)]
    _until(lambda: path.exists() and len(path.read_text().split()) > 20)
    os.kill(_state(cluster).scheduler, signal.SIGKILL)
    os.kill(pids[2], signal.SIGKILL)
    values, errors = _ends(results, 90)
    assert len(values) + len(errors) == 200
    ran = Counter(path.read_text().split())
    assert [item for item, times in ran.items() if times > 1] == []
    assert all(isinstance(error, ipp.EngineError) for error in errors)


def test_the_supervisors_death_ends_the_controller(crashed: Any) -> None:
    cluster, _client = crashed
    found = _state(cluster)
    killed = time.monotonic()
    os.kill(found.pid, signal.SIGKILL)
    _gone([found.hub, found.scheduler], 2.0)
    assert time.monotonic() - killed < 2.5


def test_sigint_interrupts_the_running_task_only(crashed: Any) -> None:
    _, client = crashed
    engine = client[0]
    running = engine.apply_async(time.sleep, 60)
    queued = engine.apply_async(lambda: "untouched")
    time.sleep(0.5)  # for the task to be in user code: a signal before that is meant for nobody
    client.send_signal(signal.SIGINT, targets=0, block=True)
    with pytest.raises(ipp.RemoteError) as caught:
        running.get(timeout=10)
    assert caught.value.ename == "KeyboardInterrupt"
    assert queued.get(timeout=10) == "untouched"
    assert client[:].apply_sync(lambda: 1) == [1, 1, 1]


def test_hub_and_scheduler_killed_together_lose_all_memory_and_the_host_gives_fresh_engines(crashed: Any) -> None:
    cluster, client = crashed
    pids = client[:].apply_sync(os.getpid)
    running = client[0].apply_async(time.sleep, 60)
    found = _state(cluster)
    for pid in (found.hub, found.scheduler):
        os.kill(pid, signal.SIGKILL)
    _gone(pids, 20)
    with pytest.raises(ipp.SecureIppError):
        running.get(timeout=30)
    with ipp.Client(cluster.place.client_file, timeout=20) as other:
        other.wait_for_engines(3, timeout=30)
        _until(lambda: len(other.ids) == 3 and not set(other[:].apply_sync(os.getpid)) & set(pids))
