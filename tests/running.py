"""Real commands, clusters and processes for the live tests.

Every process that a test run starts carries `MARKER` in its environment, so that "nothing is left" can be looked up.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from secure_ipp.keys.places import ClusterPlace

MARKER = "SECURE_IPP_TEST_RUN"
ROOT = Path(__file__).parent.parent
BEGUN = time.time()


def mark_this_run() -> None:
    """Mark this process's environment, which all that it starts inherit, and keep the user's own keys out of reach."""
    os.environ.setdefault(MARKER, uuid.uuid4().hex)
    os.environ["SECURE_IPP_HOME"] = str(short_directory())
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = str(ROOT) + (os.pathsep + known if known else "")


def short_directory() -> Path:
    """A fresh 0700 directory with a path that sockets fit in; removed at the end of the run."""
    path = Path(tempfile.mkdtemp(prefix="sipp-", dir="/tmp")).resolve()
    _directories.append(path)
    return path


_directories: list[Path] = []


def remove_directories() -> None:
    while _directories:
        shutil.rmtree(_directories.pop(), ignore_errors=True)


def argv(name: str, *args: str) -> list[str]:
    """One of our commands, by its entry point (which need not be on PATH)."""
    function = name.replace("-", "_")
    return [sys.executable, "-c", f"import sys; from secure_ipp.cli.main import {function}; sys.argv[0] = {name!r};"
            f" sys.exit({function}())", *args]


def command(name: str, *args: str, env: dict[str, str] | None = None, seconds: float = 60) -> Any:
    """Run one of our commands to its end; gives a CompletedProcess with text."""
    return subprocess.run(
        argv(name, *args), capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )


def our_processes(home: Path | None = None) -> list[psutil.Process]:
    """All processes that this run has started and that still run, this one and its parents excepted.

    Args:
        home: only those of clusters in this home, as far as this user may know.
    """
    wanted = f"{MARKER}={os.environ[MARKER]}".encode()
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["uids", "cmdline", "create_time", "status"]):
        if process.pid in spared or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        try:
            words = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            ours = wanted in words and (home is None or f"SECURE_IPP_HOME={home}".encode() in words)
        except PermissionError:  # not dumpable, and we are not root: go by what everybody may see
            if home is not None:
                continue
            uids, line = process.info["uids"], " ".join(process.info["cmdline"] or [])
            ours = bool(uids) and uids.real == os.getuid() and "secure_ipp." in line
            ours = ours and process.info["create_time"] >= BEGUN - 1
        except (FileNotFoundError, ProcessLookupError):
            continue
        if ours:
            found.append(process)
    return found


def wait_until(holds: Callable[[], Any], seconds: float = 10.0, what: str = "") -> Any:
    """Wait for something that no event tells of; gives its first true value.

    Raises:
        TimeoutError: it never came.
    """
    end = time.monotonic() + seconds
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() >= end:
            raise TimeoutError(f"not within {seconds} s: {what or holds}")
        time.sleep(0.02)


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    """Whether these processes end within the time."""
    from secure_ipp.cluster.state import created_at

    try:
        wait_until(lambda: not any(created_at(pid) for pid in pids), seconds)
    except TimeoutError:
        return False
    return True


class RunningCluster:
    """A cluster that was started by the real commands, in a home of its own."""

    def __init__(self, engines: int = 2, name: str = "default", home: Path | None = None) -> None:
        self.home = home or short_directory()
        self.place = ClusterPlace(name, self.home)
        self.name = name
        self.engines = engines
        self._clients: list[Any] = []

    def run(self, command_name: str, *args: str, seconds: float = 60) -> Any:
        """One of our commands, about this cluster."""
        return command(command_name, *args, env={"SECURE_IPP_HOME": str(self.home)}, seconds=seconds)

    def start(self, *args: str) -> None:
        if not self.place.config.exists():
            made = self.run("secure-ipp", "keys", "init", "--cluster", self.name, "--bind", "127.0.0.1", "--host",
                            "127.0.0.1")
            assert made.returncode == 0, made.stderr
        done = self.run("ipcluster", "start", "--curve", "--cluster", self.name, "-n", str(self.engines),
                        "--daemonize", *args)
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()

    def client(self, **options: Any) -> Any:
        """A connected client; closed with the cluster."""
        import secure_ipp

        options.setdefault("timeout", 20)
        client = secure_ipp.Client(str(self.place.client_file), **options)
        self._clients.append(client)
        return client

    def status(self) -> dict[str, Any]:
        """The JSON of ``secure-ipp status``."""
        done = self.run("secure-ipp", "status", "--cluster", self.name, "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def pids(self) -> dict[str, int]:
        """Process ids of supervisor, hub and scheduler."""
        state = json.loads(self.place.state_file.read_text())
        return {"supervisor": state["pid"], "hub": state["hub"], "scheduler": state["scheduler"]}

    def agent_pids(self) -> list[int]:
        return [json.loads(path.read_text())["pid"] for path in self.place.runtime_path.glob("agent-*.json")]

    def logs(self) -> str:
        """The end of every log, for the message of a test that failed."""
        files = sorted(self.place.log_dir.glob("*.log")) if self.place.log_dir.is_dir() else []
        return "".join(f"\n== {file.name}\n" + "\n".join(file.read_text().splitlines()[-15:]) for file in files)

    def stop(self) -> Any:
        for client in self._clients:
            client.close()
        self._clients.clear()
        return self.run("ipcluster", "stop", "--cluster", self.name)


def end_process(pid: int) -> None:
    """End a process of this run that should not be there any more."""
    try:
        psutil.Process(pid).kill()
    except psutil.NoSuchProcess:
        return


def journal_lines(place: ClusterPlace, after: int = -1) -> list[dict[str, Any]]:
    """What is on record behind line `after`, in order; a line being written now is left out."""
    found = []
    for path in sorted(place.journal_dir.glob("segment-*.jsonl")):
        lines = path.read_bytes().split(b"\n")[:-1]
        found += [line for line in map(json.loads, lines) if line["n"] > after]
    return found
