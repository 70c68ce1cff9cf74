"""The log of an engine: appended to its agent's file, or to stderr as it was before user code got it."""

from __future__ import annotations

import logging
import os

from secure_ipp.logs import LINE, EscapingFormatter


def log_to(path: str | None, level: str) -> None:
    """Send this process's log records where its agent's go; a record is one write, so processes do not mix."""
    if path is None:
        descriptor = os.dup(2)
    else:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    handler = logging.StreamHandler(os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace"))
    handler.setFormatter(EscapingFormatter(LINE, datefmt="%Y-%m-%dT%H:%M:%S%z"))
    ours = logging.getLogger("secure_ipp")  # the root logger is the user's
    ours.handlers[:] = [handler]
    ours.setLevel(level.upper())
    ours.propagate = False
