"""Ed25519 keys (RFC 8032).  Each signature is bound to its purpose, so that one kind of signed text cannot stand in
for another.
"""

from __future__ import annotations

import os
from typing import Self

from secure_ipp.errors import PolicyError
from secure_ipp.keys.raw import KEY_BYTES, RawKey

SIGNATURE_BYTES = 64


class BadSignature(PolicyError):
    """Something is not signed by whom it must be signed by."""

    code = "signature"


def _bound(purpose: str, message: bytes) -> bytes:
    if not purpose or "\0" in purpose:
        raise ValueError("a signature's purpose is a word")
    return b"secure-ipp\0" + purpose.encode() + b"\0" + message


class VerifyKey(RawKey):
    """The half that others may know."""

    __slots__ = ()

    def verify(self, purpose: str, message: bytes, signature: bytes) -> None:
        """Return if this key's holder signed this message for this purpose.

        Raises:
            BadSignature: it did not.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, _bound(purpose, message))
        except (InvalidSignature, ValueError):
            raise BadSignature(f"the signature of this {purpose.split('/')[0]} is not its signer's") from None


class SigningKey(RawKey):
    """The half that signs."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a table

    @classmethod
    def generate(cls) -> Self:
        """A fresh key, from the operating system's randomness."""
        return cls(os.urandom(KEY_BYTES))

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the public half."""
        return self.public().fingerprint

    def public(self) -> VerifyKey:
        """The public half."""
        return VerifyKey(self._public_raw())

    def _public_raw(self) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.raw).public_key().public_bytes_raw()

    def sign(self, purpose: str, message: bytes) -> bytes:
        """64 bytes that only this key can make of this purpose and message."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.raw).sign(_bound(purpose, message))
