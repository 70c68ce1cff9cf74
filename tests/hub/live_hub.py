"""A real hub process on a real cluster directory, and a scheduler's end of its link, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from secure_ipp.errors import SecureIppError
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.registry import Registry
from secure_ipp.wire import messages
from secure_ipp.wire.connection import Connection
from secure_ipp.wire.loop import Loop
from tests.running import journal_lines

SECONDS = 20.0


class LiveHub:
    """`python -m secure_ipp.hub`, as the supervisor starts it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.place = ClusterPlace("work", home=home)
        init_cluster(self.place, hosts=["127.0.0.1"])
        self.hub_keys, self.scheduler_keys = KeyPair.generate(), KeyPair.generate()
        self.process: subprocess.Popen[bytes] | None = None

    def bootstrap(self, **changes: str) -> bytes:
        told = {
            "place_dir": str(self.place.dir), "cluster": "work", "cluster_id": "id",
            "link_socket": str(self.place.hub_socket()), "control_socket": str(self.place.control_socket()),
            "link_server_secret": self.hub_keys.secret.text, "link_server_public": self.hub_keys.public.text,
            "scheduler_public": self.scheduler_keys.public.text, "log_file": str(self.place.log_dir / "hub.log"),
        }
        return msgspec.json.encode({**told, **changes}) + b"\n"

    def start(self, bootstrap: bytes | None = None) -> dict[str, Any]:
        """Start it; its first event."""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "secure_ipp.hub"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, "SECURE_IPP_HOME": str(self.home), "PYTHONPATH": _root()},
        )
        assert self.process.stdin is not None
        self.process.stdin.write(self.bootstrap() if bootstrap is None else bootstrap)
        self.process.stdin.flush()
        return self.event()

    def event(self) -> dict[str, Any]:
        """The next line for the supervisor; the pipe's end is an empty event."""
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {}

    def ended(self) -> int:
        assert self.process is not None
        return self.process.wait(SECONDS)

    def stop(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(SECONDS)
        finally:
            self.process.kill()
            for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
                if pipe is not None:
                    pipe.close()

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the journal that a hub wrote, without those that keep it."""
        return [line for line in journal_lines(self.place) if line["event"] not in ("genesis", "checkpoint", "end")]

    def registry(self) -> Registry:
        return Registry.load(self.place)


class SchedulerEnd:
    """A `ConnectionHandler` that keeps what came, and a thread that runs its loop."""

    def __init__(self, hub: LiveHub, keys: KeyPair | None = None) -> None:
        self.came: list[Any] = []
        self.welcomes: list[messages.Welcome] = []
        self.failed: list[SecureIppError] = []
        self._changed = threading.Condition()
        self._loop = Loop()
        self._connection = Connection(
            self._loop, doors=[f"ipc://{hub.place.hub_socket()}"], server_key=hub.hub_keys.public,
            keys=keys or hub.scheduler_keys, role="scheduler", receives=messages.ToScheduler, handler=self,
            first_patience=SECONDS, patience=SECONDS,
        )
        self._loop.call_threadsafe(self._connection.start)
        self._thread = threading.Thread(target=self._loop.run, daemon=True)
        self._thread.start()

    def send(self, *sent: messages.Message) -> None:
        """Send these once there is a session; what is queued before one belongs to none."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.welcomes, SECONDS), "the hub gave no welcome"
        for message in sent:
            self._loop.call_threadsafe(lambda message=message: self._connection.send(message))

    def wait_for(self, kind: type[Any], matching: Callable[[Any], bool] = lambda _: True) -> Any:
        """The first message of a kind that matches, taken out of what came."""

        def take() -> Any:
            for index, message in enumerate(self.came):
                if isinstance(message, kind) and matching(message):
                    return self.came.pop(index)
            return None

        deadline = time.monotonic() + SECONDS
        with self._changed:
            while (found := take()) is None:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no {kind.__name__} came; there are {self.came!r}, {self.failed!r}")
        return found

    def wait_failed(self) -> SecureIppError:
        with self._changed:
            assert self._changed.wait_for(lambda: self.failed, SECONDS), "the connection did not fail"
        return self.failed[0]

    def close(self) -> None:
        done = threading.Event()

        def end() -> None:
            self._connection.abandon()
            done.set()

        self._loop.call_threadsafe(end)
        done.wait(SECONDS)
        self._loop.stop()
        self._thread.join(SECONDS)
        self._loop.close()

    def on_welcome(self, welcome: messages.Welcome) -> None:
        self._keep(self.welcomes, welcome)

    def on_message(self, message: Any, frames: list[Any]) -> None:
        self._keep(self.came, message)

    def on_acknowledged(self, tokens: list[object]) -> None:
        """Nothing was sent with a token."""

    def on_lost(self, reason: str) -> None:
        """It tries again."""

    def on_failed(self, error: SecureIppError) -> None:
        self._keep(self.failed, error)

    def on_closed(self) -> None:
        """Nobody waits for it."""

    def _keep(self, where: list[Any], what: Any) -> None:
        with self._changed:
            where.append(what)
            self._changed.notify_all()


def _root() -> str:
    return str(Path(__file__).resolve().parents[2])
