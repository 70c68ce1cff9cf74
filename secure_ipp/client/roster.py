"""Which engines there are, as the scheduler tells it.  Pure."""

from __future__ import annotations

from secure_ipp.wire.messages import EngineInfo, Roster


class EngineRoster:
    """Engines by id.  Replaced as a whole by a roster that says it is whole."""

    def __init__(self) -> None:
        self.engines: dict[int, EngineInfo] = {}
        self.ids: tuple[int, ...] = ()  # sorted
        self.known = False  # has the scheduler said anything in this session
        self.reasons: dict[int, str] = {}  # why engines left, the latest ones

    def apply(self, change: Roster) -> None:
        """Take in who came and who left."""
        engines = {} if change.whole else dict(self.engines)
        for engine_id in change.left:
            engines.pop(engine_id, None)
            self.reasons[engine_id] = change.reasons.get(engine_id, "")
        while len(self.reasons) > 1024:
            del self.reasons[next(iter(self.reasons))]
        for info in change.joined:
            engines[info.id] = info
            self.reasons.pop(info.id, None)
        self.engines = engines
        self.ids = tuple(sorted(engines))
        self.known = True

    def clear(self) -> None:
        """Nobody is known to be there."""
        self.engines, self.ids = {}, ()
