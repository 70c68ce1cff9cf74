"""Why no connection came about, in words for whoever wanted one."""

from __future__ import annotations

import time
from collections.abc import Sequence

from secure_ipp import limits
from secure_ipp.errors import ControllerUnreachable, Refused, Revoked

HANDSHAKE = (
    "the handshake failed (there is another server key than this file knows: it was rotated since, or the file is "
    "another cluster's; or the controller is still starting)"
)


def unreachable(doors: Sequence[str], reason: str) -> ControllerUnreachable:
    """Patience is over.

    Args:
        doors: that were tried.
        reason: of the last failure.
    """
    advice = (
        "check that the cluster runs (`ipcluster list` on its host), that this file belongs to it and is current, "
        "and that its address and port can be reached from here"
    )
    if reason == HANDSHAKE:
        advice += (
            "; if the server's key was rotated while this file was not in use, ask the cluster's owner for a new one "
            "(`secure-ipp keys rotate --status` tells when, `secure-ipp keys renew` makes one)"
        )
    return ControllerUnreachable(f"no controller at {', '.join(doors)}: {reason}", advice)


def impostor() -> Refused:
    """Who answered a proof did not have the server's key."""
    return Refused(
        "what answers at this Unix socket is not the controller: it could not show that it has the server's key",
        "see who made that socket; all that was sent there is a one-time proof, good for this cluster's door alone",
        code="impostor",
    )


def proof_refused() -> Refused:
    """The gate knows the key, and would not take the proof's time."""
    return Refused(
        f"the door did not take this key's proof: the clocks of this host and of the controller's differ by more than "
        f"{limits.PROOF_SECONDS:.0f} s (here it is {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())})",
        "set the clock that is wrong; if neither is, see the controller's log (scheduler.log)", code="clock",
    )


def key_refused(*, before: bool, by_proof: bool = False) -> Refused:
    """The gate said no.

    Args:
        before: it had let this key in earlier.
        by_proof: it was not Curve, whose handshake tells another server key from an unknown one.
    """
    advice = "ask the cluster's owner for a new connection file"
    if by_proof:
        advice = f"if the server's key was rotated since the file was made, or the key was revoked: {advice}"
    if before:
        return Revoked("your key was revoked or has expired: the door does not admit it any more", advice)
    return Refused(
        "the door refused this key",
        f"the key is unknown, revoked or expired there, or the file is for another role; {advice}", code="key-refused",
    )
