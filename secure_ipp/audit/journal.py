"""The journal's writer: lines into segments, checkpoints, retention; one writer a cluster (S20, S21).

Laws:
- `write` puts all of its records on the file or none; what it put there is lost by no end of this process, and by no
  end of the machine after `sync`;
- an error of the disk is raised as `EnvironmentProblem`, leaves the chain as it was, and the next try may succeed;
- a key signs once: its successor is on the disk before, it is forgotten after;
- a segment is ended, and the next one begun, before it grows beyond its bound.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from secure_ipp import limits
from secure_ipp.audit import chain, segments
from secure_ipp.audit import record as on_record
from secure_ipp.audit.chain import Place
from secure_ipp.audit.recovery import Tail, read_tail, signs
from secure_ipp.audit.retention import Keep, beyond
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.journal_key import JournalKey, read_journal_key, write_journal_key
from secure_ipp.keys.locks import Lock
from secure_ipp.keys.places import ClusterPlace


class Journal:
    """One cluster's journal, open for writing.

    Args:
        place: whose; its journal was begun with its keys.
        keep: what retention leaves.
        segment_bytes: the bound of a segment.
    """

    def __init__(
        self, place: ClusterPlace, *, keep: Keep | None = None, segment_bytes: int = limits.JOURNAL_SEGMENT_BYTES
    ) -> None:
        self._directory = place.journal_dir
        self._key_path = place.journal_key
        self._lock = Lock(place.durable_path / "journal.lock", wait=limits.JOURNAL_LOCK_SECONDS)
        self._keep = keep or Keep()
        self._segment_bytes = segment_bytes
        self._descriptor = -1
        self._key: JournalKey | None = None
        self._key_saved = True
        self._at = Place(-1, "")
        self._size = 0  # of the segment, up to the last whole write
        self._synced = 0  # of it, what a sync has covered
        self._unsynced = bytearray()  # the bytes between the two: a failed sync may have lost them (fsync(2))
        self._rewrite = False  # what stands behind `_synced` in the file is not to be relied on
        self._ended = False  # the segment takes no more lines
        self._sealed = -1
        self._unsealed_since: float | None = None
        self._checkpoints: OrderedDict[int, str] = OrderedDict()
        self._newest = b""
        self.registry = 0

    # --- life ----------------------------------------------------------------------------------------------

    def open(self, now: float) -> Tail:
        """Go on where the last run ended; what that left is on record before anything else.

        Raises:
            JournalBroken, JournalKeyError, NoJournal: it cannot be gone on with.
            LockHeld: another process writes it.
            PrivateFileError, EnvironmentProblem: a file is open to others, or the disk says no.
        """
        self._lock.acquire()
        try:
            key = read_journal_key(self._key_path)
            segments.sweep(self._directory)
            found = segments.segments(self._directory)
            tail = read_tail(_newest(found))
            self._key = tail.fitting(key)
            self._key_saved = self._key is key
            self._descriptor = segments.open_segment(found[-1][1])
            self._size = self._synced = tail.good
            self._at, self._sealed, self._newest, self.registry = tail.at, tail.sealed, tail.newest, tail.registry
            self._checkpoints.update(tail.checkpoints)
            if self._at.number > self._sealed:
                self._unsealed_since = now
            if tail.torn:
                os.ftruncate(self._descriptor, tail.good)
            self._ended = tail.ended and tail.good > 0  # else the next one is there, and empty
            self._settle()
            self.write(_told_at_start(tail, now))
            self.checkpoint(now)
            self._retain(now)
        except OSError as error:
            self._let_go()
            raise _problem(error) from error
        except BaseException:
            self._let_go()
            raise
        return tail

    def close(self, now: float) -> None:
        """A last checkpoint, then let go; closing twice is allowed.

        Raises:
            EnvironmentProblem: the disk says no; what was written stays.
        """
        if self._key is None:
            return
        try:
            self.checkpoint(now)
        finally:
            self._let_go()

    # --- writing -------------------------------------------------------------------------------------------

    def write(self, records: Sequence[on_record.AuditRecord]) -> None:
        """Append all of these, or none.

        Raises:
            EnvironmentProblem: nothing of them was written.
        """
        if not records:
            return
        try:
            self._settle()
            data, after = chain.linked(records, self._at)
            if self._size and self._size + len(data) > self._segment_bytes:
                self._end_segment(records[-1].at)
                data, after = chain.linked(records, self._at)
            self._append(data, after)
        except OSError as error:
            raise _problem(error) from error
        if self._unsealed_since is None:
            self._unsealed_since = records[0].at

    def sync(self) -> None:
        """Everything written so far lasts.

        Raises:
            EnvironmentProblem: it may not; trying again is right.
        """
        try:
            self._settle()
            self._sync()
        except OSError as error:
            raise _problem(error) from error

    def checkpoint(self, now: float) -> None:
        """Sign where the chain stands, unless nothing was written since the last time.

        Raises:
            EnvironmentProblem: the disk says no.
        """
        if self._at.number == self._sealed:
            return
        try:
            self._settle()
            self._checkpoint(now)
        except OSError as error:
            raise _problem(error) from error

    def due(self, now: float) -> bool:
        """Whether a checkpoint is."""
        if self._unsealed_since is None:
            return False
        waited = now - self._unsealed_since
        lines = self._at.number - self._sealed
        return lines >= limits.CHECKPOINT_LINES or not 0 <= waited < limits.CHECKPOINT_SECONDS

    @property
    def is_open(self) -> bool:
        """Whether it can be written."""
        return self._key is not None

    @property
    def unsynced(self) -> bool:
        """Whether an end of the machine could lose something."""
        return self._synced != self._size or self._rewrite

    # --- what is there -------------------------------------------------------------------------------------

    @property
    def at(self) -> Place:
        """Where the chain stands."""
        return self._at

    @property
    def newest_checkpoint(self) -> bytes:
        """The newest checkpoint's line; empty when there is none yet."""
        return self._newest

    @property
    def renewed(self) -> int:
        """The number of the line before which the owner has accepted every loss."""
        return 0 if self._key is None else self._key.renewed

    def hash_at(self, number: int) -> str | None:
        """The hash of the line of this number; None: it is not there (not yet, or removed by retention).

        Raises:
            PrivateFileError, EnvironmentProblem: the file cannot be read.
        """
        if number in self._checkpoints:
            return self._checkpoints[number]
        try:
            text = segments.line_at(self._directory, number)
            if text is None:
                kept = segments.pruned_lines(self._directory)
                text = next((one for one in kept if segments.number_of(one) == number), None)
        except OSError as error:
            raise _problem(error) from error
        return None if text is None else chain.hash_of(text)

    def pruned_through(self) -> int:
        """The number of the last line that retention removed; -1: none."""
        return segments.pruned_through(segments.pruned_lines(self._directory))

    def status(self) -> dict[str, Any]:
        """For people."""
        return {"records": self._at.number + 1, "sealed": self._sealed, "checkpoints": self._index}

    # --- steps ---------------------------------------------------------------------------------------------

    @property
    def _index(self) -> int:
        return 0 if self._key is None else self._key.index

    def _settle(self) -> None:
        """Make good what an earlier error left half done."""
        assert self._key is not None, "the journal is not open"
        if self._rewrite:
            os.ftruncate(self._descriptor, self._synced)
            self._put(self._unsynced, self._synced)
            self._rewrite = False
        if not self._key_saved:  # the key that signed is forgotten, once its line lasts
            self._sync()
            write_journal_key(self._key_path, self._key)
            self._key_saved = True
        if self._ended:
            self._sync()
            os.close(self._descriptor)
            self._descriptor, self._size, self._synced, self._ended = -1, 0, 0, False
        if self._descriptor < 0:
            self._begin_segment()

    def _append(self, data: bytes, after: Place) -> None:
        self._put(data, self._size)
        self._unsynced += data
        self._size += len(data)
        self._at = after

    def _put(self, data: bytes | bytearray, size: int) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.write(self._descriptor, data[done:] if done else data)
        except OSError:
            self._rewrite = self._rewrite or done > 0  # until the next line has taken the torn bytes away
            if done:
                os.ftruncate(self._descriptor, size)
                self._rewrite = size != self._size
            raise

    def _sync(self) -> None:
        if self._synced == self._size:
            return
        try:
            os.fsync(self._descriptor)
        except OSError:
            self._rewrite = True  # the kernel may have dropped those pages and will not say so twice
            raise
        self._synced = self._size
        self._unsynced.clear()

    def _checkpoint(self, now: float) -> None:
        assert self._key is not None
        text, after = chain.checkpoint_line(self._key, self._at, now, self.registry)
        self._append(text + b"\n", after)
        self._key, self._key_saved = self._key.after_checkpoint(after.number), False
        self._sealed, self._unsealed_since, self._newest = after.number, None, text
        self._checkpoints[after.number] = after.hash
        while len(self._checkpoints) > limits.CHECKPOINTS_REMEMBERED:
            self._checkpoints.popitem(last=False)
        self._settle()

    def _end_segment(self, now: float) -> None:
        assert self._key is not None
        if self._at.number != self._sealed:
            self._checkpoint(now)
        text, after = chain.end_line(self._key, self._at, now, self.registry)
        self._append(text + b"\n", after)
        self._sealed = after.number
        self._key, self._key_saved, self._ended = self._key.after_end(after.number), False, True
        self._settle()
        self._retain(now)

    def _begin_segment(self) -> None:
        path = self._directory / segments.segment_name(self._at.number + 1)
        try:
            descriptor = segments.open_segment(path, new=True)
        except FileExistsError:
            descriptor = segments.open_segment(path)  # an earlier try got so far
        self._descriptor = descriptor
        segments.sync_directory(self._directory)

    def _retain(self, now: float) -> None:
        """Remove what the owner's policy does not keep; that it was removed is on record before."""
        gone, through = beyond(self._keep, segments.segments(self._directory), now)
        if not gone:
            return
        pruned = on_record.Pruned(at=now, through=through, segments=len(gone), policy=str(self._keep))
        data, after = chain.linked([pruned], self._at)
        self._append(data, after)
        self._checkpoint(now)
        segments.prune(self._directory, gone)

    def _let_go(self) -> None:
        descriptor, self._descriptor, self._key = self._descriptor, -1, None
        if descriptor >= 0:
            os.close(descriptor)
        self._lock.release()


def _newest(found: list[tuple[int, Any]]) -> list[tuple[int, bytes]]:
    """The last segments, from one that holds a signing line on."""
    pieces: list[tuple[int, bytes]] = []
    for first, path in reversed(found):
        pieces.insert(0, (first, segments.read_segment(path)))
        if signs(pieces[0][1]):
            break
    return pieces


def _told_at_start(tail: Tail, now: float) -> list[on_record.AuditRecord]:
    told: list[on_record.AuditRecord] = []
    if tail.torn:
        told.append(on_record.Torn(at=now, bytes=tail.torn))
    if not tail.closed and tail.at.number > 0:
        told.append(on_record.Gap(at=now, reason="the hub did not end in order: its last records may be missing"))
    return told


def _problem(error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"cannot write the journal: {error.strerror or error}",
        "make room or repair the disk; until then nobody new is admitted and no new work is taken",
        code="journal",
    )
