"""Parsl's high-throughput executor on this machine, encrypted (Curve)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from core import tasks
from core.peer import Peer


class Parsl(Peer):
    """Balanced tasks only: it names no workers, and keeps no values in them."""

    name = "parsl"

    def start(self, engines: int) -> None:
        import parsl
        from parsl.providers import LocalProvider

        self._home = tempfile.mkdtemp(prefix="bench-parsl-")
        executor = parsl.HighThroughputExecutor(
            label="bench", address="127.0.0.1", loopback_address="127.0.0.1", encrypted=True,
            max_workers_per_node=engines, provider=LocalProvider(init_blocks=1, max_blocks=1),
            working_dir=self._home,
        )
        self._parsl = parsl
        parsl.load(parsl.Config(executors=[executor], run_dir=self._home, strategy="none", usage_tracking=0))
        self._apps: dict[Callable[..., Any], Any] = {}
        self.map(tasks.hold, [0.05] * 2 * engines)

    def stop(self) -> None:
        self._parsl.dfk().cleanup()
        self._parsl.clear()
        shutil.rmtree(self._home, ignore_errors=True)

    def another(self) -> Parsl:
        return self

    def submit(self, f: Callable[..., Any], *arguments: Any) -> Any:
        if f not in self._apps:
            self._apps[f] = self._parsl.python_app(f)
        return self._apps[f](*arguments)

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return [future.result() for future in [self.submit(f, item) for item in items]]

    def push(self, engine: int, value: Any) -> None:
        self._pushed = self.submit(tasks.length, value).result()

    def pull(self, engine: int) -> Any:
        return self.submit(tasks.make, self._pushed).result()

    def is_controller(self, command: str) -> bool:
        return "interchange" in command

    def client_modules(self) -> str:
        return "import parsl; parsl.HighThroughputExecutor"

    def controller_modules(self) -> str:
        return "import parsl.executors.high_throughput.interchange"
