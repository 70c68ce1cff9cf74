"""How an agent gets to its door: straight on, as long as nothing speaks for another way; else as `tunnel.reach` finds,
which is loaded only then.

Nobody is asked anything here: whoever starts an agent has opened a tunnel that needs answers before.
"""

from __future__ import annotations

import logging
import socket

from secure_ipp import limits
from secure_ipp.engine.bootstrap import WayWanted
from secure_ipp.keys.capability import Capability
from secure_ipp.tunnel.reached import Reached, Wishes
from secure_ipp.tunnel.ways import is_straight
from secure_ipp.wire.sockets import has_curve

log = logging.getLogger("secure_ipp.engine")


def reach_door(capability: Capability, way: WayWanted) -> Reached:
    """The way to the door, open.

    Raises:
        SecureIppError: there is none, or it is weaker than what was asked for.
    """
    route = way.route or ("" if way.transport == "direct" else capability.ssh)
    if is_straight(capability.tcp_doors, has_curve=has_curve(), route=route, transport=way.transport):
        return Reached(capability.tcp_doors, False, "by Curve, straight to the door", None)
    from secure_ipp.tunnel.reach import reach

    wishes = Wishes(
        transport=way.transport, route=way.route, identity=way.identity, backend=way.backend,
        post_quantum=way.post_quantum, interactive=False, who=f"agent of {socket.gethostname()[:64]}",
    )
    reached = reach(capability, wishes, capability.server_keys, limits.AGENT_PATIENCE_SECONDS)
    log.info("cluster %s is reached %s", capability.cluster, reached.said)
    return reached
