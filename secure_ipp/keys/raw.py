"""What all keys share: 32 raw bytes that are shown by fingerprint, compared in constant time and never pickled.

Laws: a key is immutable; keys of different kinds are never equal; neither `repr`, `str`, `format`, `vars` nor an
exception shows the bytes; pickling and copying by pickle raise.  A fingerprint is always that of the public half.
"""

from __future__ import annotations

import base64
from typing import NoReturn, Self

from secure_ipp.keys import base64url

KEY_BYTES = 32


def fingerprint_of(public: bytes) -> str:
    """120 bits of SHA-256, in six groups that people can read to each other."""
    import hashlib  # with hmac 4 ms, which a client's start need not wait for

    digits = base64.b32encode(hashlib.sha256(public).digest()[:15]).decode("ascii").lower()
    return "-".join(digits[i : i + 4] for i in range(0, 24, 4))


class RawKey:
    """32 bytes of one kind of key."""

    __slots__ = ("_raw",)
    _raw: bytes

    def __init__(self, raw: bytes) -> None:
        if type(raw) is not bytes or len(raw) != KEY_BYTES:
            raise ValueError(f"a {type(self).__name__} is made of {KEY_BYTES} bytes")
        object.__setattr__(self, "_raw", raw)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The key of an unpadded base64url text.

        Raises:
            ValueError: the text is not the text of 32 bytes; it is not quoted in the error.
        """
        return cls(base64url.decode(text, KEY_BYTES))

    @property
    def raw(self) -> bytes:
        """The 32 bytes, for the cryptographic library alone."""
        return self._raw

    @property
    def text(self) -> str:
        """Unpadded base64url, for files and pipes."""
        return base64url.encode(self._raw)

    @property
    def fingerprint(self) -> str:
        """What people compare."""
        return fingerprint_of(self._raw)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        import hmac

        return hmac.compare_digest(self._raw, other._raw)

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._raw))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.fingerprint}>"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} does not change")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} does not change")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not pickled (S11); keys travel in capability files and over pipes")

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not pickled (S11)")
