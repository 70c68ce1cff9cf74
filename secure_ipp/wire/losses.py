"""Sessions of a door whose connection has fallen: what they said before is heard first, in a bounded time."""

from __future__ import annotations

from collections.abc import Callable

from secure_ipp.wire.loop import Loop
from secure_ipp.wire.session import Session

_HEAR_OUT_SECONDS = 2.0  # for the last words of a fallen connection, while others talk too


class Losses:
    """Those that are being heard out.

    Args:
        read: takes in what has come; whether that was all.
        lost: told of a session that has lost its connection and has no more to say.
    """

    def __init__(self, loop: Loop, read: Callable[[], bool], lost: Callable[[Session], None]) -> None:
        self._loop = loop
        self._read = read
        self._lost = lost
        self._losing: dict[Session, tuple[bytes | None, float]] = {}  # under which routing id, and since when

    def fall(self, session: Session) -> None:
        """Its connection is not there any more; it may not be the first time that this is noticed."""
        if not self._losing:
            self._loop.at_turn_end(self._take)
        if session not in self._losing or self._losing[session][0] != session.routing_id:
            self._losing[session] = session.routing_id, self._loop.now()

    def _take(self) -> None:
        all_read, now = self._read(), self._loop.now()
        losing, self._losing = self._losing, {}
        for session, (routing_id, since) in losing.items():
            if session.routing_id is None or session.routing_id != routing_id:
                continue  # it is back already, or gone
            if all_read or now - since > _HEAR_OUT_SECONDS:
                self._lost(session)
            else:
                self._losing[session] = routing_id, since
        if self._losing:
            self._loop.call_later(0.0, self._take)
