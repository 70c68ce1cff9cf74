"""What the supervisor makes for each start of a controller, and what it tells hub and scheduler.

Laws: link keys and the ticket key are fresh for each start and the same for each restart within it, so that links
resume and tickets stay good (S16, S30); the server's secret goes to the scheduler alone; no text of these bootstraps
is logged.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import msgspec

from secure_ipp.cluster.doors import Doors
from secure_ipp.keys import base64url
from secure_ipp.keys.cluster_keys import ServerKeys
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.places import ClusterPlace

TICKET_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class StartSecrets:
    """Keys between our own processes.

    Attributes:
        hub: the hub's end of the link between the two.
        scheduler: the scheduler's end.
        ticket_key: for the MAC over each assignment.
    """

    hub: KeyPair
    scheduler: KeyPair
    ticket_key: bytes = field(repr=False)

    @classmethod
    def fresh(cls) -> StartSecrets:
        return cls(KeyPair.generate(), KeyPair.generate(), os.urandom(TICKET_KEY_BYTES))


def hub_bootstrap(
    place: ClusterPlace, server: ServerKeys, secrets: StartSecrets, *, log_level: str, journal_keep: str = "all",
    journal_sync: str = "batch",
) -> bytes:
    """The line for the hub's stdin."""
    return _line(
        place_dir=str(place.dir),
        cluster=place.name,
        cluster_id=server.config.cluster_id,
        link_socket=str(place.hub_socket()),
        link_server_secret=secrets.hub.secret.text,
        link_server_public=secrets.hub.public.text,
        scheduler_public=secrets.scheduler.public.text,
        control_socket=str(place.control_socket()),
        log_file=str(place.log_dir / "hub.log"),
        log_level=log_level,
        journal_keep=journal_keep,
        journal_sync=journal_sync,
    )


def scheduler_bootstrap(
    place: ClusterPlace,
    server: ServerKeys,
    secrets: StartSecrets,
    *,
    log_level: str,
    doors: Doors,
    scheme: str,
) -> bytes:
    """The line for the scheduler's stdin."""
    return _line(
        cluster=place.name,
        cluster_id=server.config.cluster_id,
        client_endpoints=doors.client_endpoints(),
        engine_endpoints=doors.engine_endpoints(),
        client_socket=doors.client_socket,
        engine_socket=doors.engine_socket,
        proofs_file=str(place.durable_dir() / place.proofs_file.name),
        server_secret=server.keys.secret.text,
        server_public=server.keys.public.text,
        link_socket=str(place.hub_socket()),
        link_server_public=secrets.hub.public.text,
        link_secret=secrets.scheduler.secret.text,
        link_public=secrets.scheduler.public.text,
        ticket_key=base64url.encode(secrets.ticket_key),
        log_file=str(place.log_dir / "scheduler.log"),
        log_level=log_level,
        scheme=scheme,
    )


def _line(**told: object) -> bytes:
    return msgspec.json.encode(told) + b"\n"
