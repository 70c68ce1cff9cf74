"""What may be shown of grants and capability files: plain values, for people and for ``--json``; never a secret."""

from __future__ import annotations

from typing import Any

import msgspec

from secure_ipp.errors import SecureIppError
from secure_ipp.keys.capability import Capability, LockedCapability, PublicPart
from secure_ipp.keys.config import ClusterConfig
from secure_ipp.keys.derived import DerivedGrants, live_derived
from secure_ipp.keys.expiry import in_words
from secure_ipp.keys.grants import Grant, Quotas
from secure_ipp.keys.owned import made_here
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.registry import Registry


def grant_facts(grant: Grant, now: float, *, title: str = "", live: bool | None = None) -> dict[str, Any]:
    """A grant.

    Args:
        grant: the grant.
        now: seconds since the epoch.
        title: what it is called; "": its name.
        live: whether it is good now; None: as its end says.
    """
    ended = bool(grant.expires) and now >= grant.expires
    facts: dict[str, Any] = {
        "name": grant.name, "title": title or grant.name, "role": grant.role, "id": grant.id,
        "key": grant.key.fingerprint, "rights": list(grant.rights), "expires": grant.expires,
        "expires_in_words": in_words(grant.expires, now), "good": not ended if live is None else live,
        "made": grant.made, "parent": grant.parent,
    }
    if grant.role == "engine":
        return {**facts, "engines": grant.engines, "joins": grant.joins, "networks": list(grant.networks)}
    return {**facts, "shared_engines": grant.tenancy == "shared", "quotas": quota_facts(grant.quotas)}


def quota_facts(quotas: Quotas) -> dict[str, int]:
    """Those that differ from the defaults."""
    return {name: amount for name, amount in msgspec.structs.asdict(quotas).items() if amount}


def all_facts(place: ClusterPlace, now: float) -> dict[str, Any]:
    """The registry of a cluster, and what holders handed on.

    Raises:
        RegistryError, DerivedError: what is on disk cannot be relied on.
    """
    from secure_ipp.keys.revoking import known_identities

    registry = Registry.load(place)
    derived = DerivedGrants.load(place, registry.cluster_id)
    live = {grant.id for grant in live_derived(registry, derived, now)}
    found = known_identities(registry, derived)
    return {
        "cluster": registry.cluster,
        "version": registry.version,
        "issuer": registry.issuer_key.fingerprint,
        "grants": [grant_facts(one.grant, now) for one in found if not one.grant.parent],
        "derived": [
            grant_facts(one.grant, now, title=one.title, live=one.grant.id in live) for one in found if one.grant.parent
        ],
        "retired": [key.fingerprint for key in registry.retired],
    }


def capability_facts(capability: Capability | LockedCapability, now: float) -> dict[str, Any]:
    """A capability file, and what this machine knows of it."""
    return {
        "name": capability.name, "role": capability.role, "cluster": capability.cluster,
        "cluster_id": capability.cluster_id, "key": capability.public_key.fingerprint,
        "server_keys": [key.fingerprint for key in capability.server_keys],
        "issuer": capability.issuer_key.fingerprint, "rights": list(capability.rights),
        "expires": capability.expires, "expires_in_words": in_words(capability.expires, now),
        "expired": bool(capability.expires) and now >= capability.expires,
        "door": list(capability.door), "curve": capability.curve, "ssh": capability.ssh,
        "ssh_host_keys": list(capability.ssh_host_keys), "post_quantum": capability.post_quantum,
        "sealed": capability.locked.lock.by if capability.locked is not None else "no",
        "handed_on_by": [parent.name for parent in capability.parents],
        "made_here": made_here(capability), "in_registry": in_registry(capability),
    }


def way_facts(place: ClusterPlace, config: ClusterConfig) -> dict[str, Any]:
    """What cluster.toml says of the ways to a cluster."""
    sockets = [place.client_door_socket(), place.engine_door_socket()] if config.ssh_door else []
    return {
        "cluster": config.cluster, "curve": config.curve, "client_port": config.client_port,
        "engine_port": config.engine_port, "ssh_door": config.ssh_door, "sockets": [str(path) for path in sockets],
        "ssh": config.ssh, "ssh_host_keys": list(config.ssh_host_keys),
        "require_post_quantum": config.require_post_quantum,
    }


def in_registry(capability: PublicPart) -> str:
    """Whether the key is in the registry: "yes", "no" (it was taken away, or replaced), or "unknown" elsewhere."""
    try:
        place = ClusterPlace(capability.cluster)
        registry = Registry.load(place)
        derived = DerivedGrants.load(place, registry.cluster_id)
    except SecureIppError:
        return "unknown"
    if registry.cluster_id != capability.cluster_id or registry.issuer_key != capability.issuer_key:
        return "unknown"
    grants = live_derived(registry, derived, 0.0) if capability.parents else list(registry.grants)
    return "yes" if any(grant.key == capability.public_key for grant in grants) else "no"
