"""A lock between processes of one host: flock on a file of a local file system (S29).

The lock ends with the process that holds it, however that ends.  On a network file system flock may be a lie, so a
lock there is refused where the kind of file system can be known.
"""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Self

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.ancestors import check_ancestors
from secure_ipp.keys.filesystem import check_local
from secure_ipp.keys.private_files import explain, make_private_dir


class LockHeld(EnvironmentProblem):
    """Another process holds the lock."""

    code = "locked"


class Lock:
    """An exclusive lock, taken by `with` or `acquire`; its file stays when it is released."""

    def __init__(self, path: str | os.PathLike[str], *, wait: float = 0.0) -> None:
        """Prepare, not take.

        Args:
            path: the lock's file; it and its directory are made when absent.
            wait: seconds to wait for another holder.
        """
        self._path = os.fspath(path)
        self._wait = wait
        self._descriptor = -1

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor >= 0

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LockHeld: another process (or object) still holds it after `wait` seconds.
            EnvironmentProblem: the file lies on a network file system, or cannot be locked.
            PrivateFileError: somebody else could change a directory above it.
        """
        if self.held:
            raise LockHeld(f"{self._path} is locked by this very object", "release it first")
        make_private_dir(os.path.dirname(os.path.join(os.getcwd(), self._path)))
        real = check_ancestors(self._path)
        check_local(os.path.dirname(real))
        try:
            descriptor = os.open(real, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise explain("open", real, error) from None
        deadline = time.monotonic() + self._wait
        try:
            while not _try_to_lock(descriptor, real):
                if time.monotonic() >= deadline:
                    raise LockHeld(f"another process holds {real}", "wait for it, or stop the running controller")
                time.sleep(limits.LOCK_POLL_SECONDS)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; releasing what is not held does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _try_to_lock(descriptor: int, path: str) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise explain("lock", path, error) from None
    return True
