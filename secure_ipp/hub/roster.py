"""The engines of the cluster by uuid, across restarts of the scheduler and of the hub.

Decides who is remembered; does not decide who is alive: that is the scheduler's, which hears the agents.  Laws:
- an engine is `here` (the scheduler of now has named it) or `awaited` (only an earlier one did);
- a scheduler that has restarted knows less than this roster: what it does not name stays awaited until it reports,
  is declared gone, or the scheduler has ended its recovery;
- a scheduler that only lost its link knows more: what it does not name has left;
- a hub that has restarted knows nothing, and takes what it is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from secure_ipp import limits
from secure_ipp.wire.messages import EngineRecord


@dataclass(frozen=True, slots=True)
class RosterChange:
    """Who came and who went; an engine that was awaited and reports has done neither."""

    joined: tuple[EngineRecord, ...] = ()
    left: tuple[EngineRecord, ...] = ()


class Roster:
    """At most `limits.TARGETS` engines, which is what one message can name."""

    def __init__(self) -> None:
        self._engines: dict[str, EngineRecord] = {}
        self._awaited: set[str] = set()
        self._restarted = False

    def __len__(self) -> int:
        return len(self._engines)

    def engines(self) -> list[EngineRecord]:
        """All that are remembered, in the order they came."""
        return list(self._engines.values())

    def is_awaited(self, uuid: str) -> bool:
        return uuid in self._awaited

    def scheduler_joined(self, *, restarted: bool) -> list[EngineRecord]:
        """A scheduler opened a session.

        Args:
            restarted: it is another process than the one that named these engines.

        Returns:
            What to tell it.
        """
        self._restarted = restarted
        self._awaited = set(self._engines)
        return self.engines()

    def merge(self, records: Iterable[EngineRecord]) -> RosterChange:
        """The scheduler named all engines it has."""
        joined = tuple(record for record in records if self.join(record))
        left: tuple[EngineRecord, ...] = ()
        if not self._restarted:
            left = self.recovered()
        return RosterChange(joined, left)

    def join(self, record: EngineRecord) -> bool:
        """The scheduler named one engine; whether it is new here."""
        uuid = record.info.uuid
        self._awaited.discard(uuid)
        new = uuid not in self._engines
        if new and len(self._engines) >= limits.TARGETS:
            return False
        self._engines[uuid] = record
        return new

    def leave(self, uuid: str) -> EngineRecord | None:
        """The scheduler declared an engine gone; its record, if there was one."""
        self._awaited.discard(uuid)
        return self._engines.pop(uuid, None)

    def recovered(self) -> tuple[EngineRecord, ...]:
        """The scheduler has ended its recovery: whoever is still awaited will not come."""
        gone = tuple(self._engines.pop(uuid) for uuid in list(self._engines) if uuid in self._awaited)
        self._awaited.clear()
        self._restarted = False
        return gone
