"""Exceptions as bounded text: what a client is told of an error at an engine.

Laws.
- Whatever an exception's own methods do, an ErrorInfo comes out, within the bounds of its message.
- A long traceback keeps its beginning and its end, and says what is missing.
"""

from __future__ import annotations

import traceback
from types import TracebackType

from secure_ipp import limits
from secure_ipp.wire.messages import ErrorInfo

_PARTS = 128  # entries of one traceback; RecursionError has a thousand
_TOTAL_CHARS = limits.TRACEBACK_CHARS


def error_info(error: BaseException, *, skip: str = "", advice: str = "") -> ErrorInfo:
    """Describe an exception.

    Args:
        error: the exception.
        skip: leading frames from files under this directory are left out: they are ours, not the user's.
        advice: what to do about it; added to the message.
    """
    name = type(error).__name__
    message = _text_of(error)
    if advice:
        message = f"{message}\n  -> {advice}"
    return ErrorInfo(_clean(name, limits.TEXT_CHARS), _clean(message, limits.TRACEBACK_CHARS), _lines(error, skip))


def plain_error(ename: str, evalue: str, lines: list[str] | None = None) -> ErrorInfo:
    """An ErrorInfo from texts that may be too long or hold half characters."""
    return ErrorInfo(
        _clean(ename, limits.TEXT_CHARS),
        _clean(evalue, limits.TRACEBACK_CHARS),
        _bounded(lines if lines is not None else [f"{ename}: {evalue}"]),
    )


def clean_text(text: str, bound: int) -> str:
    """Text that can be encoded, of at most `bound` characters; a cut is said."""
    return _clean(text, bound)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001  a user's __str__ may do anything
        return f"<its text cannot be had: {type(second).__name__}>"


def _clean(text: str, bound: int) -> str:
    if len(text) > bound:
        text = text[: bound - 16] + " ... (cut short)"
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text[:bound]


def _lines(error: BaseException, skip: str) -> list[str]:
    frames = error.__traceback__
    while skip and isinstance(frames, TracebackType) and frames.tb_frame.f_code.co_filename.startswith(skip):
        frames = frames.tb_next
    try:
        return _bounded(traceback.format_exception(type(error), error, frames))
    except Exception:  # noqa: BLE001  a user's __str__ or __cause__ may do anything
        return _bounded([f"{type(error).__name__}: {_text_of(error)}"])


def _bounded(lines: list[str]) -> list[str]:
    if len(lines) > _PARTS:
        left_out = len(lines) - _PARTS
        lines = [*lines[: _PARTS // 2], f"  ... {left_out} more ...\n", *lines[-(_PARTS // 2) :]]
    share = _TOTAL_CHARS // 2
    kept: list[str] = []
    used = 0
    for line in reversed(lines):  # the end of a traceback says most
        line = _clean(line, share)
        if used + len(line) > _TOTAL_CHARS:
            kept.append("  ... more was cut ...\n")
            break
        used += len(line)
        kept.append(line)
    kept.reverse()
    return kept
