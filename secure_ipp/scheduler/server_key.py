"""The doors' own key while it is being rotated: what they are bound with, and which peers know what follows (S33).

The hub, which has verified it, hands over the issuer's statement with the secret of the current key.  Laws: the doors
are bound anew before anybody is told that the key is another, and before the hub is told that it is in force; every
session is told of each statement, the newest before anything else; who has confirmed it counts as aware.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.curve import CurveSecretKey, KeyPair
from secure_ipp.keys.door_keys import parse_door_keys
from secure_ipp.wire import messages
from secure_ipp.wire.door import Door
from secure_ipp.wire.session import Session

_log = logging.getLogger(__name__)


class ServerKey:
    """The doors' key, now.

    Attributes:
        pair: what they are bound with, or will be at first.
        number: of the issuer's statement; 0: there is none.

    Args:
        pair: at the start.
        doors: all of them, once they are open.
        bind: binds one anew with a pair.
        bound: told of the new pair when all are.
    """

    def __init__(
        self, pair: KeyPair, doors: Sequence[Door], bind: Callable[[Door, KeyPair], None],
        bound: Callable[[KeyPair], None],
    ) -> None:
        self.pair = pair
        self.number = 0
        self._doors = doors
        self._bind = bind
        self._bound = bound
        self._statement: messages.DoorKeys | None = None

    def told(self, message: messages.DoorSecret) -> None:
        """By the hub.

        Raises:
            EnvironmentProblem: statement and secret do not belong together, or a door cannot be bound anew.
        """
        try:
            stated = parse_door_keys(message.statement)
            pair = KeyPair.from_secret(CurveSecretKey(message.secret))
        except ValueError:
            raise EnvironmentProblem("the hub handed over no server key", "see the hub's log") from None
        if pair.public != stated.current:
            raise EnvironmentProblem("the hub handed over another server key than was stated", "see the hub's log")
        if pair.public != self.pair.public:
            for door in self._doors:
                self._bind(door, pair)
            self.pair = pair
            _log.warning("the doors have another key now: %s", pair.public.fingerprint)
            self._bound(pair)
        if stated.number != self.number:
            self.number, self._statement = stated.number, messages.DoorKeys(message.statement)
            for door in self._doors:
                for session in door.sessions:
                    self.greet(session)

    def greet(self, session: Session) -> None:
        """Tell a session what there is to know."""
        if self._statement is not None:
            session.send(self._statement, token=self.number)

    def confirmed(self, session: Session, tokens: list[object]) -> None:
        """Its process has these statements."""
        session.aware = max([session.aware, *(token for token in tokens if isinstance(token, int))])

    @property
    def unaware(self) -> int:
        """How many are connected and have not confirmed the newest statement."""
        return sum(
            1 for door in self._doors for session in door.sessions
            if session.routing_id is not None and session.aware < self.number
        )
