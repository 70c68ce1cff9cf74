"""Curve keys: the X25519 key pairs that CurveZMQ speaks with, as raw bytes.

A `CurveSecretKey` shows the fingerprint of its public half.  The cryptographic library is imported when the first
key is made or derived, so that importing this module costs nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from secure_ipp.keys.raw import KEY_BYTES, RawKey


class CurvePublicKey(RawKey):
    """The half that others may know."""

    __slots__ = ()


class CurveSecretKey(RawKey):
    """The half that proves who one is."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a table

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the public half."""
        return self.public().fingerprint

    def public(self) -> CurvePublicKey:
        """The public half (RFC 7748, section 6.1)."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return CurvePublicKey(X25519PrivateKey.from_private_bytes(self.raw).public_key().public_bytes_raw())


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both halves of one identity."""

    public: CurvePublicKey
    secret: CurveSecretKey

    @classmethod
    def generate(cls) -> KeyPair:
        """A fresh pair, from the operating system's randomness."""
        return cls.from_secret(CurveSecretKey(os.urandom(KEY_BYTES)))

    @classmethod
    def from_secret(cls, secret: CurveSecretKey) -> KeyPair:
        """The pair that this secret half belongs to."""
        return cls(secret.public(), secret)

    @property
    def fingerprint(self) -> str:
        """That of the public half."""
        return self.public.fingerprint
