"""Packets of a paramiko connection: read from large buffers, bounded in length, and timed.

paramiko's own packetizer takes packets of any length, and leaves a thread behind when a handshake fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from paramiko.packet import NeedRekeyException, Packetizer
from paramiko.ssh_exception import SSHException

from secure_ipp import limits

SPARE_BYTES = 1024  # of a packet beside its payload: length, padding, MAC


class Stream(Packetizer):  # type: ignore[misc]
    """Reads and writes the packets of one connection.

    Attributes:
        heard: `time.monotonic()` when something last came.
        ask: called in the reading thread when nothing has come for `limits.SSH_ALIVE_SECONDS`.
    """

    def __init__(self, socket: Any) -> None:
        super().__init__(socket)
        self._connection = socket
        self._read = b""
        self._at = 0
        self._until: float | None = None
        self._asked = 0.0
        self.heard = time.monotonic()
        self.ask: Callable[[], None] | None = None

    # a deadline in place of the timer thread, which would outlive a handshake that fails

    def start_handshake(self, timeout: float) -> None:
        self._until = time.monotonic() + timeout

    def handshake_timed_out(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def complete_handshake(self) -> None:
        self._until = None

    def _fill(self) -> bool:
        """Take in what has come; False if nothing has for a moment.

        Raises:
            EOFError: the connection has ended.
        """
        if self.closed or self.handshake_timed_out():
            raise EOFError
        try:
            came = self._connection.recv(limits.SSH_READ_BYTES)
        except TimeoutError:
            return False
        except OSError as error:
            raise EOFError from error
        if not came:
            raise EOFError
        self._read = self._read[self._at:] + came if self._at < len(self._read) else came
        self._at = 0
        self.heard = time.monotonic()
        return True

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if not 0 <= n <= limits.SSH_PACKET_BYTES + SPARE_BYTES:
            raise SSHException(f"a packet of {n} bytes is no packet")
        while len(self._read) - self._at < n:
            if self._fill():
                continue
            if check_rekey and self._at == len(self._read) and self.need_rekey():
                raise NeedRekeyException
            self._ask()
        out = self._read[self._at:self._at + n]
        self._at += n
        return out

    def _ask(self) -> None:
        now = time.monotonic()
        if self.ask is not None and now - max(self.heard, self._asked) >= limits.SSH_ALIVE_SECONDS:
            self._asked = now
            self.ask()

    def readline(self, timeout: float) -> str:
        """A line of the greeting, without its end; what follows stays."""
        until = time.monotonic() + timeout
        while (end := self._read.find(b"\n", self._at)) < 0:
            if len(self._read) - self._at > limits.SSH_LINE_BYTES:
                raise SSHException("a greeting without an end is none")
            if not self._fill() and time.monotonic() >= until:
                raise TimeoutError
        line = self._read[self._at:end].removesuffix(b"\r")
        self._at = end + 1
        return line.decode("utf-8", "replace")

    def write_all(self, out: bytes) -> None:
        rest = memoryview(out)
        while rest:
            if self.closed:
                raise EOFError
            try:
                sent = self._connection.send(rest)
            except TimeoutError:
                continue
            except OSError as error:
                raise EOFError from error
            if sent == 0:
                raise EOFError
            rest = rest[sent:]
