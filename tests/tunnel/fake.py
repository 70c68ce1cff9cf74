"""A back end that logs in nowhere: its forwards lead straight to a target on this host, and it fails as it is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from secure_ipp.tunnel import lease as leases
from secure_ipp.tunnel import places
from secure_ipp.tunnel.interface import Asker, Facts, Order
from secure_ipp.tunnel.keeper import Keeper, listen
from secure_ipp.tunnel.spec import Spec

KEY = "SHA256:" + "A" * 43


class Script:
    """What the next logins do; shared by all back ends of a test.

    Attributes:
        before: called with the order and the asker before each login; may raise one of `failures`.
        orders, seconds: those that came, and the time that each was given.
        open: how many stand now.
    """

    def __init__(self) -> None:
        self.before: Callable[[Order, Asker], None] = lambda order, asker: None
        self.orders: list[Order] = []
        self.seconds: list[float] = []
        self.refused = ""
        self.host_key = KEY
        self.open = 0
        self.dropped = threading.Event()

    def drop(self) -> None:
        """Let the login that stands now fall."""
        self.dropped.set()


class FakeBackend:
    """One login."""

    name = "openssh"

    def __init__(self, script: Script, order: Order, asker: Asker) -> None:
        self._script, self._order, self._asker = script, order, asker
        self._listeners: list[socket.socket] = []

    def connect(self, until: float) -> Facts:
        script = self._script
        script.orders.append(self._order)
        script.seconds.append(until - time.monotonic())
        script.before(self._order, self._asker)
        for forward in self._order.forwards:
            forward.local.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(forward.local))
            listener.listen()
            self._listeners.append(listener)
        script.dropped.clear()
        script.open += 1
        return Facts(script.host_key, "sntrup761x25519-sha512@openssh.com", "known_hosts")

    def lost(self, seconds: float) -> str:
        return "the cable was pulled" if self._script.dropped.wait(seconds) else ""

    def refusal(self) -> str:
        return self._script.refused

    def close(self) -> None:
        self._script.open -= 1
        for listener in self._listeners:
            listener.close()
        for forward in self._order.forwards:
            forward.local.unlink(missing_ok=True)


class Keepers:
    """Keepers in threads of this process, in place of processes of their own."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.threads: list[threading.Thread] = []
        self.all: list[Keeper] = []

    def start(self, spec: Spec, directory: Path) -> None:
        listener = listen(directory / places.CONTROL)
        keeper = Keeper(spec, directory, listener, lambda order, asker: FakeBackend(self.script, order, asker))
        thread = threading.Thread(target=keeper.run, daemon=True)
        thread.start()
        self.all.append(keeper)
        self.threads.append(thread)

    def gone(self, seconds: float = 10.0) -> bool:
        """Whether all of them end."""
        for thread in self.threads:
            thread.join(seconds)
        return not any(thread.is_alive() for thread in self.threads)

    def __enter__(self) -> Keepers:
        self._start = leases.start_keeper
        leases.start_keeper = self.start  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        leases.start_keeper = self._start
        for keeper in self.all:
            keeper.stop()
        assert self.gone()
