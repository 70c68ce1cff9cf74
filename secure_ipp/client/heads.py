"""The journal's heads that this client hears of: remembered, said to the controller, and compared (S17, S20).

Pure but for `SeenFile`.  Laws: of two heads the higher number is remembered; the controller is told the newest one
that this user ever saw, once a session; a controller that comes with an older head, or with another one of the same
number, is not the one that this user knew, and the user is told.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from secure_ipp.errors import SecureIppError
from secure_ipp.keys import base64url, seen
from secure_ipp.keys.seen import Seen, SeenHead
from secure_ipp.wire import messages

log = logging.getLogger("secure_ipp.client")


class Heads:
    """Of one session.

    Args:
        known: what this user has seen before.
    """

    def __init__(self, known: SeenHead | None) -> None:
        self._known = known
        self._warned = False

    @property
    def known(self) -> SeenHead | None:
        """The newest head."""
        return self._known

    def greeting(self) -> messages.Seen | None:
        """What to say first in a new session."""
        proof = self._known.proof_bytes() if self._known is not None else b""
        return messages.Seen(self._known.line, proof) if self._known is not None and proof else None

    def came(self, head: messages.Head) -> str:
        """A head from the controller; a sentence for the user, if it contradicts what was seen."""
        new = _read(head)
        if new is None:
            return ""
        old, said = self._known, ""
        if old is not None and new.number < old.number:
            said = (
                f"this controller's journal ends before line {old.number}, which you have seen: it, or the whole "
                "cluster, was put back from a copy; ask the cluster's owner"
            )
        elif old is not None and new.number == old.number and new.line != old.line:
            said = (
                f"this controller's journal has another line {new.number} than the one that you have seen: it took "
                "another way before, or is not the cluster that you knew; ask the cluster's owner"
            )
        else:
            self._known = new
        if said and self._warned:
            return ""
        self._warned = self._warned or bool(said)
        return said


def _read(head: messages.Head) -> SeenHead | None:
    try:
        fields: Any = json.loads(head.line)
        number, registry = fields["n"], fields.get("registry", 0)
        if type(number) is int and type(registry) is int and number >= 0 and registry >= 0:
            return SeenHead(number, head.line, base64url.encode(head.proof), registry)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        log.debug("a head that cannot be read")
    return None


class SeenFile:
    """What this user has seen of one cluster, on the disk; a disk that says no costs the memory, not the session.

    Args:
        cluster_id: whose; empty: nothing is remembered.
    """

    def __init__(self, cluster_id: str) -> None:
        self._cluster_id = cluster_id
        self._kept: SeenHead | None = None

    def load(self) -> Seen:
        """What was seen before."""
        try:
            found = seen.load(self._cluster_id) if self._cluster_id else Seen()
        except (SecureIppError, OSError, ValueError) as error:
            log.info("what was seen of the cluster before cannot be read: %s", error)
            return Seen()
        self._kept = found.head
        return found

    def keep(self, head: SeenHead | None) -> None:
        """Remember this head, unless a newer one is; on a thread that may wait for the disk."""
        if head is None or head == self._kept or not self._cluster_id:
            return
        try:
            self._kept = seen.remember(self._cluster_id, seen.with_head(head)).head
        except (SecureIppError, OSError, ValueError) as error:
            log.info("what was seen of the cluster is not remembered: %s", error)
