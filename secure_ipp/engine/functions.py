"""The functions that an engine keeps, by owner and digest.

Pure.  Laws: a function is kept only under the digest of its own bytes; one owner's functions never serve another's
tasks; the bytes kept for one owner are bounded, and the longest unused goes first.
"""

from __future__ import annotations

from collections import OrderedDict

from secure_ipp import limits
from secure_ipp.payload.functions import LoadedFunction, verify_digest


class CachedFunction:
    """One function: its bytes, and what they were rebuilt to by the thread that runs user code."""

    __slots__ = ("code", "loaded")

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.loaded: LoadedFunction | None = None


class FunctionCache:
    """All functions of this engine."""

    def __init__(self, bytes_per_owner: int = limits.FUNCTIONS_PER_OWNER_BYTES) -> None:
        self._limit = bytes_per_owner
        self._by_owner: dict[str, OrderedDict[bytes, CachedFunction]] = {}
        self._sizes: dict[str, int] = {}

    def put(self, owner: str, digest: bytes, code: bytes) -> CachedFunction:
        """Keep a function (unverified bytes).

        Raises:
            ProtocolError: the digest is not that of the bytes.
        """
        verify_digest(code, digest)
        kept = self._by_owner.setdefault(owner, OrderedDict())
        known = kept.get(digest)
        if known is not None:
            kept.move_to_end(digest)
            return known
        size = self._sizes.get(owner, 0) + len(code)
        while size > self._limit and kept:
            size -= len(kept.popitem(last=False)[1].code)
        self._sizes[owner] = size
        function = kept[digest] = CachedFunction(code)
        return function

    def get(self, owner: str, digest: bytes) -> CachedFunction | None:
        kept = self._by_owner.get(owner)
        if kept is None:
            return None
        function = kept.get(digest)
        if function is not None:
            kept.move_to_end(digest)
        return function

    def forget(self, owner: str) -> None:
        """Drop all that is kept for this owner; a task that has one of them keeps it to its end."""
        self._by_owner.pop(owner, None)
        self._sizes.pop(owner, None)
