"""A view as a `concurrent.futures.Executor`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from secure_ipp.client.asyncresult import AsyncResult
from secure_ipp.client.errors import WrongMoment

if TYPE_CHECKING:
    from secure_ipp.client.view import View


class ViewExecutor(Executor):
    """Submits to a view.  Shutting it down ends no engine."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._open = True

    @property
    def _max_workers(self) -> int:
        """As the standard library's executors have it, for those who look."""
        return len(self.view)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """As `view.apply_async`.

        Raises:
            WrongMoment: the executor was shut down.
        """
        if not self._open:
            raise WrongMoment("cannot submit to an executor that was shut down")
        return self.view.apply_async(fn, *args, **kwargs)

    def map(self, func: Callable[..., Any], *iterables: Any, **kwargs: Any) -> Iterator[Any]:  # type: ignore[override]
        """As `view.map_async`: the values, in order.

        Args:
            timeout: seconds from now until the last value must be there.
            max_outstanding: as `LoadBalancedView.imap`, and as lazy.
        """
        if "max_outstanding" in kwargs:
            return self.view.imap(func, *iterables, **kwargs)
        timeout: float | None = kwargs.pop("timeout", None)
        if "chunksize" in kwargs and not hasattr(self.view, "retries"):
            kwargs.pop("chunksize")  # a direct view makes one chunk for each engine
        deadline = None if timeout is None else time.monotonic() + timeout
        result = self.view.map_async(func, *iterables, **kwargs)
        return self._values(result, deadline)

    @staticmethod
    def _values(result: AsyncResult, deadline: float | None) -> Iterator[Any]:
        if deadline is not None:
            yield from result.get(max(0.0, deadline - time.monotonic()))
        else:
            yield from result

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more.

        Args:
            wait: until all that the view sent has ended.
            cancel_futures: abort what has not started.
        """
        self._open = False
        if cancel_futures:
            self.view.abort(block=True)
        if wait:
            self.view.wait()
