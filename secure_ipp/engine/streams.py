"""File descriptors 1 and 2, and Python's stdout and stderr, of an engine: whose output is it?

Two threads meet here under one lock: the one that runs tasks writes and draws the line between tasks; the one that
talks empties the pipes of long tasks.

Laws.
- Whatever a task wrote before it ended is counted to it: at its end the pipes are emptied before the next begins.
- What is written while no task runs counts to the one before.
- Order holds between Python's writes and those to the descriptors: before each of the former the pipes are emptied.
- A process forked by user code writes to the pipes, not into memory that is no longer shared.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import io
import os
import select
import sys
import threading
from typing import Any, cast

from secure_ipp import limits
from secure_ipp.engine.output import DisplayKind, Event, Name, TaskOutput

_READ_BYTES = 256 * limits.KIB
_PIPE_BYTES = 1 * limits.MIB  # where the system allows; a fuller pipe makes its writer wait
_F_SETPIPE_SZ = 1031  # Linux, F_LINUX_SPECIFIC_BASE + 7


class Capture:
    """Where all output of user code ends up."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may print while its own thread holds it
        self._output = TaskOutput(0)
        self._late: list[tuple[int, list[Event]]] = []  # written between two tasks
        self._poll = select.poll()
        self._names: dict[int, Name] = {}
        self._decoders: dict[int, codecs.IncrementalDecoder] = {}
        self._forked = False
        self.originals: list[int] = []

    def install(self) -> None:
        """Put pipes in the place of descriptors 1 and 2, and our own files in that of sys.stdout and sys.stderr."""
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            self.originals.append(os.dup(descriptor))
            reading, writing = os.pipe()
            os.dup2(writing, descriptor, inheritable=True)
            os.close(writing)
            os.set_blocking(reading, False)
            with contextlib.suppress(OSError):  # beyond the system's bound: the default does too
                if sys.platform == "linux":
                    fcntl.fcntl(reading, _F_SETPIPE_SZ, _PIPE_BYTES)
            self._names[reading] = cast(Name, name)
            self._decoders[reading] = codecs.getincrementaldecoder("utf-8")("replace")
            self._poll.register(reading, select.POLLIN)
        sys.stdout = TaskFile(self, "stdout", 1)
        sys.stderr = TaskFile(self, "stderr", 2)
        setattr(sys, "__stdout__", sys.stdout)  # noqa: B010  final to type checkers
        setattr(sys, "__stderr__", sys.stderr)  # noqa: B010
        os.register_at_fork(after_in_child=self._after_fork)

    @property
    def readers(self) -> list[int]:
        """Descriptors that become readable when somebody writes past Python."""
        return list(self._names)

    # --- the thread that runs tasks ----------------------------------------------------------------------

    def begin(self, number: int) -> None:
        """From here on all output is this task's."""
        with self._lock:
            self._drain()
            if self._output:
                self._late.append((self._output.number, self._output.take()))
            self._output = TaskOutput(number)

    def end(self) -> list[Event]:
        """The task is over: what it wrote and was not taken yet."""
        with self._lock:
            self._drain()
            return self._output.take() if self._output else []

    def write(self, name: Name, text: str, descriptor: int) -> None:
        """Python wrote."""
        if self._forked:
            os.write(descriptor, text.encode("utf-8", "backslashreplace"))
            return
        with self._lock:
            self._drain()
            self._output.write(name, text)

    def show(self, kind: DisplayKind, content: str) -> bool:
        """User code showed something rich."""
        if self._forked:
            return False
        with self._lock:
            self._drain()
            return self._output.show(kind, content)

    # --- the thread that talks ---------------------------------------------------------------------------

    def drain(self) -> None:
        """Empty the pipes, lest their writer wait."""
        with self._lock:
            self._drain()

    def take(self) -> list[tuple[int, list[Event]]]:
        """What was written so far, by the number of the task it counts to."""
        with self._lock:
            taken, self._late = self._late, []
            if self._output:
                taken.append((self._output.number, self._output.take()))
            return taken

    def _drain(self) -> None:
        for descriptor, _ in self._poll.poll(0):
            with contextlib.suppress(BlockingIOError):
                data = os.read(descriptor, _READ_BYTES)
                while data:
                    self._output.write(self._names[descriptor], self._decoders[descriptor].decode(data))
                    data = os.read(descriptor, _READ_BYTES)

    def _after_fork(self) -> None:
        self._forked = True
        self._lock = threading.RLock()


class TaskFile(io.TextIOBase):
    """sys.stdout or sys.stderr of an engine."""

    def __init__(self, capture: Capture, name: Name, descriptor: int) -> None:
        self._capture = capture
        self._name = name
        self._descriptor = descriptor
        self.buffer = io.FileIO(descriptor, "w", closefd=False)

    @property
    def name(self) -> str:
        return f"<{self._name}>"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._capture.write(self._name, text, self._descriptor)
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._descriptor

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """User code may not close it for those who come after."""

    def reconfigure(self, **_settings: Any) -> None:
        """Accepted, as of a terminal's file; there is nothing to set."""


class NoInput(io.TextIOBase):
    """sys.stdin of an engine: reading it is an error that says why."""

    def read(self, size: int | None = -1) -> str:
        raise _no_input()

    def readline(self, size: int = -1) -> str:  # type: ignore[override]
        raise _no_input()

    def readable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False


def _no_input() -> Exception:
    from IPython.core.error import StdinNotImplementedError

    error: Exception = StdinNotImplementedError(
        "engines have no input: input() and sys.stdin cannot be used there; pass values as arguments"
    )
    return error


def close_input() -> None:
    """Make descriptor 0 empty and sys.stdin an error."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0, inheritable=True)
    os.close(nothing)
    sys.stdin = NoInput()
    setattr(sys, "__stdin__", sys.stdin)  # noqa: B010  final to type checkers
