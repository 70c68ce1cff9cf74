"""Log files of an engine host's processes."""

from __future__ import annotations

import logging
import os
import sys


def log_to(path: str | None, level: str, who: str) -> None:
    """Send this process's log records to a private file, or to stderr as it is now.

    Several processes append to one file; a record is one write.
    """
    handler: logging.Handler
    if path is None:
        stream = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
        handler = logging.StreamHandler(stream)
    else:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        handler = logging.StreamHandler(os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace"))
    handler.setFormatter(logging.Formatter(f"%(asctime)s {who}[%(process)d] %(levelname)s %(message)s"))
    root = logging.getLogger("secure_ipp")
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper() if level.upper() in logging.getLevelNamesMapping() else logging.INFO)
    root.propagate = False
    sys.excepthook = _log_exception


def _log_exception(kind: type[BaseException], error: BaseException, trace: object) -> None:
    logging.getLogger("secure_ipp.engine").critical("unexpected end", exc_info=(kind, error, error.__traceback__))
