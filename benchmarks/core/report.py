"""Tables: medians, spreads, ratios, the reach and whether it is met."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.figure import Figure, Row
from core.roster import PEERS
from core.run import Results


def number(value: float) -> str:
    """Three digits that count."""
    if value and abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cell(values: list[float]) -> str:
    """Median, and the spread from least to most where there were several."""
    middle = number(statistics.median(values))
    if len(values) < 2:
        return middle
    return f"{middle} ({number(min(values))} to {number(max(values))})"


def _judgement(row: Row, results: Results) -> str:
    met = row.met(results.medians(row))
    return "" if row.reach is None else {True: "yes", False: "**no**", None: "not measured"}[met]


def table(figures: Sequence[Figure], results: Results, peers: Sequence[str]) -> str:
    """One line for each row of the figures, one column for each peer."""
    lines = [
        f"| work | unit | {' | '.join(peers)} | reach | met |",
        f"|---|---|{'---|' * len(peers)}---|---|",
    ]
    for figure in figures:
        for row in figure.rows:
            found = results.values.get(row.key, {})
            if not found:
                continue  # not part of a quick run
            cells = [cell(found[peer]) if peer in found else "–" for peer in peers]
            lines.append(
                f"| {row.title} | {row.unit} | {' | '.join(cells)} | {row.aim()} | {_judgement(row, results)} |"
            )
    return "\n".join(lines)


def ratios(figures: Sequence[Figure], results: Results, peers: Sequence[str]) -> str:
    """How many times better ours is than each other peer; below 1 it is worse."""
    others = [peer for peer in peers if peer != "ours"]
    lines = [f"| ours, as a multiple of | {' | '.join(others)} |", f"|---|{'---|' * len(others)}"]
    for figure in figures:
        for row in figure.rows:
            if not row.compared:
                continue
            medians = results.medians(row)
            ours = medians.get("ours")
            cells = []
            for peer in others:
                theirs = medians.get(peer)
                if not ours or not theirs or ours < 0 or theirs < 0:
                    cells.append("–")
                else:
                    cells.append(f"{ours / theirs if row.more else theirs / ours:.2g} ×")
            if any(text != "–" for text in cells):
                lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    """Day, revision, processor and versions."""
    return (
        f"{time.strftime('%Y-%m-%d')}, revision {_revision()}, {os.cpu_count()} cores ({_processor()}), Python "
        f"{platform.python_version()}, pyzmq {_version('pyzmq')}"
    )


def conditions(quick: bool, results: Results, peers: Sequence[str]) -> str:
    """Where and when this was, so that nobody takes it for more than it is."""
    load = os.getloadavg()
    lines = [
        f"{'A quick run' if quick else 'A full run'}{', interrupted,' if results.interrupted else ''} of "
        f"{results.seconds:.0f} s: {machine()}, load average at its end "
        f"{load[0]:.1f}. Everything over the loopback interface.",
        "",
        "Absolute numbers belong to this machine and this minute; ratios are what counts. A cell is the median of the "
        "repetitions, with the least and the most; a dash means that the peer has nothing of the kind.",
        "",
        "| peer | its connections are protected by |",
        "|---|---|",
        *(f"| {peer} | {PEERS[peer].secured} |" for peer in peers),
    ]
    lines += [f"| {peer} | not measured: {why} |" for peer, why in results.absent.items()]
    return "\n".join(lines)


def remarks(figures: Sequence[Figure], results: Results) -> str:
    """What went wrong, and what is not offered."""
    lines = []
    for figure in figures:
        said: dict[str, list[str]] = {}
        for row in figure.rows:
            for peer, why in results.remarks.get(row.key, {}).items():
                said.setdefault(f"{peer}: {why}", []).append(row.title)
        lines += [f"- {why} ({figure.name})" for why in said]
    return "\n".join(lines)


def write(path: Path, quick: bool, figures: Sequence[Figure], results: Results, peers: Sequence[str]) -> None:
    """The whole report."""
    parts = [
        "# Results", "", conditions(quick, results, peers), "",
        f"![How many times better than ours]({path.stem}.svg)", "",
    ]
    for figure in figures:
        parts += [f"## {figure.title}", "", table([figure], results, peers), ""]
    parts += ["## Ratios", "", ratios(figures, results, peers), "", "## Remarks", "", remarks(figures, results), ""]
    path.write_text("\n".join(parts))


def _revision() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parent,
    )
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or "unknown"
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
