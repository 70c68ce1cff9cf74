"""A map over iterables that are taken from only as there is room at the engines.

Laws: no more than `most` tasks are under way at once; a slow one does not keep the others' engines idle, but no more
than `_AHEAD` results for each of these wait for it; whatever an iterable raises comes after the values before it.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Self

from secure_ipp.client.asyncresult import AsyncResult

_AHEAD = 16  # results kept for an earlier one that has not come, for each task that may be under way


class LazyMap(Iterator[Any]):
    """The values; the first tasks are sent at once, the others while values are taken.

    Args:
        submit: sends the task of these arguments.
        arguments: of each task.
        ordered: values in the order of the arguments, rather than of arrival.
        most: tasks under way at once; 0: no limit.
        return_exceptions: errors stand for values, rather than being raised.
    """

    def __init__(
        self, submit: Callable[[tuple[Any, ...]], AsyncResult], arguments: Iterator[tuple[Any, ...]], *, ordered: bool,
        most: int, return_exceptions: bool,
    ) -> None:
        self._submit = submit
        self._arguments = arguments
        self._ordered = ordered
        self._most = most
        self._keep = return_exceptions
        self._line: deque[AsyncResult] = deque()  # sent and not given out, if the order matters
        self._ended: queue.SimpleQueue[AsyncResult] = queue.SimpleQueue()
        self._under_way = 0
        self._more = True
        self._failure: Exception | None = None
        self._fill()

    def cancel(self) -> None:
        """Take nothing more from the iterables; what was sent can still be had."""
        self._more = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while True:
            if self._ordered:
                while not self._ended.empty():
                    self._ended.get()
                    self._under_way -= 1
            self._fill()
            if self._ordered and self._line and self._line[0].done():
                return self._line.popleft().get(return_exceptions=self._keep)
            if not (self._line if self._ordered else self._under_way):
                failure, self._failure = self._failure, None
                raise StopIteration if failure is None else failure
            ended = self._ended.get()
            self._under_way -= 1
            if not self._ordered:
                return ended.get(return_exceptions=self._keep)

    def _fill(self) -> None:
        """Send what there is room for."""
        while self._more and (
            self._most <= 0 or (self._under_way < self._most and len(self._line) < self._most * _AHEAD)
        ):
            try:
                result = self._submit(next(self._arguments))
            except StopIteration:
                self._more = False
                return
            except Exception as error:  # noqa: BLE001  the iterable's own: raised when its turn has come
                self._more, self._failure = False, error
                return
            self._under_way += 1
            if self._ordered:
                self._line.append(result)
            result.add_done_callback(self._ended.put)  # type: ignore[arg-type]
