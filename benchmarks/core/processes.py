"""What processes take: memory that is theirs alone, and processor time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil

MB = 1e6


def own_memory(processes: Iterable[psutil.Process]) -> float:
    """Sum of their unique set sizes, MB: what would be free if they ended."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().uss
    return total / MB


def processor_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system time that they have taken, all together."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total
