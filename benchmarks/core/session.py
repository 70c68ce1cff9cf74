"""The measuring side of `core.worker`: gives orders, waits for a bounded time, and leaves no process behind.

Everything that a run starts carries its mark in the environment, by which strays are found and ended, by their ids.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

from core import peer, venvs

MARK = "SECURE_IPP_BENCH_RUN"
_ROOT = Path(__file__).parent.parent
_END_SECONDS = 30.0
_STRAY_SECONDS = 3.0


class Hung(Exception):
    """No answer within the time."""


def mark_this_run() -> None:
    """Mark our environment, which all that we start inherits, and let it find this package and secure_ipp."""
    os.environ[MARK] = uuid.uuid4().hex
    known = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_ROOT), str(_ROOT.parent), *known])


def started() -> list[psutil.Process]:
    """What this run has started and what still runs."""
    wanted = f"{MARK}={os.environ.get(MARK, '')}".encode()
    found = []
    for process in psutil.process_iter(["pid", "status"]):
        if process.pid == os.getpid() or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                found.append(process)
    return found


def end_strays() -> list[str]:
    """End what this run started and did not end within a moment; gives their command lines."""
    until = time.monotonic() + _STRAY_SECONDS
    while (strays := started()) and time.monotonic() < until:
        time.sleep(0.1)
    said = []
    for process in strays:
        with contextlib.suppress(psutil.Error):
            said.append(" ".join(process.cmdline())[:120])
            process.kill()
    return said


class Worker:
    """One peer's process."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        python = venvs.interpreter(name)
        path = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", "")])
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [python, "-m", "core.worker", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                start_new_session=True, cwd=_ROOT, env={**os.environ, "PATH": path, peer.MARK: uuid.uuid4().hex},

            )
        self._rest = b""

    def measure(self, figure: str, quick: bool, seconds: float) -> dict[str, Any]:
        """One measurement.

        Raises:
            Hung: it took longer; the peer is of no use any more.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"figure": figure, "quick": quick}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Hung("its process has ended") from None
        answer: dict[str, Any] = json.loads(self._line(seconds))
        return answer

    def _line(self, seconds: float) -> bytes:
        pipe = self._process.stdout
        assert pipe is not None
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise Hung(f"no answer within {seconds:.0f} s")
                piece = os.read(pipe.fileno(), 1 << 16)
                if not piece:
                    raise Hung("its process has ended")
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def end(self) -> None:
        """Ask it to end; kill it and all below it when it does not."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"{self.name} does not end; killed", file=sys.stderr)
            self.kill()
        process.stdout.close()

    def kill(self) -> None:
        """The hard end."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
