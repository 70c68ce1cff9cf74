"""Memory: of an idle cluster, and what finished tasks leave behind in controller and client."""

from __future__ import annotations

import gc
import os
import time

import psutil

from core import tasks
from core.figure import Figure, Reach, Row, Stage, Values
from core.peer import Peer
from core.processes import own_memory
from core.run import alone

FIGURE = Figure(
    "memory",
    "Memory (unique set size)",
    (
        Row("idle_8", "memory of an idle cluster with 8 engines (without the client)", "MB", False, Reach(200)),
        Row("controller_first", "memory growth of the controller, first tasks", "kB/1000 tasks", False, compared=False),
        Row("controller_later", "memory growth of the controller, later", "kB/1000 tasks", False, Reach(10)),
        Row("controller_after", "memory of the controller, after all of them", "MB", False, compared=False),
        Row("client_growth", "memory growth of a client that drops its results, later", "kB/1000 tasks", False),
        Row("tasks_done", "tasks done for these", "tasks", True, compared=False),
    ),
    repetitions=1,
    quick_repetitions=1,
    seconds=900.0,
    peers=("ours", "ipyparallel", "concurrent.futures", "parsl", "dask", "ray"),
)
_SETTLE_SECONDS = 1.0
_PORTION = 5000
_LOOK_EVERY = 10_000  # tasks, at memory
_FILL = 120_000  # tasks; more than any process of ours remembers


def _controller(peer: Peer) -> float:
    return own_memory(peer.controllers())


def _client() -> float:
    gc.collect()
    return own_memory([psutil.Process()])


def _work(peer: Peer, count: int, seconds: float) -> tuple[int, float, float]:
    """Do tasks, dropping their results, until they are done or the time is over.

    Returns:
        How many, and the most memory that controller and client had meanwhile.  A table grows and is made anew in
        turn, so that the memory at one moment tells little.
    """
    until, done, portion = time.monotonic() + seconds, 0, 500
    controller, client, look = 0.0, 0.0, 0
    while done < count and time.monotonic() < until:
        some = min(portion, count - done)
        peer.map(tasks.noop, range(some))
        done += some
        portion = _PORTION if done >= 2000 else 500
        if done >= look:
            controller, client = max(controller, _controller(peer)), max(client, _client())
            look = done + _LOOK_EVERY
    time.sleep(_SETTLE_SECONDS)  # the last records are on their way
    return done, max(controller, _controller(peer)), max(client, _client())


def _growth(stage: Stage, values: Values) -> float:
    """The first part fills what is kept of finished tasks; what grows from the second to the third, grows for ever."""
    peer = stage.peer
    wanted = int(os.environ.get("BENCH_MEMORY_TASKS", "0")) or stage.amount(1_000_000, 300_000)
    begun = time.monotonic()
    _work(peer, 1000, 30.0)
    is_slow = time.monotonic() - begun > _SETTLE_SECONDS + 0.5
    seconds = float(stage.amount(60 if is_slow else 300, 4 if is_slow else 24))
    before = _controller(peer)
    filled, after, _ = _work(peer, _FILL, seconds * 0.4)
    values["controller_first"] = (after - before) * 1e6 / filled
    second, controller, client = _work(peer, (wanted - _FILL) // 2, seconds * 0.3)
    third, controller_later, client_later = _work(peer, (wanted - _FILL) // 2, seconds * 0.3)
    values["controller_after"] = controller_later
    values["client_growth"] = (client_later - client) * 1e6 / third
    values["tasks_done"] = 1000.0 + filled + second + third
    return (controller_later - controller) * 1e6 / third


def measure(stage: Stage) -> Values:
    peer = stage.peer
    if stage.quick:
        peer.ready(8)  # a fresh cluster all the same, when `startup` was the last to be measured
    else:
        peer.restart(8)
    time.sleep(_SETTLE_SECONDS)
    values: Values = {"idle_8": own_memory(peer.processes())}
    stage.offered(values, "controller_later", lambda: _growth(stage, values))
    return values


if __name__ == "__main__":
    alone("memory")
