"""What a holder signs with: an Ed25519 key that follows from its Curve secret, so that one secret is all it keeps.

Its public half stands in the holder's grant, signed by the issuer.  With it a holder vouches for the narrower
capabilities that it hands on (S32), and proves who it is where Curve cannot be had (S25).
"""

from __future__ import annotations

from secure_ipp.keys.curve import CurveSecretKey
from secure_ipp.keys.raw import KEY_BYTES
from secure_ipp.keys.signing import SigningKey, VerifyKey

_CONTEXT = b"secure-ipp holder signing key/1"


class HolderPublicKey(VerifyKey):
    """The half that stands in the grant."""

    __slots__ = ()


class HolderKey(SigningKey):
    """The half that signs."""

    __slots__ = ()

    @classmethod
    def of(cls, secret: CurveSecretKey) -> HolderKey:
        """The key that follows from this secret: HKDF-SHA256 (RFC 5869), no salt, a fixed context."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return cls(HKDF(SHA256(), KEY_BYTES, salt=None, info=_CONTEXT).derive(secret.raw))

    def public(self) -> HolderPublicKey:
        """The public half."""
        return HolderPublicKey(self._public_raw())
