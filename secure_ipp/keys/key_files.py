"""Files that hold one secret key: the doors' (server.key), the issuer's (issuer.key), and those of recipients.

The public half stands beside the secret one and must belong to it; the file says what it is, so that one cannot be
taken for the other.  The issuer's and a recipient's may be sealed (S13); the doors' may not, for a controller starts
with nobody there to ask.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from secure_ipp import limits
from secure_ipp.errors import PolicyError
from secure_ipp.keys import fields, strict_json
from secure_ipp.keys.curve import CurvePublicKey, CurveSecretKey, KeyPair
from secure_ipp.keys.issuer import IssuerKey, IssuerPublicKey
from secure_ipp.keys.private_files import Path, read_private, write_private
from secure_ipp.keys.recipients import RECIPIENT_PURPOSE, RecipientKey, RecipientPublicKey
from secure_ipp.keys.sealing import KeyringEntry, Lock, Locked, Sealed, Secret, Subject, Unlock, checked_lock

SERVER_FORMAT: Literal["secure-ipp-server-key/1"] = "secure-ipp-server-key/1"
ISSUER_FORMAT: Literal["secure-ipp-issuer-key/1"] = "secure-ipp-issuer-key/1"
RECIPIENT_FORMAT: Literal["secure-ipp-recipient-key/1"] = "secure-ipp-recipient-key/1"
_SECRET = frozenset({"secret_key", "sealed", "keyring"})


class KeyFileError(PolicyError):
    """A key file is damaged or of another kind."""

    code = "key-file"


class _ServerKey(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["secure-ipp-server-key/1"]
    public_key: CurvePublicKey
    secret_key: CurveSecretKey


class SealableKeyFile(Struct, Generic[Secret], frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the key files share that may be sealed."""

    PURPOSE: ClassVar[str]
    WHAT: ClassVar[str]

    format: str
    public_key: Any
    secret_key: Any = UNSET
    sealed: Sealed | UnsetType = UNSET
    keyring: KeyringEntry | UnsetType = UNSET

    @classmethod
    def secret_type(cls) -> type[Secret]:
        """The type of its secret key."""
        raise NotImplementedError

    @property
    def subject(self) -> Subject[Secret]:
        """Whose secret it is, and what a box of it is bound to."""
        bound = fields.canonical(self, without=_SECRET)
        return Subject(self.secret_type(), self.public_key, self.PURPOSE, bound, self.WHAT)

    @property
    def locked(self) -> Locked[Secret] | None:
        """What must be unlocked; None: nothing."""
        if not isinstance(self.secret_key, UnsetType):
            return None
        subject = self.subject
        return Locked(subject, checked_lock(subject, self.sealed, self.keyring))

    def check(self) -> None:
        """Return if there is one secret, this public key's, or one lock.

        Raises:
            ValueError: there is not.
        """
        if self.locked is not None:
            return
        if not isinstance(self.sealed, UnsetType) or not isinstance(self.keyring, UnsetType):
            raise ValueError("it has both a secret key and a lock")
        if self.secret_key.public() != self.public_key:
            raise ValueError("its secret key does not belong to its public key")

    def with_secret(self, secret: Secret) -> Self:
        """The same with its secret in clear."""
        return msgspec.structs.replace(self, secret_key=secret, **Lock().fields())

    def with_lock(self, lock: Lock) -> Self:
        """The same with a lock in place of the secret."""
        return msgspec.structs.replace(self, secret_key=UNSET, **lock.fields())

    def to_file(self) -> bytes:
        """The text of the file, **perhaps with the secret**; for `write_private` alone."""
        return fields.to_file(self)


