"""Peers that send faster than they may: they are left unacknowledged until their mean is met again (S18).

An honest peer stops when its window is full, and goes on when it is acknowledged; one that does not stop is cut by its
link.  Nothing that came is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from secure_ipp import limits
from secure_ipp.wire.loop import Loop
from secure_ipp.wire.session import Session


class Meter(Protocol):
    """Counts messages, of one session or of several."""

    def take(self, count: int, now: float, /) -> float:
        """So many came; seconds until no more than the mean has come, 0 if that is so now."""


def pace(loop: Loop, session: Session, count: int, mark: Callable[[Session], None]) -> None:
    """So many messages came in one packet.

    Args:
        mark: this session has something to say at the end of the turn.
    """
    if session.meter is None:
        return
    wait = session.meter.take(count, loop.now())
    if wait > 0:
        held = session.link.held
        session.link.hold()
        if not held:
            loop.call_later(min(wait, limits.PACED_SECONDS), lambda: _look_again(loop, session, mark))


def _look_again(loop: Loop, session: Session, mark: Callable[[Session], None]) -> None:
    if session.gone or session.meter is None:
        return
    wait = session.meter.take(0, loop.now())
    if wait > 0:
        loop.call_later(min(wait, limits.PACED_SECONDS), lambda: _look_again(loop, session, mark))
    else:
        session.link.let_go()
        mark(session)
