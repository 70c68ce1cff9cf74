"""Balanced tasks a second, two engines: tasks that do nothing, one item each, with small and larger arguments."""

from __future__ import annotations

from core import tasks
from core.figure import Figure, Reach, Row, Stage, Values, timed
from core.run import alone

FIGURE = Figure(
    "throughput",
    "Throughput of balanced tasks that do nothing (two engines, one item a task)",
    (
        Row("tasks", "no-op tasks", "tasks/s", True, Reach(30_000, "concurrent.futures", 1.5)),
        Row("tasks_1k", "no-op tasks, argument of 1 kB", "tasks/s", True),
        Row("tasks_100k", "no-op tasks, argument of 100 kB", "tasks/s", True),
    ),
)
_PROBE = 50  # tasks by which the number is found that takes about the wanted time


def _rate(stage: Stage, size: int, seconds: float, most: int) -> float:
    peer = stage.peer
    payloads = [bytes([number % 251]) * size for number in range(16)]  # not one object for all

    def items(count: int) -> list[object]:
        return [payloads[number % 16] for number in range(count)] if size else list(range(count))

    probe = items(_PROBE)
    peer.map(tasks.noop, probe)  # the first ones bring the function there
    count = int(_PROBE / timed(lambda: peer.map(tasks.noop, probe)) * seconds)
    whole = items(max(_PROBE, min(most, count)))
    return len(whole) / timed(lambda: peer.map(tasks.noop, whole))


def measure(stage: Stage) -> Values:
    stage.peer.ready(2)
    values: Values = {}
    most, seconds = stage.amount(50_000, 20_000), stage.amount(4, 1)
    stage.offered(values, "tasks", lambda: _rate(stage, 0, seconds, most))
    stage.offered(values, "tasks_1k", lambda: _rate(stage, 1000, seconds, most))
    stage.offered(values, "tasks_100k", lambda: _rate(stage, 100_000, seconds / 2, 2000))
    return values


if __name__ == "__main__":
    alone("throughput")
