"""What stands in a file in place of its secret key (S13): a sealed box, the name of an entry in the keyring, or both.

Laws: a box opens only beside the public part that it was made for, which is its associated data; what comes out must
belong to the public key there.  The parameters of a passphrase's cost have a least value, below which nothing is
sealed or opened, and a greatest, so that a hostile file exhausts no reader.  No box names code, a path or a command.

Passphrases: Argon2id (RFC 9106), whose key seals once, under a fresh salt, with ChaCha20-Poly1305 (RFC 8439): it is
as fast and as safe in software as with hardware, and the one that libsodium, beneath Curve, uses too.
Recipients: HPKE in base mode (RFC 9180), X25519 with HKDF-SHA256 and ChaCha20-Poly1305.  A post-quantum KEM would
protect nothing here: what is sealed is a Curve25519 or Ed25519 key whose public half stands in clear beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, PolicyError, UsageError
from secure_ipp.keys import base64url
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.keys.raw import KEY_BYTES, RawKey
from secure_ipp.keys.recipients import RECIPIENT_PURPOSE, RecipientKey, RecipientPublicKey

SERVICE: Literal["secure-ipp"] = "secure-ipp"
SUITE: Literal["hpke-base-x25519-hkdf-sha256-chacha20poly1305"] = "hpke-base-x25519-hkdf-sha256-chacha20poly1305"
SALT_BYTES = 16
NONCE_BYTES = 12
_TAG_BYTES = 16
BOX_BYTES = KEY_BYTES + _TAG_BYTES
HPKE_BYTES = KEY_BYTES + BOX_BYTES  # the ephemeral public key stands before the box
_CONTEXT = b"secure-ipp sealed secret/1\0"


class SealError(PolicyError):
    """A sealed secret cannot be had: by this passphrase, this key, or at all."""

    code = "sealed"


class WrongPassphrase(SealError):
    """The passphrase does not open it."""

    code = "wrong-passphrase"


# --- the fields of a file -------------------------------------------------------------------------------


class PassphraseBox(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="by", tag="passphrase"):
    """A secret that a passphrase opens."""

    kdf: Literal["argon2id"]
    memory: Annotated[int, Meta(ge=limits.SEAL_MEMORY_KIB, le=limits.SEAL_MOST_MEMORY_KIB)]  # KiB
    passes: Annotated[int, Meta(ge=limits.SEAL_PASSES, le=limits.SEAL_MOST_PASSES)]
    lanes: Annotated[int, Meta(ge=1, le=limits.SEAL_MOST_LANES)]
    salt: Annotated[str, Meta(max_length=22)]
    nonce: Annotated[str, Meta(max_length=16)]
    box: Annotated[str, Meta(max_length=64)]


class RecipientBox(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="by", tag="recipient"):
    """A secret that the holder of a recipient's key opens."""

    suite: Literal["hpke-base-x25519-hkdf-sha256-chacha20poly1305"]
    recipient: RecipientPublicKey
    box: Annotated[str, Meta(max_length=107)]


Sealed = PassphraseBox | RecipientBox


class KeyringEntry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The entry of the OS keyring that has the secret or, beside a sealed box, the passphrase."""

    service: Literal["secure-ipp"]
    account: Annotated[str, Meta(max_length=100)]


class HasPublic(Protocol):
    """A secret key, as far as this module knows one."""

    @property
    def raw(self) -> bytes: ...
    @property
    def text(self) -> str: ...
    def public(self) -> RawKey: ...


Secret = TypeVar("Secret", bound=HasPublic)


@dataclass(frozen=True, slots=True)
class Subject(Generic[Secret]):
    """Whose secret it is: the public part of a file, without the lock.

    Args:
        kind: the type of its secret key.
        public: the public key.
        purpose: what kind of file, as in signatures.
        bound: the canonical public part; a box opens beside this one alone.
        what: the file in words for people.
    """

    kind: Callable[[bytes], Secret]
    public: RawKey
    purpose: str
    bound: bytes
    what: str

    def entry(self, holds: Literal["secret", "passphrase"]) -> KeyringEntry:
        """The one entry of a keyring that this file may name: no file leads to another program's entries."""
        kind = self.purpose.split("/")[0]
        return KeyringEntry(service=SERVICE, account=f"{holds}.{kind}.{self.public.fingerprint}")

    def secret(self, raw: bytes) -> Secret | None:
        """The secret key of these bytes, if it is this subject's."""
        if len(raw) != KEY_BYTES:
            return None
        secret = self.kind(raw)
        return secret if secret.public() == self.public else None

    def secret_of_text(self, text: str) -> Secret | None:
        """The secret key of this text, if it is this subject's.

        Raises:
            ValueError: it is the text of no key.
        """
        return self.secret(base64url.decode(text, KEY_BYTES))


