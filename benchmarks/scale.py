"""Thousands of engines: simulated ones, on real links through the real gate, joined to a real controller.

    python benchmarks/scale.py 1000 5000 [--per-process 250] [--descriptors 1024] [--json]

Measured for each number: the time until all are registered and a client has them on its roster; sessions that had to
begin again on the way; the controller's memory; a broadcast call to all; and what happens when 500 of them are killed
at once, with a call to all under way.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

import secure_ipp as ipp
from core import report, session, tasks
from core.figure import timed
from core.processes import own_memory, processor_seconds

LOST = 500
_JOIN_SECONDS = 120.0
_CALL_SECONDS = 120.0
_LOG_LINES = 40  # of each log, when not all have come


class Host:
    """A simulated host's process, and what it says of its engines."""

    def __init__(self, engine_file: Path, engines: int) -> None:
        self.engines = engines
        self.said: dict[str, Any] = {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "core.swarm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=Path(__file__).parent,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"file": str(engine_file), "engines": engines}).encode() + b"\n")
        self.process.stdin.flush()
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said = json.loads(line)

    def count(self, name: str) -> int:
        return int(self.said.get(name, 0))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


def _wait(holds: Any, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.05)
    return bool(holds())


class Scale:
    """One number of engines."""

    def __init__(self, engines: int, per_process: int) -> None:
        self._engines = engines
        self._per_process = per_process
        self._hosts: list[Host] = []
        self._log_dir = Path()
        self.values: dict[str, float | str] = {"engines": engines}

    def run(self) -> dict[str, float | str]:
        """Everything, in order; leaves nothing running."""
        cluster = ipp.Cluster.with_throwaway_keys(1)
        cluster.start_controller_sync()
        try:
            controller = [
                process for process in psutil.Process().children(recursive=True)
                if any(name in " ".join(process.cmdline()) for name in ("secure_ipp.hub", "secure_ipp.scheduler"))
            ]
            client = cluster.connect_client_sync(timeout=30)
            self._log_dir = cluster.place.log_dir
            if self._join(cluster.place.engine_file, client, controller):
                self._calls(client)
                if self._engines > LOST:
                    self._loss(client)
            else:
                self.values["stalled"] = self._why()
                for log in sorted(cluster.place.log_dir.glob("*.log")):
                    print(f"== {log.name}", *log.read_text().splitlines()[-_LOG_LINES:], sep="\n", file=sys.stderr)
        finally:
            for host in self._hosts:
                host.end()
            cluster.stop_cluster_sync()
        return self.values

    def _sum(self, name: str) -> int:
        return sum(host.count(name) for host in self._hosts)

    def _why(self) -> str:
        failures = {host.said.get("failure") for host in self._hosts} - {"", None}
        said = "; ".join(sorted(str(failure).partition("\n")[0] for failure in failures))
        return f"{self._sum('registered')} of {self._engines} registered; {said[:300]}"

    def _cut(self) -> int:
        """Connections that the doors cut because they had not said hello: in time, or because of too many others."""
        segments = sorted((self._log_dir.parent / "journal").glob("segment-*"))
        told = [json.loads(line) for path in segments for line in path.read_bytes().split(b"\n")[:-1]]
        return sum(int(event["details"]["count"]) for event in told if event.get("what") == "silent")

    def _join(self, engine_file: Path, client: Any, controller: list[psutil.Process]) -> bool:
        time.sleep(1.0)
        memory, cpu = own_memory(controller), processor_seconds(controller)
        begun = time.monotonic()
        left = self._engines
        while left:
            size = min(left, self._per_process)
            self._hosts.append(Host(engine_file, size))
            left -= size
        registered = _wait(lambda: self._sum("registered") >= self._engines, _JOIN_SECONDS)
        self.values["registered_seconds"] = round(time.monotonic() - begun, 2)
        on_roster = registered and _wait(lambda: len(client.ids) >= self._engines, 30)
        self.values["on_roster_seconds"] = round(time.monotonic() - begun, 2)
        self.values["sessions_begun_again"] = self._sum("sessions") - self._engines
        self.values["connections_lost"] = self._sum("lost")
        self.values["connections_cut"] = self._cut()
        self.values["controller_cpu_ms_per_engine"] = round(
            (processor_seconds(controller) - cpu) / self._engines * 1000, 3
        )
        time.sleep(2.0)  # the records of the joins are written
        self.values["controller_kb_per_engine"] = round((own_memory(controller) - memory) / self._engines * 1000, 1)
        return on_roster

    def _calls(self, client: Any) -> None:
        broadcast, direct, balanced = client.broadcast_view(), client.direct_view(), client.load_balanced_view()

        def call(view: Any) -> None:
            values = view.apply_async(tasks.noop).get(_CALL_SECONDS)
            if len(values) != self._engines:
                raise AssertionError(f"{len(values)} values from {self._engines} engines")

        self.values["broadcast_first_seconds"] = round(timed(lambda: call(broadcast)), 3)
        self.values["broadcast_seconds"] = round(min(timed(lambda: call(broadcast)) for _ in range(3)), 3)
        self.values["direct_seconds"] = round(min(timed(lambda: call(direct)) for _ in range(3)), 3)
        count = 20_000
        taken = timed(lambda: list(balanced.map_sync(tasks.noop, range(count))))
        self.values["balanced_tasks_per_second"] = round(count / taken)

    def _loss(self, client: Any) -> None:
        """Whole hosts die with a call to all under way: it must end, and the others must go on."""
        victims: list[Host] = []
        while sum(host.engines for host in victims) < LOST:
            victims.append(self._hosts.pop())
        lost = sum(host.engines for host in victims)
        for host in victims:
            host.process.send_signal(signal.SIGSTOP)  # so that none answers before it dies
        under_way = client.broadcast_view().apply_async(tasks.noop)
        begun = time.monotonic()
        for host in victims:
            host.kill()
        gone = _wait(lambda: len(client.ids) == self._engines - lost, _CALL_SECONDS)
        self.values["lost_engines"] = lost
        self.values["loss_on_roster_seconds"] = round(time.monotonic() - begun, 2) if gone else "never"
        try:
            under_way.get(_CALL_SECONDS)
            failed = 0
        except ipp.CompositeError as error:
            failed = len(error.elist)
        except ipp.TimeoutError:
            failed = -1
        self.values["calls_ended_in_errors"] = failed
        self.values["call_ended_seconds"] = round(time.monotonic() - begun, 2)
        rest = client.broadcast_view()
        taken = timed(lambda: rest.apply_async(tasks.noop).get(_CALL_SECONDS))
        self.values["call_to_the_rest_seconds"] = round(taken, 3)


WORDS = {
    "registered_seconds": "until all are registered, s (reach for 5000: ≤ 30)",
    "on_roster_seconds": "until a client has them all on its roster, s",
    "stalled": "stalled",
    "sessions_begun_again": "sessions that had to begin again",
    "connections_lost": "connections that fell on the way",
    "connections_cut": "connections that were cut before they had said hello, and came again",
    "controller_cpu_ms_per_engine": "processor time of the controller for one engine's arrival, ms",
    "controller_kb_per_engine": "memory of the controller for one engine, kB",
    "broadcast_first_seconds": "first broadcast call to all, s",
    "broadcast_seconds": "broadcast call to all, best of 3, s",
    "direct_seconds": "direct call to all, best of 3, s",
    "balanced_tasks_per_second": "balanced tasks that do nothing, tasks/s",
    "lost_engines": "engines killed at once, with a broadcast call under way",
    "loss_on_roster_seconds": "until a client's roster shows it, s",
    "calls_ended_in_errors": "of that call ended in an error",
    "call_ended_seconds": "until that call had ended everywhere, s",
    "call_to_the_rest_seconds": "next broadcast call to all that are left, s",
}


def table(found: list[dict[str, float | str]]) -> str:
    """One column for each number of engines."""
    lines = [f"| engines | {' | '.join(str(values['engines']) for values in found)} |", f"|---|{'---|' * len(found)}"]
    for key, words in WORDS.items():
        if any(key in values for values in found):
            lines.append(f"| {words} | {' | '.join(str(values.get(key, '–')) for values in found)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("engines", type=int, nargs="*", default=[1000])
    parser.add_argument("--per-process", type=int, default=250, help="simulated engines in one process")
    parser.add_argument(
        "--descriptors", type=int, default=1024,
        help="soft limit at the start, as most logins have it; the programs raise theirs themselves",
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results-scale.md")
    arguments = parser.parse_args()
    session.mark_this_run()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(arguments.descriptors, hard), hard))
    found = []
    try:
        for engines in arguments.engines:
            found.append(Scale(engines, arguments.per_process).run())
            print(json.dumps(found[-1]), file=sys.stderr)
    finally:
        for stray in session.end_strays():
            print(f"left behind, and ended now: {stray}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(found))
    else:
        where = f"{report.machine()}, load average at the end {os.getloadavg()[0]:.1f}."
        arguments.out.write_text(f"# Scale\n\n{where}\n\n{table(found)}\n")
        print(table(found))
    return 1 if any("stalled" in values for values in found) else 0


if __name__ == "__main__":
    sys.exit(main())
