"""Start a program that ends when its parent does: ``python -I -S ward.py PARENT PROGRAM ARGUMENT...``.

It is run by its path and imports nothing of this package, so that it is there within a few milliseconds.  PARENT is
the process id of the parent as it knows itself, 0 for whoever it is; a parent that is gone already ends it at once.
The program is asked to end (SIGTERM), so that it can clean up and end its own children.  Where the kernel has no such
call (macOS) the program is started all the same.
"""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent = int(arguments[0])
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent if parent else os.getppid() == 1:
            sys.exit(1)
    os.execv(arguments[1], arguments[1:])  # noqa: S606  an argument list, and meant


if __name__ == "__main__":
    main(sys.argv[1:])
