"""What results may hold, and what output may be shown: one setting, said for a client, a view or a single result.

Words: `results="data"` is plain data only; `results="any"` unpickles whatever engines send and shows whatever they
display (S19, S31); `allow=[...]` adds names to plain data (see `payload.allowed`).  Without a word, "any" holds for a
cluster whose keys this user made on this machine, and "data" for every other one.
"""

from __future__ import annotations

from typing import Any

from secure_ipp.errors import UsageError
from secure_ipp.payload.objects import Allowed, Trust

FLAGS = ("results", "allow")  # of views


def said(base: Trust, results: str | None, allow: Any = None) -> Trust:
    """The trust that holds after these words.

    Args:
        base: what held before.
        results: "any", "data", or None: as before.
        allow: names, classes or functions that may be called; they add to plain data.

    Raises:
        UsageError: there is no such trust, or a name cannot be allowed.
    """
    if results is None:
        trust = base
    elif results == "any":
        trust = "any"
    elif results == "data":
        trust = "data"
    else:
        advice = 'say "any" (unpickle anything) or "data" (plain data only)'
        raise UsageError(f"results={results!r} is not known", advice)
    if allow is None:
        return trust
    named = Allowed.of(allow)
    if isinstance(trust, Allowed):
        return trust | named
    return trust if trust == "any" else named
