"""``secure-ipp demo``: the main job, end to end, on data that every machine has.

Makes keys in a temporary home, starts a cluster on all cores, parses the standard library on its engines, has a
stranger knock at the doors meanwhile, shows what came out, and stops everything.  It succeeds only if every file is
accounted for and the stranger was refused.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import Any

import click

from secure_ipp.cli.options import EXIT_CODES_HELP, FAILED, OK, json_option, run_safely, show_json
from secure_ipp.cli.standard_library import Module, Tally, modules, survey
from secure_ipp.logs import escape

CIPHER = "CurveZMQ: Curve25519 key agreement, XSalsa20-Poly1305 boxes"
KNOCK_SECONDS = 5.0
LARGEST = 10
SHOWN_PROBLEMS = 12


@dataclass(frozen=True, slots=True)
class Report:
    """What the demo found out."""

    root: str
    tally: Tally
    engines: int
    seconds: float
    start_seconds: float
    client_door: str
    engine_door: str

    @property
    def tasks_per_second(self) -> float:
        return len(self.tally.expected) / self.seconds if self.seconds else 0.0

    @property
    def succeeded(self) -> bool:
        return not self.tally.missing and self.client_door == "refused" and self.engine_door != "admitted"


@click.command(epilog=EXIT_CODES_HELP)
@run_safely
@click.option("-n", "engines", type=click.IntRange(1), default=None, help="Engines; the default is one for each core.")
@json_option
def demo(engines: int | None, as_json: bool) -> None:
    """Parse Python's own standard library on a cluster with fresh keys.

    Exit code 0 only if every file is accounted for and a stranger's key was refused meanwhile.

    \b
    Example:
      secure-ipp demo
      secure-ipp demo -n 8 --json
    """
    report = run(engines, quiet=as_json)
    if as_json:
        show_json(as_dict(report))
    else:
        show(report)
    sys.exit(OK if report.succeeded else FAILED)


def run(engines: int | None, quiet: bool) -> Report:
    """Do it all; whatever happens, nothing is left running."""
    from secure_ipp.cluster.cluster import Cluster

    root, paths = modules()
    tally = Tally(set(paths))
    say = (lambda text: None) if quiet else click.echo
    cluster = Cluster.with_throwaway_keys(engines)
    say(f"Keys in a temporary home, a controller and {cluster.n} engines on this machine ...")
    begun = time.perf_counter()
    with cluster as client:
        start_seconds = time.perf_counter() - begun
        say(f"... ready after {start_seconds:.1f} s. {len(paths):,} files of {root}:")
        begun = time.perf_counter()
        parse(client, paths, tally, quiet)
        seconds = time.perf_counter() - begun
        client_door, engine_door = knock(cluster)
    say("Everything is stopped; the keys are gone.\n")
    return Report(root, tally, cluster.n, seconds, start_seconds, client_door, engine_door)


def parse(client: Any, paths: list[str], tally: Tally, quiet: bool) -> None:
    """One task a file, wherever there is room; results as they come."""
    from tqdm import tqdm

    view = client.load_balanced_view()
    results = view.map_async(survey, paths, ordered=False)
    with tqdm(total=len(paths), unit="file", disable=quiet, file=sys.stderr, dynamic_ncols=True) as bar:
        for fields in results:
            tally.add(Module(*fields))
            bar.update()


def knock(cluster: Any) -> tuple[str, str]:
    """What each door does about a stranger who knows the server's key but holds none that was granted.

    Soon after a start the engine door leaves unknown keys unanswered rather than refusing them for good (S12), so that
    silence is waited for a shorter time there.
    """
    from secure_ipp.keys.capability import load_capability
    from secure_ipp.keys.curve import KeyPair
    from secure_ipp.wire.intruder import try_door

    answers = []
    for file, seconds in ((cluster.place.client_file, KNOCK_SECONDS), (cluster.place.engine_file, KNOCK_SECONDS / 5)):
        capability = load_capability(file)
        answers.append(str(try_door(capability.door[0], capability.server_key, KeyPair.generate(), seconds)))
    return answers[0], answers[1]


_SHOWN = {"refused": "refused", "closed": "turned away", "silent": "left unanswered", "admitted": "ADMITTED"}

# --- showing ----------------------------------------------------------------------------------------------


def show(report: Report) -> None:
    """The short table."""
    tally = report.tally
    rows = [
        ("files", f"{len(tally.expected):,}  ({tally.parsed:,} parsed, {len(tally.problems):,} not parsable,"
                  f" {len(tally.missing):,} missing)"),
        ("lines", f"{tally.lines:,}"),
        ("functions", f"{tally.functions:,}"),
        ("classes", f"{tally.classes:,}"),
        ("time", f"{report.seconds:.1f} s on {report.engines} engines (started in {report.start_seconds:.1f} s)"),
        ("tasks a second", f"{report.tasks_per_second:,.0f}"),
        ("cipher", CIPHER),
        ("a stranger's key", f"client door: {report.client_door}; engine door: {_SHOWN[report.engine_door]}"),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"  {name:<{width}}  {value}")
    click.echo(f"\n  {'lines':>7}  {'functions':>9}  the {LARGEST} largest")
    for lines, functions, path in tally.largest(LARGEST):
        click.echo(f"  {lines:>7,}  {functions:>9,}  {escape(os.path.relpath(path, report.root))}")
    if tally.problems:
        click.echo("\n  not parsable (test data, most of it broken on purpose):")
        for path, problem in sorted(tally.problems.items())[:SHOWN_PROBLEMS]:
            click.echo(f"    {escape(f'{os.path.relpath(path, report.root)}: {problem[:80]}')}")
        if len(tally.problems) > SHOWN_PROBLEMS:
            click.echo(f"    and {len(tally.problems) - SHOWN_PROBLEMS} more")
    if tally.missing:
        click.secho(f"\n{len(tally.missing)} files are not accounted for", fg="red", err=True)
    if not report.succeeded and not tally.missing:
        click.secho("\na stranger's key was not refused", fg="red", err=True)


def as_dict(report: Report) -> dict[str, Any]:
    tally = report.tally
    return {
        "succeeded": report.succeeded, "files": len(tally.expected), "parsed": tally.parsed,
        "not_parsable": tally.problems, "missing": sorted(tally.missing), "lines": tally.lines,
        "functions": tally.functions, "classes": tally.classes, "engines": report.engines,
        "seconds": round(report.seconds, 3), "tasks_per_second": round(report.tasks_per_second, 1), "cipher": CIPHER,
        "largest": [list(entry) for entry in tally.largest(LARGEST)], "client_door": report.client_door,
        "engine_door": report.engine_door,
    }
