"""Which server keys a peer believes to be those of its cluster's doors, and which it never believes again (S33).

Pure, but for `changed`, which is told of each change.  Laws: it begins with the keys of a file; what is said of other
keys counts only in the issuer's statement of this cluster, and only if its number is higher than any before; a key that
was once given up, by a statement or because a newer one was accepted, is refused for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

from secure_ipp.keys.curve import CurvePublicKey
from secure_ipp.keys.door_keys import parse_door_keys
from secure_ipp.keys.issuer import IssuerPublicKey
from secure_ipp.keys.signing import BadSignature

_log = logging.getLogger("secure_ipp.keys")


class KnownDoors:
    """What one peer knows.

    Attributes:
        keys: to be tried in this order, the older ones first; never empty.
        refused: never to be tried again.
        number: of the newest statement; 0: none came yet.

    Args:
        keys: of the file.
        issuer: pinned in it; None: no statement is believed.
        cluster_id: of the file.
        number, refused: as they were seen before.
        changed: called after each change.
    """

    def __init__(
        self, keys: Sequence[CurvePublicKey], *, issuer: IssuerPublicKey | None = None, cluster_id: str = "",
        number: int = 0, refused: Collection[CurvePublicKey] = (),
        changed: Callable[[KnownDoors], None] = lambda known: None,
    ) -> None:
        self.refused = frozenset(refused)
        self.keys = tuple(key for key in dict.fromkeys(keys) if key not in self.refused)
        self.number = number
        self._issuer = issuer
        self._cluster_id = cluster_id
        self._changed = changed
        if not self.keys:
            raise ValueError("there is no server key left to believe")

    def learn(self, statement: bytes) -> None:
        """Take a statement (unverified bytes) for what it is worth; one that is worth nothing changes nothing."""
        if self._issuer is None:
            return
        try:
            said = parse_door_keys(statement)
            said.verify(self._issuer, self._cluster_id)
        except (ValueError, BadSignature) as error:
            _log.warning("somebody who is not the issuer spoke of the server's keys; not believed: %s", error)
            return
        if said.number <= self.number:
            return
        refused = self.refused | set(said.former) | (set(self.keys) - set(said.keys))
        keys = tuple(key for key in said.keys if key not in self.refused)
        if not keys:
            _log.warning("the issuer named server keys that were given up before; not believed")
            return
        self.keys, self.refused, self.number = keys, refused - set(keys), said.number
        self._changed(self)

    def accepted(self, key: CurvePublicKey) -> None:
        """A door has proved that it holds this key: the older ones are refused from now on."""
        place = self.keys.index(key) if key in self.keys else 0
        if place:
            self.refused |= set(self.keys[:place])
            self.keys = self.keys[place:]
            self._changed(self)
