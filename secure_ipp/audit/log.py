"""The audit log: lines of `record`, appended to one private file, rotated, whole or not at all.

It stands in for the journal: it can be edited by whoever can write the file, and promises no more than an
honest account.  Laws:
- the file is regular, this user's, 0600, has one name, and is opened without following a symbolic link (S9);
- a batch is written whole or leaves no trace: a torn line is cut off again;
- an error of the disk is raised as `EnvironmentProblem`, for the caller to take no new work (S21), and the next write
  may succeed;
- nothing here reads what was written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from secure_ipp import limits
from secure_ipp.audit.record import AuditRecord, line
from secure_ipp.errors import EnvironmentProblem, PrivateFileError
from secure_ipp.logs import why_not_private

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class AuditLog:
    """One writer of one file.

    Args:
        path: the file, in a directory that only its owner can write.
        max_bytes: a file this long is renamed `path.1` (and that `path.2`, ...) before the next batch.
        files: renamed files that are kept; the oldest is removed.
    """

    def __init__(self, path: str, *, max_bytes: int = limits.AUDIT_BYTES, files: int = limits.AUDIT_FILES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._descriptor = -1

    def open(self) -> None:
        """Open the file, so that a problem shows at the start.

        Raises:
            PrivateFileError: somebody else could read or write it, or it is no regular file.
            EnvironmentProblem: the directory is not there, or the disk says no.
        """
        if self._descriptor < 0:
            self._descriptor = _open_private(self._path)

    def write(self, records: Sequence[AuditRecord]) -> None:
        """Append all of these, or none.

        Raises:
            PrivateFileError, EnvironmentProblem: nothing of them was written.
        """
        data = b"".join(map(line, records))
        if not data:
            return
        self.open()
        try:
            size = os.fstat(self._descriptor).st_size
            if size and size + len(data) > self._max_bytes:
                self._rotate()
                size = 0
            self._append(data, size)
        except OSError as error:
            raise _problem(self._path, error) from error

    def close(self) -> None:
        """Flush to the disk and let go; closing twice is allowed."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _append(self, data: bytes, size: int) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            if len(rest) != len(data):
                os.ftruncate(self._descriptor, size)
            raise

    def _rotate(self) -> None:
        self.close()
        for number in range(self._files, 0, -1):
            older = self._path if number == 1 else f"{self._path}.{number - 1}"
            if os.path.lexists(older):
                os.replace(older, f"{self._path}.{number}")
        if self._files == 0:
            os.unlink(self._path)
        self.open()


def _open_private(path: str) -> int:
    try:
        descriptor = os.open(path, _FLAGS, 0o600)
    except OSError as error:
        raise _problem(path, error) from error
    wrong = why_not_private(descriptor)
    if wrong:
        os.close(descriptor)
        raise PrivateFileError(f"the audit log {path} {wrong}", "move it away and start again; it is made anew")
    return descriptor


def _problem(path: str, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"cannot write the audit log {path}: {error.strerror}",
        "make room or repair the disk; until then nobody new is admitted",
        code="audit-log",
    )
