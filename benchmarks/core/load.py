"""Traffic in the background, from a client of its own, while something else is measured."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from core import tasks
from core.peer import Peer

_UNDER_WAY = 8


class Traffic:
    """A second client in a second thread that keeps a few balanced tasks under way; `with` starts and ends it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer.another()
        self._is_second = self._peer is not peer
        self._over = threading.Event()
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.done = 0

    def _run(self) -> None:
        while not self._over.is_set():
            self._peer.map(tasks.noop, range(_UNDER_WAY))
            self.done += _UNDER_WAY
            self._running.set()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._running.wait(30):
            raise TimeoutError("the traffic in the background does not flow")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(30)
        if self._is_second:
            self._peer.leave()
