"""The registry of keys: each grant of a cluster and each key it ever held, signed by the issuer, with a version (S10).

Laws: a version is one more than the one before; a key stands in it once, as a grant's or as retired, and a retired key
never comes back (S12); names of live grants are unique.  A registry that is missing, unreadable, unsigned, of another
cluster or older than `at_least` raises: whoever asks must then deny.  Changes are made under a lock, from what
is on disk, and replace the file in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from secure_ipp import limits
from secure_ipp.errors import PolicyError, UsageError
from secure_ipp.keys import fields, strict_json
from secure_ipp.keys.config import load_config
from secure_ipp.keys.curve import CurvePublicKey
from secure_ipp.keys.door_keys import DoorKeys
from secure_ipp.keys.grants import Grant
from secure_ipp.keys.issuer import BadSignature, IssuerKey, IssuerPublicKey
from secure_ipp.keys.locks import Lock
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import MissingFile, read_private, remove_private, write_private
from secure_ipp.keys.registry_mark import highest_written, mark_path, remember_written

FORMAT: Literal["secure-ipp-registry/1"] = "secure-ipp-registry/1"
PURPOSE = "registry/1"
MOST_GRANTS = limits.MOST_GRANTS
_UNSIGNED = frozenset({"signature"})


class RegistryError(PolicyError):
    """The registry cannot be relied on, so nobody is admitted."""

    code = "registry"


class Registry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One version of the registry."""

    format: Literal["secure-ipp-registry/1"]
    cluster: fields.Name
    cluster_id: fields.Id
    version: Annotated[int, Meta(ge=1, le=2**53)]
    issuer_key: IssuerPublicKey
    grants: Annotated[tuple[Grant, ...], Meta(max_length=MOST_GRANTS)]
    retired: Annotated[tuple[CurvePublicKey, ...], Meta(max_length=MOST_GRANTS)]
    door_keys: DoorKeys | UnsetType = UNSET  # once the server's key was rotated, or is to be (S33)
    signature: str

    @property
    def doors(self) -> DoorKeys | None:
        """What the issuer states of the server's keys; None: they never changed."""
        return None if isinstance(self.door_keys, UnsetType) else self.door_keys

    @staticmethod
    def load(place: ClusterPlace, *, at_least: int = 0) -> Registry:
        """The registry on disk, verified against the issuer pinned in cluster.toml.

        Args:
            place: the cluster's.
            at_least: the highest version seen before; that which was written on this host counts, too.

        Raises:
            NoKeys: the cluster has no keys.
            RegistryError: it is missing, damaged, not the issuer's, or older than `at_least`.
            PrivateFileError: others could change it.
        """
        config = load_config(place)
        seen = max(at_least, highest_written(place, config.cluster_id))  # first: what is read next is no older
        try:
            data = read_private(place.registry, limits.REGISTRY_BYTES)
        except MissingFile:
            raise RegistryError(
                f"the registry {place.registry} is not there", "restore the cluster's directory from its copy"
            ) from None
        return parse_registry(data, config.issuer_key, config.cluster_id, at_least=seen)

    def grant(self, id: str) -> Grant | None:
        """The live grant of this id."""
        return next((grant for grant in self.grants if grant.id == id), None)

    def named(self, name: str) -> Grant | None:
        """The live grant of this name."""
        return next((grant for grant in self.grants if grant.name == name), None)

    def with_grant(self, grant: Grant) -> Registry:
        """The next version, with one grant more; unsigned.

        Raises:
            UsageError: its id or name is taken.
            RegistryError: its key was ever held here.
        """
        if self.grant(grant.id) or self.named(grant.name):
            raise UsageError(f"there is a grant {grant.name!r} already", "choose another name, or revoke that one")
        self._check_new_key(grant.key)
        return msgspec.structs.replace(
            self, version=self.version + 1, grants=(*self.grants, grant), signature=""
        )

    def with_grant_replaced(self, grant: Grant) -> Registry:
        """The next version, with another version of one grant; if its key is another, the old one is retired; unsigned.

        Raises:
            UsageError: there is no such grant, or the new name is another's.
            RegistryError: the new key was ever held here.
        """
        old = self._known(grant.id)
        if any(other.name == grant.name and other.id != grant.id for other in self.grants):
            raise UsageError(f"there is a grant {grant.name!r} already", "choose another name")
        retired = self.retired
        if grant.key != old.key:
            self._check_new_key(grant.key)
            retired = (*retired, old.key)
        grants = tuple(grant if other.id == grant.id else other for other in self.grants)
        return msgspec.structs.replace(self, version=self.version + 1, grants=grants, retired=retired, signature="")

    def without_grant(self, id: str) -> Registry:
        """The next version, with that grant's key retired for ever; unsigned.

        Raises:
            UsageError: there is no such grant.
        """
        return self.without({self._known(id).id})

    def without(self, ids: Collection[str], keys: Collection[CurvePublicKey] = ()) -> Registry:
        """The next version, without these grants; their keys, and `keys` (of derived grants), are retired; unsigned.

        Raises:
            UsageError: nothing of all that is left to be taken away.
        """
        left = tuple(grant for grant in self.grants if grant.id not in ids)
        held = set(self.retired) | {grant.key for grant in left}
        gone = [*(grant.key for grant in self.grants if grant.id in ids), *(key for key in keys if key not in held)]
        if not gone:
            raise UsageError("these grants are no longer in the registry", "secure-ipp keys list shows those that are")
        return msgspec.structs.replace(
            self, version=self.version + 1, grants=left, retired=(*self.retired, *gone), signature=""
        )

    def with_door_keys(self, doors: DoorKeys) -> Registry:
        """The next version, with this statement; server keys that were given up are retired; unsigned.

        Raises:
            RegistryError: its number does not rise, or a key of it was held here before as another.
        """
        before = self.doors
        if doors.number <= (0 if before is None else before.number):
            raise RegistryError("a statement of the server's keys does not go back")
        if set(doors.keys) & ({grant.key for grant in self.grants} | set(self.retired)):
            raise RegistryError("this public key was held here before", "make a new key pair", code="key-reused")
        gone = [key for key in doors.former if key not in self.retired]
        return msgspec.structs.replace(
            self, version=self.version + 1, door_keys=doors, retired=(*self.retired, *gone), signature=""
        )

    def again(self) -> Registry:
        """The next version, with nothing changed; unsigned.  To have a controller adopt what it did not confirm."""
        return msgspec.structs.replace(self, version=self.version + 1, signature="")

    def _known(self, id: str) -> Grant:
        found = self.grant(id)
        if found is None:
            raise UsageError(f"there is no grant {strict_json.shown(id, 40)!r}", "secure-ipp keys list shows them")
        return found

    def _check_new_key(self, key: CurvePublicKey) -> None:
        doors = () if self.doors is None else self.doors.keys
        if key in {other.key for other in self.grants} | set(self.retired) | set(doors):
            raise RegistryError("this public key was held here before", "make a new key pair", code="key-reused")

    def signed(self, issuer: IssuerKey) -> Registry:
        """This version, signed.

        Raises:
            BadSignature: this is not the issuer of this registry.
        """
        if issuer.public() != self.issuer_key:
            raise BadSignature("this key is not the issuer of this registry")
        return msgspec.structs.replace(self, signature=fields.sign(issuer, PURPOSE, _message(self)))

    def __repr__(self) -> str:
        return f"<Registry of {self.cluster!r}, version {self.version}: {len(self.grants)} grants>"

    def __rich_repr__(self) -> Any:
        yield "cluster", self.cluster
        yield "version", self.version


