"""ipyparallel through its own ``sshserver=``, in its own interpreter: `python -m core.ipyparallel_ssh SERVER`.

Its Curve is off: with both, its client hangs.  Orders come on stdin, a line each ("calls SECONDS MOST", "push BYTES",
"pull BYTES"), answers go to stdout as JSON; the end of stdin is its own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy

from core import tasks
from core.figure import timed

_TIME_OUT = 60


def trips(view: Any, seconds: float, most: int) -> list[float]:
    """Milliseconds of each of many calls, one after the other."""
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while len(taken) < most and time.perf_counter() < until:
        taken.append(timed(lambda: view.apply_sync(tasks.noop)) * 1000)
    return taken


def random_bytes(size: int) -> numpy.ndarray:
    """What no layer can make less of."""
    return numpy.random.default_rng(size).integers(0, 256, size, dtype=numpy.uint8)


def answer(view: Any, order: list[str]) -> Any:
    """Do as a line says; milliseconds of each call, or seconds of a transfer."""
    if order[0] == "calls":
        return trips(view, float(order[1]), int(order[2]))
    size = int(order[1])
    if order[0] == "push":
        array = random_bytes(size)
        return timed(lambda: view.push({"pushed": array}, block=True))
    kept: list[Any] = []
    seconds = timed(lambda: kept.append(view.pull("pushed", block=True)))
    if len(kept[0]) != size:
        raise AssertionError("another array came back")
    return seconds


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    home = tempfile.mkdtemp(prefix="bench-ipython-")
    os.environ["IPYTHONDIR"] = home
    import ipyparallel as ipp

    cluster = ipp.Cluster(n=1, log_level=40, profile_dir=str(Path(home) / "profile_bench"))
    try:
        cluster.start_cluster_sync()
        client = cluster.connect_client_sync(sshserver=sys.argv[1], timeout=_TIME_OUT)
        client.wait_for_engines(1, interactive=False, timeout=_TIME_OUT)
        view = client[0]
        view.apply_sync(abs, 1)
        print(json.dumps("ready"), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(view, line.split())), file=answers, flush=True)
        client.close()
    finally:
        cluster.stop_cluster_sync()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
