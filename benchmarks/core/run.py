"""Runs figures side by side: every peer once, then every peer again, so that a noisy minute hits all alike."""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core import session, venvs
from core.figure import Figure, Row
from core.roster import PEERS


@dataclass
class Results:
    """What was measured.

    Attributes:
        values: row -> peer -> one value per repetition.
        remarks: row -> peer -> why there is none.
        absent: peer -> why it was not measured at all.
        interrupted: somebody pressed Ctrl-C; what had been measured counts.
    """

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    remarks: dict[str, dict[str, str]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

    def add(self, figure: Figure, peer: str, answer: dict[str, object]) -> None:
        if "error" in answer:
            self.remark(figure, peer, str(answer["error"]))
            return
        values, refusals = answer["values"], answer["refusals"]
        assert isinstance(values, dict) and isinstance(refusals, dict)
        for key, value in values.items():
            self.values.setdefault(key, {}).setdefault(peer, []).append(value)
        for row in figure.rows:
            why = refusals.get(row.key, refusals.get("*"))
            if why is not None:
                self.remarks.setdefault(row.key, {})[peer] = f"no {why}"

    def remark(self, figure: Figure, peer: str, why: str) -> None:
        for row in figure.rows:
            self.remarks.setdefault(row.key, {})[peer] = why

    def medians(self, row: Row) -> dict[str, float]:
        return {peer: statistics.median(found) for peer, found in self.values.get(row.key, {}).items() if found}


def load(name: str) -> Figure:
    """The figure of a file of benchmarks/."""
    figure = importlib.import_module(name).FIGURE
    assert isinstance(figure, Figure)
    return figure


class Run:
    """Measurements under way; `with` ends all processes."""

    def __init__(self, peers: Sequence[str], quick: bool) -> None:
        self._quick = quick
        self.results = Results()
        self._workers: dict[str, session.Worker] = {}
        self._failed = False  # then what the peers said is kept
        self._log = Path(tempfile.mkdtemp(prefix="bench-")) / "peers.log"
        self._begun = time.monotonic()
        self.peers = []
        for peer in peers:
            try:
                venvs.interpreter(peer)
            except venvs.Unavailable as error:
                self.results.absent[peer] = str(error)
                print(f"{peer}: {error}", file=sys.stderr)
            else:
                self.peers.append(peer)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()
        for stray, count in Counter(session.end_strays()).items():
            print(f"left behind, and ended now: {count} × {stray}", file=sys.stderr)
        if not self._failed:
            shutil.rmtree(self._log.parent, ignore_errors=True)
        self.results.seconds = time.monotonic() - self._begun

    def figures(self, figures: Sequence[Figure], repetitions: int = 0, most: int = 0) -> None:
        """Measure them one after the other; Ctrl-C ends it, and keeps what there is."""
        try:
            for figure in figures:
                self.figure(figure, repetitions, most)
        except KeyboardInterrupt:
            self.results.interrupted = True
            print("interrupted: what was measured is kept", file=sys.stderr)

    def figure(self, figure: Figure, repetitions: int = 0, most: int = 0) -> None:
        """Measure it on all peers, in turn."""
        times = repetitions or (figure.quick_repetitions if self._quick else figure.repetitions)
        times = min(times, most) if most else times
        given_up: set[str] = set()
        for turn in range(times):
            for peer in self.peers:
                if peer in given_up or (figure.peers and peer not in figure.peers):
                    continue
                begun = time.monotonic()
                try:
                    answer = self._worker(peer).measure(figure.name, self._quick, figure.seconds)
                except session.Hung as error:
                    answer = {"error": str(error)}
                    self._workers.pop(peer).kill()
                if "error" in answer:
                    given_up.add(peer)
                    self._failed = True
                    print(f"{figure.name} {peer}: {answer['error']} (see {self._log})", file=sys.stderr)
                self.results.add(figure, peer, answer)
                print(f"{figure.name} {turn + 1}/{times} {peer} {time.monotonic() - begun:.1f} s", file=sys.stderr)

    def _worker(self, peer: str) -> session.Worker:
        if peer not in self._workers:
            self._workers[peer] = session.Worker(peer, self._log)
        return self._workers[peer]


def alone(name: str) -> None:
    """The command line of a figure's own file."""
    figure = load(name)
    parser = argparse.ArgumentParser(description=figure.title)
    parser.add_argument("--peer", action="append", choices=[*PEERS], help="may be repeated; default: the quick ones")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--repetitions", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="all values, as JSON, instead of a table")
    arguments = parser.parse_args()
    session.mark_this_run()
    peers = arguments.peer or [peer for peer, entry in PEERS.items() if entry.quick]
    with Run(peers, arguments.quick) as run:
        run.figure(figure, arguments.repetitions)
    results = run.results
    if arguments.json:
        print(json.dumps({"values": results.values, "remarks": results.remarks, "absent": results.absent}, indent=1))
    else:
        from core import report

        print(report.table([figure], results, run.peers))
