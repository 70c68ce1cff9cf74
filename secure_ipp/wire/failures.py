"""Why no connection came about, in words for whoever wanted one."""

from __future__ import annotations

from collections.abc import Sequence

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


def key_refused(*, before: bool) -> Refused:
    """The gate said no; `before`: it had let this key in earlier."""
    advice = "ask the cluster's owner for a new connection file"
    if before:
        return Revoked("your key was revoked or has expired: the door does not admit it any more", advice)
    return Refused(
        "the door refused this key",
        f"the key is unknown, revoked or expired there, or the file is for another role; {advice}", code="key-refused",
    )
