"""How the hub keeps the journal: what must last before what follows takes effect, and when a checkpoint is made.

Laws (S20, S21): what `write` took is on the file; while `owes`, something on it must last before any effect of what
follows.  Under the policy "batch" that is everything but the ends of tasks, which are made to last with the next
batch, at most `JOURNAL_SYNC_SECONDS` later; under "each" it is everything.  A problem stays until a try succeeds.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

from secure_ipp import limits
from secure_ipp.audit.journal import Journal
from secure_ipp.audit.record import AuditRecord, TasksEnded, WriteFailed
from secure_ipp.errors import SecureIppError
from secure_ipp.wire.messages import SeenHead

Durability = Literal["batch", "each"]
_log = logging.getLogger(__name__)


class Recorder:
    """The journal, and what is owed to it.

    Args:
        journal: not open yet.
        durability: when a record must last.
    """

    def __init__(self, journal: Journal, durability: Durability) -> None:
        self.journal = journal
        self._each = durability == "each"
        self._owes = False
        self._failed_at = 0.0
        self._told, self._told_at = b"", 0.0
        self.problem = ""

    @property
    def owes(self) -> bool:
        """Whether something must last before what follows takes effect."""
        return self._owes

    def write(self, records: Sequence[AuditRecord], now: float) -> None:
        """Append all of these, or none.

        Raises:
            SecureIppError: nothing of them was written; `problem` says why until something is.
        """
        if self.problem and self._failed_at:
            records = [WriteFailed(at=now, since=self._failed_at, problem=self.problem), *records]
        try:
            self.journal.write(records)
        except SecureIppError as error:
            self._failed(error, now)
            raise
        self._passed()
        if self._each or not all(type(record) is TasksEnded for record in records):
            self._owes = True

    def sync(self, now: float) -> None:
        """What was written lasts, and nothing is owed.

        Raises:
            SecureIppError: it may not last; the debt stays.
        """
        try:
            self.journal.sync()
        except SecureIppError as error:
            self._failed(error, now)
            raise
        self._owes = False

    def tick(self, now: float) -> None:
        """Every `JOURNAL_SYNC_SECONDS`: the batches of tasks last, and a checkpoint is made if one is due.

        Raises:
            SecureIppError: the disk says no.
        """
        if self.problem:
            return  # whoever waits tries again
        if self.journal.unsynced:
            self.sync(now)
        if self.journal.due(now):
            try:
                self.journal.checkpoint(now)
            except SecureIppError as error:
                self._failed(error, now)
                raise

    def contradiction(self, seen: SeenHead) -> str:
        """Why a controller that holds this journal is not the one that a client has seen; empty: it may be.

        Raises:
            PrivateFileError, EnvironmentProblem: the journal cannot be read now.
        """
        if seen.number < self.journal.renewed:
            return ""  # the owner has accepted that it is lost
        registry = self.journal.registry
        if seen.registry > registry:
            return f"a client has seen version {seen.registry} of the registry, and this controller knows {registry}"
        if seen.number > self.journal.at.number:
            return f"a client has seen line {seen.number} of the journal, which ends here at {self.journal.at.number}"
        found = self.journal.hash_at(seen.number)
        # None: retention removed it; that lines are missing is `verify`'s to find
        if found is None or found == seen.hash:
            return ""
        return f"a client has seen another line {seen.number} of the journal: it went another way before"

    def new_head(self, now: float) -> str:
        """The newest checkpoint's line, if clients have not been told of it; once a second at most."""
        newest = self.journal.newest_checkpoint
        if newest == self._told or 0 <= now - self._told_at < limits.HEAD_SECONDS:
            return ""
        self._told, self._told_at = newest, now
        return newest.decode("ascii")

    def close(self, now: float) -> None:
        """The last checkpoint; a disk that says no is logged, for there is nobody left to tell."""
        try:
            self.journal.close(now)
        except SecureIppError as error:
            _log.error("the journal was not closed in order: %s", error.message)

    def status(self) -> dict[str, Any]:
        """For people."""
        return {"problem": self.problem, **self.journal.status()}

    def _failed(self, error: SecureIppError, now: float) -> None:
        if not self.problem:
            _log.error("no new work is taken: %s; %s", error.message, error.advice)
            self._failed_at = now
        self.problem = error.message

    def _passed(self) -> None:
        if self.problem:
            _log.warning("the journal can be written again")
        self.problem, self._failed_at = "", 0.0


TICK_SECONDS = limits.JOURNAL_SYNC_SECONDS
