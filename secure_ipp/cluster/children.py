"""One process of the controller and its three pipes, as the supervisor holds them.

The child is told what to do on stdin, which stays open: its end tells the child that the supervisor is gone (and on
Linux the kernel tells it too). It answers with event lines on stdout; its stderr is read line by line. Laws: no pipe
is ever read or written in a way that can block the supervisor; a child that writes an endless line is cut off from
that pipe.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from secure_ipp import hardening
from secure_ipp.cluster.bootstrap import LINE_BYTES, child_environment

LAST_LINES = 20  # of stderr, kept for the message about a child that died while it started


class Lines:
    """Whole lines from a pipe that is ready to be read."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.descriptor = pipe.fileno()
        os.set_blocking(self.descriptor, False)
        self._rest = b""

    def read(self) -> tuple[list[bytes], bool]:
        """Lines now there, and whether the pipe has ended."""
        ended = False
        try:
            piece = os.read(self.descriptor, 65536)
            ended = not piece
        except BlockingIOError:
            piece = b""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if ended and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        return lines, ended or len(self._rest) > LINE_BYTES


class Child:
    """A controller process while it runs.

    Args:
        name: "hub" or "scheduler".
        command: argv.
        bootstrap: makes the line for its stdin, anew for each start.
        directory: working directory.
        home: for `SECURE_IPP_HOME`.
    """

    def __init__(
        self, name: str, command: list[str], bootstrap: Callable[[], bytes], directory: Path, home: Path
    ) -> None:
        self.name = name
        self._command = command
        self._bootstrap = bootstrap
        self._directory = directory
        self._home = home
        self.process: subprocess.Popen[bytes] | None = None
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)

    def start(self) -> tuple[Lines, Lines]:
        """Start the process; gives its stdout and stderr."""
        supervisor = os.getpid()

        def before_exec() -> None:
            hardening.end_with_parent(supervisor, signal.SIGKILL)

        self.last_lines.clear()
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=self._directory, env=child_environment(self._home), preexec_fn=before_exec,
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        try:
            # a bootstrap is far smaller than a pipe, so this cannot block
            os.write(self.process.stdin.fileno(), self._bootstrap())
        except BrokenPipeError:
            pass  # it died at once; the caller sees its death
        return Lines(self.process.stdout), Lines(self.process.stderr)

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def status(self) -> int | None:
        """Exit status of a process that has ended (minus the signal, if one ended it), else None."""
        return self.process.poll() if self.process is not None else None

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ask_to_stop(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def close(self) -> None:
        """Reap a process that has ended or been killed, and close the pipes."""
        if self.process is None:
            return
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.process = None
