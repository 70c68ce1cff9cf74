"""What processes of an engine host do to themselves before anything else: die in time, keep secrets out of cores.

Laws.
- A process tied to its parent dies with it: by the kernel's signal on Linux; everywhere, its socket to the agent ends.
- A forked engine shares no random state, no descriptors and no process group with its siblings.
"""

from __future__ import annotations

import ctypes
import os
import random
import resource
import signal
import sys

from secure_ipp.errors import EnvironmentProblem

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that made it ends.

    Args:
        parent: its process id; if it is gone already, this process ends here.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def keep_secrets() -> None:
    """No core dumps, and no reading of this process's memory by others of the same user (S11)."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":
        _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise EnvironmentProblem(f"prctl failed: {os.strerror(ctypes.get_errno())}")


def become_engine(keep: tuple[int, ...]) -> None:
    """Make a process, forked or spawned, one of its own.

    Args:
        keep: descriptors to keep beside 0, 1 and 2.
    """
    os.setsid()  # out of the terminal's process group: Ctrl-C there is for the client
    first = 3
    for descriptor in sorted(keep):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, max(first, min(os.sysconf("SC_OPEN_MAX"), 65536)))
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
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
    import threading

    return threading.active_count()
