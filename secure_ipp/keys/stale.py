"""ESTALE: a network file system has lost a handle.  It is retried, and never taken for absence (S29)."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem

_T = TypeVar("_T")


def retry_stale(action: Callable[[], _T], pause: Callable[[float], None] = time.sleep) -> _T:
    """What the action returns, tried again while the file system says ESTALE.

    Raises:
        EnvironmentProblem: it said so every time.
    """
    for _ in range(limits.STALE_RETRIES):
        try:
            return action()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        pause(limits.STALE_RETRY_SECONDS)
    raise EnvironmentProblem(
        "the file system answers 'stale file handle' again and again",
        "check the network file system that the file lies on, or mount it again",
        code="stale",
    )
