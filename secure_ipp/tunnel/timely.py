"""Work that knows no time limit of its own, done aside: a name's look-up, a question to a user.

When its time is over it is forgotten, not waited for; its thread ends with it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from secure_ipp import limits
from secure_ipp.errors import SecureIppError
from secure_ipp.tunnel.failures import LoginRefused
from secure_ipp.tunnel.interface import Asker

T = TypeVar("T")


def within(until: float, given_up: threading.Event, work: Callable[[], T]) -> T:
    """What the work gives, or raises.

    Args:
        until: `time.monotonic()` by which it must be there.
        given_up: set when nobody wants it any more.
        work: raises an OSError, a UnicodeError or a SecureIppError at most.

    Raises:
        TimeoutError: it was not there.
    """
    done: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except (OSError, UnicodeError, SecureIppError) as error:
            done.put((None, error))

    threading.Thread(target=run, name="aside", daemon=True).start()
    while True:
        try:
            found, error = done.get(timeout=max(min(until - time.monotonic(), limits.SSH_WATCH_SECONDS), 0.01))
            break
        except queue.Empty:
            if given_up.is_set() or time.monotonic() >= until:
                raise TimeoutError("no answer in time") from None
    if error is not None:
        raise error
    return found  # type: ignore[return-value]  # there is no error, so there is a value


class Timely:
    """An `Asker` that does not wait longer than a connection may take."""

    def __init__(self, asker: Asker, until: float, given_up: threading.Event) -> None:
        self._asker = asker
        self._until = until
        self._given_up = given_up

    def ask(self, prompt: str) -> str | None:
        """The answer; None: nobody knows.

        Raises:
            LoginRefused: nobody has answered in time.
        """
        try:
            return within(self._until, self._given_up, lambda: self._asker.ask(prompt))
        except TimeoutError:
            raise LoginRefused(f"nobody has answered in time: {prompt}", "try again, or allow more time") from None
