"""What a back end is: one login over SSH with its forwards.  The keeper makes a new one for each try.

Laws for every back end (one contract suite tries them all): nothing is sent to a host before its key was verified
(S23); each local end is a Unix socket, 0600, in the order's private directory; bytes pass both ways unchanged, an end
of one direction leaves the other open; `connect` ends by its time, with one of `failures`; after `close` no process,
thread, socket or descriptor of it is left, and `close` never raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from secure_ipp.tunnel.route import Route

BackendName = Literal["openssh", "paramiko"]


@dataclass(frozen=True, slots=True)
class Forward:
    """One local socket and where what connects to it comes out.

    Attributes:
        local: path of a Unix socket that the back end makes in the order's directory.
        host, port: a door, as the ssh server sees it; or
        path: absolute path of a Unix socket at the ssh server, if not empty.
    """

    local: Path
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def target(self) -> str:
        """Where it ends, for people."""
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")


@dataclass(frozen=True, slots=True)
class Order:
    """What a back end is to do.

    Attributes:
        route: where to log in.
        forwards: at least one.
        directory: private (0700), this tunnel's own; for sockets and what else the back end needs.
        identity: path of a private key; "": what the user's ssh has.
        fingerprints: of the server's host key ("SHA256:..."), vouched for by the connection file.  They count for a
            host that known_hosts does not know, and never against it.
        pinned: fingerprint of the key that this tunnel's first connection had; any other one is refused. "": first.
        accept_new: the user said, by name, that an unknown key is to be accepted (and kept).
        post_quantum: refuse a key exchange that is not.
        password: log in with a password, which `Asker` knows; never for a host known only by `fingerprints`.
        config: path of an ssh configuration other than the user's; "": the user's; "none": none.
    """

    route: Route
    forwards: tuple[Forward, ...]
    directory: Path
    identity: str = ""
    fingerprints: tuple[str, ...] = ()
    pinned: str = ""
    accept_new: bool = False
    post_quantum: bool = False
    password: bool = False
    config: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was negotiated.

    Attributes:
        host_key: fingerprint of the server's key ("SHA256:...").
        exchange: name of the key exchange, as SSH calls it.
        known_by: what vouched for the host key.
    """

    host_key: str
    exchange: str
    known_by: Literal["known_hosts", "file", "accepted"]


class Asker(Protocol):
    """Somebody who may know a password or a passphrase; called from any thread, waits for its user."""

    def ask(self, prompt: str) -> str | None:
        """The answer to a prompt of ssh's or of the back end's ("user@host's password: ", "Enter passphrase for key
        '/path': "); None: nobody knows."""


class Backend(Protocol):
    """One login."""

    name: BackendName

    def connect(self, until: float) -> Facts:
        """Log in, verify, and have every forward listen.

        Args:
            until: `time.monotonic()` by which it must be there.

        Raises:
            SecureIppError: one of `failures`; nothing is left running.
        """

    def lost(self, seconds: float) -> str:
        """Wait so long at most; why the connection has ended, or "" while it stands."""

    def refusal(self) -> str:
        """Why the server last refused to forward a connection to its target, in its words; "" if it never did."""

    def close(self) -> None:
        """End it."""
