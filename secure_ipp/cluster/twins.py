"""Coroutines made from methods that wait, and how many cores there are to use."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")
_S = TypeVar("_S")


def as_coroutine(
    method: Callable[Concatenate[_S, _P], _R],
) -> Callable[Concatenate[_S, _P], Coroutine[Any, Any, _R]]:
    """The coroutine whose ``_sync`` twin this is; it waits on a thread, so that the event loop goes on."""

    async def twin(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        import asyncio  # whoever awaits has it; for all others it would be a sixth of what they import

        return await asyncio.to_thread(method, self, *args, **kwargs)

    functools.update_wrapper(twin, method)
    twin.__name__ = method.__name__.removesuffix("_sync")
    twin.__qualname__ = method.__qualname__.removesuffix("_sync")
    twin.__doc__ = f"As `{method.__name__}`, without holding up the event loop."
    return twin


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
