"""What a caller says of the way to a door, and a way that leads there, until it is released.

What opens ways is loaded only when there is something to open (`reach`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from secure_ipp.errors import SecureIppError
from secure_ipp.keys.capability import Capability
from secure_ipp.keys.passphrases import Passphrase

if TYPE_CHECKING:
    from secure_ipp.access.prover import Prover
    from secure_ipp.tunnel.lease import Lease
    from secure_ipp.wire.connection import Connection
    from secure_ipp.wire.loop import Loop

_LOOK_SECONDS = 0.2  # between two looks at a tunnel


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the caller says of the way.

    Attributes:
        transport: "direct", "ssh", or "": whatever leads there.
        route: an ssh route of the caller's own.
        identity: path of a private key for it.
        password: for it.
        backend: "openssh", "paramiko", or "": what there is.
        post_quantum: require a key exchange that withstands a quantum computer.
        accept_new: accept the ssh server's key though nobody vouches for it.
        interactive: the user may be asked for passwords, and whether a file's route is to be used.
        who: for the list of a tunnel's users.
    """

    transport: str = ""
    route: str = ""
    identity: str = ""
    password: Passphrase | None = None
    backend: str = ""
    post_quantum: bool = False
    accept_new: bool = False
    interactive: bool = True
    who: str = "a client"


@dataclass(frozen=True, slots=True)
class Reached:
    """A way that leads there.

    Attributes:
        doors: what to connect to.
        by_proof: without Curve, by a one-time proof.
        said: what was chosen and why, in a line.
        lease: of the tunnel, to be released in the end; None: there is none.
    """

    doors: tuple[str, ...]
    by_proof: bool
    said: str
    lease: Lease | None

    def explain(self, error: SecureIppError) -> SecureIppError:
        """What a failed connection comes from, as far as the way knows."""
        return error if self.lease is None else self.lease.explain(error)

    def hopeless(self) -> SecureIppError | None:
        """Why no connection will ever come about, if that is known."""
        return None if self.lease is None else self.lease.hopeless()

    def watch(self, loop: Loop, connection: Connection, failed: Callable[[SecureIppError], None]) -> None:
        """End a connection's tries as soon as there is no hope for them; in the loop's thread, until it has ended.

        Args:
            failed: told why; the connection has been abandoned then.
        """
        if self.lease is None or connection.ended:
            return
        hopeless = None if connection.connected else self.lease.hopeless()
        if hopeless is not None:
            connection.abandon()
            failed(hopeless)
            return
        loop.call_later(_LOOK_SECONDS, lambda: self.watch(loop, connection, failed))

    def prover(self, capability: Capability) -> Prover | None:
        """What proves the file's key on this way; None: it is Curve."""
        if not self.by_proof:
            return None
        from secure_ipp.access.prover import prover_for

        return prover_for(capability.cluster_id, capability.role)

    def release(self) -> None:
        if self.lease is not None:
            self.lease.release()
