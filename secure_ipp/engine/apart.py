"""What makes a process that was forked from a shared one, or spawned, an engine of its own.

Law: engines of one template share no random state, no descriptors, no signal handlers and no process group.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import threading

_MOST_DESCRIPTORS = 65536  # where the system has no bound of its own


def become_engine(keep: tuple[int, ...]) -> None:
    """Make this process one of its own.

    Args:
        keep: descriptors to keep beside 0, 1 and 2.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))  # a core would hold its key; user code may raise this again
    os.setsid()  # out of the terminal's process group: Ctrl-C there is for the client
    first = 3
    for descriptor in sorted(keep):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, max(first, min(os.sysconf("SC_OPEN_MAX"), _MOST_DESCRIPTORS)))
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    reseed()


def reseed() -> None:
    """Siblings of one template would all draw the same random numbers."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def threads() -> int:
    """How many threads this process has, those of C libraries included where that can be known."""
    if sys.platform == "linux":
        return len(os.listdir("/proc/self/task"))
    return threading.active_count()
