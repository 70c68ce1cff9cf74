"""Who answers what ssh asks: a socket in the tunnel's directory, and the script that ssh runs to reach it.

Laws: no secret stands in the script, in an environment or on a command line; the socket is 0600 in a 0700 directory and
gone after `close`; questions come one at a time and are bounded; what may be answered is decided by who made it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shlex
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from secure_ipp import limits
from secure_ipp.tunnel import askpass

_log = logging.getLogger(__name__)


class Answers:
    """The answering end.

    Args:
        directory: the tunnel's own.
        answer: gives the answer to a prompt, or None, told the process that asks; called in a thread of its own, may
            wait for its user.
    """

    def __init__(self, directory: Path, answer: Callable[[str, int], str | None]) -> None:
        self._answer = answer
        self._script = directory / "askpass"
        self._path = directory / "ask"
        self._wake: socket.socket | None = None
        self._shown: list[socket.socket] = []
        self._closed = False
        self._asking = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Make the script, and listen."""
        for old in (self._script, self._path):
            old.unlink(missing_ok=True)
        words = [sys.executable, "-I", "-S", str(Path(askpass.__file__).resolve()), str(self._path)]
        descriptor = os.open(self._script, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o700)
        with os.fdopen(descriptor, "w") as file:
            file.write(f'#!/bin/sh\nexec {shlex.join(words)} "$1"\n')
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(self._path))  # nobody else gets into the directory, so the mode may follow
            os.chmod(self._path, 0o600)
            listener.listen()
            listener.setblocking(False)
            self._wake, woken = socket.socketpair()
        except BaseException:
            listener.close()
            raise
        self._thread = threading.Thread(target=self._serve, args=(listener, woken), name="ssh questions", daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What ssh must find in its environment; an ssh before 8.4 goes by DISPLAY."""
        return {"SSH_ASKPASS": str(self._script), "SSH_ASKPASS_REQUIRE": "force",
                "DISPLAY": os.environ.get("DISPLAY") or "none:0"}

    def close(self) -> None:
        """Answer nothing any more. A question that a user is being asked just now is forgotten, not waited for."""
        self._closed = True
        if self._wake is not None:
            self._wake.close()
        if self._thread is not None:
            self._thread.join(limits.SSH_WORDS_SECONDS if not self._asking else 0)
        for path in (self._script, self._path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _serve(self, listener: socket.socket, woken: socket.socket) -> None:
        with listener, woken, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while not self._closed:
                selector.select()
                if not self._closed:
                    with contextlib.suppress(OSError):
                        line, _ = listener.accept()
                        self._one(line)
        for line in self._shown:
            line.close()

    def _one(self, line: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(line)
            line.settimeout(limits.CONTROL_SECONDS)
            asked = b""
            while len(asked) <= limits.SSH_PROMPT_BYTES and (part := line.recv(limits.SSH_PROMPT_BYTES)):
                asked += part
            who, _, rest = asked[: limits.SSH_PROMPT_BYTES].decode("utf-8", "replace").partition("\n")
            kind, _, prompt = rest.partition("\n")
            if kind == "none" and len(self._shown) < limits.SSH_HOPS:
                _log.warning("ssh: %s", prompt)  # a key that wants to be touched; ssh ends the script when it was
                self._shown.append(line)
                stack.pop_all()
                return
            answer = None if kind in ("none", "confirm") else self._ask(prompt, int(who) if who.isdecimal() else 0)
            if answer is not None and not self._closed:
                line.sendall(b"+" + answer.encode()[: limits.SSH_ANSWER_BYTES])

    def _ask(self, prompt: str, who: int) -> str | None:
        self._asking = True
        try:
            return self._answer(prompt, who)
        finally:
            self._asking = False
