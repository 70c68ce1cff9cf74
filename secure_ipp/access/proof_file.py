"""The file that remembers the proofs that were taken (S25); what it says is decided in `used_proofs`.

Laws: a proof is on the disk before anything comes of it, so that neither a kill nor a power cut makes it good again;
after a failed write no proof is taken until the whole file could be written anew, and with a damaged one none ever; of
one file there is one user, which the controller's lock sees to.
"""

from __future__ import annotations

import errno
import os

from secure_ipp import limits
from secure_ipp.access.proof import Proof
from secure_ipp.access.used_proofs import UsedProofs, parse_used, row_line
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.private_files import MissingFile, Path, read_private, write_private

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class ProofFile:
    """What is remembered, in memory and on the disk.  For one thread.

    Args:
        path: of the file; its directory is there, and private.
        cluster_id: of the cluster.
    """

    def __init__(self, path: Path, cluster_id: str) -> None:
        self._path = path
        self._cluster_id = cluster_id
        self._used: UsedProofs | None = None
        self._descriptor = -1
        self._appended = self._kept = 0  # lines since it was written anew, and those that it began with
        self._sound = False  # what is on the disk is what is in memory

    def open(self, now: float) -> None:
        """Read what is there, and write it anew without what is out of time.

        Raises:
            SecureIppError: it is damaged, or cannot be read or written; then no proof is ever taken.
        """
        try:
            used = parse_used(read_private(self._path, limits.PROOFS_FILE_BYTES), self._cluster_id)
        except MissingFile:
            used = UsedProofs()
        self._rewrite(used, now)
        self._used = used

    def is_used(self, proof: Proof) -> bool:
        """Whether it was taken before, or nothing is known of that."""
        return self._used is None or self._used.is_used(proof)

    def take(self, proof: Proof, now: float) -> None:
        """Remember it; when this returns it is on the disk.

        Raises:
            SecureIppError: it could not be; it is not to be admitted, nor is any other.
        """
        used = self._used
        if used is None:
            raise EnvironmentProblem("the proofs that were taken before are not known", code="proofs")
        if not self._sound or self._appended >= max(limits.PROOFS_APPENDED, self._kept):
            self._rewrite(used, now)
        if not used.has_room(proof):
            used.forget(now)
        if not used.has_room(proof):
            raise EnvironmentProblem("too many proofs were taken in a short time", "wait a little", code="proofs")
        self._append(row_line(used.take(proof)))

    def _append(self, line: bytes) -> None:
        self._sound = False
        try:
            if os.write(self._descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, "the disk is full")
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise _cannot_write(error) from None
        self._sound = True
        self._appended += 1

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _rewrite(self, used: UsedProofs, now: float) -> None:
        self._sound = False
        self.close()
        used.forget(now)
        try:
            write_private(self._path, used.text(self._cluster_id), exclusive=False)
            self._descriptor = os.open(self._path, _APPEND)
        except OSError as error:
            raise _cannot_write(error) from None
        self._appended, self._kept = 0, len(used)
        self._sound = True


def _cannot_write(error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"the proofs that were taken cannot be written down: {error.strerror or error}",
        "see that there is room on the disk, and that the file is this user's", code="proofs",
    )