@dataclass(frozen=True, slots=True)
class Lock:
    """What stands in place of the secret."""

    sealed: Sealed | None = None
    keyring: KeyringEntry | None = None

    @property
    def by(self) -> Literal["passphrase", "recipient", "keyring"]:
        """In a word, how it is opened."""
        if self.sealed is None:
            return "keyring"
        return "passphrase" if isinstance(self.sealed, PassphraseBox) else "recipient"

    def fields(self) -> dict[str, Any]:
        """As the fields of a struct that has both."""
        return {"sealed": UNSET if self.sealed is None else self.sealed,
                "keyring": UNSET if self.keyring is None else self.keyring}


@dataclass(frozen=True, slots=True)
class Locked(Generic[Secret]):
    """A lock with the subject that it hangs on."""

    subject: Subject[Secret]
    lock: Lock


class Unlock(Protocol):
    """What opens locked files: by asking, by a key file, by the keyring."""

    def __call__(self, locked: Locked[Secret]) -> Secret:
        """The secret; a `SecureIppError` if it cannot be had."""
        ...


def checked_lock(subject: Subject[Any], sealed: Sealed | UnsetType, keyring: KeyringEntry | UnsetType) -> Lock:
    """The lock that these unverified fields of a file make.

    Raises:
        ValueError: they make none; in words that may be shown.
    """
    lock = Lock(None if isinstance(sealed, UnsetType) else sealed, None if isinstance(keyring, UnsetType) else keyring)
    if lock.sealed is None and lock.keyring is None:
        raise ValueError("it has no secret_key, and neither sealed nor keyring in its place")
    if isinstance(lock.sealed, RecipientBox) and lock.keyring is not None:
        raise ValueError("what is sealed to a recipient has no keyring")
    if isinstance(lock.sealed, RecipientBox) and subject.purpose == RECIPIENT_PURPOSE:
        raise ValueError("a recipient's key is not sealed to a recipient")  # to itself, it would open never
    if lock.keyring is not None and lock.keyring != subject.entry("secret" if lock.sealed is None else "passphrase"):
        raise ValueError("its keyring entry is not its own")
    if isinstance(lock.sealed, PassphraseBox):
        base64url.decode(lock.sealed.salt, SALT_BYTES)
        base64url.decode(lock.sealed.nonce, NONCE_BYTES)
        base64url.decode(lock.sealed.box, BOX_BYTES)
        if lock.sealed.memory * lock.sealed.passes > limits.SEAL_MOST_WORK_KIB:
            raise ValueError("its cost is more than this version would ever ask for")
    elif lock.sealed is not None:
        base64url.decode(lock.sealed.box, HPKE_BYTES)
    return lock


# --- a passphrase's box ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """What each try of a passphrase costs, the owner's and a thief's.

    Raises:
        ValueError: it is less than the least, or more than a reader may be made to spend.
    """

    memory: int = limits.SEAL_MEMORY_KIB  # KiB
    passes: int = limits.SEAL_PASSES
    lanes: int = limits.SEAL_MOST_LANES

    def __post_init__(self) -> None:
        if not (
            limits.SEAL_MEMORY_KIB <= self.memory <= limits.SEAL_MOST_MEMORY_KIB
            and limits.SEAL_PASSES <= self.passes <= limits.SEAL_MOST_PASSES
            and self.memory * self.passes <= limits.SEAL_MOST_WORK_KIB
            and 1 <= self.lanes <= limits.SEAL_MOST_LANES
        ):
            raise ValueError(
                f"memory from {limits.SEAL_MEMORY_KIB // 1024} to {limits.SEAL_MOST_MEMORY_KIB // 1024} MiB, passes "
                f"from {limits.SEAL_PASSES} to {limits.SEAL_MOST_PASSES}, and their product no more than "
                f"{limits.SEAL_MOST_WORK_KIB // 1024} MiB"
            )

    @classmethod
    def of(cls, box: PassphraseBox) -> Cost:
        """That of a box which was read."""
        return cls(box.memory, box.passes, box.lanes)


def seal_by_passphrase(
    secret: HasPublic, subject: Subject[Any], passphrase: Passphrase, cost: Cost, *,
    randomness: Callable[[int], bytes] = os.urandom,
) -> PassphraseBox:
    """The secret in a box that this passphrase opens, beside this public part alone.

    Raises:
        EnvironmentProblem: this machine lacks the memory, or the library lacks Argon2id.
    """
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    salt, nonce = randomness(SALT_BYTES), randomness(NONCE_BYTES)
    key = _derived(passphrase, cost, salt)
    if isinstance(key, EnvironmentProblem):
        raise key
    box = ChaCha20Poly1305(key).encrypt(nonce, secret.raw, _associated(subject))
    return PassphraseBox(
        kdf="argon2id", memory=cost.memory, passes=cost.passes, lanes=cost.lanes, salt=base64url.encode(salt),
        nonce=base64url.encode(nonce), box=base64url.encode(box),
    )


def open_by_passphrase(box: PassphraseBox, subject: Subject[Secret], passphrase: Passphrase) -> Secret:
    """The secret.

    Raises:
        WrongPassphrase: this is not the passphrase, or the box is not this public part's.
        EnvironmentProblem: this machine lacks the memory, or the library lacks Argon2id.
    """
    found = _opened_by_passphrase(box, subject, passphrase)
    if isinstance(found, EnvironmentProblem):
        raise found
    if found is None:
        raise WrongPassphrase(
            f"the passphrase does not open {subject.what}",
            "try again; if it is the right one for sure, the file was changed since it was sealed",
        )
    return found


def _opened_by_passphrase(
    box: PassphraseBox, subject: Subject[Secret], passphrase: Passphrase
) -> Secret | EnvironmentProblem | None:
    """Errors are returned: a traceback of this frame would hold the key in its variables (S11)."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    key = _derived(passphrase, Cost.of(box), base64url.decode(box.salt, SALT_BYTES))
    if isinstance(key, EnvironmentProblem):
        return key
    nonce, data = base64url.decode(box.nonce, NONCE_BYTES), base64url.decode(box.box, BOX_BYTES)
    try:
        return subject.secret(ChaCha20Poly1305(key).decrypt(nonce, data, _associated(subject)))
    except InvalidTag:
        return None


