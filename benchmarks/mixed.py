"""Everything at once for a minute: short and long tasks, pushes, aborts. Nobody may starve."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy

from core import tasks
from core.figure import Figure, Reach, Row, Stage, Values, percentile
from core.peer import Peer
from core.run import alone

FIGURE = Figure(
    "mixed",
    "Mixed load for 60 s (quick: 10 s; two engines, four clients: short tasks, long tasks, pushes, aborts)",
    (
        Row("mixed_short", "mixed load: short tasks (1 ms, 20 at once)", "tasks/s", True),
        Row("mixed_short_worst", "mixed load: the longest that 20 short tasks took", "s", False, Reach(2)),
        Row("mixed_long", "mixed load: long tasks (0.1 s, 2 at once)", "tasks/s", True),
        Row("mixed_long_worst", "mixed load: the longest that two long tasks took", "s", False, Reach(2)),
        Row("mixed_push", "mixed load: pushes of 1 MB to both engines", "1/s", True),
        Row("mixed_push_worst", "mixed load: the longest that a push took", "s", False, Reach(2)),
        Row("mixed_abort", "mixed load: aborts of 20 queued tasks", "1/s", True),
        Row("mixed_abort_worst", "mixed load: the longest until 20 aborted tasks had ended", "s", False, Reach(2)),
    ),
    repetitions=1,
    quick_repetitions=1,
    seconds=180.0,
    peers=("ours", "ipyparallel"),
)
_PAUSE_SECONDS = 0.1  # between two pushes, or two aborts


def _aborts(peer: Peer) -> None:
    futures = [peer.submit(tasks.hold, 0.001) for _ in range(20)]
    peer.abort(futures)
    for future in futures:
        try:
            future.result(30)
        except Exception as error:
            if isinstance(error, TimeoutError):
                raise


class _Kind(threading.Thread):
    """One client that does one thing, over and over, and notes how long each took."""

    def __init__(self, peer: Peer, work: Callable[[Peer], object], pause: float, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._peer = peer.another()
        self._work, self._pause, self._over = work, pause, over
        self.taken: list[float] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.is_set():
                begun = time.perf_counter()
                self._work(self._peer)
                self.taken.append(time.perf_counter() - begun)
                self._over.wait(self._pause)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            self.failure = error

    def leave(self) -> None:
        self.join(60)
        if self.failure is not None:
            raise self.failure
        if self.is_alive():
            raise TimeoutError("work that never ended")
        self._peer.leave()


def measure(stage: Stage) -> Values:
    stage.peer.ready(2)
    seconds = stage.amount(60, 10)
    array = numpy.zeros(1_000_000, dtype=numpy.uint8)
    over = threading.Event()
    works: dict[str, tuple[Callable[[Peer], object], float, int]] = {
        "short": (lambda peer: peer.map(tasks.hold, [0.001] * 20), 0.0, 20),
        "long": (lambda peer: peer.map(tasks.hold, [0.1] * 2), 0.0, 2),
        "push": (lambda peer: peer.push_all(array), _PAUSE_SECONDS, 1),
        "abort": (_aborts, _PAUSE_SECONDS, 1),
    }
    kinds = {name: _Kind(stage.peer, work, pause, over) for name, (work, pause, _) in works.items()}
    for kind in kinds.values():
        kind.start()
    time.sleep(seconds)
    over.set()
    values: Values = {}
    for name, kind in kinds.items():
        kind.leave()
        values[f"mixed_{name}"] = len(kind.taken) * works[name][2] / seconds
        values[f"mixed_{name}_worst"] = percentile(kind.taken, 1.0)
    return values


if __name__ == "__main__":
    alone("mixed")
