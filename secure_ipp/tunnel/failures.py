"""What can go wrong on the way over SSH, apart from each other, by whose fault it is.

`tell` and `told` carry them between the process that keeps a tunnel and those that use it.
"""

from __future__ import annotations

from secure_ipp.errors import ControllerUnreachable, EnvironmentProblem, PolicyError, Refused, SecureIppError


class NoRoute(ControllerUnreachable):
    """The ssh server cannot be reached: no such host, nothing listens, no answer in time."""

    code = "no-route"


class HostKeyUnknown(PolicyError):
    """The ssh server's key is not known here; the message has its fingerprint."""

    code = "host-key-unknown"


class HostKeyChanged(PolicyError):
    """The ssh server has another key than is known here, or one that was revoked; nothing was sent to it."""

    code = "host-key-changed"


class LoginRefused(Refused):
    """The ssh server does not let this user in."""

    code = "ssh-authentication"


class ForwardingRefused(PolicyError):
    """The ssh server lets the user in and does not forward to the door."""

    code = "forwarding-refused"


class DoorSilent(ControllerUnreachable):
    """The tunnel stands, and at its far end no door answers."""

    code = "door-silent"


class NotPostQuantum(PolicyError):
    """The ssh server offers no key exchange that withstands a quantum computer, and one was required."""

    code = "not-post-quantum"


class NoSsh(EnvironmentProblem):
    """There is nothing here to log in with."""

    code = "no-ssh"


class TunnelLost(EnvironmentProblem):
    """The tunnel fell, or its keeper did."""

    code = "tunnel-lost"


_KINDS: dict[str, type[SecureIppError]] = {
    kind.code: kind
    for kind in (
        NoRoute, HostKeyUnknown, HostKeyChanged, LoginRefused, ForwardingRefused, DoorSilent, NotPostQuantum, NoSsh,
        TunnelLost,
    )
}
# what another try cannot mend, as long as nobody does anything
FINAL = (HostKeyUnknown, HostKeyChanged, LoginRefused, ForwardingRefused, NotPostQuantum, NoSsh)


def tell(error: SecureIppError) -> dict[str, str]:
    """An error as plain words."""
    return {"code": error.code, "message": error.message, "advice": error.advice}


def told(words: dict[str, str]) -> SecureIppError:
    """The error that these words are."""
    code = words.get("code", "")
    return _KINDS.get(code, TunnelLost)(words.get("message", ""), words.get("advice", ""), code=code or None)
