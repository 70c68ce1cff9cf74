"""The one error tree.

Every error says what happened and what to do about it; branches say whose fault it is:
the caller's (`UsageError`), a peer's (`PeerError`), a policy's (`PolicyError`), or the
environment's (`EnvironmentProblem`).  Errors of remote code are `EngineSideError`s.
The names that ipyparallel's users know live in `secure_ipp.client.errors`, as branches of this tree.
"""

from __future__ import annotations


class SecureIppError(Exception):
    """Base of all errors of this package.

    Args:
        message: what happened, one sentence.
        advice: what to do about it; may be empty when nothing can be done.
        code: a short stable word for scripts (`--json`) and for the wire.
    """

    code = "error"

    def __init__(self, message: str = "", advice: str = "", *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.advice}" if self.advice else self.message


class UsageError(SecureIppError, ValueError):
    """The caller asked for something that cannot be."""

    code = "usage"


class PeerError(SecureIppError):
    """A peer broke the protocol or vanished."""

    code = "peer"


class ProtocolError(PeerError):
    """Bytes from a peer are not what the protocol allows."""

    code = "protocol"


class ControllerUnreachable(PeerError, TimeoutError):
    """No controller answered within the time allowed."""

    code = "unreachable"


class PolicyError(SecureIppError):
    """A rule said no."""

    code = "policy"


class Refused(PolicyError):
    """A door, the gate or the rights table refused a peer or a message."""

    code = "refused"


class Revoked(Refused):
    """This identity's key was revoked: it is refused everywhere, and what it had under way has ended."""

    code = "revoked"


class KeyExpired(Refused):
    """This identity's key has expired; the same as if it were revoked."""

    code = "expired"


REFUSALS: dict[str, type[Refused]] = {kind.code: kind for kind in (Revoked, KeyExpired)}


class PrivateFileError(PolicyError):
    """A private file, or a directory above it, could be read or changed by somebody else."""

    code = "private-file"


class CapabilityError(PolicyError):
    """A connection file is damaged, expired, of the wrong role or of another cluster."""

    code = "capability"


class EnvironmentProblem(SecureIppError):
    """The machine is not as it must be: ports in use, a library too old, a disk full."""

    code = "environment"


class EngineSideError(SecureIppError):
    """Something went wrong where the task ran."""

    code = "engine"
