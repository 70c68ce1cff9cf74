"""Sealing a file that holds a secret key, in place (S13): a capability, the issuer's key, a recipient's key.

Laws: the file has its old or its new content, whole, whenever the process dies.  A secret goes into the keyring, and
is asked back from there, before the file forgets it; it leaves the keyring after the file has it again.  Nothing but
the lock changes: what the issuer signed stays as it is, and so does the signature.  One command does it at a time.
What an attempt that died has left beside the file is removed, for it may hold the secret.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from secure_ipp import limits
from secure_ipp.errors import SecureIppError, UsageError
from secure_ipp.keys import strict_json
from secure_ipp.keys.ancestors import user_id
from secure_ipp.keys.capability import Capability, LockedCapability, read_capability
from secure_ipp.keys.changing import changing
from secure_ipp.keys.key_files import (
    ISSUER_FORMAT,
    RECIPIENT_FORMAT,
    SERVER_FORMAT,
    SealableKeyFile,
    read_issuer_file,
    read_recipient_file,
    write_recipient_key,
)
from secure_ipp.keys.keyring_store import Keyring, NoKeyring
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.keys.private_files import check_ancestors, make_private_dir, read_private, remove_private, write_private
from secure_ipp.keys.raw import KEY_BYTES
from secure_ipp.keys.recipients import RecipientKey, RecipientPublicKey
from secure_ipp.keys.sealing import (
    Cost,
    HasPublic,
    KeyringEntry,
    Lock,
    Locked,
    PassphraseBox,
    RecipientBox,
    Subject,
    Unlock,
    seal_by_passphrase,
    seal_to_recipient,
)
from secure_ipp.keys.unlocking import Unlocker

AnyPath = str | os.PathLike[str]
SecretFile = Capability | LockedCapability | SealableKeyFile[Any]


class Way(Protocol):
    """How a secret is locked."""

    def close(self, secret: HasPublic, subject: Subject[Any]) -> Lock:
        """The lock that stands in the secret's place."""
        ...


@dataclass(frozen=True, slots=True)
class ByPassphrase:
    """By a passphrase; with `remember`, that keyring has it too."""

    passphrase: Passphrase
    cost: Cost = field(default_factory=Cost)
    remember: Keyring | None = None

    def close(self, secret: HasPublic, subject: Subject[Any]) -> Lock:
        """The box, and perhaps the entry."""
        box = seal_by_passphrase(secret, subject, self.passphrase, self.cost)
        if self.remember is None:
            return Lock(box)
        entry = subject.entry("passphrase")
        self.remember.keep(entry, self.passphrase)
        return Lock(box, entry)


@dataclass(frozen=True, slots=True)
class ToRecipient:
    """To whoever holds a key."""

    recipient: RecipientPublicKey

    def close(self, secret: HasPublic, subject: Subject[Any]) -> Lock:
        """The box."""
        return Lock(seal_to_recipient(secret, subject, self.recipient))


@dataclass(frozen=True, slots=True)
class InKeyring:
    """The secret itself lies in the keyring, and nowhere else."""

    keyring: Keyring

    def close(self, secret: HasPublic, subject: Subject[Any]) -> Lock:
        """The entry."""
        entry = subject.entry("secret")
        self.keyring.keep(entry, secret)
        return Lock(None, entry)


@dataclass(frozen=True, slots=True)
class Done:
    """What was done to a file."""

    path: Path
    subject: Subject[Any]
    lock: Lock | None  # None: the secret stands in the file in clear


def read_secret_file(path: AnyPath) -> SecretFile:
    """What a file that may hold a secret says, without unlocking anything; an expired capability too.

    Raises:
        UsageError: it is a file of another kind.
        MissingFile, PrivateFileError: it is not there, or others could read or change it.
        CapabilityError, KeyFileError: it is damaged.
    """
    kind = _format_of(path)
    if kind == ISSUER_FORMAT:
        return read_issuer_file(path)
    if kind == RECIPIENT_FORMAT:
        return read_recipient_file(path)
    if kind == SERVER_FORMAT:
        raise UsageError(
            f"{path} holds the doors' key, which a controller needs when nobody is there to unseal it",
            "keep its directory on an encrypted disk instead",
        )
    return read_capability(path, now=0.0)


