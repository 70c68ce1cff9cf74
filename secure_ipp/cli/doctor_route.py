"""What ``secure-ipp doctor FILE`` asks of the ssh route in a file: whether it leads to the door.  Nobody is asked."""

from __future__ import annotations

from secure_ipp.cli.checks import Finding
from secure_ipp.errors import SecureIppError
from secure_ipp.keys.capability import Capability

ROUTE_SECONDS = 15.0


def route_finding(found: Capability) -> Finding:
    """Log in as a client with this file would, and try the door with the file's key through the tunnel."""
    from secure_ipp.keys.seen_doors import known_doors
    from secure_ipp.tunnel.health import check_door
    from secure_ipp.tunnel.reach import reach
    from secure_ipp.tunnel.reached import Wishes

    keys = known_doors(found).keys
    try:
        reached = reach(
            found, Wishes(transport="ssh", interactive=False, who="doctor"), keys, ROUTE_SECONDS, None
        )
        try:
            check_door(found, reached, keys, ROUTE_SECONDS)
            state = reached.lease.state if reached.lease is not None else None
        finally:
            reached.release()
    except SecureIppError as error:
        return Finding("route", "error", f"through ssh ({found.ssh}): {error.message}", error.advice)
    said = f"; host key {state.host_key}, key exchange {state.exchange}" if state is not None else ""
    return Finding("route", "ok", f"through ssh ({found.ssh}) its door admits this file's key{said}")
