"""A stand-in for hub or scheduler: does what its bootstrap line says, in the manner of the real ones.

Run as a script by the supervisor's tests.  The bootstrap is a JSON object: `name`, `does` (see below), `notes` (a
directory where each start leaves a file with its pid, and what it was told).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def say(**event: object) -> None:
    print(json.dumps(event), flush=True)


def main() -> None:
    told = json.loads(sys.stdin.readline())
    notes = Path(told["notes"])
    starts = len(list(notes.glob(f"{told['name']}-*")))
    writing = notes / f"writing-{os.getpid()}"
    writing.write_text(json.dumps({"pid": os.getpid(), **told}))
    writing.rename(notes / f"{told['name']}-{starts}")  # whole or not at all: this process may be killed at any time
    does = told["does"]
    if does == "fails":
        say(event="failed", code="port-in-use", message="port 4711 is in use", advice="take another")
        sys.exit(1)
    if does == "crashes at once":
        print("Traceback: no module named nothing", file=sys.stderr, flush=True)
        sys.exit(3)
    if does == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    say(event="ready")
    print(f"{told['name']}: WARNING: a \x1b[31m warning", file=sys.stderr, flush=True)
    if does == "crashes always":
        sys.exit(4)
    if does == "asks for the end":
        say(event="stop")
    if does == "ends with 0":
        sys.exit(0)
    if does == "deaf":
        time.sleep(600)
    sys.stdin.read()  # its end: the supervisor is gone
    sys.exit(9)


if __name__ == "__main__":
    main()
