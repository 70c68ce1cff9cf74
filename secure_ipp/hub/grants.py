"""The grants in force, as the hub has verified them: who may be here, and with which rights.

A snapshot; a changed registry makes another one.  Laws (S10, S14): rights are those of the live grant at each
question, never what was true when a session began; an unknown, expired or unreadable grant has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from secure_ipp import limits
from secure_ipp.errors import Refused
from secure_ipp.keys.door_keys import DoorKeys
from secure_ipp.keys.grants import Grant
from secure_ipp.keys.registry import Registry
from secure_ipp.wire.messages import GrantInfo, Grants

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class LiveGrants:
    """A verified registry as of `version`: grants by id, and raw public keys that must never come back.

    Attributes:
        registry: that they are from.
    """

    version: int
    by_id: Mapping[str, GrantInfo]
    retired: tuple[bytes, ...] = ()
    registry: Registry | None = None

    @property
    def doors(self) -> DoorKeys | None:
        """What the issuer states of the server's keys; None: they never changed."""
        return None if self.registry is None else self.registry.doors

    def messages(self, edition: int) -> list[Grants]:
        """For the scheduler's gate and rights table, in parts that fit."""
        grants, retired = list(self.by_id.values()), list(self.retired)
        count = max(
            1, -(-len(grants) // limits.GRANTS_PER_PART), -(-len(retired) // limits.RETIRED_PER_PART)
        )
        return [
            Grants(
                self.version,
                _part(grants, limits.GRANTS_PER_PART, part),
                _part(retired, limits.RETIRED_PER_PART, part),
                edition=edition, part=part, more=part < count - 1,
            )
            for part in range(count)
        ]

    def client(self, user: str, now: float) -> GrantInfo:
        """The client's grant of this id.

        Args:
            user: from the scheduler's envelope, never from the client.
            now: seconds since the epoch.

        Raises:
            Refused: there is none, or it has expired; the two are told alike.
        """
        grant = self.by_id.get(user)
        if grant is None or grant.role != "client" or not (grant.expires == 0 or grant.expires > now):
            raise Refused(
                "this identity has no grant in force",
                "ask the cluster's owner for a new connection file",
                code="no-grant",
            )
        return grant


def _part(items: list[_T], size: int, part: int) -> list[_T]:
    return items[part * size : (part + 1) * size]


def from_registry(registry: Registry) -> LiveGrants:
    """The grants of a registry that was verified when it was loaded; a join grant is its agent's."""
    by_id = {grant.id: info_of(grant) for grant in registry.grants}
    doors = () if registry.doors is None else registry.doors.keys  # nobody else's key, either
    return LiveGrants(registry.version, by_id, tuple(key.raw for key in (*registry.retired, *doors)), registry)


def info_of(grant: Grant) -> GrantInfo:
    """What the scheduler needs of a verified grant."""
    quotas = grant.quotas
    return GrantInfo(
        id=grant.id, name=grant.name, role="client" if grant.role == "client" else "agent", key=grant.key.raw,
        rights=list(grant.rights), expires=float(grant.expires), engines=grant.engines, parent=grant.parent,
        tenancy=grant.tenancy, sessions=quotas.sessions, tasks=quotas.tasks, bytes=quotas.bytes,
        messages=quotas.messages, joins=grant.joins, networks=list(grant.networks),
    )


def live_grants_of(grants: LiveGrants | None) -> LiveGrants:
    """The snapshot, if the registry could be read.

    Raises:
        Refused: it could not, and nobody has any right until it can.
    """
    if grants is None:
        raise Refused(
            "the registry of keys cannot be read, so no rights are known",
            "the cluster's owner finds the reason in the hub's log",
            code="registry",
        )
    return grants
