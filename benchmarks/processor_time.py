"""Processor time that one task costs, over all processes: client, controller, engines."""

from __future__ import annotations

import psutil

from core import tasks
from core.figure import Figure, Row, Stage, Values, timed
from core.processes import processor_seconds
from core.run import alone

FIGURE = Figure(
    "processor_time",
    "Processor time of one balanced task that does nothing (two engines, all processes together)",
    (
        Row("cpu_all", "processor time, client, controller and engines", "µs/task", False),
        Row("cpu_client", "processor time, the client alone", "µs/task", False),
        Row("cpu_controller", "processor time, the controller alone", "µs/task", False),
    ),
    quick_repetitions=2,
)
_PROBE = 50


def measure(stage: Stage) -> Values:
    peer = stage.peer
    peer.ready(2)
    probe = list(range(_PROBE))
    peer.map(tasks.noop, probe)
    rate = _PROBE / timed(lambda: peer.map(tasks.noop, probe))
    items = list(range(max(_PROBE, min(50_000, int(rate * stage.amount(4, 1))))))
    client, others = [psutil.Process()], peer.processes()
    before = processor_seconds(client), processor_seconds(others)
    values: Values = {}

    def controller() -> float:
        return processor_seconds(peer.controllers())

    stage.offered(values, "cpu_controller", controller)
    peer.map(tasks.noop, items)
    each = 1e6 / len(items)
    values["cpu_client"] = (processor_seconds(client) - before[0]) * each
    values["cpu_all"] = values["cpu_client"] + (processor_seconds(others) - before[1]) * each
    if "cpu_controller" in values:
        values["cpu_controller"] = (controller() - values["cpu_controller"]) * each
    return values


if __name__ == "__main__":
    alone("processor_time")