def first_registry(issuer: IssuerKey, cluster: str, cluster_id: str, grants: tuple[Grant, ...]) -> Registry:
    """Version 1, signed."""
    return Registry(
        format=FORMAT, cluster=cluster, cluster_id=cluster_id, version=1, issuer_key=issuer.public(), grants=grants,
        retired=(), signature="",
    ).signed(issuer)


def parse_registry(data: bytes, issuer: IssuerPublicKey, cluster_id: str, *, at_least: int = 0) -> Registry:
    """The registry that these bytes spell, verified.

    Raises:
        RegistryError: they spell none, this issuer did not sign it or one of its grants, or it is too old.
    """
    try:
        plain = strict_json.parse_object(data, limits.REGISTRY_BYTES)
        registry = msgspec.convert(plain, Registry, dec_hook=fields.decode_key)
        fields.verify(issuer, PURPOSE, _message(registry), registry.signature)
        _check_consistent(registry, issuer, cluster_id)
    except BadSignature as error:
        raise _unreliable(error.message) from None
    except ValueError as error:  # strict_json's, msgspec's and those of the checks
        raise _unreliable(strict_json.shown(str(error))) from None
    if registry.version < at_least:
        raise _unreliable(f"it is of version {registry.version}, but version {at_least} was seen before")
    return registry


