"""What of a journal its owner's policy keeps: everything, the newest segments, or those of the newest days.

The segment being written is always kept.  Laws: segments go from the oldest on, whole; nothing goes without its end
line, which hands the keys on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from secure_ipp.audit.chain import NotALine, parse_line
from secure_ipp.audit.segments import read_segment
from secure_ipp.errors import UsageError

_DAY = 86400.0
_POLICY = re.compile(r"([1-9][0-9]{0,5})(d?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Keep:
    """A policy; 0 means no bound of that kind."""

    segments: int = 0
    days: int = 0

    def __str__(self) -> str:
        if self.days:
            return f"{self.days}d"
        return str(self.segments) if self.segments else "all"


def parse_keep(text: str) -> Keep:
    """The policy of "all", a number of segments ("20"), or of days ("90d").

    Raises:
        UsageError: it is none of these.
    """
    if text == "all":
        return Keep()
    match = _POLICY.fullmatch(text)
    if match is None:
        raise UsageError(
            "what the journal keeps is 'all', a number of segments ('20') or of days ('90d')",
            "leave it out to keep all",
        )
    return Keep(days=int(match[1])) if match[2] else Keep(segments=int(match[1]))


def beyond(keep: Keep, found: list[tuple[int, Path]], now: float) -> tuple[list[Path], int]:
    """The segments that may go, oldest first, and the number of the last line in them.

    Args:
        keep: the policy.
        found: all segments, in order; the last one is being written.
        now: seconds since the epoch.

    Raises:
        OSError, PrivateFileError: a segment cannot be read.
    """
    closed = found[:-1]
    if keep.segments:
        closed = closed[: max(0, len(found) - keep.segments)]
    elif not keep.days:
        return [], -1
    gone: list[Path] = []
    through = -1
    for _, path in closed:
        ended = _ended(path)
        if ended is None or (keep.days and ended[0] > now - keep.days * _DAY):
            break
        gone.append(path)
        through = ended[1]
    return gone, through


def _ended(path: Path) -> tuple[float, int] | None:
    """When the segment was ended, and the number of that line; None: its last line is no end."""
    lines = read_segment(path).splitlines()
    try:
        fields = parse_line(lines[-1]) if lines else {}
    except NotALine:
        return None
    at = fields.get("at")
    return (float(at), fields["n"]) if fields.get("event") == "end" and isinstance(at, int | float) else None
