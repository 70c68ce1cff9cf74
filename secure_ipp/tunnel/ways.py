"""Which ways lead to a door, best first.  Pure: what is known of file, library and wishes comes as arguments.

Laws (S25): a way without Curve is taken only where the file says that the cluster has none, or where this libzmq has
none and the file names a door that does without; it is never one over TCP.  What was asked for by name is done or
refused, never replaced.  Whoever names an ssh server wants to go through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secure_ipp.errors import EnvironmentProblem, UsageError

Transport = Literal["", "direct", "ssh"]
TRANSPORTS: tuple[str, ...] = ("direct", "ssh")


@dataclass(frozen=True, slots=True)
class Known:
    """What the decision rests on.

    Attributes:
        tcp_doors, socket_doors: of the file.
        local_sockets: those of the second that are there, on this very host, and only this user's.
        has_curve: this libzmq has Curve.
        route: to go through, or "".
        route_named: the caller named it; else it stands in the file.
    """

    tcp_doors: tuple[str, ...]
    socket_doors: tuple[str, ...]
    local_sockets: tuple[str, ...]
    has_curve: bool
    route: str
    route_named: bool


@dataclass(frozen=True, slots=True)
class Way:
    """One way.

    Attributes:
        kind: "direct" or "ssh".
        doors: addresses of the door; for "ssh" as the ssh server sees them.
        by_proof: without Curve, by a one-time proof (S25).
        why: half a sentence.
    """

    kind: Literal["direct", "ssh"]
    doors: tuple[str, ...]
    by_proof: bool
    why: str

    @property
    def said(self) -> str:
        """What was chosen, and why, in a line."""
        how = "a Unix socket, with a one-time proof" if self.by_proof else "Curve"
        if self.kind == "ssh":
            how = f"an SSH tunnel, {'with a one-time proof' if self.by_proof else 'Curve inside'}"
        return f"by {how}: {self.why}"


def is_straight(tcp_doors: tuple[str, ...], *, has_curve: bool, route: str, transport: str) -> bool:
    """Whether there is nothing to decide: with Curve to the addresses of the file."""
    return bool(tcp_doors) and has_curve and not route and transport in ("", "direct")


def ways(known: Known, transport: str = "") -> list[Way]:
    """The ways to try, one after the other.

    Raises:
        UsageError: what was asked for cannot be.
        EnvironmentProblem: there is no way that is not weaker than what was promised.
    """
    if transport and transport not in TRANSPORTS:
        raise UsageError(f"transport cannot be {transport!r}", "say 'direct' or 'ssh', or leave it out")
    if transport == "direct" and known.route_named:
        raise UsageError("transport='direct' and an ssh server exclude each other", "leave one out")
    if transport == "ssh" and not known.route:
        raise UsageError(
            "this file names no ssh route, and none was given", "say where to log in: sshserver='user@host'"
        )
    found = _with_curve(known) if known.tcp_doors and known.has_curve else _without_curve(known)
    if transport or known.route_named:
        wanted = transport or "ssh"
        found = [way for way in found if way.kind == wanted]
        if not found:
            raise UsageError(
                f"there is no {wanted} way to this cluster from here",
                "its only door is a Unix socket at its own host: go through SSH (sshserver='user@host')",
            )
    return found


def _with_curve(known: Known) -> list[Way]:
    found = [Way("direct", known.tcp_doors, False, "the door answers here")]
    if known.route:
        why = "the ssh server was named" if known.route_named else "the door cannot be reached from here"
        found.append(Way("ssh", known.tcp_doors, False, f"{why}; through {known.route}"))
    return found


def _without_curve(known: Known) -> list[Way]:
    if known.tcp_doors and not known.socket_doors:
        raise EnvironmentProblem(
            "this libzmq was built without Curve, and the cluster of this file offers no other way in",
            "install pyzmq's wheel (pip install --force-reinstall --only-binary :all: 'pyzmq>=27.3.0'), or ask for a "
            "file of a cluster with an ssh door (ipcluster start --ssh-door)",
            code="no-curve",
        )
    why = "this libzmq has no Curve" if known.tcp_doors else "the cluster has no Curve"
    found = []
    if known.local_sockets:
        found.append(Way("direct", known.local_sockets, True, f"{why}, and its controller runs on this host"))
    if known.route:
        found.append(Way("ssh", known.socket_doors, True, f"{why}; through {known.route}"))
    if not found:
        raise EnvironmentProblem(
            f"{why}: its door is a Unix socket at its own host ({', '.join(known.socket_doors)}), which is not here",
            "say where to log in: sshserver='user@host' (Client), --ssh user@host (ipengine); on its own host see "
            "whether it runs: ipcluster list",
            code="no-way",
        )
    return found
