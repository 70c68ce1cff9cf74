"""The keys of a recipient: X25519 (RFC 7748), for sealing files to somebody (S13) and for nothing else.

The public half travels as one word, ``recipient:`` and base64url, so that no other kind of key is taken for it.
"""

from __future__ import annotations

from typing import Self

from secure_ipp.errors import UsageError
from secure_ipp.keys.raw import RawKey

RECIPIENT_PURPOSE = "recipient-key/1"
_PREFIX = "recipient:"


class RecipientPublicKey(RawKey):
    """The half that others seal to."""

    __slots__ = ()

    @property
    def word(self) -> str:
        """What its holder gives to others."""
        return _PREFIX + self.text

    @classmethod
    def of_word(cls, word: str) -> Self:
        """The key of such a word.

        Raises:
            UsageError: it is none.
        """
        if word.startswith(_PREFIX):
            try:
                return cls.from_text(word.removeprefix(_PREFIX))
            except ValueError:
                pass
        raise UsageError(
            f"a recipient is named by {_PREFIX} and 43 characters", "it is what secure-ipp keys recipient prints there"
        )


class RecipientKey(RawKey):
    """The half that opens."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a table

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the public half."""
        return self.public().fingerprint

    def public(self) -> RecipientPublicKey:
        """The public half."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return RecipientPublicKey(X25519PrivateKey.from_private_bytes(self.raw).public_key().public_bytes_raw())
