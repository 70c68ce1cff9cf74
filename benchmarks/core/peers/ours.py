"""secure_ipp as it comes: Curve, the gate, rights per message, acknowledgements, all on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import secure_ipp as ipp
from core.peer import Peer


class Ours(Peer):
    """A local cluster with throw-away keys."""

    name = "ours"

    def start(self, engines: int) -> None:
        self._cluster = ipp.Cluster.with_throwaway_keys(engines)
        try:
            self._use(self._cluster.start_and_connect_sync())
        except BaseException:
            self._cluster.stop_cluster_sync()
            raise

    def _use(self, client: Any) -> None:
        self.client = client
        self._balanced = client.load_balanced_view()
        self._all = client.direct_view()
        self._broadcast = client.broadcast_view()
        self._each = [client[number] for number in client.ids]

    def stop(self) -> None:
        self._cluster.stop_cluster_sync()

    @property
    def client_file(self) -> str:
        """The connection file, for further clients."""
        return str(self._cluster.place.client_file)

    def another(self) -> Ours:
        second = Ours()
        second._use(self._cluster.connect_client_sync())
        return second

    def leave(self) -> None:
        self.client.close()

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return list(self._balanced.map_sync(f, items))

    def submit(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._balanced.apply_async(f, *arguments)

    def abort(self, futures: Iterable[Any]) -> None:
        self._balanced.abort(list(futures), block=True)

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._balanced.apply_sync(f, *arguments)

    def call_on(self, engine: int, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._each[engine].apply_sync(f, *arguments)

    def call_all(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._all.apply_sync(f, *arguments)

    def broadcast_call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._broadcast.apply_sync(f, *arguments)

    def push(self, engine: int, value: Any) -> None:
        self._each[engine].push({"pushed": value}, block=True)

    def push_all(self, value: Any) -> None:
        self._all.push({"pushed": value}, block=True)

    def broadcast_push(self, value: Any) -> None:
        self._broadcast.push({"pushed": value}, block=True)

    def pull(self, engine: int) -> Any:
        return self._each[engine].pull("pushed", block=True)

    def is_controller(self, command: str) -> bool:
        return "secure_ipp.hub" in command or "secure_ipp.scheduler" in command

    def client_modules(self) -> str:
        return "import secure_ipp; secure_ipp.Client; secure_ipp.Cluster"

    def controller_modules(self) -> str:
        return "import secure_ipp.scheduler.process"
