"""The supervisor's loop, over stand-ins for hub and scheduler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from secure_ipp import limits
from secure_ipp.cluster import state

ROOT = Path(__file__).parent.parent.parent


class Driven:
    """A supervisor over stand-ins, and the events it tells."""

    def __init__(self, notes: Path, hub: str, scheduler: str, tether: str = "free") -> None:
        self.notes = notes
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("drive.py")), str(notes), hub, scheduler, tether],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            pytest.fail(f"the supervisor ended: {self.process.stderr.read().decode()}")
        return dict(json.loads(line))

    def until(self, event: str) -> dict[str, Any]:
        while (found := self.next())["event"] != event:
            pass
        return found

    def starts(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.notes.glob(f"{name}-*"))]

    def pids(self) -> list[int]:
        return [start["pid"] for name in ("hub", "scheduler") for start in self.starts(name)]

    def end(self) -> int:
        return self.process.wait(15)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., Driven]]:
    driven: list[Driven] = []

    def start(*args: str) -> Driven:
        driven.append(Driven(tmp_path, *args))
        return driven[-1]

    yield start
    for one in driven:
        one.process.kill()
        one.process.wait()
        for pipe in (one.process.stdin, one.process.stdout, one.process.stderr):
            assert pipe is not None
            pipe.close()


def all_gone(pids: list[int], seconds: float = 2.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(state.created_at(pid) for pid in pids):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_starts_both_and_stops_both_when_asked(drive: Callable[..., Driven], signum: int) -> None:
    driven = drive("well", "well")
    told = driven.until("state")
    assert driven.next()["event"] == "ready"
    assert set(told["pids"]) == {"hub", "scheduler"} and told["restarts"] == 0
    driven.process.send_signal(signum)
    assert driven.next()["event"] == "stopped"
    assert driven.end() == 0
    assert all_gone(driven.pids())


@pytest.mark.parametrize("victim", ["hub", "scheduler"])
def test_a_killed_process_is_started_again_and_told_the_same(drive: Callable[..., Driven], victim: str) -> None:
    driven = drive("well", "well")
    pids = driven.until("state")["pids"]
    driven.until("ready")
    os.kill(pids[victim], signal.SIGKILL)
    again = driven.until("state")
    assert driven.next() == {"event": "restarted", "process": victim}
    assert again["pids"][victim] != pids[victim] and again["restarts"] == 1
    first, second = driven.starts(victim)
    assert {**first, "pid": 0} == {**second, "pid": 0}
    driven.process.terminate()
    assert driven.end() == 0


def test_the_death_of_the_supervisor_ends_both(drive: Callable[..., Driven]) -> None:
    driven = drive("well", "well")
    driven.until("ready")
    driven.process.kill()
    assert all_gone(driven.pids(), 2.0)


def test_a_failure_to_start_keeps_its_code_and_advice(drive: Callable[..., Driven]) -> None:
    driven = drive("well", "fails")
    assert driven.until("failed") == {
        "event": "failed", "code": "port-in-use", "message": "port 4711 is in use", "advice": "take another"
    }
    assert driven.end() == 1
    assert all_gone(driven.pids())


def test_a_crash_while_starting_is_told_with_its_last_words(drive: Callable[..., Driven]) -> None:
    driven = drive("crashes at once", "well")
    failed = driven.until("failed")
    assert "hub" in failed["message"] and "no module named nothing" in failed["message"]
    assert "exit status 3" in failed["message"]
    assert driven.end() == 1
    assert all_gone(driven.pids())


def test_a_crash_loop_ends_in_an_error(drive: Callable[..., Driven]) -> None:
    driven = drive("crashes always", "well")
    failed = driven.until("failed")
    assert "died" in failed["message"] and "within a minute" in failed["message"]
    assert len(driven.starts("hub")) == limits.RESTARTS_PER_MINUTE + 1
    assert driven.end() == 1
    assert all_gone(driven.pids())


@pytest.mark.parametrize("does", ["asks for the end", "ends with 0"])
def test_a_process_that_asks_for_the_end_gets_it(drive: Callable[..., Driven], does: str) -> None:
    driven = drive(does, "well")
    driven.until("stopped")
    assert driven.end() == 0
    assert all_gone(driven.pids())


def test_one_that_will_not_stop_is_killed_in_time(drive: Callable[..., Driven]) -> None:
    driven = drive("deaf", "well")
    driven.until("ready")
    started = time.monotonic()
    driven.process.terminate()
    assert driven.end() == 0
    assert time.monotonic() - started < limits.SUPERVISOR_STOP_SECONDS + 2
    assert all_gone(driven.pids())


def test_a_tethered_one_ends_with_whoever_started_it(drive: Callable[..., Driven]) -> None:
    driven = drive("well", "well", "tether")
    driven.until("ready")
    assert driven.process.stdin is not None
    driven.process.stdin.close()
    assert driven.end() == 0
    assert all_gone(driven.pids())


def test_warnings_are_passed_on_without_control_characters(drive: Callable[..., Driven]) -> None:
    driven = drive("well", "well")
    driven.until("ready")
    driven.process.terminate()
    driven.end()
    assert driven.process.stderr is not None
    lines = driven.process.stderr.read().decode().splitlines()
    assert "hub: WARNING: a \\x1b[31m warning" in lines
