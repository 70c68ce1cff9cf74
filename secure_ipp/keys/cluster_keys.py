"""Making a cluster's keys, and reading what its controller needs of them.

`init_cluster` makes everything once: the issuer, the doors' key pair, a grant and a capability file for the owner's
clients and one for engine hosts, the signed registry, the journal's first line and keys, and last cluster.toml.
Nothing is ever overwritten, and what an attempt that fails has written is removed.  Ports are chosen here, once, so
that files stay good across restarts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, SecureIppError, UsageError
from secure_ipp.keys import addresses, fields
from secure_ipp.keys.capability import dump_capability, sign_capability
from secure_ipp.keys.config import ClusterConfig, check_config, format_config, load_config
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.keys.genesis import FIRST_SEGMENT, genesis_steps
from secure_ipp.keys.grants import Grant, sign_grant
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.key_files import (
    IssuerKeyFile,
    KeyFileError,
    read_issuer_file,
    read_issuer_key,
    read_server_key,
    write_issuer_key,
    write_server_key,
)
from secure_ipp.keys.locks import Lock
from secure_ipp.keys.places import ClusterPlace, NoKeys
from secure_ipp.keys.private_files import AlreadyThere, MissingFile, make_private_dir, remove_private, write_private
from secure_ipp.keys.registry import Registry, first_registry, write_first
from secure_ipp.keys.sealing import Unlock
from secure_ipp.keys.ways import check_host_keys, check_route, owners_ways, way_values

__all__ = [
    "ClusterConfig", "InitResult", "ServerKeys", "check_issuer", "door_pair", "init_cluster", "load_config",
    "load_issuer", "load_server",
]

CLIENT_NAME = "owner"
ENGINE_NAME = "engines"
_NO_TCP: dict[str, Any] = {"client_port": 0, "engine_port": 0, "hosts": (), "bind": ""}


@dataclass(frozen=True, slots=True)
class InitResult:
    """What `init_cluster` made."""

    place: ClusterPlace
    config: ClusterConfig
    client: Grant
    engine: Grant
    server_fingerprint: str


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What a controller needs: the doors' keys and where the doors are."""

    keys: KeyPair
    config: ClusterConfig


def init_cluster(
    place: ClusterPlace,
    *,
    hosts: Sequence[str] = (),
    client_port: int = 0,
    engine_port: int = 0,
    bind: str = "",
    curve: bool = True,
    ssh_door: bool = False,
    ssh: str = "",
    ssh_host_keys: Sequence[str] = (),
    require_post_quantum: bool = False,
    now: float | None = None,
) -> InitResult:
    """Make a cluster's keys and files.

    Args:
        place: where; the directory is made, private.
        hosts: names or addresses by which other hosts reach this one; empty: those that this host knows of itself.
        client_port: the client door's port; 0: a free one is chosen, for good.
        engine_port: the engine door's port; 0 likewise.
        bind: the address to listen on; "" or "*": all of this host's.
        curve: false: nothing listens on TCP, and the only way in is ssh, as the account that owns the cluster (S25).
        ssh_door: the same way in, beside Curve.
        ssh: the route ``[user@]host[:port]`` that stands in files.
        ssh_host_keys: fingerprints of the host there; "here": those of this one.
        require_post_quantum: whether files ask for an ssh key exchange that is post-quantum.
        now: seconds since the epoch; None: the clock's.

    Raises:
        AlreadyThere: the cluster has keys, or an attempt that crashed has left some.
        UsageError: a host, address or port cannot be.
        PrivateFileError, EnvironmentProblem: the files cannot be written safely.
    """
    moment = time.time() if now is None else now
    _check_chosen(curve, hosts, client_port, engine_port, bind)
    route, host_keys = check_route(ssh), check_host_keys(ssh_host_keys)
    with Lock(place.registry_lock, wait=limits.REGISTRY_LOCK_SECONDS):
        make_private_dir(place.dir)
        _check_empty(place)
        issuer, server = IssuerKey.generate(), KeyPair.generate()
        config = _checked_config(
            place, issuer, _tcp_values(place, hosts, client_port, engine_port, bind or "*") if curve else _NO_TCP,
            curve=curve, ssh_door=ssh_door or not curve, ssh=route, ssh_host_keys=host_keys,
            require_post_quantum=require_post_quantum,
        )
        client, write_client = _identity(place, config, issuer, server, "client", moment)
        engine, write_engine = _identity(place, config, issuer, server, "engine", moment)
        registry = first_registry(issuer, config.cluster, config.cluster_id, (client, engine))
        _write_all([
            (place.issuer_key, lambda: write_issuer_key(place.issuer_key, issuer)),
            (place.server_key, lambda: write_server_key(place.server_key, server)),
            (place.registry, lambda: write_first(place, registry)),
            (place.client_file, write_client),
            (place.engine_file, write_engine),
            *genesis_steps(place, issuer, config.cluster, config.cluster_id, moment),
            (place.config, lambda: write_private(place.config, format_config(config))),
        ])
    return InitResult(place, config, client, engine, server.fingerprint)


def load_server(place: ClusterPlace) -> ServerKeys:
    """What the controller of this cluster needs; the issuer's key is not read (S10).

    Raises:
        NoKeys: there are no keys here.
        ConfigError, KeyFileError, PrivateFileError: a file is damaged, or others could read or change it.
        RegistryError: the server's key is being rotated, and which one counts cannot be read.
    """
    config = load_config(place)
    try:
        keys = read_server_key(place.server_key)
    except MissingFile:
        raise _incomplete(place, place.server_key) from None
    if not os.path.lexists(place.next_server_key):
        return ServerKeys(keys, config)
    doors = Registry.load(place).doors
    return ServerKeys(keys if doors is None else door_pair(place, doors.current), config)


