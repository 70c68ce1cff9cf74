"""Large arrays to one engine and back, and as arguments of balanced tasks."""

from __future__ import annotations

import numpy

from core import tasks
from core.figure import Figure, Reach, Row, Stage, Values, timed
from core.run import alone

FIGURE = Figure(
    "bulk",
    "Large numpy arrays (100 MB; quick runs 50 MB; two engines)",
    (
        Row("push", "push to one engine", "MB/s", True, Reach(500)),
        Row("pull", "pull from one engine", "MB/s", True, Reach(500)),
        Row("map_arrays", "map over four arrays", "MB/s", True),
    ),
)
_ARRAYS = 4


def _array(size: int) -> numpy.ndarray:
    """Bytes that no layer can make less of."""
    return numpy.random.default_rng(size).integers(0, 256, size, dtype=numpy.uint8)


def measure(stage: Stage) -> Values:
    peer = stage.peer
    peer.ready(2)
    size = stage.amount(100_000_000, 50_000_000)
    array = _array(size)
    megabytes = size / 1e6
    small = _array(1_000_000)
    values: Values = {}

    def push() -> float:
        peer.push(0, small)
        return megabytes / timed(lambda: peer.push(0, array))

    def pull() -> float:
        rate = megabytes / timed(lambda: peer.pull(0))
        if len(peer.pull(0)) != size:
            raise AssertionError("another array came back")
        return rate

    def arrays() -> float:
        items = [array] * _ARRAYS if not stage.quick else [array[: size // 2]] * _ARRAYS
        if peer.call(tasks.length, small) != len(small):
            raise AssertionError("an array of another length arrived")
        return sum(item.nbytes for item in items) / 1e6 / timed(lambda: peer.map(tasks.length, items))

    stage.offered(values, "push", push)
    stage.offered(values, "pull", pull)
    stage.offered(values, "map_arrays", arrays)
    return values


if __name__ == "__main__":
    alone("bulk")
