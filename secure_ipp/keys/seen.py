"""What this user has seen of each cluster: a small file beside its own clusters, to be held against what comes next.

A controller that was put back from a copy knows less than its clients do (S17); this is how they know.  Laws: one file
a cluster, private, named after the cluster's random id; of two heads the one with the higher number stays; fields that
this version does not know are kept; a file that is damaged counts as nothing seen, and is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from secure_ipp import limits
from secure_ipp.errors import SecureIppError
from secure_ipp.keys import base64url, fields, strict_json
from secure_ipp.keys.filesystem import is_local
from secure_ipp.keys.locks import Lock
from secure_ipp.keys.places import home
from secure_ipp.keys.private_files import make_private_dir, read_private, write_private

FORMAT = "secure-ipp-seen/1"
PROOF_BYTES = 32


class SeenHead(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The newest head of a cluster's journal that its controller has told this user.

    Attributes:
        number: of the line; heads are compared by it.
        line: the checkpoint's line, as it stands in the journal; unverified text.
        proof: base64url; what the controller gave with it, to be shown to it again.
        registry: version of the registry of keys that the line names.
    """

    number: Annotated[int, Meta(ge=0, le=2**53)]
    line: Annotated[str, Meta(max_length=limits.TEXT_CHARS)]
    proof: Annotated[str, Meta(max_length=64)]
    registry: Annotated[int, Meta(ge=0, le=2**53)] = 0

    def proof_bytes(self) -> bytes:
        """The proof; empty if it is damaged."""
        try:
            return base64url.decode(self.proof, PROOF_BYTES)
        except ValueError:
            return b""


class Seen(Struct, frozen=True, omit_defaults=True):
    """All that is remembered of one cluster."""

    head: SeenHead | None = None


def path_of(cluster_id: str) -> Path:
    """The file; perhaps not there.

    Raises:
        ValueError: this is no cluster's id.
    """
    msgspec.convert(cluster_id, fields.Id)
    return home() / "seen" / f"{cluster_id}.json"


def load(cluster_id: str) -> Seen:
    """What is remembered; nothing, if there is no file or none that can be relied on."""
    return _of(_read(path_of(cluster_id)))


def remember(cluster_id: str, change: Callable[[Seen], Seen]) -> Seen:
    """Change what is remembered, under a lock; what is then remembered.

    Args:
        cluster_id: whose.
        change: from what is on the disk now; called once.

    Raises:
        SecureIppError: it cannot be written safely; nothing has changed.
    """
    path = path_of(cluster_id)
    make_private_dir(path.parent)
    with Lock(lock_file(path), wait=limits.SEEN_LOCK_SECONDS):
        plain = _read(path)
        before = _of(plain)
        after = change(before)
        if after != before:
            changed = fields.to_plain(after)
            known = set(Seen.__struct_fields__)
            kept = {name: value for name, value in plain.items() if name not in known}
            data = msgspec.json.encode({**kept, "format": FORMAT, "cluster_id": cluster_id, **changed})
            write_private(path, msgspec.json.format(data, indent=2) + b"\n", exclusive=False)
        return after


def with_head(head: SeenHead) -> Callable[[Seen], Seen]:
    """The change by which a head is remembered, unless a newer one is."""

    def change(seen: Seen) -> Seen:
        if seen.head is not None and seen.head.number >= head.number:
            return seen
        return msgspec.structs.replace(seen, head=head)

    return change


def _read(path: Path) -> dict[str, Any]:
    try:
        return strict_json.parse_object(read_private(path, limits.CAPABILITY_BYTES), limits.CAPABILITY_BYTES)
    except (SecureIppError, strict_json.NotJson):
        return {}


def _of(plain: dict[str, Any]) -> Seen:
    """Strict about what is known here; other fields are other versions'."""
    try:
        return msgspec.convert(plain, Seen, dec_hook=fields.decode_key)
    except ValueError:
        return Seen()


def lock_file(path: Path) -> Path:
    """Beside the file, where locks work; else on this host's own disk (S29)."""
    if is_local(os.path.realpath(path.parent)):
        return path.with_suffix(".lock")
    return Path(f"/tmp/secure-ipp-{os.geteuid()}") / f"seen-{path.stem}.lock"  # noqa: S108  made private before use
