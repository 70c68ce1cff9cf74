"""What `status` shows of a cluster: plain data for JSON, without a secret or a key in it.

Texts from outside stand here as they came; who prints them escapes them.
"""

from __future__ import annotations

from typing import Any

from secure_ipp.hub.grants import LiveGrants
from secure_ipp.hub.roster import Roster
from secure_ipp.store.interface import StoreSize
from secure_ipp.wire.messages import SchedulerStatus


def registry_part(grants: LiveGrants | None, problem: str) -> dict[str, Any]:
    """The registry's version and grants; `problem` is why there are none."""
    known = [] if grants is None else list(grants.by_id.values())
    return {
        "version": None if grants is None else grants.version,
        "problem": problem,
        "grants": [
            {
                "id": grant.id, "name": grant.name, "role": grant.role, "rights": list(grant.rights),
                "expires": grant.expires, "engines": grant.engines,
            }
            for grant in known
        ],
    }


def engines_part(roster: Roster, grants: LiveGrants | None) -> list[dict[str, Any]]:
    """One entry for each engine, by id."""
    names = {} if grants is None else {grant.id: grant.name for grant in grants.by_id.values()}
    entries = [
        {
            "id": record.info.id, "uuid": record.info.uuid, "host": record.info.host, "pid": record.info.pid,
            "agent": record.agent, "joined_with": names.get(record.agent, ""),
            "state": "awaited" if roster.is_awaited(record.info.uuid) else "here",
            "reads_cluster_dir": record.reads_cluster_dir, "reads_join_file": record.reads_join_file,
        }
        for record in roster.engines()
    ]
    return sorted(entries, key=lambda entry: (entry["id"], entry["uuid"]))


def scheduler_part(pid: int | None, since: float, status: SchedulerStatus | None) -> dict[str, Any]:
    """The scheduler's own account; `pid` None means that none is connected."""
    part: dict[str, Any] = {"connected": pid is not None, "pid": pid, "since": since}
    if status is not None:
        part |= {
            "tasks_waiting": status.tasks_waiting, "tasks_running": status.tasks_running,
            "tasks_done": status.tasks_done, "gate_refused": status.gate_refused, "recovering": status.recovering,
            "server_keys": {"number": status.door_keys, "unaware": status.unaware},
        }
    return part


def clients_part(status: SchedulerStatus | None) -> list[dict[str, Any]]:
    """One entry for each client session."""
    return [
        {
            "user": client.user, "name": client.name, "host": client.host, "pid": client.pid,
            "address": client.address, "since": client.since,
        }
        for client in (status.clients if status is not None else ())
    ]


def records_part(size: StoreSize) -> dict[str, int]:
    """How full the window of task records is."""
    return {"records": size.records, "bytes": size.bytes}
