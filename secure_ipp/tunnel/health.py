"""Whether a tunnel leads to its door: a handshake with the door through it, not an open port."""

from __future__ import annotations

import time
from collections.abc import Sequence

from secure_ipp import limits
from secure_ipp.errors import ControllerUnreachable
from secure_ipp.keys.capability import Capability
from secure_ipp.keys.curve import CurvePublicKey
from secure_ipp.tunnel.reached import Reached
from secure_ipp.wire.failures import key_refused
from secure_ipp.wire.intruder import try_door

_HEAR_SECONDS = 1.0  # for the ssh server's own word to come in, once a try has failed
_POLL_SECONDS = 0.05


def check_door(
    capability: Capability, reached: Reached, server_keys: Sequence[CurvePublicKey], seconds: float,
) -> None:
    """Return if one of the door's addresses admits the file's key.

    Args:
        seconds: for all addresses and keys together.

    Raises:
        Refused: the door is there and refuses the key.
        ForwardingRefused: the ssh server does not pass on to it.
        DoorSilent: it does, and nobody answers.
    """
    proves, refused = reached.prover(capability), set()
    each = min(limits.SELF_TEST_TIMEOUT_SECONDS, seconds / (len(server_keys) * len(reached.doors)))
    for key in server_keys:
        for door in reached.doors:
            verdict = try_door(door, key, capability.keys, each, proves=proves)
            if verdict == "admitted":
                return
            if verdict == "refused":
                refused.add(key)
                if proves is None or len(refused) == len(server_keys):  # a proof for another server key is refused, too
                    raise key_refused(before=False, by_proof=proves is not None)
    until = time.monotonic() + _HEAR_SECONDS
    while reached.hopeless() is None and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    raise reached.explain(ControllerUnreachable(f"no door answered the handshake within {seconds:g} s"))