def _derived(passphrase: Passphrase, cost: Cost, salt: bytes) -> bytes | EnvironmentProblem:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    try:
        return Argon2id(
            salt=salt, length=KEY_BYTES, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory
        ).derive(passphrase.raw)
    except UnsupportedAlgorithm:
        return EnvironmentProblem(
            "the library `cryptography` was built here without Argon2id", "install its wheel from the package index"
        )
    except MemoryError:
        return EnvironmentProblem(
            f"a passphrase costs {cost.memory // 1024} MiB of memory here, which cannot be had", "free some memory"
        )


# --- a recipient's box ----------------------------------------------------------------------------------


def seal_to_recipient(secret: HasPublic, subject: Subject[Any], recipient: RecipientPublicKey) -> RecipientBox:
    """The secret in a box that only this recipient opens, beside this public part alone.

    Raises:
        UsageError: it is a recipient's key itself, or the recipient's is one that hides nothing.
    """
    if subject.purpose == RECIPIENT_PURPOSE:
        raise UsageError(f"{subject.what} is not sealed to a recipient", "seal it by a passphrase")
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    try:
        box = _suite().encrypt(secret.raw, X25519PublicKey.from_public_bytes(recipient.raw), info=_info(subject))
    except ValueError:  # a point of small order: everybody could open the box
        box = b""
    if not box:
        raise UsageError(
            f"the recipient {recipient.fingerprint} is the key of nobody: anybody could open what is sealed to it",
            "whoever sent it is no friend; compare the fingerprint of secure-ipp keys recipient by another way",
        )
    return RecipientBox(suite=SUITE, recipient=recipient, box=base64url.encode(box))


def open_by_recipient(box: RecipientBox, subject: Subject[Secret], key: RecipientKey) -> Secret:
    """The secret.

    Raises:
        SealError: it was sealed to somebody else, or the box is not this public part's.
    """
    if key.public() != box.recipient:
        raise SealError(
            f"{subject.what} is sealed to the recipient {box.recipient.fingerprint}, and this key is of "
            f"{key.fingerprint}",
            "use that recipient's key file, or have it sealed to this one",
        )
    found = _opened_by_recipient(box, subject, key)
    if found is None:
        raise SealError(
            f"the box in {subject.what} does not belong there", "take a fresh copy; files are not edited by hand"
        )
    return found


def _opened_by_recipient(box: RecipientBox, subject: Subject[Secret], key: RecipientKey) -> Secret | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    data = base64url.decode(box.box, HPKE_BYTES)
    try:
        raw = _suite().decrypt(data, X25519PrivateKey.from_private_bytes(key.raw), info=_info(subject))
    except InvalidTag:
        return None
    return subject.secret(raw)


def _suite() -> Any:
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def _info(subject: Subject[Any]) -> bytes:
    """What binds an HPKE box to its public part.

    The library's interface has no associated data; for a single message `info`, from which the key is derived, binds
    as well (RFC 9180, section 8.1).
    """
    import hashlib

    return _CONTEXT + SUITE.encode() + b"\0" + hashlib.sha256(_associated(subject)).digest()


def _associated(subject: Subject[Any]) -> bytes:
    return _CONTEXT + subject.purpose.encode() + b"\0" + subject.bound
