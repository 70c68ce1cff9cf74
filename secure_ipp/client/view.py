"""What all views share: flags, calls in their three forms, and looking after what they sent.

A view is a way to call; its flags (`block`, `label`, ...) say how.  Setting flags is not thread-safe, as ever.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from secure_ipp.client.asyncresult import AsyncResult
from secure_ipp.client.history import History
from secure_ipp.client.tasks import Call
from secure_ipp.client.trust import FLAGS, said
from secure_ipp.errors import UsageError
from secure_ipp.payload.objects import Trust
from secure_ipp.wire import messages

if TYPE_CHECKING:
    from secure_ipp.client.client import Client
    from secure_ipp.client.executor import ViewExecutor
    from secure_ipp.client.remotefunction import ParallelFunction, RemoteFunction


class _UnknownFlag(UsageError, KeyError):
    """A view has no flag of this name."""

    __str__ = Exception.__str__


class View(ABC):
    """Base of all views.

    Attributes:
        block: calls wait for their result.
        track: kept for programs that set it; `AsyncResult.sent` is always known.
        label: a word for the records of what is called.
        targets: the engines.
        trust: what results of its calls may hold, as set by the flags `results` and `allow`; None: as for the client.
    """

    _flag_names: tuple[str, ...] = ("block", "track", "label", "targets")
    targets: Any

    def __init__(self, client: Client, targets: Any = None, **flags: Any) -> None:
        self.client = client
        self.block = client.block
        self.track = False
        self.label: str | None = None
        self.targets = targets
        self.trust: Trust | None = None
        self.history = History()
        self.set_flags(**flags)

    def __repr__(self) -> str:
        text = str(self.targets)
        return f"<{type(self).__name__} {text if len(text) < 16 else text[:12] + '...'}>"

    def __len__(self) -> int:
        """How many engines it is for, now."""
        if isinstance(self.targets, int):
            return 1
        return len(self.client if self.targets is None or self.targets == "all" else self.targets)

    def __bool__(self) -> bool:
        return True

    # --- flags -------------------------------------------------------------------------------------------------

    def set_flags(self, **kwargs: Any) -> Self:
        """Set flags by name: those of the view, and `results` and `allow` as `Client` takes them.

        Raises:
            KeyError: there is no such flag.
        """
        words = {name: kwargs.pop(name) for name in FLAGS if name in kwargs}
        if words:
            self.trust = said(self.client.session.trust, words.get("results"), words.get("allow"))
        for name, value in kwargs.items():
            if name not in self._flag_names:
                raise _UnknownFlag(f"{name!r} is not a flag of a {type(self).__name__}: {', '.join(self._flag_names)}")
            setattr(self, name, self._flag_value(name, value))
        return self

    def _flag_value(self, name: str, value: Any) -> Any:
        """The value as it is kept; raises ValueError if it cannot be."""
        return bool(value) if name in ("block", "track") else value

    @contextmanager
    def temp_flags(self, **kwargs: Any) -> Iterator[Self]:
        """Flags for the length of a `with`."""
        before = {name: getattr(self, name) for name in (*self._flag_names, "trust")}
        try:
            yield self.set_flags(**kwargs)
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    # --- calls -------------------------------------------------------------------------------------------------

    @abstractmethod
    def _apply(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], block: bool) -> Any:
        """Call a function there, as this kind of view does."""

    def apply(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `f(*args, **kwargs)` there; the result, or an AsyncResult, as `block` says."""
        return self._apply(f, args, kwargs, self.block)

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call, and do not wait."""
        result: AsyncResult = self._apply(f, args, kwargs, False)
        return result

    def apply_sync(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call, and wait for the result."""
        return self._apply(f, args, kwargs, True)

    @abstractmethod
    def map(self, f: Callable[..., Any], *sequences: Any, **kwargs: Any) -> Any:
        """The function of each element; the list, or an AsyncMapResult, as `block` says."""

    def map_async(self, f: Callable[..., Any], *sequences: Any, **kwargs: Any) -> Any:
        """Map, and do not wait.

        Raises:
            TypeError: `block` was given.
        """
        if "block" in kwargs:
            raise TypeError("map_async takes no 'block'; use map")
        return self.map(f, *sequences, block=False, **kwargs)

    def map_sync(self, f: Callable[..., Any], *sequences: Any, **kwargs: Any) -> Any:
        """Map, and wait for the list.

        Raises:
            TypeError: `block` was given.
        """
        if "block" in kwargs:
            raise TypeError("map_sync takes no 'block'; use map")
        return self.map(f, *sequences, block=True, **kwargs)

    def imap(self, f: Callable[..., Any], *sequences: Any, **kwargs: Any) -> Iterator[Any]:
        """Map; the values as they come."""
        return iter(self.map_async(f, *sequences, **kwargs))

    @abstractmethod
    def _map_parts(
        self, f: Callable[..., Any], sequences: tuple[Any, ...], *, dist: str, chunksize: int | None, ordered: bool,
        return_exceptions: bool, elementwise: bool, block: bool, label: str | None = None,
    ) -> Any:
        """For ParallelFunction: call with parts of the sequences, or with their elements."""

    def _sent(self, result: AsyncResult, block: bool) -> Any:
        """After a call: remember it; wait if it blocks."""
        ids = result.msg_ids
        self.history.extend(ids)
        self.client.history.extend(ids)
        return result.get() if block else result

    def _blocks(self, block: bool | None) -> bool:
        return self.block if block is None else block

    def _call(self, name: str, kind: messages.Kind, label: str | None = None, **more: Any) -> Call:
        """What the tasks of one call of this view have in common."""
        return Call(name, kind, (label or self.label or "")[:256], trust=self.trust, **more)

    # --- decorators ----------------------------------------------------------------------------------------------

    def remote(self, block: bool | None = None, **flags: Any) -> Callable[[Callable[..., Any]], RemoteFunction]:
        """Decorator: calls of the function run here."""
        from secure_ipp.client.remotefunction import remote

        return remote(self, self.block if block is None else block, **flags)

    def parallel(
        self, dist: str = "b", block: bool | None = None, **flags: Any
    ) -> Callable[[Callable[..., Any]], ParallelFunction]:
        """Decorator: calls of the function get parts of sequences."""
        from secure_ipp.client.remotefunction import parallel

        return parallel(self, dist, self.block if block is None else block, **flags)

    # --- what was sent ---------------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> set[str]:
        """Ids of what this view sent that has not ended."""
        unfinished = self.client.session.receiver.ledger.open
        return {task_id for task_id in self.history if task_id in unfinished}

    @property
    def results(self) -> dict[str, Any]:
        """Results of what this view sent, as far as somebody holds them."""
        return {task_id: self.client.results[task_id] for task_id in self.history if task_id in self.client.results}

    def _jobs(self, jobs: Any) -> Any:
        """Indices mean this view's history."""
        if isinstance(jobs, int):
            return self.history[jobs]
        if isinstance(jobs, list | tuple | set):
            return [self.history[job] if isinstance(job, int) else job for job in jobs]
        return jobs

    def wait(self, jobs: Any = None, timeout: float | None = -1) -> bool:
        """Wait for these, or for all that this view sent; whether they have ended."""
        return self.client.wait(self.outstanding if jobs is None else self._jobs(jobs), timeout)

    def abort(self, jobs: Any = None, targets: Any = None, block: bool | None = None) -> Any:
        """End what has not started: these, or all that this view sent."""
        named = self.outstanding if jobs is None else self._jobs(jobs)
        return self.client.abort(named, targets, self._blocks(block))

    def get_result(self, indices_or_msg_ids: Any = None, block: bool | None = None, owner: bool = False) -> AsyncResult:
        """See `Client.get_result`; indices are those of this view's history."""
        named = -1 if indices_or_msg_ids is None else indices_or_msg_ids
        result = self.client.get_result(self._jobs(named), block, owner)
        result._trust = self.trust
        return result

    def queue_status(self, targets: Any = None, verbose: bool = False) -> dict[Any, Any]:
        """What is queued at these engines, or at this view's."""
        wanted = self.targets if targets is None else targets
        return self.client.queue_status("all" if wanted is None else wanted, verbose)

    def purge_results(self, jobs: Any = (), targets: Any = ()) -> None:
        """See `Client.purge_results`."""
        self.client.purge_results(self._jobs(jobs), targets)

    def shutdown(
        self, targets: Any = None, restart: bool = False, hub: bool = False, block: bool | None = None
    ) -> Any:
        """End (or replace) these engines, or this view's."""
        wanted = self.targets if targets is None else targets
        return self.client.shutdown("all" if wanted is None else wanted, restart, hub, self._blocks(block))

    def spin(self) -> None:  # noqa: B027  what views of old needed, and programs still call
        """Nothing: results come by themselves."""

    @property
    def executor(self) -> ViewExecutor:
        """This view as a `concurrent.futures.Executor`."""
        from secure_ipp.client.executor import ViewExecutor

        return ViewExecutor(self)
