"""What a way through SSH costs: calls that do nothing, and 100 MB there and back, by each way in turn.

Ours straight; through a tunnel of each back end; through a forward that was made by hand (`ssh -L`), which is the peer:
a tunnel of ours by the ssh program is to reach 0.8 of it; bare bytes through `ssh -L`, the ceiling; and ipyparallel's
own `sshserver=`, without Curve.  The ssh server is a real one on loopback, with throw-away keys.  Ctrl-C keeps what was
measured.

    python benchmarks/tunnel.py [--rounds 7] [--quick] [--json] [--way NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from core import report, session, venvs
from core.figure import percentile
from core.peers.ours import Ours as Cluster
from core.processes import processor_seconds
from core.ssh_server import NoServer, SshServer
from core.ways import Bare, IPyParallel, Ours, Way, noop_once
from secure_ipp.errors import SecureIppError
from secure_ipp.keys.capability import load_capability
from secure_ipp.tunnel import listing

PLACE = Path(__file__).parent
LEAST = 0.8
BY_HAND, OPENSSH = "ssh -L by hand", "openssh"
ROWS = {  # unit, and whether more is better
    "latency p50": ("ms", False), "latency p99": ("ms", False), "push": ("MB/s", True), "pull": ("MB/s", True),
    "push, processor time": ("s", False), "pull, processor time": ("s", False),
}
COMPARED = ("latency p50", "push", "pull", "push, processor time", "pull, processor time")
_ORDER_SECONDS = 60.0
_QUIET_SECONDS = 0.2  # after a transfer, in which what is left to do is done

Values = dict[str, dict[str, list[float]]]  # by row, then by way: one for each round


class Bench:
    """Everything that is up while it is measured."""

    def __init__(self, wanted: list[str]) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="bench-tunnel-", dir="/tmp")).resolve()
        os.environ["SECURE_IPP_HOME"] = str(self._directory)
        self._wanted = wanted
        self._cluster = Cluster()
        self._server = SshServer()
        self._plain: subprocess.Popen[str] | None = None
        self.ways: dict[str, Way] = {}
        self.missing: dict[str, str] = {}

    def __enter__(self) -> Bench:
        try:
            self._start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _start(self) -> None:
        self._server.start()
        os.environ["SECURE_IPP_SSH_CONFIG"] = str(self._server.config)
        self._cluster.ready(1)
        self._plain = subprocess.Popen(
            [sys.executable, "-m", "core.bytes_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        assert self._plain.stdout is not None
        plain, file, server = int(self._plain.stdout.readline()), self._cluster.client_file, self._server
        for name, make in ways(server, file, plain, self._directory / "ipyparallel.log").items():
            if name in self._wanted or not self._wanted:
                try:
                    self.ways[name] = way = make()
                    noop_once(way)
                except (session.Hung, venvs.Unavailable, SecureIppError) as error:
                    self.missing[name] = str(error)
                    self.ways.pop(name, None)

    def processes(self) -> list[psutil.Process]:
        """All that work for some way, this one too."""
        keepers = [state.pid for state in listing.tunnels().values()]
        found = {one.pid: one for one in [*session.started(), *self._server.processes(), psutil.Process()]}
        for pid in keepers:
            with contextlib.suppress(psutil.NoSuchProcess):
                keeper = psutil.Process(pid)
                found |= {one.pid: one for one in [keeper, *keeper.children(recursive=True)]}
        return list(found.values())

    def end(self) -> None:
        """Whatever was started, even if a part of it does not end as it should."""
        with contextlib.ExitStack() as stack:  # the last one first
            stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
            stack.callback(_end_strays)
            stack.callback(self._server.stop)
            if self._cluster.engines:
                stack.callback(self._cluster.end)
            if self._plain is not None:
                stack.callback(_end_plain, self._plain)
            for way in self.ways.values():
                stack.callback(way.close)


def _end_plain(plain: subprocess.Popen[str]) -> None:
    assert plain.stdin is not None and plain.stdout is not None
    plain.stdin.close()
    plain.wait()
    plain.stdout.close()


def _end_strays() -> None:
    for stray in session.end_strays():
        print(f"ended: {stray}", file=sys.stderr)


def ways(server: SshServer, file: str, plain: int, log: Path) -> dict[str, Callable[[], Way]]:
    """How each is opened."""
    door = int(load_capability(Path(file)).tcp_doors[0].rpartition(":")[2])
    return {
        "straight": lambda: Ours.straight(file),
        OPENSSH: lambda: Ours.through(file, server.route, paramiko=False),
        "paramiko": lambda: Ours.through(file, server.route, paramiko=True),
        BY_HAND: lambda: Ours.by_hand(file, server.forward(door)),
        "bare bytes, ssh -L": lambda: Bare(server.forward(plain)),
        "ipyparallel, no Curve": lambda: IPyParallel(server.programs, log, _ORDER_SECONDS),
    }


def measure(bench: Bench, way: Way, size: int, seconds: float, most: int) -> dict[str, float]:
    """One round of one way."""
    trips = way.trips(seconds, most)
    found = {"latency p50": percentile(trips, 0.5), "latency p99": percentile(trips, 0.99)}
    processes = bench.processes()
    for name, carry in {"push": way.push, "pull": way.pull}.items():
        before = processor_seconds(processes)
        found[name] = size / 1e6 / carry(size)
        time.sleep(_QUIET_SECONDS)
        found[f"{name}, processor time"] = processor_seconds(processes) - before
    return found


def rounds(bench: Bench, values: Values, number: int, size: int, seconds: float, most: int) -> None:
    """Every way once, then every way again; one that hangs is left out from then on."""
    for count in range(number):
        for name, way in list(bench.ways.items()):
            try:
                found = measure(bench, way, size, seconds, most)
            except session.Hung as error:
                bench.missing[name] = str(error)
                del bench.ways[name]
                way.close()
                continue
            for row, value in found.items():
                values[row].setdefault(name, []).append(value)
            print(f"round {count + 1}: {name}: {found}", file=sys.stderr)


def ratio(values: Values, row: str, name: str, other: str) -> float | None:
    """How many times better one is than the other: the median of rounds, in which both met the same noise."""
    pairs = zip(values[row].get(name, []), values[row].get(other, []), strict=False)
    found = [one / two if ROWS[row][1] else two / one for one, two in pairs if one and two]
    return statistics.median(found) if found else None


def told(values: Values, missing: dict[str, str], size: int) -> str:
    """The tables."""
    names = list(values["push"])
    lines = [f"| {size / 1e6:.0f} MB | unit | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for row, (unit, _) in ROWS.items():
        lines.append(f"| {row} | {unit} | {' | '.join(report.cell(values[row][name]) for name in names)} |")
    lines += ["", f"| as a multiple of {BY_HAND} | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for row in COMPARED:
        found = [ratio(values, row, name, BY_HAND) for name in names]
        lines.append(f"| {row} | {' | '.join('–' if one is None else f'{one:.2f}' for one in found)} |")
    lines += [f"\n{name}: not measured: {why}" for name, why in missing.items()]
    return "\n".join(lines)


def write(text: str) -> None:
    """results-tunnel.md."""
    head = (
        f"# Through SSH\n\n{report.machine()}.\n\nMedian (least to most); ratios are medians of the ratios within a "
        f"round, above 1 is better. `{OPENSSH}` is to reach {LEAST} of `{BY_HAND}` in latency, push and pull.\n\n"
    )
    (PLACE / "results-tunnel.md").write_text(head + text + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=0, help="by default 7, quick: 3")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--json", action="store_true", help="all values, to stdout")
    parser.add_argument("--way", action="append", default=[], help="only these")
    asked = parser.parse_args()
    size, seconds, most = (50_000_000, 1.0, 500) if asked.quick else (100_000_000, 3.0, 3000)
    session.mark_this_run()
    values: Values = {row: {} for row in ROWS}
    interrupted, missing = False, {}
    try:
        with Bench(asked.way) as bench:
            missing = bench.missing
            rounds(bench, values, asked.rounds or (3 if asked.quick else 7), size, seconds, most)
    except NoServer as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        interrupted = True
    print(json.dumps(values) if asked.json else told(values, missing, size))
    if not asked.way:
        write(told(values, missing, size))
    found: list[Any] = [ratio(values, row, OPENSSH, BY_HAND) for row in ("latency p50", "push", "pull")]
    if interrupted:
        return 130
    return int(any(one is not None and one < LEAST for one in found))


if __name__ == "__main__":
    sys.exit(main())
