"""How many hosts have joined with a join key that is good for a number of them (S12).

Each agent names itself by a random instance, of which the digest is kept, so that one that comes back after a restart
of the scheduler counts once, and nobody else can pass for it.  Laws: what is not on the disk has not joined; what has
joined counts for ever, gone or not; of a key without a limit nothing is kept.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from secure_ipp import limits
from secure_ipp.errors import PolicyError, Refused
from secure_ipp.hub.grants import LiveGrants
from secure_ipp.keys import fields, strict_json
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import MissingFile, read_private, write_private

FORMAT: Literal["secure-ipp-joins/1"] = "secure-ipp-joins/1"
Digest = Annotated[str, Meta(min_length=64, max_length=64)]


class Joins(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file: by the join key's grant, digests of the agents that joined with it."""

    format: Literal["secure-ipp-joins/1"] = FORMAT
    joined: dict[fields.Id, list[Digest]] = {}

    @staticmethod
    def load(place: ClusterPlace) -> Joins:
        """The file of a cluster; no file: nobody has joined.

        Raises:
            PolicyError: it is damaged; then nobody joins with a key that has a limit.
            PrivateFileError: others could change it.
        """
        try:
            data = read_private(place.joins, limits.REGISTRY_BYTES)
        except MissingFile:
            return Joins()
        try:
            return msgspec.convert(strict_json.parse_object(data, limits.REGISTRY_BYTES), Joins)
        except ValueError as error:
            raise PolicyError(
                f"the file of joins cannot be relied on: {strict_json.shown(str(error))}",
                "issue new join keys, then move joins.json away", code="joins",
            ) from None

    def save(self, place: ClusterPlace) -> None:
        """Replace the file, in one step; for the hub, its only writer."""
        write_private(place.joins, fields.to_file(self), exclusive=False)


def judged(joins: Joins | None, grants: LiveGrants, user: str, instance: bytes) -> Joins | None:
    """What is to be kept if this agent joins; None: nothing new.

    Args:
        joins: None: they cannot be read.
        grants: in force.
        user: the join key's grant.
        instance: what the agent calls itself, unverified.

    Raises:
        Refused: it may not join.
    """
    grant = grants.by_id.get(user)
    if grant is None or grant.role != "agent":
        raise Refused("this key has no grant in force", "ask the cluster's owner for a new engine file", code="revoked")
    if not grant.joins:
        return None
    if joins is None:
        raise Refused("who has joined so far cannot be read", "the cluster's owner sees why in the hub's log")
    digest = hashlib.sha256(instance).hexdigest()
    known = joins.joined.get(user, [])
    if instance and digest in known:
        return None
    if not instance or len(known) >= grant.joins:
        raise Refused(
            f"this engine file is good for {grant.joins} joins, and was used for as many",
            "ask the cluster's owner for a new engine file", code="joins",
        )
    live = {other: digests for other, digests in joins.joined.items() if other in grants.by_id}
    return Joins(joined={**live, user: [*known, digest]})
