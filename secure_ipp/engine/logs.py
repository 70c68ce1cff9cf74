"""Where an engine logs: a file of its own beside its agent's, or stderr as it was before user code got it."""

from __future__ import annotations

import logging
import os

from secure_ipp.logs import LINE, EscapingFormatter, PrivateRotatingFile


def log_of_engine(agent_log: str | None, slot: int) -> str | None:
    """The file of an engine: `engine-0.log` beside `agent.log`, `engine-2-0.log` beside `agent-2.log`.

    Args:
        agent_log: its agent's file; None: stderr.
        slot: the engine's place among those of its agent; a replacement takes the place, and goes on with the file.
    """
    if agent_log is None:
        return None
    directory, name = os.path.split(agent_log)
    return os.path.join(directory, f"{name.removesuffix('.log').replace('agent', 'engine', 1)}-{slot}.log")


def log_to(path: str | None, level: str) -> None:
    """Send this process's own log records there; what user code logs is the user's."""
    handler: logging.Handler
    if path is None:
        stream = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
        handler = logging.StreamHandler(stream)
    else:
        handler = PrivateRotatingFile(path)
    handler.setFormatter(EscapingFormatter(LINE, datefmt="%Y-%m-%dT%H:%M:%S%z"))
    ours = logging.getLogger("secure_ipp")  # the root logger is the user's
    ours.handlers[:] = [handler]
    ours.setLevel(level.upper())
    ours.propagate = False
