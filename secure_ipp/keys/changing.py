"""One command at a time changes a file that holds a secret: seals or unseals it, renews it, signs it anew (S13).

Two at once could undo each other: what one has just sealed, the other, which read it before, would write back in clear;
and an entry of the keyring that one has no more use for would be the only place where the other has put the secret.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from secure_ipp import limits
from secure_ipp.keys.ancestors import check_ancestors, user_id
from secure_ipp.keys.locks import Lock, LockHeld
from secure_ipp.keys.places import home
from secure_ipp.keys.seen import lock_file


@contextmanager
def changing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold off whoever else would change this file: from before it is read until it is written.

    Raises:
        LockHeld: another command is at it, and does not end.
        MissingFile, PrivateFileError: a directory above it is not there, or somebody else could change it.
    """
    if user_id() is None:  # Windows has no flock
        yield
        return
    which = hashlib.sha256(os.fsencode(check_ancestors(path))).hexdigest()[:32]
    lock = Lock(lock_file(home() / ".changing" / f"{which}.file"), wait=limits.CHANGING_SECONDS)
    try:
        lock.acquire()
    except LockHeld:
        raise LockHeld(
            f"another command is changing {os.fspath(path)}", "let it end (it may be asking for a passphrase), then try"
            " again",
        ) from None
    try:
        yield
    finally:
        lock.release()
