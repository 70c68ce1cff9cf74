"""The view that leaves it to the scheduler which engine runs what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from secure_ipp import limits
from secure_ipp.client import submission
from secure_ipp.client.asyncresult import AsyncResult
from secure_ipp.client.chunks import for_chunks
from secure_ipp.client.dependency import Dependency, as_dependency
from secure_ipp.client.directview import name_of
from secure_ipp.client.lazymap import LazyMap
from secure_ipp.client.mapresult import AsyncMapResult
from secure_ipp.client.partition import as_sequences, partition
from secure_ipp.client.submission import Placement
from secure_ipp.client.tasks import Call
from secure_ipp.client.view import View
from secure_ipp.errors import UsageError
from secure_ipp.payload.calls import pack_call


class LoadBalancedView(View):
    """Calls on whichever engine is free.

    Attributes:
        targets: ids of the engines allowed; None: all.
        after: tasks that must have ended before; follow: tasks on whose engine to run.  A Dependency, or what one
            is made of.
        timeout: seconds that a task waits for those; 0: as long as it takes.
        retries: how often a task that failed, or was lost, is run again.
    """

    _flag_names = (*View._flag_names, "after", "follow", "timeout", "retries")

    def __init__(self, client: Any = None, socket: Any = None, targets: Any = None, **flags: Any) -> None:
        self.after: Any = None
        self.follow: Any = None
        self.timeout = 0.0
        self.retries = 0
        super().__init__(client, self._flag_value("targets", targets), **flags)

    def _flag_value(self, name: str, value: Any) -> Any:
        if name == "targets":
            return [value] if isinstance(value, int) else None if value is None or value == "all" else list(value)
        if name in ("after", "follow"):
            try:
                return as_dependency(value)
            except TypeError as error:
                raise UsageError(f"invalid dependency: {value!r}", "give task ids or AsyncResults") from error
        if name == "timeout":
            seconds = float(value or 0.0)
            if seconds < 0:
                raise UsageError(f"a timeout cannot be negative: {value!r}")
            return seconds
        if name == "retries":
            times = int(value or 0)
            if not 0 <= times <= limits.RETRIES:
                raise UsageError(f"retries are between 0 and {limits.RETRIES}, not {value!r}")
            return times
        return super()._flag_value(name, value)

    def _placement(self) -> Placement:
        client = self.client
        targets = [] if self.targets is None else client.engines(self.targets)
        client.need_engines()
        after: Dependency | None = self._flag_value("after", self.after)
        follow: Dependency | None = self._flag_value("follow", self.follow)
        find = client.session.task
        after_ids, after_flags = after.on_wire(find) if after else ([], 5)
        follow_ids, follow_flags = follow.on_wire(find, place=True) if follow else ([], 5)
        return Placement(
            targets, self._flag_value("retries", self.retries), self._flag_value("timeout", self.timeout), after_ids,
            follow_ids, after_flags, follow_flags,
        )

    def _call_of(self, f: Callable[..., Any], label: str | None = None) -> Call:
        after, follow = as_dependency(self.after), as_dependency(self.follow)
        return self._call(name_of(f), "apply", label, after=after, follow=follow)

    def _apply(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], block: bool) -> Any:
        packed = pack_call(f, args, kwargs)
        session = self.client.session
        placement = self._placement()
        tasks = session.new_tasks(self._call_of(f), [-1])
        request = submission.balanced(tasks[0], packed, placement)
        result = AsyncResult(self.client, tasks, tasks[0].call.name, single=True, targets=self.targets, owner=True)
        session.submit([request])
        return self._sent(result, block)

    def map(
        self, f: Callable[..., Any], *sequences: Any, block: bool | None = None, chunksize: int = 1,
        ordered: bool = True, return_exceptions: bool = False, label: str | None = None,
    ) -> Any:
        """The function of each element.

        Args:
            chunksize: elements in one task.
            ordered: iterating gives values in the order of the sequence, rather than of arrival.
            return_exceptions: errors stand for the tasks that they ended, rather than being raised.
        """
        return self._map_parts(
            f, sequences, dist="b", chunksize=chunksize, ordered=ordered, return_exceptions=return_exceptions,
            elementwise=True, block=self._blocks(block), label=label,
        )

    def _map_parts(
        self, f: Callable[..., Any], sequences: tuple[Any, ...], *, dist: str, chunksize: int | None, ordered: bool,
        return_exceptions: bool, elementwise: bool, block: bool, label: str | None = None,
    ) -> Any:
        chunk = 1 if chunksize is None else int(chunksize)
        if chunk < 1:
            raise UsageError(f"a chunk has at least one element, not {chunksize!r}")
        cut = as_sequences(sequences)
        length = len(cut[0])
        whole = elementwise and chunk == 1
        arguments: Iterator[tuple[Any, ...]]
        if whole:
            arguments, sizes = zip(*cut, strict=True), []
        else:
            starts = range(0, length, chunk)
            arguments = (tuple(one[start : start + chunk] for one in cut) for start in starts)
            sizes = [min(chunk, length - start) for start in starts]
        pack = submission.packer(for_chunks(f) if elementwise and not whole else f)
        session, placement = self.client.session, self._placement()
        call = self._call_of(f, label)
        tasks = session.new_tasks(call, [-1] * (length if whole else len(sizes)))
        result = AsyncMapResult(
            self.client, tasks, call.name, partition=None if whole else partition("b"), sizes=sizes, ordered=ordered,
            return_exceptions=return_exceptions,
        )
        submission.submit_all(session, (
            submission.balanced(task, pack(args), placement) for task, args in zip(tasks, arguments, strict=True)
        ))
        return self._sent(result, block)

    def imap(
        self, f: Callable[..., Any], *sequences: Any, ordered: bool = True, max_outstanding: int | str | None = "auto",
        return_exceptions: bool = False,
    ) -> LazyMap:
        """Map lazily: takes from the iterables, which may have no end, as there is room at the engines.

        Args:
            max_outstanding: tasks under way at once; "auto": one for each engine; 0: no limit.
            ordered: values in the order of the iterables, rather than of arrival.
            return_exceptions: errors stand for values, rather than being raised.

        Returns:
            An iterator of the values, whose `cancel()` takes no more from the iterables.
        """
        as_sequences([()] * len(sequences))  # there must be one
        most = len(self) if max_outstanding == "auto" else int(max_outstanding or 0)
        pack, session = submission.packer(f), self.client.session

        def submit(arguments: tuple[Any, ...]) -> AsyncResult:
            tasks = session.new_tasks(self._call_of(f), [-1])
            request = submission.balanced(tasks[0], pack(arguments), self._placement())
            result = AsyncResult(self.client, tasks, tasks[0].call.name, single=True, owner=True)
            session.submit([request])
            self._sent(result, False)
            return result

        self.client.need_engines()
        return LazyMap(
            submit, zip(*sequences, strict=False), ordered=ordered, most=most, return_exceptions=return_exceptions
        )