def write_first(place: ClusterPlace, registry: Registry) -> None:
    """Write version 1 of a new cluster; never over another file."""
    write_private(place.registry, fields.to_file(registry), exclusive=True)


def change_registry(
    place: ClusterPlace, issuer: IssuerKey, change: Callable[[Registry], Registry], *,
    written: Callable[[Registry], None] | None = None,
) -> Registry:
    """Apply a change to the registry on disk, under its lock; the new version, signed and written.

    Args:
        place: the cluster's.
        issuer: its issuer's key.
        change: makes the next version.
        written: called with it when it is on disk, still under the lock.

    Raises:
        RegistryError: what is on disk cannot be relied on, or the change makes no newer version.
        LockHeld: another process is changing it and does not end.
    """
    with Lock(place.registry_lock, wait=limits.REGISTRY_LOCK_SECONDS):
        _remove_unfinished(place)
        old = Registry.load(place)
        new = change(old)
        if new.version <= old.version or new.cluster_id != old.cluster_id:
            raise RegistryError("a change must make a newer version of the same registry")
        data = fields.to_file(new.signed(issuer))
        new = parse_registry(data, old.issuer_key, old.cluster_id, at_least=old.version + 1)
        write_private(place.registry, data, exclusive=False)
        remember_written(place, new.cluster_id, new.version)
        if written is not None:
            written(new)
        return new


def _remove_unfinished(place: ClusterPlace) -> None:
    """Remove what a writer left that was killed; under the lock nobody else writes these."""
    for path in (place.registry, mark_path(place)):
        for left in path.parent.glob(f".{path.name}.*.new"):
            remove_private(left)


def _message(registry: Registry) -> bytes:
    return fields.canonical(registry, without=_UNSIGNED)


def _check_consistent(registry: Registry, issuer: IssuerPublicKey, cluster_id: str) -> None:
    if registry.issuer_key != issuer or registry.cluster_id != cluster_id:
        raise ValueError("it is of another cluster")
    keys = [grant.key for grant in registry.grants] + list(registry.retired)
    if registry.doors is not None:
        registry.doors.verify(issuer, cluster_id)
        keys += registry.doors.keys
    if len(set(keys)) != len(keys):
        raise ValueError("a key stands in it twice")
    for values in ([grant.id for grant in registry.grants], [grant.name for grant in registry.grants]):
        if len(set(values)) != len(values):
            raise ValueError("a name or id stands in it twice")
    for grant in registry.grants:
        _prove(grant, issuer, cluster_id)


@lru_cache(maxsize=MOST_GRANTS)
def _prove(grant: Grant, issuer: IssuerPublicKey, cluster_id: str) -> None:
    """Raise if the issuer did not sign it; what was proven once is so for good, and is not computed again."""
    grant.verify(issuer, cluster_id)


def _unreliable(why: str) -> RegistryError:
    return RegistryError(
        f"the registry cannot be relied on: {why}",
        "restore registry.json from its newest copy; until then nobody new is admitted",
    )
