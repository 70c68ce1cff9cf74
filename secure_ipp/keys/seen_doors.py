"""What this user's clients have seen of a cluster's server keys, so that a later one does not believe less (S33).

One private file for each cluster and issuer, beside what `seen` keeps; it holds no secret.  It is there only once a
cluster has rotated its server's key.  Laws: what was refused stays refused; a higher statement is never replaced by a
lower one; several clients may write at once, one after the other, and none loses what another has seen.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from secure_ipp import limits
from secure_ipp.errors import PolicyError, SecureIppError
from secure_ipp.keys import fields, places, strict_json
from secure_ipp.keys.capability import PublicPart
from secure_ipp.keys.curve import CurvePublicKey
from secure_ipp.keys.issuer import IssuerPublicKey
from secure_ipp.keys.known_doors import KnownDoors
from secure_ipp.keys.locks import Lock
from secure_ipp.keys.private_files import MissingFile, make_private_dir, read_private, write_private
from secure_ipp.keys.seen import lock_file

FORMAT: Literal["secure-ipp-seen-doors/1"] = "secure-ipp-seen-doors/1"
_log = logging.getLogger("secure_ipp.keys")


class Seen(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What stands in the file."""

    format: Literal["secure-ipp-seen-doors/1"]
    cluster: fields.Name
    cluster_id: fields.Id
    issuer_key: IssuerPublicKey
    number: Annotated[int, Meta(ge=0, le=2**53)]
    keys: Annotated[tuple[CurvePublicKey, ...], Meta(max_length=limits.SEEN_SERVER_KEYS)]
    refused: Annotated[tuple[CurvePublicKey, ...], Meta(max_length=limits.SEEN_SERVER_KEYS)]


def seen_path(capability: PublicPart) -> Path:
    """The file of this capability's cluster; two issuers that claim one cluster id do not share it."""
    who = f"{capability.cluster_id} {capability.issuer_key.text}"
    return places.home() / "seen" / f"{hashlib.sha256(who.encode()).hexdigest()[:32]}.doors"


def read_seen(capability: PublicPart) -> Seen | None:
    """What was seen; None: nothing of interest.

    Raises:
        PolicyError: the file is damaged, so that nobody knows which keys were given up.
        PrivateFileError: others could change it.
    """
    path = seen_path(capability)
    try:
        data = read_private(path, limits.CAPABILITY_BYTES)
    except MissingFile:
        return None
    try:
        plain = strict_json.parse_object(data, limits.CAPABILITY_BYTES)
        seen = msgspec.convert(plain, Seen, dec_hook=fields.decode_key)
        if seen.cluster_id != capability.cluster_id or seen.issuer_key != capability.issuer_key:
            raise ValueError("it is of another cluster")
    except ValueError as error:
        raise PolicyError(
            f"{path} is damaged: {strict_json.shown(str(error))}",
            "if your connection file is newer than the cluster's last rotation, remove that file; else ask the "
            "cluster's owner for a new connection file first",
            code="seen",
        ) from None
    return seen


def known_doors(capability: PublicPart, *, remembers: bool = True) -> KnownDoors:
    """What a client that uses this capability believes, and where it writes what it learns.

    Args:
        capability: its own.
        remembers: whether it reads and writes what was seen.

    Raises:
        PolicyError: every key of the file was given up, or what was seen before is damaged.
        PrivateFileError: others could change what was seen before.
    """
    seen = read_seen(capability) if remembers else None
    before = () if seen is None else seen.keys
    refused = () if seen is None else seen.refused
    keys = [key for key in _believed(capability.server_keys, before, refused) if key not in refused]
    if not keys:
        raise PolicyError(
            "the server's key was rotated, and this file knows only keys that were given up",
            "ask the cluster's owner for a new connection file", code="server-key",
        )
    return KnownDoors(
        keys, issuer=capability.issuer_key, cluster_id=capability.cluster_id,
        number=0 if seen is None else seen.number, refused=refused,
        changed=lambda known: _try_to_remember(capability, known) if remembers else None,
    )


def _believed(
    ours: tuple[CurvePublicKey, ...], before: tuple[CurvePublicKey, ...], refused: tuple[CurvePublicKey, ...]
) -> tuple[CurvePublicKey, ...]:
    """The keys of a file and those that were seen, but for what one of them knows to be older than the other.

    In a file, what stands before a key that is still good is older than it.  A file whose current key was seen as the
    next one, or of whose keys nothing was ever seen, was made after a switch: the key before it was given up, perhaps
    because somebody stole it, which is why the owner sent the file.
    """
    known = [place for place, key in enumerate(ours) if key in before]
    if not known:
        return (*before, *ours) if set(ours) & set(refused) else ours
    ours = ours[known[0] :]
    first = 0 if known[0] else before.index(ours[0])
    return (*before[first:], *ours)


def remember(capability: PublicPart, known: KnownDoors) -> None:
    """Write what is known, together with what other clients have written.

    Raises:
        SecureIppError: it cannot be written.
    """
    path = seen_path(capability)
    make_private_dir(path.parent)
    with Lock(lock_file(path), wait=limits.SEEN_LOCK_SECONDS):
        other = read_seen(capability)
        keys, number, refused = known.keys, known.number, known.refused
        if other is not None:
            refused = refused | set(other.refused)
            if other.number > number:
                keys, number = other.keys, other.number
        most = limits.SEEN_SERVER_KEYS
        left = tuple(key for key in keys if key not in refused)[:most]
        first = () if other is None else other.refused
        gone = (*first, *sorted(refused.difference(first), key=lambda key: key.raw))[-most:]  # the newest stay
        seen = Seen(
            format=FORMAT, cluster=capability.cluster, cluster_id=capability.cluster_id,
            issuer_key=capability.issuer_key, number=number, keys=left, refused=gone,
        )
        if seen != other:
            write_private(path, fields.to_file(seen), exclusive=False)


def _try_to_remember(capability: PublicPart, known: KnownDoors) -> None:
    """A disk that says no must not end a connection; this process goes by what it knows all the same."""
    try:
        remember(capability, known)
    except (SecureIppError, OSError, ImportError) as error:
        _log.warning("what was seen of the server's keys could not be kept: %s", error)
