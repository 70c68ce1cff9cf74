"""What a tunnel is asked to be, and by that its name: who asks for the same shares one.  Pure.

How it was first opened (a password, an unknown key accepted) does not make it another tunnel.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from secure_ipp import limits
from secure_ipp.errors import UsageError
from secure_ipp.keys import fields
from secure_ipp.tunnel.interface import BackendName, Forward, Order
from secure_ipp.tunnel.route import Route

_NOT_ITS_NAME = frozenset({"accept_new", "password", "cluster"})


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One tunnel.

    Attributes:
        route: ``[user@]host[:port]``.
        doors: addresses of one door, as its ssh server sees them: ``tcp://host:port``, or ``ipc:///path``.
        cluster: for people.
        The others are those of `interface.Order`.
    """

    route: str
    doors: list[str]
    backend: BackendName
    cluster: str = ""
    identity: str = ""
    fingerprints: list[str] = []
    post_quantum: bool = False
    config: str = ""
    accept_new: bool = False
    password: bool = False

    @property
    def name(self) -> str:
        """The same for all who ask for the same."""
        plain = {key: value for key, value in msgspec.to_builtins(self).items() if key not in _NOT_ITS_NAME}
        return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()[:12]

    def order(self, directory: Path, pinned: str = "") -> Order:
        """What its back end is to do.

        Raises:
            UsageError: a door or the route is none.
        """
        return Order(
            route=Route.parse(self.route), forwards=forwards(self.doors, directory), directory=directory,
            identity=self.identity, fingerprints=tuple(self.fingerprints), pinned=pinned, accept_new=self.accept_new,
            post_quantum=self.post_quantum, password=self.password, config=self.config,
        )


class Bootstrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What its keeper is told: a line on stdin."""

    spec: Spec
    directory: str


def forwards(doors: list[str], directory: Path) -> tuple[Forward, ...]:
    """A local socket for each address.

    Raises:
        UsageError: one is no door's address, or there are none.
    """
    if not doors:
        raise UsageError("a tunnel leads to a door", "name one")
    return tuple(_forward(door, directory / f"d{i}") for i, door in enumerate(doors[: limits.TUNNEL_FORWARDS]))


def _forward(door: str, local: Path) -> Forward:
    if door.startswith("ipc:///"):
        return Forward(local, path=door.removeprefix("ipc://"))
    try:
        fields.check_door(door)
    except ValueError:
        raise UsageError("a door is tcp://host:port or ipc:///path", "see what stands in the connection file") from None
    host, _, port = door.removeprefix("tcp://").rpartition(":")
    return Forward(local, host=host.strip("[]"), port=int(port))
