"""Grants that holders handed on (S32): the file in which the hub keeps them, and which of them are in force.

The file carries no signature of its own: each grant in it is proven by the chain of holders that ends at a grant of the
issuer's registry, anew at each look.  Laws:
- a derived grant lives only while its parent does, says no more than it, and is at most `DERIVED_DEPTH` away from the
  issuer's; a parent has at most `DERIVED_PER_PARENT`, and one of the issuer's at most `DERIVED_PER_FAMILY` below it, so
  that nobody fills the file for others;
- a key that the registry holds or ever held is nobody's derived key, so that retiring a key ends its derived grant;
- of two with one key or one id the first in the file counts.
What is not in force is left out, never repaired.  Nothing here knows the clock or a socket.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from secure_ipp import limits
from secure_ipp.errors import PolicyError
from secure_ipp.keys import fields, strict_json
from secure_ipp.keys.grants import Grant
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import MissingFile, read_private, write_private
from secure_ipp.keys.registry import Registry
from secure_ipp.keys.signing import BadSignature

FORMAT: Literal["secure-ipp-derived/1"] = "secure-ipp-derived/1"
MOST_DERIVED = 65536


class DerivedError(PolicyError):
    """A derived grant, or the file of them, cannot be relied on."""

    code = "derived"


class DerivedGrants(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One version of the file; its grants are unproven until `live_derived` has looked at them."""

    format: Literal["secure-ipp-derived/1"]
    cluster_id: fields.Id
    version: Annotated[int, Meta(ge=0, le=2**53)]
    grants: Annotated[tuple[Grant, ...], Meta(max_length=MOST_DERIVED)]

    @staticmethod
    def load(place: ClusterPlace, cluster_id: str) -> DerivedGrants:
        """The file of a cluster; no file: version 0, without grants.

        Raises:
            DerivedError: it is damaged, or of another cluster.
            PrivateFileError: others could change it.
        """
        try:
            data = read_private(place.derived, limits.REGISTRY_BYTES)
        except MissingFile:
            return no_derived(cluster_id)
        return parse_derived(data, cluster_id)

    def save(self, place: ClusterPlace) -> None:
        """Replace the file, in one step; for the hub, its only writer."""
        write_private(place.derived, fields.to_file(self), exclusive=False)

    def with_grant(self, grant: Grant) -> DerivedGrants:
        """The next version, with one grant more; unproven: see `check_new`."""
        return self.having((*self.grants, grant))

    def having(self, grants: Iterable[Grant]) -> DerivedGrants:
        """The next version, of these grants."""
        return msgspec.structs.replace(self, version=self.version + 1, grants=tuple(grants))


def no_derived(cluster_id: str) -> DerivedGrants:
    """Version 0: nothing was handed on."""
    return DerivedGrants(format=FORMAT, cluster_id=cluster_id, version=0, grants=())


def parse_derived(data: bytes, cluster_id: str) -> DerivedGrants:
    """The grants that these bytes spell, unproven.

    Raises:
        DerivedError: they spell none, or are of another cluster.
    """
    try:
        plain = strict_json.parse_object(data, limits.REGISTRY_BYTES)
        derived = msgspec.convert(plain, DerivedGrants, dec_hook=fields.decode_key)
        if derived.cluster_id != cluster_id:
            raise ValueError("it is of another cluster")
        if not all(grant.parent for grant in derived.grants):
            raise ValueError("a grant in it has no parent")
    except ValueError as error:
        raise DerivedError(
            f"the file of derived grants cannot be relied on: {strict_json.shown(str(error))}",
            "move derived.json away; holders then hand on anew what they had handed on",
        ) from None
    return derived


def live_derived(registry: Registry, derived: DerivedGrants, now: float) -> list[Grant]:
    """The derived grants that are in force, in the order of the file.

    Args:
        registry: verified.
        derived: of the same cluster.
        now: seconds since the epoch.
    """
    if registry.cluster_id != derived.cluster_id:
        return []
    taken = {grant.key for grant in registry.grants} | set(registry.retired)
    ids = {grant.id for grant in registry.grants}
    children: dict[str, list[Grant]] = defaultdict(list)
    for grant in derived.grants:
        if grant.key in taken or grant.id in ids:
            continue
        taken.add(grant.key)
        ids.add(grant.id)
        children[grant.parent].append(grant)
    live: set[str] = set()
    families = deque((grant, 0, grant.id) for grant in registry.grants if _unexpired(grant, now))
    sizes: dict[str, int] = defaultdict(int)  # by the issuer's grant at the root
    while families:
        parent, depth, root = families.popleft()
        if depth == limits.DERIVED_DEPTH:
            continue
        proven = (child for child in children[parent.id] if _unexpired(child, now) and _stands(child, parent, registry))
        for child, _ in zip(proven, range(limits.DERIVED_PER_PARENT), strict=False):
            if sizes[root] == limits.DERIVED_PER_FAMILY:
                break
            sizes[root] += 1
            live.add(child.id)
            families.append((child, depth + 1, root))
    found = {grant.id: grant for grant in reversed(derived.grants) if grant.id in live}  # the first of an id counts
    return [found.pop(grant.id) for grant in derived.grants if grant.id in found]


def check_new(registry: Registry, derived: DerivedGrants, grant: Grant, now: float) -> DerivedGrants:
    """The next version, in which this unverified grant is in force, and none that was is lost.

    Raises:
        DerivedError: it would not be: its chain, its expiry, its depth, its key, or its parent's number of children.
    """
    if len(derived.grants) >= MOST_DERIVED:
        raise DerivedError("there are too many derived grants", "let some expire, or have some revoked")
    before = live_derived(registry, derived, now)
    after = derived.having((*before, grant))
    if live_derived(registry, after, now) != [*before, grant]:
        raise DerivedError(
            "this capability cannot be handed on: its parent is not in force or not its signer, it says more than its"
            " parent, its key was held before, or too many were handed on",
            "ask for fewer rights and an earlier end, with a new key",
        )
    return after


def chain_of(registry: Registry, derived: Iterable[Grant], grant: Grant) -> tuple[Grant, ...]:
    """The grants above this one, the issuer's first; empty for one of the issuer's own.

    Raises:
        DerivedError: the chain does not end in the registry.
    """
    return chain_among(by_id(registry, derived), grant)


def by_id(registry: Registry, derived: Iterable[Grant]) -> Mapping[str, Grant]:
    """All of these; an id of the registry is never a derived one's."""
    return {one.id: one for one in (*derived, *registry.grants)}


def chain_among(known: Mapping[str, Grant], grant: Grant) -> tuple[Grant, ...]:
    """As `chain_of`, for whoever asks of many grants."""
    chain: list[Grant] = []
    while grant.parent:
        parent = known.get(grant.parent)
        if parent is None or len(chain) == limits.DERIVED_DEPTH:
            raise DerivedError("the chain of this grant does not end in the registry", "have a new one made")
        chain.append(parent)
        grant = parent
    return tuple(reversed(chain))


def _unexpired(grant: Grant, now: float) -> bool:
    return grant.expires == 0 or now < grant.expires


def _stands(child: Grant, parent: Grant, registry: Registry) -> bool:
    try:
        _prove(child, parent, registry.cluster_id)
    except (BadSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=MOST_DERIVED)
def _prove(child: Grant, parent: Grant, cluster_id: str) -> None:
    """Raise if it does not hang on its parent; what was proven once is so for good, and is not computed again."""
    child.verify_derived(parent, cluster_id)
