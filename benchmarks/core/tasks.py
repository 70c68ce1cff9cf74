"""What the tasks do: next to nothing, so that the system is measured and not they."""

from __future__ import annotations

import os
import time
from typing import Any


def noop(*_: Any) -> None:
    """Nothing, whatever the arguments."""


def hold(seconds: float) -> float:
    """Keep an engine for so long, without using its core."""
    time.sleep(seconds)
    return seconds


def length(value: Any) -> int:
    """How many elements an array has."""
    return len(value)


def make(count: int) -> Any:
    """An array of so many bytes."""
    import numpy

    return numpy.full(count, 7, dtype=numpy.uint8)


def who(*_: Any) -> int:
    """The engine's process."""
    return os.getpid()
