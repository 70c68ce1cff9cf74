"""Functions that run elsewhere when they are called."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from secure_ipp.client.asyncresult import AsyncResult
from secure_ipp.client.mapresult import AsyncMapResult
from secure_ipp.client.view import View


class RemoteFunction:
    """A function whose calls run on a view's engines.

    Args:
        block: wait for the result; None: as the view does.
        flags: of the view, for its calls.
    """

    def __init__(self, view: View, f: Callable[..., Any], block: bool | None = None, **flags: Any) -> None:
        self.view = view
        self.func = f
        self.block = block
        self.flags = flags
        functools.update_wrapper(self, f, updated=())

    def _blocks(self) -> bool:
        return self.view.block if self.block is None else self.block

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.view.temp_flags(block=self._blocks(), **self.flags):
            return self.view.apply(self.func, *args, **kwargs)


class ParallelFunction(RemoteFunction):
    """A function whose calls get parts of sequences, and whose results are put together.

    Args:
        dist: "b" for contiguous blocks, "r" for round-robin.
        chunksize: elements of a part, on a balanced view; None: one.
        ordered: iterate results in order, rather than as they arrive.
        return_exceptions: errors stand for parts, rather than being raised.
    """

    def __init__(
        self, view: View, f: Callable[..., Any], dist: str = "b", block: bool | None = None,
        chunksize: int | None = None, ordered: bool = True, return_exceptions: bool = False, **flags: Any,
    ) -> None:
        super().__init__(view, f, block=block, **flags)
        self.dist = dist
        self.chunksize = chunksize
        self.ordered = ordered
        self.return_exceptions = return_exceptions

    def __call__(self, *sequences: Any, **kwargs: Any) -> Any:
        """Call with a part of each sequence at a time.

        Raises:
            TypeError: keyword arguments were given.
        """
        if kwargs:
            raise TypeError("a parallel function takes sequences only, no keyword arguments")
        return self._parts(sequences, elementwise=False)

    def map(self, *sequences: Any) -> Any:
        """Call with one element of each sequence at a time."""
        return self._parts(sequences, elementwise=True)

    def _parts(self, sequences: tuple[Any, ...], *, elementwise: bool) -> AsyncMapResult | AsyncResult | Any:
        with self.view.temp_flags(**self.flags):
            return self.view._map_parts(
                self.func, sequences, dist=self.dist, chunksize=self.chunksize, ordered=self.ordered,
                return_exceptions=self.return_exceptions, elementwise=elementwise, block=self._blocks(),
            )


def remote(
    view: View, block: bool | None = None, **flags: Any
) -> Callable[[Callable[..., Any]], RemoteFunction]:
    """Decorator: calls of the function run on the view's engines."""
    return lambda f: RemoteFunction(view, f, block=block, **flags)


def parallel(
    view: View, dist: str = "b", block: bool | None = None, ordered: bool = True, **flags: Any
) -> Callable[[Callable[..., Any]], ParallelFunction]:
    """Decorator: calls of the function get parts of sequences."""
    return lambda f: ParallelFunction(view, f, dist=dist, block=block, ordered=ordered, **flags)
