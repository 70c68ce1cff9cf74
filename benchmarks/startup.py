"""From nothing to so many usable engines: keys, controller, engines, client, and one call on all."""

from __future__ import annotations

from core import tasks
from core.figure import Figure, Reach, Row, Stage, Values, timed
from core.peer import NotOffered
from core.run import alone

FIGURE = Figure(
    "startup",
    "Time until engines are usable (from nothing to the first values of all of them)",
    (
        Row("start_1", "until 1 engine is usable", "s", False),
        Row("start_8", "until 8 engines are usable", "s", False, Reach(1.5)),
        Row("start_32", "until 32 engines are usable", "s", False),
    ),
    repetitions=2,
    quick_repetitions=1,
    seconds=300.0,
)


def measure(stage: Stage) -> Values:
    peer = stage.peer
    values: Values = {}

    def start(engines: int) -> None:
        peer.restart(engines)
        try:
            peer.call_all(tasks.noop)
        except NotOffered:
            peer.map(tasks.noop, range(4 * engines))  # as near as this peer comes

    for engines in (1, 8) if stage.quick else (1, 32, 8):  # 8 last: the figures that follow use them
        peer.end()
        values[f"start_{engines}"] = timed(lambda n=engines: start(n))  # type: ignore[misc]
    return values


if __name__ == "__main__":
    alone("startup")
