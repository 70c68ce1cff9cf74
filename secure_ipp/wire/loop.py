"""One thread's event loop: zmq sockets, file descriptors, timers, and calls from other threads.

A poll loop, since it carries twice the messages of an asyncio one.  Laws: callbacks run in the loop's thread only
and never block it; `at_turn_end` callbacks run once, after all that the turn brought, so that what was queued in a
turn travels in one packet; an exception in a callback ends the loop and is raised from `run`.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

from secure_ipp.wire import sockets

Callback = Callable[[], None]


class Timer:
    """A callback that is due once; `cancel` is idempotent."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callback) -> None:
        self.due = due
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """Runs in the thread that calls `run`; only `call_threadsafe` and `stop` may be called from others."""

    def __init__(self) -> None:
        self.context = sockets.make_context()
        self._poller = zmq.Poller()
        self._readers: dict[Any, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._turn_end: list[Callback] = []
        self._calls: deque[Callback] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._waking = False
        self._stopped = False
        self._closed = False
        self._lock = threading.Lock()
        self.now: Callable[[], float] = time.monotonic
        self._poller.register(self._wake_read, zmq.POLLIN)

    def add_reader(self, source: Any, callback: Callback) -> None:
        """Call back whenever a file descriptor or zmq socket has something to read."""
        self._readers[source] = callback
        self._poller.register(source, zmq.POLLIN)

    def remove_reader(self, source: Any) -> None:
        if self._readers.pop(source, None) is not None:
            self._poller.unregister(source)

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        timer = Timer(self.now() + seconds, callback)
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))
        return timer

    def call_threadsafe(self, callback: Callback) -> None:
        """Run a callback in the loop's thread, soon; from any thread."""
        self._calls.append(callback)
        self._wake()

    def at_turn_end(self, callback: Callback) -> None:
        self._turn_end.append(callback)

    def stop(self) -> None:
        """End `run` after the current turn; from any thread."""
        self._stopped = True
        self._wake()

    def run(self) -> None:
        """Turn until `stop`."""
        while not self._stopped:
            self.turn(None)

    def turn(self, longest: float | None) -> None:
        """One turn; waits for something to do, at most `longest` seconds (None: as long as it takes)."""
        for source, _event in self._poller.poll(self._wait_ms(longest)):
            if source == self._wake_read:
                self._drain_wake()
                continue
            callback = self._readers.get(source)
            if callback is not None:
                callback()
        for _ in range(len(self._calls)):  # those that come meanwhile wait for the next turn
            self._calls.popleft()()
        self._run_timers()
        while self._turn_end:
            due, self._turn_end = self._turn_end, []
            for callback in due:
                callback()

    def close(self) -> None:
        """Release descriptors and the context; the sockets must be closed by their owners before."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        os.close(self._wake_read)
        os.close(self._wake_write)
        self.context.destroy(linger=0)

    def _wait_ms(self, longest: float | None) -> int | None:
        if self._calls or self._turn_end:
            return 0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        wait = longest
        if self._timers:
            until = max(0.0, self._timers[0][0] - self.now())
            wait = until if wait is None else min(wait, until)
        return None if wait is None else int(wait * 1000 + 0.999)

    def _run_timers(self) -> None:
        if not self._timers:
            return
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def _wake(self) -> None:
        with self._lock:
            if self._waking or self._closed:
                return
            self._waking = True
            os.write(self._wake_write, b"w")

    def _drain_wake(self) -> None:
        with self._lock:
            self._waking = False
            os.read(self._wake_read, 16)
