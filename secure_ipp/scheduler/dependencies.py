"""Whether a task may run yet, and where, given the tasks it waits for.

Pure.  An id that its owner does not have is invalid at once, never a wait; so is one of somebody else.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

ALL, FAILURE, SUCCESS = 1, 2, 4


class Verdict(enum.Enum):
    WAIT = "wait"
    MET = "met"
    IMPOSSIBLE = "impossible"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Ended:
    """What is remembered of a finished task."""

    ok: bool
    engine: int  # -1: it never had one


Known = Callable[[str], "Ended | None"]  # None: it has not ended; KeyError: unknown


def judge(ids: Iterable[str], flags: int, known: Known) -> Verdict:
    """Judge one set of dependencies.

    Args:
        flags: `ALL` (else any one will do), `FAILURE`, `SUCCESS`: which ends count.
        known: the ends of the owner's tasks; raises KeyError for an unknown id.
    """
    waiting = met = failed = 0
    for task_id in ids:
        try:
            end = known(task_id)
        except KeyError:
            return Verdict.INVALID
        if end is None:
            waiting += 1
        elif flags & (SUCCESS if end.ok else FAILURE):
            met += 1
        else:
            failed += 1
    if flags & ALL:
        if failed:
            return Verdict.IMPOSSIBLE
        return Verdict.WAIT if waiting else Verdict.MET
    if met or not (waiting or failed):
        return Verdict.MET
    return Verdict.WAIT if waiting else Verdict.IMPOSSIBLE


def engines_to_follow(ids: Iterable[str], flags: int, known: Known) -> frozenset[int]:
    """Engines on which a task that follows these may run; `judge` said MET before."""
    places: list[int] = []
    for task_id in ids:
        end = known(task_id)
        if end is not None and end.engine >= 0 and flags & (SUCCESS if end.ok else FAILURE):
            places.append(end.engine)
    if flags & ALL and len(set(places)) > 1:
        return frozenset()
    return frozenset(places)
