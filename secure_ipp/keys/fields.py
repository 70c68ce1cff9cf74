"""The types of the fields that keys' files share, and their canonical form for signing.

Keys stand in files as unpadded base64url; in memory each is of its own type, so that no record shows a secret.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from secure_ipp import limits
from secure_ipp.keys import base64url
from secure_ipp.keys.names import check_host
from secure_ipp.keys.raw import RawKey
from secure_ipp.keys.signing import SIGNATURE_BYTES, BadSignature, SigningKey, VerifyKey

ID_BYTES = 16
CLIENT_RIGHTS = ("task", "direct", "observe", "control", "admin")
JOIN_RIGHTS = ("join",)


Name = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
Id = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{22}\Z")]
MaybeId = Annotated[str, Meta(pattern=r"\A([A-Za-z0-9_-]{22})?\Z")]
Signature = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{86}\Z")]
Moment = Annotated[int, Meta(ge=0, le=2**40)]  # seconds since the epoch; 0: never
PortOrNone = Annotated[int, Meta(ge=0, le=65535)]  # 0: none
Rights = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=16)], ...], Meta(max_length=16)]
HostKeys = Annotated[tuple[Annotated[str, Meta(max_length=50)], ...], Meta(max_length=limits.SSH_HOST_KEYS)]
Doors = Annotated[tuple[Annotated[str, Meta(max_length=300)], ...], Meta(min_length=1, max_length=32)]
Hosts = Annotated[tuple[Annotated[str, Meta(max_length=253)], ...], Meta(max_length=32)]

_DOOR = re.compile(r"tcp://(?:\[([0-9A-Fa-f:.]{2,45})\]|([^\[\]:/]{1,253})):([1-9][0-9]{0,4})", re.ASCII)
_SOCKET = re.compile(r"ipc://((?:/[A-Za-z0-9_.,+=@-]{1,255})+)", re.ASCII)
_HOST_KEY = re.compile(r"SHA256:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]", re.ASCII)  # 32 bytes: two bits of the last are 0
_ROUTE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?([^@:/\s]{1,253})(?::([1-9][0-9]{0,4}))?", re.ASCII)


def new_id() -> str:
    """A random id: 16 bytes in base64url, never used again."""
    return base64url.encode(os.urandom(ID_BYTES))


def decode_key(kind: type, value: Any) -> Any:
    """msgspec's `dec_hook`: the key of a text.  Its errors never quote the text."""
    if isinstance(kind, type) and issubclass(kind, RawKey):
        if not isinstance(value, str):
            raise ValueError("a key stands as base64url text")
        return kind.from_text(value)
    raise NotImplementedError(f"{kind!r} is no field of these files")


def encode_key(value: Any) -> Any:
    """msgspec's `enc_hook`: the text of a key."""
    if isinstance(value, RawKey):
        return value.text
    raise NotImplementedError(f"a {type(value).__name__} is no field of these files")


def to_plain(record: msgspec.Struct) -> dict[str, Any]:
    """The record as plain values, **secrets included**; for files and pipes only."""
    plain = msgspec.to_builtins(record, enc_hook=encode_key)
    assert isinstance(plain, dict)
    return plain


class FileText(bytes):
    """The text of a file, perhaps with a secret; a traceback with its variables does not show it (S11)."""

    def __repr__(self) -> str:
        return f"<the text of a file, {len(self)} bytes>"

    __str__ = __repr__


def to_file(record: msgspec.Struct) -> FileText:
    """The record as the text of a file, **secrets included**."""
    return FileText(msgspec.json.format(msgspec.json.encode(to_plain(record)), indent=2) + b"\n")


def canonical(record: msgspec.Struct, *, without: frozenset[str], **more: str) -> bytes:
    """The bytes that are signed: JSON, keys sorted, no white space; `more` binds the record to its surroundings."""
    plain = {name: value for name, value in to_plain(record).items() if name not in without}
    assert not plain.keys() & more.keys()
    return msgspec.json.encode({**plain, **more}, order="sorted")


def sign(key: SigningKey, purpose: str, message: bytes) -> str:
    """The signature as text."""
    return base64url.encode(key.sign(purpose, message))


