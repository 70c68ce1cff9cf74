"""All figures side by side: `make bench`, or less of it, `make bench-quick`. Writes results.md and results.svg."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from core import report, session
from core.roster import PEERS
from core.run import Run, load

PLACE = Path(__file__).parent
# in this order the clusters are started anew as seldom as can be: two engines first, then eight
FIGURES = (
    "imports", "throughput", "latency", "processor_time", "bulk", "mixed", "startup", "memory", "broadcast",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three minutes: four peers, less of everything")
    parser.add_argument("--peer", action="append", choices=[*PEERS], help="only these")
    parser.add_argument("--figure", action="append", choices=FIGURES, help="only these")
    parser.add_argument("--repetitions", type=int, default=0, help="of every figure")
    parser.add_argument("--at-most", type=int, default=0, help="repetitions of those figures that would have more")
    parser.add_argument("--out", type=Path, default=PLACE / "results.md")
    arguments = parser.parse_args()
    session.mark_this_run()
    wanted = arguments.peer or [peer for peer, entry in PEERS.items() if entry.quick or not arguments.quick]
    figures = [load(name) for name in arguments.figure or FIGURES]
    with Run(wanted, arguments.quick) as run:
        run.figures(figures, arguments.repetitions, arguments.at_most)
    report.write(arguments.out, arguments.quick, figures, run.results, run.peers)
    arguments.out.with_suffix(".json").write_text(json.dumps(run.results.values))
    try:
        from core import plot

        plot.beside_ours(arguments.out.with_suffix(".svg"), figures, run.results, run.peers)
    except ImportError:
        print("no plot: install matplotlib (the extra `bench`)", file=sys.stderr)
    print(report.table(figures, run.results, run.peers))
    print(f"\n{run.results.seconds:.0f} s; written: {arguments.out}", file=sys.stderr)
    return 130 if run.results.interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
