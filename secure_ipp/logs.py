"""Log files: one a process, private, rotated, and safe to look at.

`start` sets up the standard `logging` for a whole process.  Laws:

- the file is opened 0600 without following a symbolic link, and refused if somebody else could read or write it (S9);
- text from outside cannot forge a line or reach a terminal: control characters are written escaped (S20);
- warnings and worse also go to stderr as ``process: LEVEL: text``, so that whoever started the process can show them;
- an exception that would end a thread or the process is in the log first.
"""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import stat
import sys
import threading
from types import TracebackType
from typing import TextIO

from secure_ipp import limits
from secure_ipp.errors import PrivateFileError

LINE = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_log = logging.getLogger(__name__)


def start(process: str, path: str | None = None, level: str = "INFO") -> None:
    """Make this process log to its own file, and its warnings to stderr.

    Calling it again replaces what an earlier call set up (a forked child does so).

    Args:
        process: the name that stands before a line on stderr ("hub", "scheduler", "agent", ...).
        path: the log file; None means stderr only.
        level: the least severe level that the file takes.

    Raises:
        PrivateFileError: the file is not a regular file of this user's that nobody else may touch.
        ValueError: there is no such level.
    """
    if level.upper() not in LEVELS:
        raise ValueError(f"no such log level: {level!r}; use one of {', '.join(LEVELS)}")
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.setLevel(level.upper())
    # asctime is local time; the offset makes lines of several hosts comparable
    if path is not None:
        to_file = PrivateRotatingFile(path)
        to_file.setFormatter(EscapingFormatter(LINE, datefmt="%Y-%m-%dT%H:%M:%S%z"))
        root.addHandler(to_file)
    to_stderr = logging.StreamHandler(sys.stderr)
    to_stderr.setLevel(logging.WARNING)
    to_stderr.setFormatter(EscapingFormatter(f"{process}: %(levelname)s: %(message)s"))
    root.addHandler(to_stderr)
    logging.captureWarnings(True)
    sys.excepthook = _log_exception
    threading.excepthook = _log_thread_exception


def escape(text: str) -> str:
    """The text with every character that is not printable as a backslash escape; a backslash stays one."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


class EscapingFormatter(logging.Formatter):
    """One line a record, then the traceback's lines, each behind a bar that no record begins with."""

    def format(self, record: logging.LogRecord) -> str:
        whole = logging.makeLogRecord(record.__dict__)
        whole.msg, whole.args = escape(record.getMessage()), None
        whole.exc_info, whole.exc_text, whole.stack_info = None, None, None
        lines = [super().format(whole)]
        if record.exc_info:
            lines += [f"    | {escape(line)}" for line in self.formatException(record.exc_info).splitlines()]
        if record.stack_info:
            lines += [f"    | {escape(line)}" for line in record.stack_info.splitlines()]
        return "\n".join(lines)


class PrivateRotatingFile(logging.handlers.RotatingFileHandler):
    """A rotating log file that only its owner can read, before and after each rotation."""

    def __init__(self, path: str) -> None:
        super().__init__(path, maxBytes=limits.LOG_BYTES, backupCount=limits.LOG_FILES, encoding="utf-8", delay=False)

    def _open(self) -> io.TextIOWrapper:
        return os.fdopen(_open_private(self.baseFilename), "a", encoding="utf-8", errors="backslashreplace")


def why_not_private(descriptor: int) -> str:
    """What is wrong with an open file that only this user should be able to touch; empty: nothing."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_uid != os.geteuid():
        return "belongs to another user"
    if found.st_nlink != 1:
        return "has a second name"
    if found.st_mode & 0o077:
        return f"can be used by others (mode {found.st_mode & 0o777:04o})"
    return ""


def _open_private(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        advice = "remove it, or choose another log file"
        raise PrivateFileError(f"cannot open the log file {path}: {error.strerror}", advice) from error
    wrong = why_not_private(descriptor)
    if wrong:
        os.close(descriptor)
        raise PrivateFileError(f"the log file {path} {wrong}", "remove it and start again; it is made anew, private")
    return descriptor


def _log_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _log.warning("interrupted")
        return
    _log.critical("ended by %s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def _log_thread_exception(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit or args.exc_value is None:
        return
    name = args.thread.name if args.thread is not None else "a thread"
    _log.critical(
        "%s ended by %s: %s", name, args.exc_type.__name__, args.exc_value,
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
    )


def show_on(stream: TextIO, line: str) -> None:
    """Write a line from another process to a terminal, escaped; a stream that is gone is not an error."""
    try:
        stream.write(escape(line.rstrip("\n")) + "\n")
        stream.flush()
    except (OSError, ValueError):
        _log.debug("nobody shows this line any more: %s", line)