def verify(key: VerifyKey, purpose: str, message: bytes, signature: str) -> None:
    """Return if the text is this key's signature.

    Raises:
        BadSignature: it is not.
    """
    try:
        raw = base64url.decode(signature, SIGNATURE_BYTES)
    except ValueError:
        raise BadSignature(f"the signature of this {purpose.split('/')[0]} is damaged") from None
    key.verify(purpose, message, raw)


def check_door(text: str) -> str:
    """An address of a door, unchanged: ``tcp://host:port``, or ``ipc:///absolute/path`` of a Unix socket (S25).

    A path is normalised and of letters, digits and ``_ . , + = @ -`` alone: nothing that a shell, an ssh option or a
    configuration file reads as anything but itself (S22).

    Raises:
        ValueError: it is not one (`UsageError` is one).
    """
    if is_socket_door(text):
        return _check_socket(text)
    match = _DOOR.fullmatch(text)
    if match is None or int(match[3]) > 65535 or (match[1] is not None and ":" not in match[1]):
        raise ValueError("a door is tcp://host:port or ipc:///absolute/path")
    check_host(match[1] or match[2])
    return text


def make_door(host: str, port: int) -> str:
    """The address of a door on this host, given by `check_host`'s rules."""
    return check_door(f"tcp://[{host}]:{port}" if ":" in check_host(host) else f"tcp://{host}:{port}")


def is_socket_door(door: str) -> bool:
    """Whether this is the address of a Unix socket, not of a TCP port."""
    return door.startswith("ipc:")


def socket_path(door: str) -> str:
    """The path of a checked ``ipc://`` door."""
    return door.removeprefix("ipc://")


def make_socket_door(path: str | os.PathLike[str]) -> str:
    """The address of the door that is this Unix socket.

    Raises:
        ValueError: a file cannot name this path (see `check_door`).
    """
    return _check_socket(f"ipc://{os.fspath(path)}")


def _check_socket(text: str) -> str:
    match = _SOCKET.fullmatch(text)
    if match is None or {".", ".."} & set(match[1].split("/")):
        raise ValueError(
            "a door that is a Unix socket is ipc:///absolute/path, of letters, digits and _ . , + = @ - alone, "
            "without . and .."
        )
    if len(match[1]) > limits.UNIX_SOCKET_PATH_BYTES:
        raise ValueError(f"the path of a Unix socket has at most {limits.UNIX_SOCKET_PATH_BYTES} bytes")
    return text


def check_host_key(text: str) -> str:
    """The fingerprint of an ssh host's key as ``ssh-keygen -lf`` prints it, ``SHA256:`` and 43 characters; unchanged.

    Raises:
        ValueError: it is not one.
    """
    if not _HOST_KEY.fullmatch(text):
        raise ValueError("the fingerprint of an ssh host's key is SHA256: and 43 characters of base64")
    return text


def check_host_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Fingerprints of an ssh host's keys, each once; unchanged.

    Raises:
        ValueError: one is none, or they are too many.
    """
    for key in keys:
        check_host_key(key)
    if len(set(keys)) != len(keys) or len(keys) > limits.SSH_HOST_KEYS:
        raise ValueError(f"the fingerprints of an ssh host's keys are {limits.SSH_HOST_KEYS} at most, each once")
    return keys


def check_ssh_route(text: str) -> str:
    """An ssh route: empty, or ``[user@]host[:port]``; unchanged.

    Raises:
        ValueError: it is not one.
    """
    match = _ROUTE.fullmatch(text)
    if text and (match is None or (match[2] is not None and int(match[2]) > 65535)):
        raise ValueError("an ssh route is [user@]host[:port]")
    if match is not None:
        check_host(match[1])
    return text


def check_rights(role: str, rights: tuple[str, ...]) -> None:
    """Return if these are rights that this role may hold, each once.

    Raises:
        ValueError: they are not.
    """
    known = CLIENT_RIGHTS if role == "client" else JOIN_RIGHTS
    if len(set(rights)) != len(rights) or not set(rights) <= set(known):
        raise ValueError(f"the rights of a {role} are among: {', '.join(known)}")


