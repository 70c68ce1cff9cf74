"""One value or one call for all engines: direct (one message each) beside broadcast."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy

from core import tasks
from core.figure import Figure, Reach, Row, Stage, Values, timed
from core.run import alone

FIGURE = Figure(
    "broadcast",
    "One value, or one call, for all engines (MB/s: of all engines together)",
    (
        Row("push_8", "push of 20 MB to 8 engines, direct", "MB/s", True, Reach(600)),
        Row("broadcast_push_8", "push of 20 MB to 8 engines, broadcast", "MB/s", True),
        Row("apply_8", "call on 8 engines, direct, p50", "ms", False),
        Row("broadcast_apply_8", "call on 8 engines, broadcast, p50", "ms", False),
        Row("push_32", "push of 20 MB to 32 engines, direct", "MB/s", True),
        Row("broadcast_push_32", "push of 20 MB to 32 engines, broadcast", "MB/s", True),
        Row("apply_32", "call on 32 engines, direct, p50", "ms", False),
        Row("broadcast_apply_32", "call on 32 engines, broadcast, p50", "ms", False),
    ),
    repetitions=2,
    quick_repetitions=2,
    seconds=300.0,
)
_SIZE = 20_000_000


def _trip(call: Callable[[], Any], times: int) -> float:
    call()
    return statistics.median(timed(call) * 1000 for _ in range(times))


def measure(stage: Stage) -> Values:
    peer = stage.peer
    array = numpy.random.default_rng(1).integers(0, 256, _SIZE, dtype=numpy.uint8)
    values: Values = {}
    times = stage.amount(100, 20)
    for engines in (8,) if stage.quick else (32, 8):
        peer.ready(engines)
        megabytes = _SIZE * engines / 1e6
        stage.offered(values, f"apply_{engines}", lambda: _trip(lambda: peer.call_all(tasks.noop), times))
        stage.offered(
            values, f"broadcast_apply_{engines}", lambda: _trip(lambda: peer.broadcast_call(tasks.noop), times)
        )
        stage.offered(
            values, f"push_{engines}", lambda m=megabytes: m / timed(lambda: peer.push_all(array))  # type: ignore[misc]
        )
        stage.offered(
            values, f"broadcast_push_{engines}",
            lambda m=megabytes: m / timed(lambda: peer.broadcast_push(array)),  # type: ignore[misc]
        )
    return values


if __name__ == "__main__":
    alone("broadcast")