def seal(path: AnyPath, way: Way) -> Done:
    """Lock a file whose secret stands in clear.

    Raises:
        UsageError: it is locked already.
        SecureIppError: it could not be read, locked or written; then nothing has changed.
    """
    with changing(path):
        found = read_secret_file(path)
        if found.locked is not None:
            raise UsageError(f"{path} is sealed already", "seal it anew: secure-ipp keys reseal", code="sealed-already")
        assert not isinstance(found, LockedCapability)
        lock = way.close(found.secret_key, found.subject)
        return _replace(path, found, lock)


def unseal(path: AnyPath, unlock: Unlock, *, keyring_backend: str = "") -> Done:
    """Put the secret back in clear; what the keyring has of it is removed.

    Raises:
        UsageError: it is not locked.
        SecureIppError: it could not be read, opened or written; then nothing has changed.
        NoKeyring: the file is done, but the keyring's entry is still there.
    """
    with changing(path):
        found = read_secret_file(path)
        locked: Locked[Any] | None = found.locked
        if locked is None:
            raise UsageError(f"{path} is not sealed", code="not-sealed")
        done = _replace(path, found.with_secret(unlock(locked)), None)
        _forget(locked.lock.keyring, keyring_backend)
        return done


def reseal(path: AnyPath, unlock: Unlock, way: Way, *, keyring_backend: str = "") -> Done:
    """Lock a locked file in another way, or at another cost; the secret is never on the disk.

    Raises:
        UsageError: it is not locked.
        SecureIppError: it could not be read, opened, locked or written; then nothing has changed.
        NoKeyring: the file is done, but the keyring's old entry is still there.
    """
    with changing(path):
        found = read_secret_file(path)
        locked: Locked[Any] | None = found.locked
        if locked is None:
            raise UsageError(f"{path} is not sealed", "seal it: secure-ipp keys seal", code="not-sealed")
        secret = unlock(locked)
        with _passphrase_kept(locked.lock, keyring_backend):
            lock = way.close(secret, found.subject)
            done = _replace(path, found, lock)
        if locked.lock.keyring != lock.keyring:
            _forget(locked.lock.keyring, keyring_backend)
        return done


@contextmanager
def _passphrase_kept(old: Lock, backend: str) -> Iterator[None]:
    """Should what is within fail, the keyring has again the passphrase that opens the file as it still is."""
    kept: Passphrase | None = None
    if old.by == "passphrase" and old.keyring is not None:
        try:
            kept = Keyring(backend).fetch(old.keyring, Passphrase.of)
        except SecureIppError:
            kept = None  # it opens nothing now, either
    try:
        yield
    except BaseException:
        if kept is not None and old.keyring is not None:
            with suppress(SecureIppError):
                Keyring(backend).keep(old.keyring, kept)
        raise


def sealed_capability(capability: Capability, way: Way) -> LockedCapability:
    """A capability that was just made, locked before it is written: its secret is never on the disk."""
    return capability.with_lock(way.close(capability.secret_key, capability.subject))


def new_file(capability: Capability, to: RecipientPublicKey | None) -> bytes:
    """The text of a new capability's file: sealed to a recipient, else **with the secret in clear**."""
    return capability.to_file() if to is None else sealed_capability(capability, ToRecipient(to)).to_file()


