"""The trusted clock of a cluster, with its mark on the disk; what it says is decided in `clock_mark`.

Law: the mark lies on a local disk that outlives a restart (S29); one that cannot be read is an error, never "none".
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.hub.clock_mark import Mark, MarkedClock, Reading
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import MissingFile, read_private, write_private

_log = logging.getLogger(__name__)
_MARK_BYTES = 4096
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def read_clocks() -> Reading:
    """All clocks, now."""
    return Reading(time.time(), _steady(), _boot())


def _steady() -> float:
    """Sleep counts; a plain monotonic clock stands still meanwhile on some systems."""
    kind = getattr(time, "CLOCK_BOOTTIME", None) or getattr(time, "CLOCK_MONOTONIC", None)
    return time.monotonic() if kind is None else time.clock_gettime(kind)


@functools.cache
def _boot() -> str:
    try:
        return Path(_BOOT_ID).read_text().strip()
    except OSError:
        return ""


class Clock:
    """Reads the clocks, and keeps the mark.

    Args:
        place: the cluster's.
        read: the clocks.

    Raises:
        EnvironmentProblem, PrivateFileError: the mark of an earlier run cannot be read.
    """

    def __init__(self, place: ClusterPlace, read: Callable[[], Reading] = read_clocks) -> None:
        self._path = place.durable_dir() / "clock.mark"
        self._read = read
        self._clock = MarkedClock(_load(self._path), read())
        self._kept_at = float("-inf")

    def now(self) -> float:
        """Trusted time, seconds since the epoch."""
        return self._clock.read(self._read())

    @property
    def jump(self) -> float:
        """As `MarkedClock.jump`, as of the last look."""
        return self._clock.jump

    @property
    def behind(self) -> float:
        """As `MarkedClock.behind`, as of the last look."""
        return self._clock.behind

    def accept(self) -> float:
        """The owner says that the wall clock is right; the mark is on the disk when this returns.

        Raises:
            OSError, SecureIppError: it cannot be written.
        """
        accepted = self._clock.accept(self._read())
        self.keep()
        return accepted

    def keep(self) -> None:
        """Write the mark.

        Raises:
            OSError, SecureIppError: it cannot be written.
        """
        now = self._read()
        write_private(self._path, msgspec.json.encode(self._clock.mark(now)) + b"\n", exclusive=False)
        self._kept_at = now.steady

    def keep_sometimes(self) -> None:
        """Write the mark if that was not done of late; a disk that is full holds nothing up."""
        now = self._read().steady
        if now - self._kept_at < limits.CLOCK_MARK_SECONDS:
            return
        self._kept_at = now
        try:
            self.keep()
        except Exception as error:  # noqa: BLE001  the next one may succeed; the time goes on meanwhile
            _log.error("the clock mark cannot be written: %s", error)


def _load(path: Path) -> Mark | None:
    try:
        data = read_private(path, _MARK_BYTES)
    except MissingFile:
        return None
    try:
        return msgspec.json.decode(data, type=Mark)
    except msgspec.MsgspecError as error:
        raise EnvironmentProblem(
            f"the clock mark {path} is damaged: {error}",
            "see that this host's clock is right, then remove the file", code="clock-mark",
        ) from None
