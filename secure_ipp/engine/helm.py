"""Which of an engine's two threads turns its loop.

The thread that runs tasks does while it has none to run, so that no task wakes another thread on its way in, nor its
result on its way out.  Once a task has run for a moment, the other thread, the mate, turns the loop in its place.
Laws: one thread turns the loop at a time, the one that holds the helm; a running task keeps the engine from
talking for two moments at most; where no tasks come, the mate sleeps.
"""

from __future__ import annotations

import queue
import threading
import time

from secure_ipp.wire.loop import Loop

_MOMENT_SECONDS = 0.005
_WATCHES = 20  # moments without a new task, after which the mate sleeps until there is one


class Helm:
    """`take` and `leave` belong to the thread that runs tasks, `watch` to the mate."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._held = threading.Lock()
        self._wanted = False  # by the thread that runs tasks, while the mate holds it
        self._left = 0  # times
        self._asleep = False
        self._alarm: queue.SimpleQueue[None] = queue.SimpleQueue()

    def take(self) -> None:
        """A task is over, or none has come yet."""
        if self._held.acquire(blocking=False):
            return
        self._wanted = True
        self._loop.call_threadsafe(lambda: None)  # the mate's turn ends
        self._held.acquire()
        self._wanted = False

    def leave(self) -> None:
        """A task begins."""
        self._left += 1
        self._held.release()
        if self._asleep:
            self._asleep = False
            self._alarm.put(None)

    def watch(self) -> None:
        """Be the mate; does not return."""
        seen, watches = 0, 0
        while True:
            time.sleep(_MOMENT_SECONDS)
            if self._left != seen:
                seen, watches = self._left, 0
            elif self._held.acquire(blocking=False):
                while not self._wanted:
                    self._loop.turn(None)
                self._held.release()
            elif watches < _WATCHES:
                watches += 1
            else:
                watches = 0
                self._sleep(seen)

    def _sleep(self, seen: int) -> None:
        self._asleep = True
        if self._left != seen:  # a task has begun meanwhile, whose thread may not have known
            self._asleep = False
        else:
            self._alarm.get()
