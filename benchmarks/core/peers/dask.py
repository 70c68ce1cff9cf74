"""dask.distributed with TLS, a temporary key for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from core.peer import Peer


class Dask(Peer):
    """A local cluster of one-threaded worker processes; its scheduler is in the client's process."""

    name = "dask"

    def start(self, engines: int) -> None:
        from distributed import Client, LocalCluster, Security

        security = Security.temporary()
        self._cluster = LocalCluster(
            n_workers=engines, threads_per_worker=1, processes=True, security=security, protocol="tls://",
            host="127.0.0.1", dashboard_address=None, silence_logs=40,
        )
        self._client = Client(self._cluster, security=security)
        self._client.wait_for_workers(engines)
        self._workers = list(self._client.scheduler_info(n_workers=-1)["workers"])
        if not all(name.startswith("tls://") for name in self._workers):
            raise RuntimeError("its workers do not speak TLS")
        self.call_all(abs, 1)

    def stop(self) -> None:
        self._client.close()
        self._cluster.close()

    def another(self) -> Dask:
        return self

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return list(self._client.gather(self._client.map(f, items, pure=False)))

    def submit(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._client.submit(f, *arguments, pure=False)

    def abort(self, futures: Iterable[Any]) -> None:
        self._client.cancel(list(futures))

    def _at(self, worker: str, f: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        return self._client.submit(f, *arguments, pure=False, workers=[worker], allow_other_workers=False)

    def call_on(self, engine: int, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._at(self._workers[engine], f, arguments).result()

    def call_all(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._client.gather([self._at(worker, f, arguments) for worker in self._workers])

    def push(self, engine: int, value: Any) -> None:
        self._pushed = self._client.scatter(value, workers=[self._workers[engine]], direct=True, hash=False)

    def pull(self, engine: int) -> Any:
        return self._client.gather(self._pushed, direct=True)

    def broadcast_push(self, value: Any) -> None:
        self._everywhere = self._client.scatter(value, broadcast=True, direct=True, hash=False)

    def client_modules(self) -> str:
        return "import distributed; distributed.Client"

    def controller_modules(self) -> str:
        return "import distributed.scheduler"
