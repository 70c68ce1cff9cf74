"""concurrent.futures: processes of this machine, pipes, no encryption, no controller."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor, wait
from typing import Any

from core import tasks
from core.peer import Peer


class Futures(Peer):
    """A process pool; values are not kept in it, so that push is a call with an argument, pull one with a value."""

    name = "concurrent.futures"

    def start(self, engines: int) -> None:
        self._pool = ProcessPoolExecutor(engines)
        self._pushed = 0
        wait([self._pool.submit(tasks.hold, 0.05) for _ in range(2 * engines)])

    def stop(self) -> None:
        self._pool.shutdown()

    def another(self) -> Futures:
        return self

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return list(self._pool.map(f, items, chunksize=1))

    def submit(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.submit(f, *arguments)

    def abort(self, futures: Iterable[Any]) -> None:
        for future in futures:
            future.cancel()
            try:
                future.result()
            except CancelledError:
                continue

    def push(self, engine: int, value: Any) -> None:
        self._pushed = self._pool.submit(tasks.length, value).result()

    def pull(self, engine: int) -> Any:
        return self._pool.submit(tasks.make, self._pushed).result()

    def client_modules(self) -> str:
        return "import concurrent.futures; concurrent.futures.ProcessPoolExecutor"
