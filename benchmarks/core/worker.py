"""The process that a peer lives in while it is measured: `python -m core.worker NAME`.

Takes orders, one JSON line each, from its stdin, and answers on its stdout; everything that a peer prints goes to
stderr.  The end of its stdin is the end of the peer.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

from core.figure import Stage
from core.peer import NotOffered, Peer
from core.roster import make


def _measure(peer: Peer, order: dict[str, Any]) -> dict[str, Any]:
    stage = Stage(peer, bool(order["quick"]))
    try:
        module = importlib.import_module(order["figure"])
        values = module.measure(stage)
    except NotOffered as error:
        return {"values": {}, "refusals": {"*": str(error)}}
    except Exception as error:  # noqa: BLE001 - told to whoever gave the order
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    return {"values": values, "refusals": stage.refusals}


def main() -> None:
    """Serve until stdin ends."""
    with os.fdopen(os.dup(0)) as orders, os.fdopen(os.dup(1), "w") as answers:
        silence = os.open(os.devnull, os.O_RDONLY)
        os.dup2(silence, 0)
        os.dup2(2, 1)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        peer = make(sys.argv[1])
        try:
            for line in orders:
                answers.write(json.dumps(_measure(peer, json.loads(line))) + "\n")
                answers.flush()
        finally:
            peer.end()


if __name__ == "__main__":
    main()
