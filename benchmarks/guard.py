"""Guard rails: ratios against concurrent.futures and the bare router, in under a minute; exit status 1 when broken.

The margins are generous, for shared and noisy machines: about 0.6 of what was measured, so that what they catch is a
change that halves the speed.  Each rail compares the best of several interleaved repetitions of either peer: noise only
ever makes a repetition worse, and a slower program makes all of them worse.  When ours has become faster, raise them.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass

from core import session
from core.run import Run, load

PEERS = ("ours", "concurrent.futures", "router")
FIGURES = {"processor_time": 3, "throughput": 3, "latency": 2, "bulk": 3}  # and how often


@dataclass(frozen=True)
class Rail:
    """How good ours must be beside another peer.

    Attributes:
        row: of one of the figures.
        least: of ours over theirs, where more is better; where less is better, of theirs over ours.
        measured: that ratio when the rail was set, on two cores.
    """

    row: str
    peer: str
    least: float
    measured: str


RAILS = (
    Rail("cpu_all", "router", 0.8, "1.42 to 1.5"),
    Rail("cpu_all", "concurrent.futures", 1.1, "1.87 to 2.1"),
    Rail("tasks", "concurrent.futures", 1.2, "1.69 to 2.5"),
    Rail("tasks", "router", 0.6, "1.07 to 1.2"),
    Rail("tasks_1k", "concurrent.futures", 1.0, "1.69 to 1.90"),
    Rail("direct_p50", "router", 0.3, "0.48 to 0.50"),
    Rail("balanced_p50", "router", 0.3, "0.48 to 0.50"),
    Rail("direct_load_p50", "router", 0.28, "0.44 to 0.46"),
    Rail("push", "router", 0.55, "1.00 to 1.1"),
    Rail("pull", "router", 0.55, "1.1 to 1.37"),
)


def main() -> int:
    session.mark_this_run()
    figures = [load(name) for name in FIGURES]
    with Run(PEERS, quick=True) as run:
        for figure in figures:
            run.figure(figure, FIGURES[figure.name])
    rows = {row.key: row for figure in figures for row in figure.rows}
    broken = 0
    for rail in RAILS:
        row = rows[rail.row]
        found = run.results.values.get(rail.row, {})
        ours, theirs = found.get("ours", []), found.get(rail.peer, [])
        if not ours or not theirs:
            print(f"BROKEN  {row.title}: not measured, {run.results.remarks.get(rail.row)}")
            broken += 1
            continue
        best = max(ours) / max(theirs) if row.more else min(theirs) / min(ours)
        broken += best < rail.least
        print(
            f"{'ok    ' if best >= rail.least else 'BROKEN'}  {row.title}: {best:.2f} × {rail.peer}, must be ≥ "
            f"{rail.least}, was {rail.measured} (medians: ours {statistics.median(ours):,.4g}, theirs "
            f"{statistics.median(theirs):,.4g} {row.unit})"
        )
    print(f"{run.results.seconds:.0f} s, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
