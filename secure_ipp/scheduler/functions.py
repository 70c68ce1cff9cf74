"""Functions that live tasks name, kept by (owner, digest), bounded for each owner.

Pure.  Laws: a digest is recomputed, never believed (S15); a function of one owner is never given to the task of
another, however equal the digests; one that a live task names is not dropped.
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
        self._free: dict[str, OrderedDict[bytes, bytes]] = {}  # named by no live task, the oldest first
        self._used: dict[tuple[str, bytes], bytes] = {}
        self._sizes: dict[str, int] = {}
        self._held: dict[tuple[str, bytes], int] = {}

    def put(self, owner: str, digest: bytes, code: bytes) -> None:
        """Keep a function, unverified bytes.

        Raises:
            Refused: the digest is not that of the code (`digest`), or live tasks hold all the room that the owner
                has (`quota`).
        """
        if hashlib.sha256(code).digest() != digest:
            raise Refused("a function under a digest that is not its own", code="digest")
        key = (owner, digest)
        if key in self._used:
            return
        free = self._free.setdefault(owner, OrderedDict())
        if digest in free:
            free.move_to_end(digest)
            return
        while free and self._sizes.get(owner, 0) + len(code) > self._limit:
            self._drop(owner, len(free.popitem(last=False)[1]))
        if self._sizes.get(owner, 0) + len(code) > self._limit:
            raise Refused(
                f"the functions of unfinished tasks would be more than {self._limit} bytes",
                "wait for tasks to finish before sending more functions", code="quota",
            )
        self._sizes[owner] = self._sizes.get(owner, 0) + len(code)
        if key in self._held:
            self._used[key] = code
        else:
            free[digest] = code

    def get(self, owner: str, digest: bytes) -> bytes | None:
        found = self._used.get((owner, digest))
        return found if found is not None else self._free.get(owner, _NONE).get(digest)

    def hold(self, owner: str, digest: bytes) -> None:
        """A live task names it: it stays."""
        key = (owner, digest)
        count = self._held.get(key, 0)
        self._held[key] = count + 1
        if count:
            return  # it is among the used ones already, or comes there
        code = self._free.get(owner, _NONE).pop(digest, None)
        if code is not None:
            self._used[key] = code

    def release(self, owner: str, digest: bytes) -> None:
        """A task that named it has ended."""
        key = (owner, digest)
        count = self._held[key] - 1
        if count:
            self._held[key] = count
            return
        del self._held[key]
        code = self._used.pop(key, None)
        if code is not None:
            self._free.setdefault(owner, OrderedDict())[digest] = code

    def forget(self, owner: str) -> None:
        """Nobody of this identity is there: what no live task names is dropped."""
        for code in self._free.pop(owner, _NONE).values():
            self._drop(owner, len(code))

    def _drop(self, owner: str, size: int) -> None:
        left = self._sizes[owner] - size
        if left:
            self._sizes[owner] = left
        else:
            del self._sizes[owner]


_NONE: OrderedDict[bytes, bytes] = OrderedDict()
