"""Cost curves of ours: throughput against task size, engines and clients; latency against the length of the queue.

Writes curves.svg and curves.md, each panel with a sentence on what bounds it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import secure_ipp as ipp
from core import plot, report, session, tasks
from core.figure import percentile, timed

PLACE = Path(__file__).parent
Points = list[tuple[float, float]]
_SECONDS = 1.0  # of work for one point
_CLIENT_SECONDS = 60.0


def _rate(view: Any, payloads: Sequence[Any], most: int = 20_000) -> float:
    """Tasks a second, for about a second."""
    probe = list(islice(cycle(payloads), 50))
    view.map_sync(tasks.noop, probe)
    count = int(50 / timed(lambda: view.map_sync(tasks.noop, probe)) * _SECONDS)
    items = list(islice(cycle(payloads), max(50, min(most, count))))
    return len(items) / timed(lambda: view.map_sync(tasks.noop, items))


def by_size(client: Any) -> tuple[Points, Points]:
    """Tasks a second, and megabytes a second, by the bytes of the argument."""
    view = client.load_balanced_view()
    rates, volumes = [], []
    for size in (10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000):
        payloads = [os.urandom(size) for _ in range(4)]  # not one object for all
        rate = _rate(view, payloads, most=max(50, 200_000_000 // size))
        rates.append((float(size), rate))
        volumes.append((float(size), rate * size / 1e6))
    return rates, volumes


def by_engines(counts: list[int]) -> Points:
    """Tasks a second by the number of engines."""
    points = []
    for count in counts:
        with ipp.Cluster.with_throwaway_keys(count) as client:
            points.append((float(count), _rate(client.load_balanced_view(), range(50))))
    return points


def by_clients(cluster: Any, counts: list[int]) -> Points:
    """Tasks a second of all clients together, each in a process of its own."""
    points = []
    for count in counts:
        command = [sys.executable, str(PLACE / "curves.py"), "--client", str(cluster.place.client_file)]
        clients = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PLACE) for _ in range(count)
        ]
        try:
            for one in clients:
                assert one.stdout is not None
                one.stdout.readline()  # it is connected
            for one in clients:
                assert one.stdin is not None
                one.stdin.write(b"go\n")
                one.stdin.flush()
            spans = [json.loads(one.communicate(timeout=_CLIENT_SECONDS)[0]) for one in clients]
        finally:
            for one in clients:
                with suppress(ProcessLookupError):
                    one.kill()
                one.wait()
        took = max(end for _, end, _ in spans) - min(begin for begin, _, _ in spans)
        points.append((float(count), sum(done for _, _, done in spans) / took))
    return points


def be_client(file: str) -> None:
    """One of several clients: connect, wait for the word, work, say how long it took."""
    with ipp.Client(file, results="any") as client:
        client.wait_for_engines(1)
        view = client.load_balanced_view()
        view.map_sync(tasks.noop, range(50))
        print("ready", flush=True)
        sys.stdin.readline()
        begun, count = time.time(), 10_000
        view.map_sync(tasks.noop, range(count))
        print(json.dumps([begun, time.time(), count]), flush=True)


def by_queue(client: Any, lengths: list[int]) -> dict[str, Points]:
    """Milliseconds of a call on one engine, while so many tasks wait for the other."""
    found: dict[str, Points] = {"p50": [], "p99": []}
    view, busy = client[1], client.load_balanced_view(targets=[0])
    for length in lengths:
        waiting = busy.map_async(tasks.hold, [0.05] * length) if length else None
        if waiting is not None:
            waiting.wait_for_send(60)
        for _ in range(20):
            view.apply_sync(tasks.noop)
        trips = [timed(lambda: view.apply_sync(tasks.noop)) * 1000 for _ in range(300)]
        found["p50"].append((float(length), percentile(trips, 0.5)))
        found["p99"].append((float(length), percentile(trips, 0.99)))
        if waiting is not None:
            busy.abort(waiting, block=True)
            with suppress(ipp.RemoteError, ipp.CompositeError):
                waiting.get(60)
    return found


BOUNDS = {
    "Throughput by task size": "up to some kB by the scheduler's work for each task, then by Curve on two hops and the "
    "copies of pickles. Above 128 KiB bodies are streamed in chunks, which costs each task another round trip.",
    "Volume by task size": "as above; its top is what a single scheduler thread passes on.",
    "Throughput by engines": "by the scheduler's one thread as soon as two engines are busy; on a machine of few cores "
    "more engines only take processor time from it.",
    "Throughput by clients": "by the scheduler again; a second client helps as far as the first one was the slower.",
    "Latency by queue length": "by the hops of one call; it must not rise with what waits for others.",
}


def panels(quick: bool) -> list[plot.Curve]:
    cluster = ipp.Cluster.with_throwaway_keys(2)
    client = cluster.start_and_connect_sync()
    try:
        rates, volumes = by_size(client)
        queue = by_queue(client, [0, 10, 100, 1000, *([] if quick else [10_000])])
        clients = by_clients(cluster, [1, 2] if quick else [1, 2, 4, 8])
    finally:
        cluster.stop_cluster_sync()
    engines = by_engines([1, 2, 4] if quick else [1, 2, 4, 8, 16, 32])
    return [
        plot.Curve("Throughput by task size", "bytes of the argument", "tasks/s", {"": rates}),
        plot.Curve("Volume by task size", "bytes of the argument", "MB/s", {"": volumes}),
        plot.Curve("Throughput by engines", "engines", "tasks/s", {"": engines}, log_y=False),
        plot.Curve("Throughput by clients", "clients", "tasks/s, all together", {"": clients}, log_y=False),
        plot.Curve("Latency by queue length", "tasks that wait for another engine", "ms", queue),
    ]


def write(path: Path, found: list[plot.Curve]) -> None:
    """The numbers behind the picture, and what bounds them."""
    lines = ["# Cost curves", "", f"{report.machine()}. Two engines, one client, unless the curve says otherwise.", "",
             "![Cost curves](curves.svg)", ""]
    for panel in found:
        lines += [f"## {panel.title}", "", f"Bounded {BOUNDS[panel.title]}", ""]
        columns = list(panel.lines)
        lines += [f"| {panel.x} | {' | '.join(f'{panel.y} {name}'.strip() for name in columns)} |",
                  f"|---|{'---|' * len(columns)}"]
        for row in zip(*panel.lines.values(), strict=True):
            lines.append(f"| {row[0][0]:,.0f} | {' | '.join(report.number(y) for _, y in row)} |")
        lines.append("")
    path.write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer points")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        be_client(arguments.client)
        return
    session.mark_this_run()
    try:
        found = panels(arguments.quick)
    finally:
        for stray in session.end_strays():
            print(f"left behind, and ended now: {stray}", file=sys.stderr)
    write(PLACE / "curves.md", found)
    plot.curves(PLACE / "curves.svg", found)
    print((PLACE / "curves.md").read_text())


if __name__ == "__main__":
    main()
