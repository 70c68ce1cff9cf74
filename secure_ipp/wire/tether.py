"""How a process of the controller hangs on its supervisor: a line of orders on stdin, event lines on stdout.

Laws: stdin stays open as long as the supervisor lives, and its end is the end of this process; SIGTERM and SIGINT
become an event of the loop, so that they end it between two turns; no order is ever quoted in a log or an error.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.wire.loop import Loop

ORDERS, EVENTS = 0, 1
ORPHANED = 3  # exit status when the supervisor is gone

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)

_log = logging.getLogger(__name__)


def read_orders(descriptor: int = ORDERS) -> bytes:
    """The first line of a pipe; not one byte more is taken.

    Raises:
        EnvironmentProblem: no whole line came.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(descriptor, 1)
        if not piece or len(line) >= limits.BOOTSTRAP_BYTES:
            raise EnvironmentProblem("this process was not told what to do", "it is started by ipcluster, not by hand")
        line += piece
    return bytes(line)


def tell(event: str, **details: Any) -> None:
    """One event line for the supervisor."""
    try:
        os.write(EVENTS, msgspec.json.encode({"event": event, **details}) + b"\n")
    except BrokenPipeError:
        _log.error("the supervisor does not listen any more")


def collect_seldom() -> None:
    """Look for cycles seldom: tasks and records make none, and walking many thousands of live ones is slow."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def keep_freed_memory() -> None:
    """Have glibc keep what frames leave behind, up to 64 MiB, for the next ones; not what larger tables leave.

    libzmq allocates several times for each chunk that it encrypts or decrypts; given back to the kernel each time,
    100 MB cost 40,000 page faults and 60 ms.  The tables of what is remembered are made anew, some MiB each, every
    75,000 tasks; in the heap each left a hole that the next did not fit into, 20 kB for 1000 tasks.  Elsewhere than
    in glibc nothing is asked for.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2 * limits.FRAME_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 64 * limits.MIB)


class Tether:
    """Ends the loop when asked to, and the process when its supervisor is gone.

    Args:
        orphaned: called before the process ends because the supervisor is gone; must be quick.
    """

    def __init__(self, loop: Loop, orphaned: Callable[[], None]) -> None:
        self._loop = loop
        self._orphaned = orphaned
        self._signals: tuple[socket.socket, socket.socket] | None = None

    def watch(self) -> None:
        """From the main thread, before the loop runs."""
        os.set_blocking(ORDERS, False)
        self._loop.add_reader(ORDERS, self._on_orders)
        woken, waking = self._signals = socket.socketpair()
        woken.setblocking(False)
        waking.setblocking(False)
        signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: None)
        self._loop.add_reader(woken.fileno(), self._loop.stop)

    def _on_orders(self) -> None:
        if os.read(ORDERS, 4096):
            return
        _log.error("the supervisor is gone; this process ends")
        self._orphaned()
        logging.shutdown()
        os._exit(ORPHANED)
