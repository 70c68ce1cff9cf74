"""Whom the gate admits at the two doors: the registry's grants, engines' session keys, and the self-test's probe."""

from __future__ import annotations

from collections.abc import Iterable

from secure_ipp.access.table import Admission, GateTable, TableBuilder
from secure_ipp.scheduler.agent_desk import SessionKey
from secure_ipp.wire.messages import GrantInfo


def gate_table(
    grants: Iterable[GrantInfo], session_keys: Iterable[SessionKey], probe: bytes, retired: Iterable[bytes],
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
            Admission(grant.id, grant.role, grant.name, grant.expires),
        )
    for session in session_keys:
        builder.add("engine", session.key, Admission(session.uuid, "engine", "engine"))
    builder.add("client", probe, Admission("probe", "probe", "probe"))
    builder.add("engine", probe, Admission("probe", "probe", "probe"))
    return builder.build()
