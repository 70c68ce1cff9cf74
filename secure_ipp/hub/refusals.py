"""Refused questions on record, without a line for each: whoever asks for what it may not fills no disk (S18, S20).

Pure.  Law: the first refusal of an identity for one kind of question is told at once, those of the next
`GATE_LOG_SECONDS` together, with their number, so that none is left out.
"""

from __future__ import annotations

import msgspec

from secure_ipp import limits
from secure_ipp.audit.record import QuestionRefused


class Refusals:
    """Those of the last moment, by who asked for what."""

    def __init__(self) -> None:
        self._told_at: dict[tuple[str, str], float] = {}
        self._untold: dict[tuple[str, str], QuestionRefused] = {}  # the last one, with the number of all

    def came(self, refused: QuestionRefused) -> list[QuestionRefused]:
        """One more; what is to go on record now."""
        asked, now = (refused.user, refused.question), refused.at
        if 0 <= now - self._told_at.get(asked, float("-inf")) < limits.GATE_LOG_SECONDS:
            before = self._untold.get(asked)
            self._untold[asked] = msgspec.structs.replace(refused, count=before.count + 1 if before else 1)
            return []
        self._told_at[asked] = now
        left = self._untold.pop(asked, None)
        return [refused] if left is None else [left, refused]

    def due(self, now: float) -> list[QuestionRefused]:
        """Those that have waited long enough; at each beat, and with `inf` at the end."""
        late = [asked for asked, at in self._told_at.items() if not 0 <= now - at < limits.GATE_LOG_SECONDS]
        for asked in late:
            del self._told_at[asked]
        return [self._untold.pop(asked) for asked in late if asked in self._untold]
