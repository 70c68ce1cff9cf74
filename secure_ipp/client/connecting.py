"""Which connection file a client uses, and what its results may hold."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from secure_ipp.client.terminal import line
from secure_ipp.client.trust import said
from secure_ipp.errors import UsageError
from secure_ipp.keys.capability import Capability, load_capability, parse_capability
from secure_ipp.keys.owned import made_here
from secure_ipp.keys.places import ClusterPlace, cluster_name
from secure_ipp.keys.private_files import MissingFile
from secure_ipp.keys.sealing import Unlock
from secure_ipp.keys.unlocking import Unlocker
from secure_ipp.payload.objects import Trust
from secure_ipp.wire.messages import Welcome


def find_capability(
    connection_info: str | os.PathLike[str] | Mapping[str, Any] | None, *, profile: str | None, cluster_id: str | None,
    cluster: Any, passphrase: Callable[[], str] | None = None,
) -> Capability:
    """The capability that the arguments of a `Client` name.

    Args:
        connection_info: path of a connection file, or its contents; None: the named cluster's own.
        cluster: a cluster's name, or an object that has a `place` or a `name`.
        passphrase: called for the passphrase of a sealed file; None: its user is asked, see `keys.unlocking`.

    Raises:
        SecureIppError: there is none, or it is no client's, or somebody else could have changed it, or it is sealed
            and was not opened.
    """
    try:
        unlock = Unlocker(passphrase=passphrase)
        if connection_info is None:
            capability = _of_own_cluster(_place_of(profile, cluster_id, cluster), unlock)
        elif isinstance(connection_info, Mapping):
            capability = parse_capability(dict(connection_info), unlock=unlock)
        elif isinstance(connection_info, str | os.PathLike):
            capability = load_capability(Path(connection_info).expanduser(), unlock=unlock)
        else:
            raise UsageError(
                f"connection_info cannot be a {type(connection_info).__name__}",
                "give the path of a connection file, or its contents as a dict",
            )
    finally:
        connection_info = passphrase = None  # a traceback may be shown with its variables (S11)
    return capability.require_role("client")


def _place_of(profile: str | None, cluster_id: str | None, cluster: Any) -> ClusterPlace:
    place = getattr(cluster, "place", None)
    if isinstance(place, ClusterPlace):
        return place
    name = cluster if isinstance(cluster, str) else str(getattr(cluster, "name", "") or "")
    return ClusterPlace(cluster_name(name, profile or "", cluster_id or ""))


def _of_own_cluster(place: ClusterPlace, unlock: Unlock) -> Capability:
    try:
        return load_capability(place.client_file, unlock=unlock)
    except MissingFile:
        which = "" if place.name == "default" else f" --cluster {place.name}"
        raise MissingFile(
            f"cluster {place.name!r} has no {place.client_file.name} in {place.dir}",
            f"make keys once (secure-ipp keys init{which}), see which clusters there are (ipcluster list), or name the "
            "connection file that the cluster's owner gave you",
            code="no-keys",
        ) from None


def trust_of(capability: Capability, results: str | None, allow: Any = None) -> Trust:
    """What results may hold (S19): anything only if its user said so, or made the cluster's keys here.

    Raises:
        UsageError: there is no such trust, or a name cannot be allowed.
    """
    return said("any" if made_here(capability) else "data", results, allow)


def warn_of_end(said: str) -> None:
    """Warn that the identity ends soon, if there is something to say."""
    if said:
        warnings.warn(said, RuntimeWarning, stacklevel=3)


def warn_of_python(welcome: Welcome) -> None:
    """Functions are sent as bytecode: warn if the other end's differs."""
    ours, theirs = platform.python_version_tuple()[:2], tuple(welcome.python.split(".")[:2])
    if theirs != ours:
        warnings.warn(
            f"the cluster runs Python {line(welcome.python)}, this client {platform.python_version()}: "
            "functions may fail there",
            RuntimeWarning, stacklevel=4,
        )
