"""What a figure may ask of a system under measurement.

Every system ("peer") is driven through these few calls, so that a figure is written once.  What a peer has not, it
refuses with `NotOffered`; the report shows a dash there, never a number of something else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

MARK = "SECURE_IPP_BENCH_PEER"  # in the environment of all that one peer starts


class NotOffered(Exception):
    """This peer has nothing of the kind."""


class Peer:
    """A running system with some engines (workers), and one client: this process.

    Attributes:
        name: as in the report.
        engines: how many are up; 0 before the start.
    """

    name = ""

    def __init__(self) -> None:
        self.engines = 0

    # --- life ------------------------------------------------------------------------------------------

    def ready(self, engines: int) -> None:
        """Have so many engines up and usable, starting anew if another number is."""
        if self.engines != engines:
            self.restart(engines)

    def restart(self, engines: int) -> None:
        """Stop what runs, and start with so many engines; returns when all of them can be used."""
        self.end()
        self.start(engines)
        self.engines = engines

    def end(self) -> None:
        """Stop everything that was started."""
        if self.engines:
            self.engines = 0
            self.stop()

    def start(self, engines: int) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def another(self) -> Peer:
        """Another client of the same system, for another thread; `leave` it afterwards."""
        raise NotOffered("a second client")

    def leave(self) -> None:
        """The end of a second client."""

    # --- balanced tasks ----------------------------------------------------------------------------------

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        """One task per item, wherever there is room; their values in order."""
        raise NotOffered("balanced tasks")

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        """One such task; waits for its value."""
        return self.submit(f, *arguments).result()

    def submit(self, f: Callable[..., Any], *arguments: Any) -> Any:
        """One such task; gives something with `result()`."""
        raise NotOffered("balanced tasks one by one")

    def abort(self, futures: Iterable[Any]) -> None:
        """End those that have not started; every one of them comes to an end."""
        raise NotOffered("abort")

    # --- named engines -----------------------------------------------------------------------------------

    def call_on(self, engine: int, f: Callable[..., Any], *arguments: Any) -> Any:
        """Call on this engine, wait for the value."""
        raise NotOffered("a call on a named engine")

    def call_all(self, f: Callable[..., Any], *arguments: Any) -> Any:
        """Call on every engine, one message each; waits for all values."""
        raise NotOffered("a call on all engines")

    def broadcast_call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        """The same by the peer's broadcast."""
        raise NotOffered("broadcast")

    def push(self, engine: int, value: Any) -> None:
        """Have a value there; returns when it is."""
        raise NotOffered("push")

    def push_all(self, value: Any) -> None:
        """Have it on every engine."""
        raise NotOffered("push to all engines")

    def broadcast_push(self, value: Any) -> None:
        """The same by the peer's broadcast."""
        raise NotOffered("broadcast")

    def pull(self, engine: int) -> Any:
        """The value that was pushed last to this engine."""
        raise NotOffered("pull")

    # --- processes ---------------------------------------------------------------------------------------

    def is_controller(self, command: str) -> bool:
        """Whether a process of this command line is the controller's."""
        return False

    def client_modules(self) -> str:
        """What a client imports, as a statement."""
        raise NotOffered("import")

    def controller_modules(self) -> str:
        """What a controller imports."""
        raise NotOffered("import of a controller")

    def processes(self) -> list[psutil.Process]:
        """All that this peer has started, this process excepted: its offspring, and whoever inherited its mark."""
        found: list[psutil.Process] = psutil.Process().children(recursive=True)
        mark = f"{MARK}={os.environ.get(MARK, '-')}".encode()
        known = {os.getpid(), *(process.pid for process in found)}
        for process in psutil.process_iter():
            with contextlib.suppress(OSError):  # ended, or not ours to look into
                if process.pid not in known and mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                    found.append(process)
        return found

    def controllers(self) -> list[psutil.Process]:
        """Those of them that are the controller.

        Raises:
            NotOffered: there is none of its own.
        """
        found = []
        for process in self.processes():
            try:
                if self.is_controller(" ".join(process.cmdline())):
                    found.append(process)
            except psutil.Error:
                continue  # it has just ended
        if not found:
            raise NotOffered("a controller process")
        return found
