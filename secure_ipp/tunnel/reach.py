"""Finds the way to a door, and opens it: what clients and agents call before they connect.

The steps of a decision that need sockets and files; the decision itself is in `ways`.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

from secure_ipp import limits
from secure_ipp.access.prover import prover_for
from secure_ipp.errors import SecureIppError, UsageError
from secure_ipp.keys.capability import Capability
from secure_ipp.keys.curve import CurvePublicKey
from secure_ipp.keys.private_files import check_private_dir
from secure_ipp.tunnel import backends
from secure_ipp.tunnel.failures import NoSsh
from secure_ipp.tunnel.first_use import Confirm, check_first_use
from secure_ipp.tunnel.lease import Lease
from secure_ipp.tunnel.prompts import Prompter
from secure_ipp.tunnel.reached import Reached, Wishes
from secure_ipp.tunnel.route import Route
from secure_ipp.tunnel.spec import Spec
from secure_ipp.tunnel.ways import Known, Way, ways
from secure_ipp.wire.intruder import Verdict, try_door
from secure_ipp.wire.sockets import has_curve

_log = logging.getLogger("secure_ipp.tunnel")
CONFIG_VARIABLE = "SECURE_IPP_SSH_CONFIG"  # an ssh configuration in place of the user's own; "none": none at all


def reach(
    capability: Capability, wishes: Wishes, server_keys: Sequence[CurvePublicKey], seconds: float,
    confirm: Confirm | None = None,
) -> Reached:
    """The way to this capability's door, open.

    Args:
        server_keys: that the door may prove itself with now.
        seconds: within which it must be there.
        confirm: asks whether a file's ssh route may be used; None: nobody can be asked.

    Raises:
        SecureIppError: there is none; see `ways` and `failures`.
    """
    until = time.monotonic() + seconds
    named = Route.parse(wishes.route).text if wishes.route else ""
    found = ways(
        Known(
            tcp_doors=capability.tcp_doors, socket_doors=capability.socket_doors,
            local_sockets=tuple(door for door in capability.socket_doors if _is_local(door)), has_curve=has_curve(),
            route=named or capability.ssh, route_named=bool(named),
        ),
        wishes.transport,
    )
    for way, is_last in zip(found, [False] * (len(found) - 1) + [True], strict=True):
        if way.kind == "direct" and (is_last or _answers(capability, way, server_keys, until)):
            return Reached(way.doors, way.by_proof, way.said, None)
        if way.kind == "ssh":
            return _through_ssh(capability, way, wishes, named, until, confirm)
    raise AssertionError("the last way is taken or raises")


def spec_of(capability: Capability, way: Way, wishes: Wishes) -> Spec:
    """The tunnel that this way needs.

    Raises:
        SecureIppError: there is no such back end, or no such key.
    """
    identity = str(Path(wishes.identity).expanduser().absolute()) if wishes.identity else ""
    if identity and not Path(identity).is_file():
        raise UsageError(f"there is no private key {identity}", "name the file of your ssh key")
    config = os.environ.get(CONFIG_VARIABLE, "")
    if config not in ("", "none"):
        config = str(Path(config).expanduser().absolute())  # the keeper is in another directory
    of_file = not wishes.route or wishes.route == capability.ssh
    return Spec(
        route=wishes.route or capability.ssh, doors=list(way.doors), backend=backends.choose(wishes.backend),
        cluster=capability.cluster, identity=identity,
        fingerprints=list(capability.ssh_host_keys) if of_file else [],
        post_quantum=wishes.post_quantum or capability.post_quantum, config=config, accept_new=wishes.accept_new,
        password=wishes.password is not None or wishes.interactive,
    )


def _through_ssh(
    capability: Capability, way: Way, wishes: Wishes, named: str, until: float, confirm: Confirm | None
) -> Reached:
    if not hasattr(socket, "AF_UNIX"):
        raise NoSsh(
            "a tunnel's local end is a Unix socket, and this system has none",
            "work under WSL, or where the cluster's port can be reached",
        )
    spec = spec_of(capability, way, wishes)
    route = Route.parse(spec.route)
    if not named:
        began = time.monotonic()
        check_first_use(capability, confirm)
        until += time.monotonic() - began  # its user's time to think
    knows = wishes.interactive or wishes.password is not None  # who does not is not asked, in place of one who does
    lease = Lease(spec, wishes.who, Prompter(route, wishes.password, interactive=wishes.interactive) if knows else None)
    lease.open(max(0.1, until - time.monotonic()))
    return Reached(lease.doors, way.by_proof, way.said, lease)


def _is_local(door: str) -> bool:
    """Whether this door's socket is on this host, and only this user's."""
    path = Path(door.removeprefix("ipc://"))
    try:
        found = path.lstat()
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            return False
        check_private_dir(path.parent)
    except (OSError, SecureIppError):
        return False
    return True


def _answers(
    capability: Capability, way: Way, server_keys: Sequence[CurvePublicKey], until: float
) -> bool:
    """Whether the door answers on this way, be it with a refusal: all its addresses are tried at once."""
    seconds = max(0.1, min(limits.DIRECT_SECONDS, (until - time.monotonic()) / 2))
    verdicts: SimpleQueue[Verdict] = SimpleQueue()
    proves = prover_for(capability.cluster_id, capability.role) if way.by_proof else None
    tries = [(door, key) for door in way.doors for key in server_keys]

    def attempt(door: str, key: CurvePublicKey) -> None:
        try:
            verdicts.put(try_door(door, key, capability.keys, seconds, proves=proves))
        except Exception as error:  # noqa: BLE001  the edge of a thread; whoever waits counts answers
            _log.info("the door %s could not be tried: %s", door, error)
            verdicts.put("silent")

    for door, key in tries:
        threading.Thread(target=attempt, args=(door, key), name="secure-ipp-reach", daemon=True).start()
    try:
        for _ in tries:
            verdict = verdicts.get(timeout=seconds + 1.0)
            if verdict in ("admitted", "refused"):
                return True
    except Empty:
        _log.info("no door answered in time")
    return False
