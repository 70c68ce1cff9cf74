"""Changing what a cluster offers, and what its files say of the ways to it, after its keys were made.

cluster.toml is written first, then the owner's two files are signed anew; saying it again goes on from where it was
interrupted.  Files of others stay good and say what they said: they are made anew, where that is wished, by `renew`.
Laws: Curve is neither turned on nor off here, and a cluster keeps a door; a controller that runs has the doors that it
was started with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from secure_ipp.errors import SecureIppError, UsageError
from secure_ipp.keys.capability import PublicPart
from secure_ipp.keys.config import ClusterConfig, check_config, format_config
from secure_ipp.keys.desk import Desk
from secure_ipp.keys.private_files import write_private
from secure_ipp.keys.rewriting import rewrite_files
from secure_ipp.keys.server_rotation import alone
from secure_ipp.keys.ways import owners_ways, socket_door, way_values


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of it.

    Attributes:
        config: as it is now.
        files: of the owner's two files, those that were signed anew.
        left: those that were left as they are, and why.
    """

    config: ClusterConfig
    files: tuple[str, ...]
    left: tuple[tuple[str, str], ...]


def change_ways(
    desk: Desk, *, ssh: str | None = None, host_keys: tuple[str, ...] | None = None, door: bool | None = None,
    post_quantum: bool | None = None,
) -> Changed:
    """Have cluster.toml and the owner's two files say so; what is None stays.

    Args:
        desk: the owner's.
        ssh: the route; with another one, the fingerprints of the last one's host are dropped.
        host_keys: fingerprints of the host there.
        door: whether the doors are Unix sockets, too.
        post_quantum: whether files ask for a post-quantum key exchange.

    Raises:
        UsageError: a cluster cannot be like that.
        SecureIppError: it cannot be written.
    """
    place = desk.place
    with alone(place):
        issuer, old = desk.issuer(), desk.config()
        if door is False and not old.curve:
            raise UsageError(f"cluster {place.name!r} has no Curve, and no door but the one for ssh", "keep it")
        changed: dict[str, Any] = {
            "ssh": ssh, "ssh_host_keys": host_keys, "ssh_door": door, "require_post_quantum": post_quantum,
        }
        if ssh is not None and ssh != old.ssh and host_keys is None:
            changed["ssh_host_keys"] = ()
        new = _checked(old, {name: value for name, value in changed.items() if value is not None})
        if new.ssh_door:
            socket_door(place, "client")  # a path that cannot stand in a file is an error before anything is written
        if new != old:
            write_private(place.config, format_config(new), exclusive=False)

        def says(found: PublicPart) -> dict[str, Any]:
            return way_values(place, new, found.role, owners_ways(new))

        done = rewrite_files(desk, issuer, (place.client_file, place.engine_file), says)
    return Changed(new, done.files, done.left)


def _checked(old: ClusterConfig, changed: dict[str, Any]) -> ClusterConfig:
    try:
        return check_config(msgspec.structs.replace(old, **changed))
    except SecureIppError as error:
        raise UsageError(error.message, error.advice) from None
