"""Runs a Supervisor over two stand-ins, as a process of its own: events go to stdout.

argv: notes directory, what the hub does, what the scheduler does, "tether" or "free".
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from secure_ipp.cluster import supervision
from secure_ipp.cluster.bootstrap import SupervisorBootstrap, event_line, failed_line
from secure_ipp.cluster.children import Child
from secure_ipp.errors import SecureIppError


def main() -> int:
    notes, hub, scheduler, tether = sys.argv[1:]
    stand_in = [sys.executable, str(Path(__file__).with_name("stand_in.py"))]

    def child(name: str, does: str) -> Child:
        line = json.dumps({"name": name, "does": does, "notes": notes}).encode() + b"\n"
        return Child(name, stand_in, lambda: line, Path(notes), Path(notes))

    def tell(line: bytes) -> None:
        os.write(1, line)

    def write_state(pids: dict[str, int], restarts: int) -> None:
        tell(event_line("state", pids=pids, restarts=restarts))

    wakeup = supervision.catch_signals()
    bootstrap = SupervisorBootstrap(cluster="default", tether=tether == "tether")
    try:
        children = [child("hub", hub), child("scheduler", scheduler)]
        supervision.Supervisor(bootstrap, children, tell, write_state).run(wakeup)
    except SecureIppError as error:
        tell(failed_line(error))
        return 1
    tell(event_line("stopped"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
