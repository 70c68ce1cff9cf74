"""The highest version of the registry that was written on this host, beside the registry, so that an older copy that
is put back, also while no controller runs, is not believed (S10).

Laws: the mark is never above what was written, since it is written after the registry and under its lock; the mark of
another cluster says nothing.  Whoever can change the mark can change the registry's directory, too: it is against
restored copies and slips, not against this user.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from secure_ipp import limits
from secure_ipp.errors import PolicyError
from secure_ipp.keys import fields, strict_json
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import MissingFile, read_private, write_private

FORMAT: Literal["secure-ipp-registry-mark/1"] = "secure-ipp-registry-mark/1"


class _Mark(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["secure-ipp-registry-mark/1"]
    cluster_id: fields.Id
    version: Annotated[int, Meta(ge=1, le=2**53)]


def mark_path(place: ClusterPlace) -> Path:
    """The mark's file."""
    return place.durable_path / "registry.version"


def highest_written(place: ClusterPlace, cluster_id: str) -> int:
    """The version; 0 if no change was ever made.

    Raises:
        PolicyError: the mark is damaged, so that nothing is known.
        PrivateFileError: others could change it.
    """
    path = mark_path(place)
    try:
        data = read_private(path, limits.CAPABILITY_BYTES)
    except MissingFile:
        return 0
    try:
        mark = msgspec.convert(strict_json.parse_object(data, limits.CAPABILITY_BYTES), _Mark)
    except ValueError as error:
        raise PolicyError(
            f"{path} is damaged: {strict_json.shown(str(error))}",
            "if registry.json is the newest there is, remove that file; else restore both from the newest copy",
            code="registry",
        ) from None
    return mark.version if mark.cluster_id == cluster_id else 0


def remember_written(place: ClusterPlace, cluster_id: str, version: int) -> None:
    """Raise the mark; by whoever has just written this version, under the registry's lock."""
    place.durable_dir()
    write_private(mark_path(place), fields.to_file(_Mark(FORMAT, cluster_id, version)), exclusive=False)
