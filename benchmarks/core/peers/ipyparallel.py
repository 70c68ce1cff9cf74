"""ipyparallel 9.2, with Curve switched on at its controller."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from core.peer import Peer


class IPyParallel(Peer):
    """A local cluster, in a profile directory of its own."""

    name = "ipyparallel"

    def start(self, engines: int) -> None:
        self._home = tempfile.mkdtemp(prefix="bench-ipython-")
        os.environ["IPYTHONDIR"] = self._home
        import ipyparallel as ipp

        self._cluster = ipp.Cluster(
            n=engines, controller_args=["--IPController.enable_curve=True"], log_level=40,
            profile_dir=str(Path(self._home) / "profile_bench"),
        )
        self._use(self._cluster.start_and_connect_sync())
        files = list(Path(self._home).rglob("ipcontroller*client.json"))
        if not files or not all(json.loads(file.read_text()).get("curve_serverkey") for file in files):
            raise RuntimeError("its connection file has no Curve key, so Curve is not on")
        self.call_all(abs, 1)

    def _use(self, client: Any) -> None:
        self.client = client
        self._balanced = client.load_balanced_view()
        self._all = client[:]
        self._broadcast = client.broadcast_view()
        self._each = [client[number] for number in client.ids]

    def stop(self) -> None:
        self.client.close()
        self._cluster.stop_cluster_sync()
        shutil.rmtree(self._home, ignore_errors=True)

    def another(self) -> IPyParallel:
        second = IPyParallel()
        second._use(self._cluster.connect_client_sync())
        second.client.wait_for_engines(self.engines, interactive=False)
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
        return "ipyparallel.controller" in command

    def client_modules(self) -> str:
        return "import ipyparallel; ipyparallel.Client; ipyparallel.Cluster"

    def controller_modules(self) -> str:
        return "import ipyparallel.controller.app"
