"""One thread's event loop: zmq sockets, file descriptors, timers, and calls from other threads.

A poll loop, since it carries twice the messages of an asyncio one.  Laws: callbacks run in the loop's thread only
and never block it; `at_turn_end` callbacks run once, after all that the turn brought, so that what was queued in a
turn travels in one packet; an exception in a callback ends the loop and is raised from `run`.

The descriptor of a zmq socket tells of changes only, and whoever uses the socket may take one in unseen: so before it
sleeps the loop asks each socket that may have been used since whether it holds something.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

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


def cancel(*timers: Timer | None) -> None:
    """Those of them that are there."""
    for timer in timers:
        if timer is not None:
            timer.cancel()


class Loop:
    """Runs in the thread that calls `run`; only `call_threadsafe` and `stop` may be called from others."""

    def __init__(self) -> None:
        self.context = sockets.make_context()
        self._poll = select.poll()
        self._readers: dict[int, Callback] = {}  # by descriptor
        self._receiving: dict[int, zmq.Socket[bytes]] = {}  # used by nobody but their reader
        self._asked: dict[int, zmq.Socket[bytes]] = {}  # before this thread sleeps
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._turn_end: list[Callback] = []
        self._calls: deque[Callback] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._awake = True  # and will look at `_calls` before it sleeps
        self._stopped = False
        self._closed = False
        self._lock = threading.Lock()
        self.now: Callable[[], float] = time.monotonic
        self.add_reader(self._wake_read, self._drain_wake)

    def add_reader(self, source: int | zmq.Socket[bytes], callback: Callback) -> None:
        """Call back whenever a file descriptor or zmq socket has something to read."""
        if isinstance(source, int):
            descriptor = source
        else:
            descriptor = int(source.getsockopt(zmq.FD))
            self._asked[descriptor] = source
            if source.type == zmq.PAIR:
                self._receiving[descriptor] = source
        self._readers[descriptor] = callback
        self._poll.register(descriptor, select.POLLIN)

    def remove_reader(self, source: int | zmq.Socket[bytes]) -> None:
        """Idempotent; a socket must not be closed yet."""
        descriptor = source if isinstance(source, int) else int(source.getsockopt(zmq.FD))
        if self._readers.pop(descriptor, None) is not None:
            self._asked.pop(descriptor, None)
            self._receiving.pop(descriptor, None)
            self._poll.unregister(descriptor)

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
        self.call_threadsafe(lambda: None)

    def run(self) -> None:
        """Turn until `stop`."""
        while not self._stopped:
            self.turn(None)

    def turn(self, longest: float | None) -> None:
        """One turn; waits for something to do, at most `longest` seconds (None: as long as it takes)."""
        for descriptor in self._readable(longest):
            callback = self._readers.get(descriptor)
            if callback is not None:
                callback()
        for _ in range(len(self._calls)):  # those that come meanwhile wait for the next turn
            self._calls.popleft()()
        self._run_timers()
        self.end_turn()

    def end_turn(self) -> None:
        """Do what is due at the end of the turn; at once, for what was queued between two turns."""
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

    def _readable(self, longest: float | None) -> list[int]:
        """Descriptors that may have something to read; waits until there is one, at most so long."""
        holding = self._holding()
        self._awake = False
        wait = 0 if holding else self._wait_ms(longest)
        found = [descriptor for descriptor, _event in self._poll.poll(wait)]
        self._awake = True
        for descriptor in found:
            if descriptor in self._receiving:
                self._asked[descriptor] = self._receiving[descriptor]
        return found + [descriptor for descriptor in holding if descriptor not in found] if holding else found

    def _holding(self) -> list[int]:
        """Sockets that have something to read, whatever their descriptors say."""
        holding = []
        for descriptor, socket in list(self._asked.items()):
            if sockets.holds_message(socket):
                holding.append(descriptor)
            elif descriptor in self._receiving:
                del self._asked[descriptor]
        return holding

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
            if self._awake or self._closed:
                return
            self._awake = True
            os.write(self._wake_write, b"w")

    def _drain_wake(self) -> None:
        os.read(self._wake_read, 16)