class IssuerKeyFile(SealableKeyFile[IssuerKey], frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What stands in issuer.key."""

    PURPOSE: ClassVar[str] = "issuer-key/1"
    WHAT: ClassVar[str] = "the issuer's key"

    format: Literal["secure-ipp-issuer-key/1"]
    public_key: IssuerPublicKey
    secret_key: IssuerKey | UnsetType = UNSET

    @classmethod
    def secret_type(cls) -> type[IssuerKey]:
        """That of an issuer's key."""
        return IssuerKey


class RecipientKeyFile(SealableKeyFile[RecipientKey], frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What stands in a recipient's key file."""

    PURPOSE: ClassVar[str] = RECIPIENT_PURPOSE
    WHAT: ClassVar[str] = "the recipient's key"

    format: Literal["secure-ipp-recipient-key/1"]
    public_key: RecipientPublicKey
    secret_key: RecipientKey | UnsetType = UNSET

    @classmethod
    def secret_type(cls) -> type[RecipientKey]:
        """That of a recipient's key."""
        return RecipientKey


_File = TypeVar("_File", IssuerKeyFile, RecipientKeyFile)
_Kind = TypeVar("_Kind", _ServerKey, IssuerKeyFile, RecipientKeyFile)


def write_server_key(path: Path, keys: KeyPair, *, exclusive: bool = True) -> None:
    """Write the doors' key pair to a private file; a new one, or else one that takes another's place in one step."""
    write_private(path, fields.to_file(_ServerKey(SERVER_FORMAT, keys.public, keys.secret)), exclusive=exclusive)


def write_issuer_key(path: Path, issuer: IssuerKey) -> None:
    """Write the issuer's key to a new private file."""
    write_private(path, IssuerKeyFile(format=ISSUER_FORMAT, public_key=issuer.public(), secret_key=issuer).to_file())


def write_recipient_key(path: Path, key: RecipientKey) -> None:
    """Write a recipient's key to a new private file."""
    write_private(path, RecipientKeyFile(format=RECIPIENT_FORMAT, public_key=key.public(), secret_key=key).to_file())


def read_server_key(path: Path) -> KeyPair:
    """The doors' key pair.

    Raises:
        MissingFile, PrivateFileError: it is not there, or others could read it.
        KeyFileError: it is damaged.
    """
    record = _read(path, _ServerKey)
    if record is None or record.secret_key.public() != record.public_key:
        raise _damaged(path, "server")
    return KeyPair(record.public_key, record.secret_key)


def read_issuer_file(path: Path) -> IssuerKeyFile:
    """What the issuer's key file says, without unlocking anything.

    Raises:
        MissingFile, PrivateFileError: it is not there, or others could read it.
        KeyFileError: it is damaged.
    """
    return _checked(path, IssuerKeyFile, "issuer")


def read_issuer_key(path: Path, unlock: Unlock | None = None) -> IssuerKey:
    """The issuer's key; for the commands that issue and revoke, never for a controller process.

    Args:
        path: the file.
        unlock: what opens it if it is sealed; None: its user is asked, where there is a way to ask.

    Raises:
        MissingFile, PrivateFileError: it is not there, or others could read it.
        KeyFileError: it is damaged.
        SealError: it is sealed, and was not opened.
    """
    record = read_issuer_file(path)
    return record.secret_key if isinstance(record.secret_key, IssuerKey) else _opened(record.locked, unlock)


def read_recipient_file(path: Path) -> RecipientKeyFile:
    """What a recipient's key file says, without unlocking anything.

    Raises:
        MissingFile, PrivateFileError: it is not there, or others could read it.
        KeyFileError: it is damaged.
    """
    return _checked(path, RecipientKeyFile, "recipient's")


def read_recipient_key(path: Path, unlock: Unlock | None = None) -> RecipientKey:
    """A recipient's key; arguments and errors as of `read_issuer_key`."""
    record = read_recipient_file(path)
    return record.secret_key if isinstance(record.secret_key, RecipientKey) else _opened(record.locked, unlock)


def _opened(locked: Locked[Secret] | None, unlock: Unlock | None) -> Secret:
    assert locked is not None
    if unlock is None:
        from secure_ipp.keys.unlocking import Unlocker

        unlock = Unlocker()
    return unlock(locked)


def _checked(path: Path, kind: type[_File], word: str) -> _File:
    record = _read(path, kind)
    if record is None:
        raise _damaged(path, word)
    return record


def _read(path: Path, kind: type[_Kind]) -> _Kind | None:
    """None if damaged: an error raised from here would carry the secret in its traceback's variables (S11)."""
    data = read_private(path, limits.CAPABILITY_BYTES)
    try:
        plain = strict_json.parse_object(data, limits.CAPABILITY_BYTES)
        record = msgspec.convert(plain, kind, dec_hook=fields.decode_key)
        if isinstance(record, SealableKeyFile):
            record.check()
    except ValueError:
        return None
    return record


def _damaged(path: Path, kind: str) -> KeyFileError:
    return KeyFileError(f"{path} is no {kind} key file, or it is damaged", "restore it from the cluster's copy")
