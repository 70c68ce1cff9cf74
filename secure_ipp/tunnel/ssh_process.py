"""One running ssh: started so that it ends with us, listened to, and ended.

Laws: a thread of its own starts it and lives as long as it does, for the kernel ties a process's life to the thread
that started it; it has no terminal and no stdin; what it is called by to end is its process group, and only while it
is known to be there; `end` never raises, and returns when it is gone.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from secure_ipp import limits
from secure_ipp.tunnel import ward

WARD = (sys.executable, "-I", "-S", str(Path(ward.__file__).resolve()))
_READ_BYTES = 64 * 1024
_LOOK_SECONDS = 0.1  # where the kernel does not tell of a process's end


class SshProcess:
    """One ssh.

    Args:
        argv: its command line.
        environment: all of it.
        hear: given each line that it writes to stderr, in the thread of its own.
    """

    def __init__(self, argv: list[str], environment: Mapping[str, str], hear: Callable[[bytes], None]) -> None:
        self._argv = [*WARD, str(os.getpid()), *argv]
        self._environment = dict(environment)
        self._hear = hear
        self._news = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._problem: OSError | None = None
        self._started = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ssh", daemon=True)

    def start(self) -> None:
        """Start it.

        Raises:
            OSError: it cannot be.
        """
        self._thread.start()
        self._started.wait()
        if self._problem is not None:
            raise self._problem

    @property
    def pid(self) -> int:
        """Its process id; 0 if it could not be started."""
        self._started.wait()
        return self._process.pid if self._process is not None else 0

    def wait(self, until: float, holds: Callable[[], bool]) -> bool:
        """Wait for something that it brings about, its end, or the time; whether that something is there."""
        while not holds():
            seconds = until - time.monotonic()
            if self._ended.is_set() or seconds <= 0:
                return holds()
            with self._news:
                self._news.wait(min(seconds, limits.SSH_POLL_SECONDS))
        return True

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, within so long."""
        return self._ended.wait(seconds)

    def end(self) -> None:
        """Ask it to go, kill it if it stays, and return when it is gone."""
        if self._thread.ident is None:
            return
        self._started.wait()
        self._signal(signal.SIGTERM)
        if not self._ended.wait(limits.SSH_END_SECONDS):
            self._signal(signal.SIGKILL)
        self._thread.join()

    def _signal(self, signum: int) -> None:
        with self._news:  # while we hold it, nobody waits for the process, and its id stays its own
            process = self._process
            if process is not None and process.poll() is None:
                try:
                    os.killpg(process.pid, signum)
                except ProcessLookupError:
                    pass  # it is just going

    def _run(self) -> None:
        try:
            process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env=self._environment, cwd="/", start_new_session=True, umask=0o077,
            )
        except OSError as error:
            self._problem = error
            self._ended.set()
            self._started.set()
            return
        self._process = process
        self._started.set()
        assert process.stderr is not None
        with process.stderr as stderr, selectors.DefaultSelector() as selector:
            os.set_blocking(stderr.fileno(), False)
            self._listen(process, stderr.fileno(), selector)
        self._ended.set()
        with self._news:
            self._news.notify_all()

    def _listen(self, process: subprocess.Popen[bytes], stderr: int, selector: selectors.BaseSelector) -> None:
        """Until it has ended: a child of it that outlives it may hold stderr open."""
        end = _end_of(process.pid)
        seconds = None if end is not None else _LOOK_SECONDS
        selector.register(stderr, selectors.EVENT_READ)
        if end is not None:
            selector.register(end, selectors.EVENT_READ)
        rest = b""
        try:
            while self._runs(process):
                for key, _ in selector.select(seconds):
                    if key.fd == stderr:
                        rest, open_still = self._read(stderr, rest)
                        if not open_still:
                            selector.unregister(stderr)
            rest, _ = self._read(stderr, rest)
            if rest:
                self._hear(rest)
        finally:
            if end is not None:
                os.close(end)

    def _runs(self, process: subprocess.Popen[bytes]) -> bool:
        with self._news:
            return process.poll() is None

    def _read(self, stderr: int, rest: bytes) -> tuple[bytes, bool]:
        """What is there; the line that is not whole yet, and whether there may be more."""
        while True:
            try:
                part = os.read(stderr, _READ_BYTES)
            except BlockingIOError:
                break
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                self._hear(line)
            rest = rest[: limits.SSH_WORDS_BYTES]
            with self._news:
                self._news.notify_all()
            if not part:
                return rest, False
        return rest, True


def _end_of(pid: int) -> int | None:
    """A descriptor that is readable once the process, a child of ours, has ended; None where there is no such."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # an old kernel
        return None