@dataclass(frozen=True, slots=True)
class _Again:
    """As it was locked before: for a renewed capability of the same key."""

    lock: Lock
    passphrase: Passphrase | None

    def close(self, secret: HasPublic, subject: Subject[Any]) -> Lock:
        """A new box where there was one; the keyring has what it had, under the same name."""
        box = self.lock.sealed
        if isinstance(box, RecipientBox):
            return Lock(seal_to_recipient(secret, subject, box.recipient))
        if isinstance(box, PassphraseBox):
            assert self.passphrase is not None
            return Lock(seal_by_passphrase(secret, subject, self.passphrase, Cost.of(box)), self.lock.keyring)
        return self.lock


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A capability that was opened to be renewed."""

    capability: Capability
    way: Way | None

    def to_file(self, renewed: Capability) -> bytes:
        """The text of its file, locked as the old one was: what was sealed is never written in clear."""
        assert renewed.public_key == self.capability.public_key
        return renewed.to_file() if self.way is None else sealed_capability(renewed, self.way).to_file()


def open_to_renew(path: AnyPath, unlocker: Unlocker | None = None) -> OpenedFile:
    """A capability, expired or not, whose file is to be replaced.

    Args:
        path: the file.
        unlocker: what opens it; None: its user is asked, where there is a way to ask.

    Raises:
        MissingFile, PrivateFileError, CapabilityError: it cannot be read.
        SealError, NoKeyring: it is locked, and was not opened.
    """
    found = read_capability(path, now=0.0)
    if isinstance(found, Capability):
        return OpenedFile(found, None)
    unlocker = unlocker or Unlocker()
    capability = found.with_secret(unlocker(found.locked))
    return OpenedFile(capability, _Again(found.locked.lock, unlocker.used))


def at_least(cost: Cost, found: SecretFile) -> Cost:
    """This cost, or that of the file's box where it is higher: a file is not sealed anew for less."""
    box = found.locked.lock.sealed if found.locked is not None else None
    if not isinstance(box, PassphraseBox) or box.memory * box.passes <= cost.memory * cost.passes:
        return cost
    return Cost.of(box)


def make_recipient(path: AnyPath) -> RecipientPublicKey:
    """Make a recipient's key in a new private file; the half that others seal to.

    Raises:
        AlreadyThere: there is such a file.
        PrivateFileError, EnvironmentProblem: it cannot be written safely.
    """
    directory = Path(path).parent
    if not directory.exists():
        make_private_dir(directory)
    key = RecipientKey(os.urandom(KEY_BYTES))
    write_recipient_key(path, key)
    return key.public()


def _replace(path: AnyPath, found: Any, lock: Lock | None) -> Done:
    """Write the file anew: with this lock, or as it was found, with its secret."""
    new = found if lock is None else found.with_lock(lock)
    write_private(path, new.to_file(), exclusive=False)
    remove_leftovers(path)
    return Done(Path(path), found.subject, lock)


def _format_of(path: AnyPath) -> str:
    """What the file calls itself; "" if it says nothing that can be read.  Nothing of it outlives this frame (S11)."""
    try:
        return str(strict_json.parse_object(read_private(path, limits.CAPABILITY_BYTES), limits.CAPABILITY_BYTES)
                   .get("format", ""))
    except strict_json.NotJson:
        return ""


def _forget(entry: KeyringEntry | None, backend: str) -> None:
    if entry is None:
        return
    try:
        Keyring(backend).forget(entry)
    except SecureIppError as error:
        raise NoKeyring(
            f"the file is done, but the keyring still has its entry {entry.account!r}: {error.message}",
            "remove the entry with the keyring's own program",
        ) from None


def remove_leftovers(path: AnyPath) -> None:
    """Remove what `write_private` was making of this file when its process died; it may hold the secret in clear.

    What is no file of this user's holds no secret of this user's: in /tmp others may leave what has such a name.
    """
    directory, name = os.path.split(check_ancestors(path))
    leftover = re.compile(rf"\.{re.escape(name[:100])}\.[0-9a-f]{{16}}\.new")
    for other in os.listdir(directory):
        if leftover.fullmatch(other) and _is_our_file(os.path.join(directory, other)):
            remove_private(os.path.join(directory, other))


def _is_our_file(path: str) -> bool:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False  # another process was still writing it
    return stat.S_ISREG(found.st_mode) and user_id() in (None, found.st_uid)
