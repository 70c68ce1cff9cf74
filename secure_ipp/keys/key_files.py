"""Files that hold one secret key: the doors' (server.key) and the issuer's (issuer.key).

The public half stands beside the secret one and must belong to it; the file says what it is, so that one cannot be
taken for the other.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from secure_ipp import limits
from secure_ipp.errors import PolicyError
from secure_ipp.keys import fields, strict_json
from secure_ipp.keys.curve import CurvePublicKey, CurveSecretKey, KeyPair
from secure_ipp.keys.issuer import IssuerKey, IssuerPublicKey
from secure_ipp.keys.private_files import Path, read_private, write_private


class KeyFileError(PolicyError):
    """A key file is damaged or of another kind."""

    code = "key-file"


class _ServerKey(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["secure-ipp-server-key/1"]
    public_key: CurvePublicKey
    secret_key: CurveSecretKey


class _IssuerKey(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["secure-ipp-issuer-key/1"]
    public_key: IssuerPublicKey
    secret_key: IssuerKey


_Kind = TypeVar("_Kind", _ServerKey, _IssuerKey)


def write_server_key(path: Path, keys: KeyPair) -> None:
    """Write the doors' key pair to a new private file."""
    write_private(path, fields.to_file(_ServerKey("secure-ipp-server-key/1", keys.public, keys.secret)))


def write_issuer_key(path: Path, issuer: IssuerKey) -> None:
    """Write the issuer's key to a new private file."""
    write_private(path, fields.to_file(_IssuerKey("secure-ipp-issuer-key/1", issuer.public(), issuer)))


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


def read_issuer_key(path: Path) -> IssuerKey:
    """The issuer's key; for the commands that issue and revoke, never for a controller process.

    Raises:
        MissingFile, PrivateFileError: it is not there, or others could read it.
        KeyFileError: it is damaged.
    """
    record = _read(path, _IssuerKey)
    if record is None or record.secret_key.public() != record.public_key:
        raise _damaged(path, "issuer")
    return record.secret_key


def _read(path: Path, kind: type[_Kind]) -> _Kind | None:
    """None if damaged: an error raised from here would carry the secret in its traceback's variables (S11)."""
    data = read_private(path, limits.CAPABILITY_BYTES)
    try:
        plain = strict_json.parse_object(data, limits.CAPABILITY_BYTES)
        return msgspec.convert(plain, kind, dec_hook=fields.decode_key)
    except ValueError:
        return None


def _damaged(path: Path, kind: str) -> KeyFileError:
    return KeyFileError(f"{path} is no {kind} key file, or it is damaged", "restore it from the cluster's copy")
