"""What engines run for a chunk of a map.  Imported there by name, so it imports nothing of the client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from secure_ipp.payload.markers import dependent


def map_chunk(f: Callable[..., Any], *pieces: Iterable[Any]) -> list[Any]:
    """The function of each element."""
    return [f(*arguments) for arguments in zip(*pieces, strict=False)]


def for_chunks(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function that maps `f` onto a chunk; what `f` depends on, it depends on too."""
    if isinstance(f, dependent):
        mapped = dependent(partial(map_chunk, f.f), f.df, *f.dargs, **f.dkwargs)
        mapped.__name__ = f.__name__
        return mapped
    return partial(map_chunk, f)
