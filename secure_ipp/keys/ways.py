"""The ways to a cluster that stand in its files: doors on TCP, doors that ssh leads to, the route, the host's keys.

What cluster.toml says stands in every file that is made, unless the order for a file says otherwise.  Laws: a file
names no door that the cluster does not offer; the doors that are Unix sockets (S25) stand in files of others only if
that was said, for nobody but the account that owns the cluster reaches them; fingerprints belong to one route, and do
not go with another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from secure_ipp.errors import EnvironmentProblem, SecureIppError, UsageError
from secure_ipp.keys import fields
from secure_ipp.keys.capability import PublicPart
from secure_ipp.keys.config import ClusterConfig
from secure_ipp.keys.host_keys import HERE, of_this_host
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.strict_json import shown

Role = Literal["client", "engine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What was said of one file's ways; see `make_ways`.

    Attributes:
        ssh: the route; None: cluster.toml's.
        host_keys: fingerprints of the host there; None: cluster.toml's, if the route is.
        door: whether the file names the door that is a Unix socket; None: only where there is no other.
        post_quantum: whether it asks for a post-quantum key exchange, even if cluster.toml does not.
    """

    ssh: str | None = None
    host_keys: tuple[str, ...] | None = None
    door: bool | None = None
    post_quantum: bool = False


AS_THE_CLUSTER = Ways()


def make_ways(
    *, ssh: str | None = None, ssh_host_keys: Iterable[str] | None = None, ssh_door: bool | None = None
) -> Ways:
    """What was said, checked.

    Args:
        ssh: ``[user@]host[:port]``; "": none; None: cluster.toml's.
        ssh_host_keys: fingerprints as ``ssh-keygen -lf`` prints them, or "here": the keys of this host's ssh server.
        ssh_door: whether the file names the door that is a Unix socket.

    Raises:
        UsageError: it is no route, or no fingerprint.
        EnvironmentProblem: no keys of this host are found.
    """
    return Ways(
        ssh=None if ssh is None else check_route(ssh),
        host_keys=None if ssh_host_keys is None else check_host_keys(ssh_host_keys), door=ssh_door,
    )


def ways_of(capability: PublicPart, config: ClusterConfig) -> Ways:
    """The ways of a file that is made anew: its own, but for a door that the cluster does not offer any more."""
    return Ways(
        ssh=capability.ssh, host_keys=capability.ssh_host_keys, post_quantum=capability.post_quantum,
        door=True if capability.socket_doors and config.ssh_door else None,
    )


def owners_ways(config: ClusterConfig) -> Ways:
    """Those of the owner's two files."""
    return Ways(door=config.ssh_door)


def way_values(place: ClusterPlace, config: ClusterConfig, role: Role, ways: Ways) -> dict[str, Any]:
    """What a capability file says of the ways, for `sign_capability`.

    Raises:
        UsageError: what was said does not go with the cluster.
        EnvironmentProblem: the path of the cluster's sockets cannot stand in a file.
    """
    ssh = config.ssh if ways.ssh is None else ways.ssh
    kept = config.ssh_host_keys if ssh == config.ssh else ()
    host_keys = kept if ways.host_keys is None else ways.host_keys
    if host_keys and not ssh:
        raise UsageError("fingerprints of a host to which no route leads", "say the route: --ssh user@host:port")
    return {
        "door": _doors(place, config, role, ways.door), "ssh": ssh, "ssh_host_keys": host_keys, "curve": config.curve,
        "post_quantum": ways.post_quantum or config.require_post_quantum,
    }


def _doors(place: ClusterPlace, config: ClusterConfig, role: Role, wanted: bool | None) -> tuple[str, ...]:
    if wanted and not config.ssh_door:
        raise UsageError(
            f"cluster {place.name!r} has no door for ssh that a file could name",
            f"offer it first: secure-ipp keys ways --ssh-door{in_words(place)}",
        )
    if not config.curve:
        if wanted is False:
            raise UsageError(
                f"cluster {place.name!r} has no Curve, and no door but the one for ssh", "leave --no-ssh-door out"
            )
        return (socket_door(place, role),)
    doors = config.doors(config.client_port if role == "client" else config.engine_port)
    return (*doors, socket_door(place, role)) if wanted else doors


def socket_door(place: ClusterPlace, role: Role) -> str:
    """The address of a door that is a Unix socket; makes the runtime directory.

    Raises:
        EnvironmentProblem: its path cannot stand in a file.
    """
    path = place.client_door_socket() if role == "client" else place.engine_door_socket()
    try:
        return fields.make_socket_door(path)
    except ValueError as error:
        raise EnvironmentProblem(
            f"the socket {shown(str(path), 200)} cannot stand in a file: {error}",
            "set SECURE_IPP_HOME to a directory with a plainer name",
        ) from None


def check_route(text: str) -> str:
    """An ssh route, or "", unchanged.

    Raises:
        UsageError: it is none.
    """
    try:
        return fields.check_ssh_route(text)
    except ValueError as error:
        reason = error.message if isinstance(error, SecureIppError) else str(error)
        raise UsageError(f"{shown(text, 80)!r} is no ssh route: {reason}", "say user@host or user@host:port") from None


def check_host_keys(words: Iterable[str]) -> tuple[str, ...]:
    """Fingerprints of an ssh host's keys, each once; "here" stands for the keys of this host.

    Raises:
        UsageError: one is none, or they are too many.
        EnvironmentProblem: no keys of this host are found.
    """
    named = [words] if isinstance(words, str) else list(words)
    found = tuple(dict.fromkeys(key for word in named for key in (of_this_host() if word == HERE else [word])))
    try:
        return fields.check_host_keys(found)
    except ValueError as error:
        raise UsageError(
            f"{shown(', '.join(named), 200)!r}: {error}",
            "take it from ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub at that host; or say here, for this host",
        ) from None


def in_words(place: ClusterPlace) -> str:
    """How a command is told which cluster is meant."""
    return "" if place.name == "default" else f" --cluster {place.name}"
