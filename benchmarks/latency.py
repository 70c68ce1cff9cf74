"""How long one task takes, there and back: direct and balanced, on an idle cluster and beside other traffic."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from core import tasks
from core.figure import Figure, Reach, Row, Stage, Values, percentile
from core.load import Traffic
from core.peer import NotOffered
from core.run import alone

FIGURE = Figure(
    "latency",
    "Latency of one task that does nothing (two engines; `under load`: beside a second client's traffic)",
    (
        Row("direct_p50", "latency, direct, idle, p50", "ms", False, Reach(0.5, "router", 3)),
        Row("direct_p99", "latency, direct, idle, p99", "ms", False),
        Row("balanced_p50", "latency, balanced, idle, p50", "ms", False, Reach(0.5)),
        Row("balanced_p99", "latency, balanced, idle, p99", "ms", False),
        Row("direct_load_p50", "latency, direct, under load, p50", "ms", False),
        Row("direct_load_p99", "latency, direct, under load, p99", "ms", False),
        Row("balanced_load_p50", "latency, balanced, under load, p50", "ms", False),
        Row("balanced_load_p99", "latency, balanced, under load, p99", "ms", False),
    ),
)
_WARM_UP = 20


def _trips(call: Callable[[], Any], seconds: float, most: int) -> list[float]:
    """Milliseconds of each of many calls, one after the other."""
    for _ in range(_WARM_UP):
        call()
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while len(taken) < most and (now := time.perf_counter()) < until:
        call()
        taken.append((time.perf_counter() - now) * 1000)
    return taken


def _note(stage: Stage, values: Values, name: str, call: Callable[[], Any]) -> None:
    seconds, most = stage.amount(5, 1), stage.amount(5000, 1000)
    try:
        trips = _trips(call, seconds, most)
    except NotOffered as error:
        stage.refusals |= {f"{name}_p50": str(error), f"{name}_p99": str(error)}
        return
    values[f"{name}_p50"], values[f"{name}_p99"] = percentile(trips, 0.5), percentile(trips, 0.99)


def measure(stage: Stage) -> Values:
    peer = stage.peer
    peer.ready(2)
    values: Values = {}
    calls: dict[str, Callable[[], Any]] = {
        "direct": lambda: peer.call_on(0, tasks.noop),
        "balanced": lambda: peer.call(tasks.noop),
    }
    for name, call in calls.items():
        _note(stage, values, name, call)
    try:
        with Traffic(peer):
            for name, call in calls.items():
                _note(stage, values, f"{name}_load", call)
    except NotOffered as error:
        stage.refusals |= {f"{name}_load_{share}": str(error) for name in calls for share in ("p50", "p99")}
    return values


if __name__ == "__main__":
    alone("latency")
