"""Views that address engines: each call goes to every target, in the order of the calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from secure_ipp.client import submission
from secure_ipp.client.asyncresult import AsyncResult
from secure_ipp.client.chunks import for_chunks
from secure_ipp.client.ledger import Request
from secure_ipp.client.mapresult import AsyncMapResult
from secure_ipp.client.partition import as_sequences, partition
from secure_ipp.client.tasks import Call, Task
from secure_ipp.client.view import View
from secure_ipp.errors import UsageError
from secure_ipp.payload.calls import PackedCall, pack_call, pack_clear, pack_execute, pack_pull, pack_push
from secure_ipp.payload.markers import Reference


def name_of(f: Callable[..., Any]) -> str:
    """What to call a function in messages."""
    return f.name if isinstance(f, Reference) else str(getattr(f, "__name__", type(f).__name__))


class DirectView(View):
    """Calls on named engines.

    Attributes:
        targets: an engine's id (results are single values), a list of ids, or "all" (whoever is there at each call).
    """

    _broadcast = False

    def __init__(self, client: Any = None, socket: Any = None, targets: Any = None, **flags: Any) -> None:
        super().__init__(client, "all" if targets is None else targets, **flags)

    def _flag_value(self, name: str, value: Any) -> Any:
        return "all" if name == "targets" and value is None else super()._flag_value(name, value)

    def _engines(self, targets: Any = None) -> tuple[list[int], bool]:
        """Ids, and whether it is one engine's value that is wanted."""
        wanted = self.targets if targets is None else targets
        return self.client.engines(wanted), self._is_single(wanted)

    def _is_single(self, targets: Any) -> bool:
        return isinstance(targets, int)

    def _send(self, call: Call, packed: PackedCall, targets: Any, block: bool, *, get: bool = True) -> Any:
        """One body for all targets."""
        engines, single = self._engines(targets)
        call.broadcast = self._broadcast
        tasks, request = submission.direct(self.client.session, call, packed, engines)
        result = AsyncResult(self.client, tasks, call.name, single=single, targets=engines, owner=True)
        self.client.session.submit([request])
        value = self._sent(result, block)
        return value if get else result

    def _send_each(
        self, call: Call, packed: Iterable[PackedCall], engines: Iterable[int]
    ) -> tuple[list[Task], list[Request]]:
        """A body of its own for each engine."""
        call.broadcast = self._broadcast
        tasks: list[Task] = []
        requests: list[Request] = []
        for one, engine in zip(packed, engines, strict=True):
            made, request = submission.direct(self.client.session, call, one, [engine])
            tasks += made
            requests.append(request)
        return tasks, requests

    # --- calls -------------------------------------------------------------------------------------------------

    def _apply(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], block: bool) -> Any:
        return self._send(self._call(name_of(f), "apply"), pack_call(f, args, kwargs), None, block)

    def map(
        self, f: Callable[..., Any], *sequences: Any, block: bool | None = None, track: bool = False,
        return_exceptions: bool = False, label: str | None = None,
    ) -> Any:
        """The function of each element; each engine gets one contiguous part.

        Args:
            return_exceptions: an error stands for the part that it ended, rather than being raised.
        """
        return self._map_parts(
            f, sequences, dist="b", chunksize=None, ordered=True, return_exceptions=return_exceptions,
            elementwise=True, block=self._blocks(block), label=label,
        )

    def _map_parts(
        self, f: Callable[..., Any], sequences: tuple[Any, ...], *, dist: str, chunksize: int | None, ordered: bool,
        return_exceptions: bool, elementwise: bool, block: bool, label: str | None = None,
    ) -> Any:
        way = partition(dist)
        cut = as_sequences(sequences)
        engines = self._engines()[0][: max(1, len(cut[0]))]
        parts = list(zip(*(way.split(one, len(engines)) for one in cut), strict=True)) if len(cut[0]) else []
        pack = submission.packer(for_chunks(f) if elementwise else f)
        call = self._call(name_of(f), "apply", label)
        tasks, requests = self._send_each(call, (pack(tuple(part)) for part in parts), engines[: len(parts)])
        result = AsyncMapResult(
            self.client, tasks, call.name, partition=way, sizes=[len(part[0]) for part in parts], ordered=ordered,
            return_exceptions=return_exceptions,
        )
        self.client.session.submit(requests)
        return self._sent(result, block)

    # --- code --------------------------------------------------------------------------------------------------

    def execute(
        self, code: str, silent: bool = True, targets: Any = None, block: bool | None = None, label: str | None = None
    ) -> AsyncResult:
        """Run a cell of code; always an AsyncResult, which has ended if the call blocks.

        Args:
            silent: the cell's value is not shown and not counted.
        """
        call = self._call("execute", "execute", label, code=code)
        packed = pack_execute(code, silent=silent, store_history=not silent)
        result: AsyncResult = self._send(call, packed, targets, self._blocks(block), get=False)
        return result

    def run(
        self, filename: str | Path, targets: Any = None, block: bool | None = None, label: str | None = None
    ) -> AsyncResult:
        """Execute a local file's contents on the engines."""
        return self.execute(Path(filename).read_text(), targets=targets, block=block, label=label)

    # --- names -------------------------------------------------------------------------------------------------

    def push(
        self, ns: Mapping[str, Any], targets: Any = None, block: bool | None = None, track: bool | None = None
    ) -> Any:
        """Set names in the engines' namespaces.

        Raises:
            TypeError: it is not a dict.
        """
        if not isinstance(ns, Mapping):
            raise _NotADict(f"push takes a dict of names, not {type(ns).__name__!r}")
        return self._send(self._call("push", "push"), pack_push(ns), targets, self._blocks(block))

    def pull(self, names: str | Iterable[str], targets: Any = None, block: bool | None = None) -> Any:
        """The value of a name, or a list of values for several names, from each engine."""
        return self._pull(names, targets, self._blocks(block))

    def _pull(self, names: str | Iterable[str], targets: Any, block: bool) -> Any:
        wanted = names if isinstance(names, str) else list(names)
        return self._send(self._call("pull", "pull"), pack_pull(wanted), targets, block)

    def update(self, ns: Mapping[str, Any]) -> Any:
        """As `push`, waiting as `block` says."""
        return self.push(ns, block=self.block)

    def get(self, key_s: str | Iterable[str]) -> Any:
        """The values, now."""
        return self._pull(key_s, None, True)

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.push({key: value}, block=True)

    def clear(self, targets: Any = None, block: bool | None = None) -> Any:
        """Empty the engines' namespaces."""
        value = self._send(self._call("clear", "clear"), pack_clear(), targets, self._blocks(block))
        return None if self._blocks(block) else value

    def scatter(
        self, key: str, seq: Any, dist: str = "b", flatten: bool = False, targets: Any = None,
        block: bool | None = None, track: bool | None = None,
    ) -> Any:
        """Give each engine its part of a sequence, under one name.

        Args:
            flatten: a part of one element is that element.
        """
        engines, single = self._engines(targets)
        parts = partition(dist).split(as_sequences([seq])[0], len(engines))
        packed = [
            pack_push({key: part[0] if flatten and len(part) == 1 else part}) for part in parts
        ]
        call = self._call("scatter", "push")
        tasks, requests = self._send_each(call, packed, engines)
        result = AsyncResult(self.client, tasks, call.name, single=single, targets=engines, owner=True)
        self.client.session.submit(requests)
        waits = self._blocks(block)
        value = self._sent(result, waits)
        return None if waits else value

    def gather(self, key: str, dist: str = "b", targets: Any = None, block: bool | None = None) -> Any:
        """Put together the parts that the engines have under one name."""
        engines, _ = self._engines(targets)
        call = self._call("gather", "pull", broadcast=self._broadcast)
        tasks, request = submission.direct(self.client.session, call, pack_pull(key), engines)
        result = AsyncMapResult(self.client, tasks, call.name, partition=partition(dist))
        self.client.session.submit([request])
        return self._sent(result, self._blocks(block))

    # --- imports and pickling ----------------------------------------------------------------------------------

    def sync_imports(self, local: bool = True, quiet: bool = False) -> AbstractContextManager[None]:
        """While inside, what is imported here is imported on the engines too."""
        from secure_ipp.client.imports import imports_on

        return imports_on(self, local=local, quiet=quiet)

    @property
    def importer(self) -> AbstractContextManager[None]:
        """`sync_imports()`."""
        return self.sync_imports()

    def use_cloudpickle(self) -> None:
        """Nothing: what plain pickle cannot do is left to cloudpickle anyway."""

    def use_pickle(self) -> None:
        """Nothing: plain pickle is tried first anyway."""

    def use_dill(self) -> None:
        """Not supported.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "dill is not used here", "nothing needs it: functions and classes that pickle cannot do go by cloudpickle"
        )


class BroadcastView(DirectView):
    """Calls on all its engines, as one; what they are sent travels once as far as it can.

    Attributes:
        is_coalescing: kept for programs that set it; results always come together.
    """

    _broadcast = True
    _flag_names = (*DirectView._flag_names, "is_coalescing")

    def __init__(self, client: Any = None, socket: Any = None, targets: Any = None, **flags: Any) -> None:
        self.is_coalescing = False
        super().__init__(client, socket, targets, **flags)

    def _is_single(self, targets: Any) -> bool:
        return False


class _NotADict(UsageError, TypeError):
    """Names were not given as a dict."""
