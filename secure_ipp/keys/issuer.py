"""The issuer: the Ed25519 key that signs a cluster's grants, registry and capability files.

Its secret half lies in the owner's directory and is read by the commands that issue and revoke, never by a
controller process (S10).
"""

from __future__ import annotations

from secure_ipp.keys.signing import SIGNATURE_BYTES, BadSignature, SigningKey, VerifyKey

__all__ = ["SIGNATURE_BYTES", "BadSignature", "IssuerKey", "IssuerPublicKey"]


class IssuerPublicKey(VerifyKey):
    """The half that is pinned in every file."""

    __slots__ = ()


class IssuerKey(SigningKey):
    """The half that signs."""

    __slots__ = ()

    def public(self) -> IssuerPublicKey:
        """The public half."""
        return IssuerPublicKey(self._public_raw())
