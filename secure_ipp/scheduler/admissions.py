"""Whom the gate admits at the two doors: the registry's grants, engines' session keys, and the self-test's probe."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from secure_ipp.access.table import Admission, GateTable, TableBuilder
from secure_ipp.scheduler.agent_desk import SessionKey
from secure_ipp.wire.messages import GrantInfo, Grants


class GrantsInParts:
    """Puts the parts of an edition together.

    Law: an edition is whole or not there at all; a first part begins anew, one that does not follow is dropped with
    all before it.
    """

    def __init__(self) -> None:
        self._parts: list[Grants] = []

    def add(self, part: Grants) -> Grants | None:
        """The whole, if this was the last part of it."""
        parts = self._parts if part.part else []
        if part.part != len(parts) or any(before.edition != part.edition for before in parts):
            self._parts = []
            return None
        self._parts = [*parts, part]
        if part.more:
            return None
        parts, self._parts = self._parts, []
        return Grants(
            part.version, [grant for p in parts for grant in p.grants], [key for p in parts for key in p.retired],
            edition=part.edition,
        )


def gate_table(
    grants: Collection[GrantInfo], session_keys: Iterable[SessionKey], probe: bytes, retired: Iterable[bytes],
    version: int,
) -> GateTable:
    """The gate's table.

    Args:
        grants: of the registry, verified by the hub.
        session_keys: of engines, announced by agents.
        probe: public key of the self-test.
        retired: keys that are never admitted again.

    Raises:
        PolicyError: one key would be two identities.
    """
    builder = TableBuilder(version=version, retired=retired)
    for grant in grants:
        builder.add(
            "client" if grant.role == "client" else "engine", grant.key,
            Admission(grant.id, grant.role, grant.name, grant.expires, tuple(grant.networks)),
        )
    networks = {grant.id: tuple(grant.networks) for grant in grants if grant.networks}
    for session in session_keys:
        of_host = networks.get(session.user, ())
        builder.add("engine", session.key, Admission(session.uuid, "engine", "engine", networks=of_host))
    builder.add("client", probe, Admission("probe", "probe", "probe"))
    builder.add("engine", probe, Admission("probe", "probe", "probe"))
    return builder.build()
