"""When a grant ends: what people type, and what they read.

An end is seconds since the epoch, 0 for never.  Typed are ``never``, a duration from now (``30m``, ``12h``, ``7d``,
``2w``) or an ISO 8601 date or time, which without a time zone means UTC; a date alone means its first moment.  An end
that is not later than now is refused, since it would make a key that was never good.
"""

from __future__ import annotations

import datetime
import re
import time

from secure_ipp.errors import UsageError
from secure_ipp.keys.strict_json import shown

NEVER = "never"
LONGEST_SECONDS = 100 * 366 * 86400  # a duration beyond it is a slip of the finger
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"([1-9][0-9]{0,8})([mhdw])", re.ASCII)
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?", re.ASCII
)
_WORDS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def parse_expires(text: str, now: float) -> int:
    """The end that this text means.

    Args:
        text: as typed.
        now: seconds since the epoch.

    Raises:
        UsageError: it means none, or one that is past.
    """
    text = text.strip()
    if text == NEVER:
        return 0
    duration = _DURATION.fullmatch(text)
    if duration is not None:
        seconds = int(duration[1]) * _UNITS[duration[2]]
        if seconds > LONGEST_SECONDS:
            raise _unclear(text, "a duration is at most 100 years")
        return int(now) + seconds
    if _MOMENT.fullmatch(text) is None:
        raise _unclear(text, "it is no duration and no date")
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise _unclear(text, "there is no such date") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    expires = int(moment.timestamp())
    if expires <= now:
        raise UsageError(
            f"{shown(text, 40)!r} is past (it is {as_text(int(now))})", "give a later end, or a duration such as 7d",
            code="expires",
        )
    return expires


def as_text(expires: int) -> str:
    """The end as a date in UTC."""
    if not expires:
        return NEVER
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(expires))
    except (OverflowError, ValueError, OSError):  # a signed file may say the year 36,000
        return f"{expires} seconds after 1970"


def in_words(expires: int, now: float) -> str:
    """The end as people say it: the date, and how far it is."""
    if not expires:
        return NEVER
    left = expires - int(now)
    if left <= 0:
        return f"{as_text(expires)} (expired {_span(-left)} ago)"
    return f"{as_text(expires)} (in {_span(left)})"


def _span(seconds: int) -> str:
    """The two greatest units of it."""
    parts = []
    for size, word in _WORDS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count:,} {word}{'s' if count != 1 else ''}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 seconds"


def _unclear(text: str, why: str) -> UsageError:
    return UsageError(
        f"{shown(text, 40)!r} is no end of a key: {why}",
        "give 30m, 12h, 7d, 2w, a date such as 2031-12-01 or 2031-12-01T18:00+01:00, or never",
        code="expires",
    )
