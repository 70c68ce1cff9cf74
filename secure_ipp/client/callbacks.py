"""The thread that runs users' callbacks, so that the I/O thread never does.

It starts when there is something to run.  A callback that fails is logged, and the next one runs.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger("secure_ipp.client")


class Callbacks:
    """Runs callbacks in the order in which they are given."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._ended = False

    def call(self, callback: Callable[[], object]) -> None:
        """Run this soon; from any thread."""
        with self._lock:
            if self._ended:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="secure-ipp-callbacks", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # the interpreter is ending: nobody is left to be called back
                    self._ended = True
                    return
        self._queue.put(callback)

    def settle(self, seconds: float) -> None:
        """Wait so long for what was given until now; not in a callback, which cannot wait for itself."""
        if self._thread is None or self._thread is threading.current_thread():
            return
        settled = threading.Event()
        self.call(settled.set)
        if not self._ended:
            settled.wait(seconds)

    def end(self) -> None:
        """Run what was given, and no more."""
        with self._lock:
            self._ended = True
        self._queue.put(None)

    def _run(self) -> None:
        while (callback := self._queue.get()) is not None:
            try:
                callback()
            except Exception:
                log.exception("a callback failed")
