"""What the journal costs on the task path: tasks a second, and the hub's processor time for each, with and without.

Three clusters at once, the same in all but their journal, take turns: `batch` (the default), `each` (every record is on
the disk before it counts), and `none`: a hub whose writer this file replaces by one that forgets.  There is no option
for that.  Exit status 1 when `batch` is below 0.8 of `none`.

    python benchmarks/journal.py [--tasks 20000] [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

LEAST = 0.8
_ROOT = Path(__file__).resolve().parent.parent
_FORGETS = '''
import sys
if "secure_ipp.hub" in sys.orig_argv:
    from secure_ipp.audit.journal import Journal
    Journal.write = lambda self, records: None
    Journal.sync = lambda self: None
'''


def noop(x: int) -> None:
    """The task."""


class Cluster:
    """A running cluster in a home of its own."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.home = directory / kind
        self._environment = {**os.environ, "SECURE_IPP_HOME": str(self.home)}
        path = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        if kind == "none":
            (directory / "forgets").mkdir()
            (directory / "forgets" / "sitecustomize.py").write_text(_FORGETS)
            path.insert(0, str(directory / "forgets"))
        self._environment["PYTHONPATH"] = os.pathsep.join(part for part in path if part)
        self.rates: list[float] = []
        self.costs: list[float] = []

    def start(self) -> None:
        import secure_ipp

        self._run("secure_ipp", "keys", "init", "--bind", "127.0.0.1", "--host", "127.0.0.1")
        options = [] if self.kind == "none" else ["--journal-sync", self.kind]
        self._run("ipcluster", "start", "-n", "2", "--daemonize", *options)
        place = self.home / "default"
        self._hub = psutil.Process(json.loads((place / "state.json").read_text())["hub"])
        self.client: Any = secure_ipp.Client(str(place / "ipcontroller-client.json"), timeout=20)
        self.client.wait_for_engines(2, timeout=60)
        self._view = self.client.load_balanced_view()

    def measure(self, tasks: int) -> None:
        before, begun = sum(self._hub.cpu_times()[:2]), time.perf_counter()
        self._view.map_sync(noop, range(tasks), chunksize=1)
        self.rates.append(tasks / (time.perf_counter() - begun))
        time.sleep(0.2)  # the last batch reaches the hub
        self.costs.append((sum(self._hub.cpu_times()[:2]) - before) / tasks * 1e6)

    def on_record(self) -> int:
        """Bytes of the journal."""
        return sum(path.stat().st_size for path in (self.home / "default" / "journal").iterdir())

    def stop(self) -> None:
        self.client.close()
        self._run("ipcluster", "stop")

    def _run(self, command: str, *words: str) -> None:
        code = f"from secure_ipp.cli.main import {command}; {command}()"
        subprocess.run(
            [sys.executable, "-c", code, *words], env=self._environment, check=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    told = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="sipp-", dir="/tmp")).resolve()
    os.environ["SECURE_IPP_HOME"] = str(directory / "client")  # where this process remembers heads
    clusters = [Cluster(kind, directory) for kind in ("batch", "each", "none")]
    started: list[Cluster] = []
    try:
        for cluster in clusters:
            cluster.start()
            started.append(cluster)
            cluster.measure(2000)
            cluster.rates.clear()
            cluster.costs.clear()
        for _ in range(told.rounds):
            for cluster in clusters:
                cluster.measure(told.tasks)
        print(f"{'journal':8} {'tasks/s':>9} {'best':>9} {'hub µs/task':>12} {'MB':>7}")
        for cluster in clusters:
            print(
                f"{cluster.kind:8} {statistics.median(cluster.rates):9.0f} {max(cluster.rates):9.0f}"
                f" {statistics.median(cluster.costs):12.1f} {cluster.on_record() / 1e6:7.1f}"
            )
        # of rounds that followed each other at once, so that a noisy minute hits both
        ratio = statistics.median(with_it / without for with_it, without in zip(
            clusters[0].rates, clusters[2].rates, strict=True
        ))
        print(f"with the journal {ratio:.2f} of the rate without (at least {LEAST} is wanted)")
        return 0 if ratio >= LEAST else 1
    finally:
        for cluster in started:
            cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
