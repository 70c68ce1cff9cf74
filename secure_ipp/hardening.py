"""What a process asks of its kernel, so that its secrets stay in it and it does not outlive its parent (S11).

Laws: `keep_secrets_inside` leaves no way to a core file and, on Linux, none for processes of the same user to attach
or to read its memory; `end_with_parent` closes the race with a parent that is already gone.  Where the kernel has no
such call (macOS has no parent-death signal) nothing is promised, and a pipe from child to parent is the way.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_log = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def keep_secrets_inside() -> None:
    """No core file, and on Linux not dumpable. An exec undoes the second, so each process calls it for itself."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def raise_descriptors() -> None:
    """Let this process have as many open files as its user may give it: a peer takes one each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):  # macOS says "no bound" and has one
        _log.debug("the number of open files stays as it is")


def end_with_parent(parent: int, signum: int = signal.SIGKILL) -> None:
    """Have the kernel send us `signum` when the thread that started us ends; survives an exec.

    Args:
        parent: process id of the parent, as it knows itself; if that is no longer our parent, the signal is sent now.
        signum: the signal.
    """
    _prctl(_PR_SET_PDEATHSIG, int(signum))
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def _prctl(option: int, value: int) -> None:
    if _libc is not None and _libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")
