"""State files, pid files and the lock."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from secure_ipp.cluster import state, stopping, throwaway
from secure_ipp.errors import EnvironmentProblem, PrivateFileError, UsageError
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import make_private_dir
from tests.running import gone


@pytest.fixture
def place(home: Path) -> ClusterPlace:
    found = ClusterPlace("default", home)
    make_private_dir(found.dir)
    return found


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing but run."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdin is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    process.stdin.close()


def controller(pid: int, created: float, host: str = "") -> state.ControllerState:
    return state.ControllerState(
        cluster="default", host=host or socket.gethostname(), pid=pid, created=created, client_port=1, engine_port=2,
        bind="*", started=0.0, hub=0, scheduler=0, restarts=0, version="0",
    )


def test_a_state_file_counts_only_for_the_process_that_wrote_it(place: ClusterPlace) -> None:
    me = os.getpid()
    assert state.read_state(place) is None
    state.write_state(place, controller(me, state.created_at(me)))
    assert place.state_file.stat().st_mode & 0o777 == 0o600
    found = state.read_state(place)
    assert found is not None and found.pid == me
    state.write_state(place, controller(me, state.created_at(me) - 100))  # another process had this number before
    assert state.read_state(place) is None


def test_a_damaged_or_open_state_file_is_an_error(place: ClusterPlace) -> None:
    state.write_state(place, controller(1, 0.0))
    place.state_file.write_text("{")
    with pytest.raises(EnvironmentProblem, match="damaged"):
        state.read_state(place)
    place.state_file.chmod(0o666)
    with pytest.raises(PrivateFileError):
        state.read_state(place)


def test_pid_files_of_agents_that_are_gone_are_removed(place: ClusterPlace) -> None:
    me = os.getpid()
    live = state.AgentState(me, state.created_at(me), 2, "", 0.0)
    state.write_agent(place, live)
    state.write_agent(place, state.AgentState(me + 1, 1.0, 2, "", 0.0))
    (place.runtime_dir() / "agent-9.json").touch(mode=0o600)
    assert state.read_agents(place) == [live]
    assert [path.name for path in place.runtime_dir().glob("agent-*")] == [f"agent-{me}.json"]


def test_one_controller_per_cluster(place: ClusterPlace) -> None:
    lock = state.take_lock(place)
    assert state.is_locked(place)
    with pytest.raises(EnvironmentProblem, match="is running already") as caught:
        state.take_lock(place)
    assert caught.value.code == "already-running" and "ipcluster stop" in caught.value.advice
    lock.release()
    assert not state.is_locked(place)
    state.take_lock(place).release()


def test_stopping_ends_what_is_on_file_and_nothing_else(
    place: ClusterPlace, sleeper: subprocess.Popen[bytes]
) -> None:
    created = state.created_at(sleeper.pid)
    state.write_agent(place, state.AgentState(sleeper.pid, created - 100, 1, "", 0.0))  # not that process
    assert stopping.stop_cluster(place).agents == ()
    assert sleeper.poll() is None
    state.write_agent(place, state.AgentState(sleeper.pid, created, 1, "", 0.0))
    stopped = stopping.stop_cluster(place)
    assert stopped.agents == (sleeper.pid,) and stopped.killed == ()
    assert gone([sleeper.pid])


def test_what_does_not_stop_is_killed(place: ClusterPlace) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True);"
                               "time.sleep(60)"], stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    state.write_agent(place, state.AgentState(process.pid, state.created_at(process.pid), 1, "", 0.0))
    stopped = stopping.stop_engines(place, seconds=0.2)
    assert stopped.killed == (process.pid,)
    assert process.wait(5) == -9
    process.stdout.close()


def test_a_controller_on_another_host_is_not_touched(place: ClusterPlace) -> None:
    state.write_state(place, controller(os.getpid(), 0.0, host="elsewhere"))
    lock = state.take_lock(place)
    with pytest.raises(EnvironmentProblem, match="runs on elsewhere"):
        stopping.stop_cluster(place)
    lock.release()


def test_throwaway_keys_are_for_the_loopback_only_and_go(own_tmp: Path) -> None:
    from secure_ipp.keys.config import load_config

    place = throwaway.make()
    assert place.home.parent == own_tmp and place.home.stat().st_mode & 0o777 == 0o700
    config = load_config(place)
    assert config.bind == "127.0.0.1" and config.hosts == ("127.0.0.1",)
    throwaway.remove(place.home)
    assert list(own_tmp.iterdir()) == []
    throwaway.remove(place.home)


def test_only_a_throwaway_home_is_ever_removed(tmp_path: Path) -> None:
    precious = tmp_path / "home"
    precious.mkdir()
    link = tmp_path / (throwaway.PREFIX + "x")
    link.symlink_to(precious)
    for path in (precious, link):
        with pytest.raises(UsageError):
            throwaway.remove(path)
    assert precious.is_dir()


def test_state_is_plain_json(place: ClusterPlace) -> None:
    state.write_state(place, controller(1, 0.0))
    assert msgspec.json.decode(place.state_file.read_bytes())["cluster"] == "default"
