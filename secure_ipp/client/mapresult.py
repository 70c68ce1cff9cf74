"""The result of a map: tasks carry chunks, and what comes out is the sequence of single values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from secure_ipp.client.asyncresult import AsyncResult
from secure_ipp.client.errors import CompositeError
from secure_ipp.client.partition import Partition
from secure_ipp.client.tasks import Task

if TYPE_CHECKING:
    from secure_ipp.client.client import Client


class AsyncMapResult(AsyncResult):
    """Values of a mapped function, some time; can be iterated as they arrive.

    Args:
        partition: how the sequence was cut into chunks; None if each task carries one element.
        sizes: elements of each chunk.
        ordered: iterate in the order of the sequence, rather than of arrival.
    """

    def __init__(
        self, client: Client, tasks: Sequence[Task], fname: str = "unknown", *, partition: Partition | None = None,
        sizes: Sequence[int] = (), ordered: bool = True, return_exceptions: bool = False,
    ) -> None:
        self._partition = partition
        self._sizes = sizes
        self._ordered = ordered
        super().__init__(client, tasks, fname, return_exceptions=return_exceptions)

    @classmethod
    def join(cls, *async_results: AsyncResult) -> AsyncResult:
        """One result of the tasks of several maps, or of parts of one."""
        first = async_results[0]
        if not all(isinstance(one, AsyncMapResult) for one in async_results):
            return super().join(*async_results)
        tasks = [task for one in async_results for task in one._tasks]
        partition = first._partition if isinstance(first, AsyncMapResult) else None
        sizes = [size for one in async_results if isinstance(one, AsyncMapResult) for size in one._sizes]
        return AsyncMapResult(
            first._client, tasks, first._fname, partition=partition, sizes=sizes,
            return_exceptions=first._return_exceptions,
        )

    def _part(self, task: Task) -> AsyncResult:
        part = AsyncResult(self._client, [task], self._fname, return_exceptions=self._return_exceptions)
        part._chunks_of_one = self._partition is None
        return part

    def _reconstruct(self, values: list[Any]) -> Any:
        if self._partition is None:
            return list(values)
        return self._partition.join(values)

    def _pieces(self, value: Any) -> Iterable[Any]:
        if self._partition is None or isinstance(value, BaseException):
            return (value,)
        return self._partition.join([value])  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return sum(self._sizes) if self._sizes else len(self._tasks)

    @property
    def progress(self) -> int:
        """How many elements are there."""
        if not self._sizes:
            return super().progress
        return sum(
            size for size, task in zip(self._sizes, self._tasks, strict=True) if task.outcome is not None
        )

    def __iter__(self) -> Iterator[Any]:
        if self._partition is not None and not self._partition.contiguous:
            yield from self.get()
        elif self._ordered:
            for task in self._tasks:
                yield from self._pieces(self._arrived(task))
        else:
            yield from self._as_they_arrive()

    def _as_they_arrive(self) -> Iterator[Any]:
        with self._session.receiver.lock:
            if self._arrivals is None:
                self._arrivals = [task for task in self._tasks if task.outcome is not None]
        arrivals = self._arrivals
        seen: set[str] = set()
        index = 0
        while len(seen) < len(self._tasks):
            self._wait_for(lambda at=index: len(arrivals) > at, None)  # type: ignore[misc]
            if index >= len(arrivals):
                arrivals.extend(task for task in self._tasks if task.id not in seen)
            task = arrivals[index]
            index += 1
            if task.id in seen:
                continue
            seen.add(task.id)
            value = self._value(task)
            if task.bad and not self._return_exceptions:
                raise CompositeError(f"one or more exceptions raised in: {self._fname}", [value])
            yield from self._pieces(value)
