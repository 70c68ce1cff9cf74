"""Issuing: a new identity, its grant in the registry, and its capability file.

The key pair of `issue` is made here and its secret half is written to the file alone.  Where the holder makes it
instead, see `requests`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from secure_ipp.keys.capability import sign_capability
from secure_ipp.keys.cluster_keys import load_server
from secure_ipp.keys.config import ClusterConfig
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.keys.desk import Applied, Desk, check_free
from secure_ipp.keys.grants import Grant, sign_grant
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.orders import Order
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import Path
from secure_ipp.keys.recipients import RecipientPublicKey
from secure_ipp.keys.registry import Registry
from secure_ipp.keys.sealed_files import new_file
from secure_ipp.keys.ways import Ways, way_values


@dataclass(frozen=True, slots=True)
class Issued:
    """A grant that was made or changed.

    Attributes:
        grant: as it stands in the registry now.
        file: what was written: a capability, or an answer.
        applied: whether it is in force.
        issuer: the fingerprint that its holder compares.
    """

    grant: Grant
    file: str
    applied: Applied
    issuer: str


def issue(desk: Desk, order: Order, out: Path, now: float, *, to: RecipientPublicKey | None = None) -> Issued:
    """Make an identity and write its capability file.

    Args:
        desk: the owner's.
        order: what it may do.
        out: the new private file.
        now: seconds since the epoch.
        to: whom the file is sealed to; None: its secret stands in it in clear.

    Raises:
        UsageError: its name is taken.
        AlreadyThere: the file is.
        SecureIppError: it cannot be written, or is not in force (see `Desk.publish`).
    """
    check_free(out)
    issuer, config = desk.issuer(), desk.config()
    keys = KeyPair.generate()
    grant = sign_grant(
        issuer, config.cluster_id, key=keys.public, now=now,
        signing_key=HolderKey.of(keys.secret).public() if order.role == "client" else None, **order.of_grant(),
    )
    capability = sign_capability(issuer, keys=keys, **file_values(desk.place, config, grant, order.ways))
    applied = desk.publish(
        issuer, out, new_file(capability, to), lambda registry: registry.with_grant(grant),
        lambda registry: registry.grant(grant.id) is not None,
    )
    return Issued(grant, str(out), applied, issuer.fingerprint)


def file_values(place: ClusterPlace, config: ClusterConfig, grant: Grant, ways: Ways) -> dict[str, Any]:
    """What a capability file says of a grant and of the ways to the cluster, without the keys of its holder."""
    return {
        "cluster": config.cluster, "cluster_id": config.cluster_id, "role": grant.role, "name": grant.name,
        "rights": grant.rights, "expires": grant.expires, "server_keys": server_keys(place),
        **way_values(place, config, grant.role, ways),
    }


def server_keys(place: ClusterPlace) -> tuple[CurvePublicKey, ...]:
    """The public keys by which new files know the doors: the current one, and the next if it was announced (S33).

    Raises:
        NoKeys, KeyFileError, PrivateFileError: the server's key cannot be read.
        RegistryError: nor can what was announced.
    """
    doors = Registry.load(place).doors
    return (load_server(place).keys.public,) if doors is None else doors.keys