def door_pair(place: ClusterPlace, public: CurvePublicKey) -> KeyPair:
    """The doors' key pair with this public half; while their key is being rotated there are two (S33).

    Raises:
        KeyFileError, PrivateFileError: neither file holds it, or one is damaged, or open to others.
    """
    for path in (place.server_key, place.next_server_key):
        try:
            keys = read_server_key(path)
        except MissingFile:
            continue
        if keys.public == public:
            return keys
    raise KeyFileError(
        f"the secret half of the server's key {public.fingerprint} is not in {place.dir}",
        f"restore {place.server_key.name} and {place.next_server_key.name} from their newest copy",
    )


def load_issuer(place: ClusterPlace, *, unlock: Unlock | None = None) -> IssuerKey:
    """The issuer's key, for the owner's commands that issue and revoke.

    Args:
        place: the cluster's.
        unlock: what opens the file if it is sealed; None: its user is asked, where there is a way to ask.

    Raises:
        NoKeys: there are no keys here.
        KeyFileError, PrivateFileError: the file is damaged, or others could read it.
        SealError: it is sealed, and was not opened.
    """
    check_issuer(place)
    return read_issuer_key(place.issuer_key, unlock)


def check_issuer(place: ClusterPlace) -> IssuerKeyFile:
    """What the issuer's key file says, if it is this cluster's; nothing is unlocked.

    Raises:
        NoKeys, KeyFileError, PrivateFileError: as in `load_issuer`.
    """
    config = load_config(place)
    try:
        issuer = read_issuer_file(place.issuer_key)
    except MissingFile:
        raise _incomplete(place, place.issuer_key) from None
    if issuer.public_key != config.issuer_key:
        raise EnvironmentProblem(
            f"{place.issuer_key} is not the issuer that cluster.toml names", "restore both from the same copy"
        )
    return issuer


def _incomplete(place: ClusterPlace, file: Path) -> NoKeys:
    return NoKeys(
        f"cluster {place.name!r} has a cluster.toml but no {file.name}",
        f"restore {file} from its copy, or move {place.dir} away and make new keys: "
        f"secure-ipp keys init --cluster {place.name}",
    )


def _check_empty(place: ClusterPlace) -> None:
    files = [
        place.config, place.issuer_key, place.server_key, place.next_server_key, place.registry, place.client_file,
        place.engine_file, place.journal_dir / FIRST_SEGMENT, place.journal_key,
    ]
    found = [file for file in files if file.is_symlink() or file.exists()]
    if place.config in found:
        raise AlreadyThere(
            f"cluster {place.name!r} already has keys in {place.dir}",
            "use them, choose another name (--cluster), or move that directory away; nothing is overwritten",
        )
    if found:
        raise AlreadyThere(
            f"{place.dir} holds {', '.join(file.name for file in found)} but no cluster.toml",
            "an earlier attempt was interrupted, or cluster.toml was removed; restore it or move the directory away",
        )


def _check_chosen(curve: bool, *chosen: object) -> None:
    if not curve and any(chosen):
        raise UsageError(
            "nothing listens on TCP without Curve, so there is no host, port or address to choose", "leave them out"
        )


def _tcp_values(
    place: ClusterPlace, hosts: Sequence[str], client_port: int, engine_port: int, bind: str
) -> dict[str, Any]:
    known = addresses.hosts_for(hosts, bind)
    ports = addresses.choose_ports(place, client_port, engine_port, bind)
    return {"client_port": ports[0], "engine_port": ports[1], "hosts": known, "bind": bind}


def _checked_config(place: ClusterPlace, issuer: IssuerKey, tcp: dict[str, Any], **more: Any) -> ClusterConfig:
    config = ClusterConfig(
        cluster=place.name, cluster_id=fields.new_id(), issuer_key=issuer.public(), **tcp, **more,
    )
    try:
        return check_config(config)
    except SecureIppError as error:
        raise UsageError(error.message, error.advice) from None


def _identity(
    place: ClusterPlace, config: ClusterConfig, issuer: IssuerKey, server: KeyPair, role: Literal["client", "engine"],
    now: float,
) -> tuple[Grant, Callable[[], None]]:
    """A new identity's grant, and what writes its capability file."""
    is_client = role == "client"
    name = CLIENT_NAME if is_client else ENGINE_NAME
    rights = fields.CLIENT_RIGHTS if is_client else fields.JOIN_RIGHTS
    keys = KeyPair.generate()
    grant = sign_grant(
        issuer, config.cluster_id, name=name, role=role, key=keys.public, rights=rights, now=now,
        engines=0 if is_client else limits.ENGINES_PER_JOIN_KEY,
        signing_key=HolderKey.of(keys.secret).public() if is_client else None,
    )
    capability = sign_capability(
        issuer, keys=keys, cluster=config.cluster, cluster_id=config.cluster_id, role=role, name=name, rights=rights,
        expires=0, server_keys=(server.public,), **way_values(place, config, role, owners_ways(config)),
    )
    path = place.client_file if is_client else place.engine_file
    return grant, lambda: write_private(path, dump_capability(capability))


def _write_all(steps: list[tuple[Path, Callable[[], None]]]) -> None:
    """Each or none."""
    written: list[Path] = []
    try:
        for path, write in steps:
            write()
            written.append(path)
    except BaseException:
        for path in written:
            remove_private(path)
        raise
