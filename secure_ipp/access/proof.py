"""One-time proofs of a holder's key, for the doors that are Unix sockets and have no Curve (S25).

Pure: time, nonce and keys are arguments.  Laws: a proof shows that its maker has the secret half of the key that it
names, to whoever has the secret half of the server's key, and to nobody else; it names cluster, door, both keys, time
and nonce, so that it is good for nothing else; the parser takes exactly what `make_proof` writes; the answer to a proof
shows that it was made by somebody who could check it.

The key of both MACs follows from X25519 of the holder's and the server's key (RFC 7748) by HKDF (RFC 5869), which is
the same from either side.  Neither key, nor anything that it could be got from, is ever sent.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from secure_ipp import limits
from secure_ipp.errors import ProtocolError
from secure_ipp.keys import base64url
from secure_ipp.keys.curve import CurvePublicKey, CurveSecretKey, KeyPair
from secure_ipp.keys.raw import KEY_BYTES

NONCE_BYTES = 16
MAC_BYTES = 32
_VERSION = 1
_BODY = struct.Struct(f">BQ{NONCE_BYTES}s{MAC_BYTES}s")  # version, milliseconds since the epoch, nonce, MAC
_MOST_MILLISECONDS = 2**53
_CONTEXT = b"secure-ipp proof of a key/1"
_PROOF, _ANSWER = b"proof", b"answer"


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a proof is good for.

    Attributes:
        cluster_id: of the cluster.
        door: the ZAP domain of the door.
        server: the key that the door is believed to have.
        holder: whose proof it is.
    """

    cluster_id: str
    door: str
    server: CurvePublicKey
    holder: CurvePublicKey


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof, as it travels: the name and the password of ZMTP's PLAIN.

    Attributes:
        holder: the key that it is about.
        milliseconds: since the epoch, when it was made, by its maker's clock.
        nonce: random, never used again.
        mac: unverified until `check` returns.
    """

    holder: CurvePublicKey
    milliseconds: int
    nonce: bytes
    mac: bytes = field(repr=False)

    @property
    def username(self) -> bytes:
        return self.holder.text.encode("ascii")

    @property
    def password(self) -> bytes:
        return base64url.encode(_BODY.pack(_VERSION, self.milliseconds, self.nonce, self.mac)).encode("ascii")

    @property
    def name(self) -> bytes:
        """What it is remembered by: a hash of holder and nonce."""
        return hashlib.sha256(self.holder.raw + self.nonce).digest()[:16]


def parse_proof(username: bytes, password: bytes) -> Proof:
    """The proof that these unverified bytes spell.

    Raises:
        ProtocolError: they spell none.
    """
    try:
        holder = CurvePublicKey.from_text(username.decode("ascii"))
        body = base64url.decode(password.decode("ascii"), _BODY.size)
    except ValueError:  # of which UnicodeDecodeError is one
        raise ProtocolError("not a proof of a key") from None
    version, milliseconds, nonce, mac = _BODY.unpack(body)
    if version != _VERSION or milliseconds > _MOST_MILLISECONDS:
        raise ProtocolError("a proof of another version")
    return Proof(holder, milliseconds, nonce, mac)


class SharedKey:
    """What a holder and a server have in common, and nobody else.

    Raises:
        ValueError: the other's public key is one that makes the same secret with every key.
    """

    __slots__ = ("_key",)

    def __init__(self, own: CurveSecretKey, other: CurvePublicKey) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        private = X25519PrivateKey.from_private_bytes(own.raw)
        shared = private.exchange(X25519PublicKey.from_public_bytes(other.raw))
        self._key = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_CONTEXT).derive(shared)

    def make_proof(self, purpose: Purpose, *, now: float, nonce: bytes) -> Proof:
        """A proof.

        Args:
            now: seconds since the epoch.
            nonce: `NONCE_BYTES` random ones.

        Raises:
            ValueError: the nonce is of another length, or the time of no clock.
        """
        milliseconds = int(now * 1000)
        if len(nonce) != NONCE_BYTES or not 0 <= milliseconds <= _MOST_MILLISECONDS:
            raise ValueError("a proof has a nonce of 16 bytes and a time since the epoch")
        return Proof(purpose.holder, milliseconds, nonce, self._mac(_PROOF, purpose, milliseconds, nonce))

    def check(self, proof: Proof, purpose: Purpose) -> None:
        """Return if this proof was made for this purpose by the holder of its key; its time is not looked at.

        Raises:
            ProtocolError: it was not.
        """
        made = self._mac(_PROOF, purpose, proof.milliseconds, proof.nonce)
        if proof.holder != purpose.holder or not hmac.compare_digest(made, proof.mac):
            raise ProtocolError("the proof does not hold: another key's, server's, door's or cluster's")

    def answer(self, proof: Proof, purpose: Purpose) -> bytes:
        """What only the server could say of this proof, and of no other."""
        return self._mac(_ANSWER, purpose, proof.milliseconds, proof.nonce)

    def _mac(self, kind: bytes, purpose: Purpose, milliseconds: int, nonce: bytes) -> bytes:
        pieces = (
            kind, purpose.cluster_id.encode(), purpose.door.encode(), purpose.server.raw, purpose.holder.raw,
            milliseconds.to_bytes(8, "big"), nonce,
        )
        said = b"".join(len(piece).to_bytes(2, "big") + piece for piece in pieces)
        return hmac.digest(self._key, said, hashlib.sha256)

    def __repr__(self) -> str:
        return "<SharedKey>"


def shared_key(keys: KeyPair, other: CurvePublicKey) -> SharedKey:
    """That of this pair's holder and the other."""
    return SharedKey(keys.secret, other)


def is_timely(proof: Proof, now: float) -> bool:
    """Whether the clocks of its maker and of the door (seconds since the epoch) agree well enough."""
    return abs(proof.milliseconds / 1000 - now) <= limits.PROOF_SECONDS
