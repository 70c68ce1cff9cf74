"""Functions that live tasks name, kept by (owner, digest), bounded for each owner.

Pure.  Laws: a digest is recomputed, never believed (S15); a function of one owner is never given to the task of
another, however equal the digests.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from secure_ipp import limits
from secure_ipp.errors import Refused


class Functions:
    """The scheduler's cache of pickled functions; opaque bytes to it."""

    def __init__(self, bytes_per_owner: int = limits.FUNCTIONS_PER_OWNER_BYTES) -> None:
        self._limit = bytes_per_owner
        self._by_owner: dict[str, OrderedDict[bytes, bytes]] = {}
        self._sizes: dict[str, int] = {}
        self._held: dict[tuple[str, bytes], int] = {}

    def put(self, owner: str, digest: bytes, code: bytes) -> None:
        """Keep a function, unverified bytes.

        Raises:
            Refused: the digest is not that of the code, or live tasks hold all the room that the owner has.
        """
        if hashlib.sha256(code).digest() != digest:
            raise Refused("a function under a digest that is not its own", code="digest")
        kept = self._by_owner.setdefault(owner, OrderedDict())
        if digest in kept:
            kept.move_to_end(digest)
            return
        size = self._sizes.get(owner, 0) + len(code)
        if size > self._limit:
            for old in [d for d in kept if (owner, d) not in self._held]:
                size -= len(kept.pop(old))
                if size <= self._limit:
                    break
        if size > self._limit:
            raise Refused(
                f"the functions of unfinished tasks would be more than {self._limit} bytes",
                "wait for tasks to finish before sending more functions", code="quota",
            )
        kept[digest] = code
        self._sizes[owner] = size

    def get(self, owner: str, digest: bytes) -> bytes | None:
        kept = self._by_owner.get(owner)
        return None if kept is None else kept.get(digest)

    def hold(self, owner: str, digest: bytes) -> None:
        """A live task names it: it stays."""
        key = (owner, digest)
        self._held[key] = self._held.get(key, 0) + 1

    def release(self, owner: str, digest: bytes) -> None:
        """A task that named it has ended."""
        key = (owner, digest)
        count = self._held.get(key, 0) - 1
        if count > 0:
            self._held[key] = count
        else:
            self._held.pop(key, None)
