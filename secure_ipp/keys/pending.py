"""A key pair whose holder waits for an answer: the private file beside a request.

It holds the secret that never travels.  When the answer has come, `accepting.accept` joins the two and removes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct

from secure_ipp import limits
from secure_ipp.errors import SecureIppError
from secure_ipp.keys import fields, strict_json
from secure_ipp.keys.curve import CurvePublicKey, CurveSecretKey, KeyPair
from secure_ipp.keys.key_files import KeyFileError
from secure_ipp.keys.private_files import Path, read_private, write_private

FORMAT: Literal["secure-ipp-request-key/1"] = "secure-ipp-request-key/1"
SUFFIX = ".key"
_MOST_LOOKED_AT = 256  # files of a directory


class _PendingKey(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["secure-ipp-request-key/1"]
    public_key: CurvePublicKey
    secret_key: CurveSecretKey


def key_file_of(request: Path) -> str:
    """Where the secret of a request is kept."""
    return os.fspath(request) + SUFFIX


def write_pending(path: Path, keys: KeyPair) -> None:
    """Write the key pair to a new private file."""
    write_private(path, fields.to_file(_PendingKey(FORMAT, keys.public, keys.secret)))


def read_pending(path: Path) -> KeyPair:
    """The key pair of a private file.

    Raises:
        MissingFile, PrivateFileError: it is not there, or others could read it.
        KeyFileError: it is damaged, or of another kind.
    """
    record = _read(path)
    if record is None or record.secret_key.public() != record.public_key:
        raise KeyFileError(
            f"{strict_json.shown(os.fspath(path))} is not the key of a request, or it is damaged",
            "give the file that secure-ipp keys request wrote beside the request",
        )
    return KeyPair(record.public_key, record.secret_key)


def find_pending(key: CurvePublicKey, directories: Iterable[Path]) -> str | None:
    """The file in one of these directories that holds the pair of this public key; files of others are passed over."""
    for directory in dict.fromkeys(os.path.abspath(one) for one in directories):
        try:
            names = sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))
        except OSError:
            continue  # a directory that cannot be read holds nothing for us
        for name in names[:_MOST_LOOKED_AT]:
            path = os.path.join(directory, name)
            try:
                if read_pending(path).public == key:
                    return path
            except SecureIppError:
                continue  # not a request's key, or not safe to use
    return None


def _read(path: Path) -> _PendingKey | None:
    """None if damaged: an error raised from here would carry the secret in its traceback's variables (S11)."""
    data = read_private(path, limits.CAPABILITY_BYTES)
    try:
        return msgspec.convert(
            strict_json.parse_object(data, limits.CAPABILITY_BYTES), _PendingKey, dec_hook=fields.decode_key
        )
    except ValueError:
        return None
