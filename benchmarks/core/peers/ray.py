"""Ray on this machine, as it comes: gRPC without TLS, values in shared memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from core.peer import Peer

_STORE_BYTES = 1_000_000_000


class Ray(Peer):
    """Named engines are actors; a push is a `put` that an actor has taken up."""

    name = "ray"

    def start(self, engines: int) -> None:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        self._ray = ray
        ray.init(
            num_cpus=engines, include_dashboard=False, object_store_memory=_STORE_BYTES, log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
        self._functions: dict[Callable[..., Any], Any] = {}

        class Engine:
            def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
                return f(*arguments)

            def keep(self, value: Any) -> int:
                self.kept = value
                return len(value)

            def kept_value(self) -> Any:
                return self.kept

        actor = ray.remote(num_cpus=0)(Engine)
        self._engines = [actor.remote() for _ in range(engines)]
        self.call_all(abs, 1)

    def stop(self) -> None:
        self._ray.shutdown()

    def another(self) -> Ray:
        return self

    def _remote(self, f: Callable[..., Any]) -> Any:
        if f not in self._functions:
            self._functions[f] = self._ray.remote(num_cpus=1)(f)
        return self._functions[f]

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        function = self._remote(f)
        return list(self._ray.get([function.remote(item) for item in items]))

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._ray.get(self._remote(f).remote(*arguments))

    def call_on(self, engine: int, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._ray.get(self._engines[engine].call.remote(f, *arguments))

    def call_all(self, f: Callable[..., Any], *arguments: Any) -> Any:
        return self._ray.get([engine.call.remote(f, *arguments) for engine in self._engines])

    def push(self, engine: int, value: Any) -> None:
        self._ray.get(self._engines[engine].keep.remote(self._ray.put(value)))

    def push_all(self, value: Any) -> None:
        self._ray.get([engine.keep.remote(value) for engine in self._engines])

    def broadcast_push(self, value: Any) -> None:
        reference = self._ray.put(value)
        self._ray.get([engine.keep.remote(reference) for engine in self._engines])

    def pull(self, engine: int) -> Any:
        return self._ray.get(self._engines[engine].kept_value.remote())

    def is_controller(self, command: str) -> bool:
        return "gcs_server" in command or "raylet" in command

    def client_modules(self) -> str:
        return "import ray; ray.init"
