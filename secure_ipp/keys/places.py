"""Where a cluster's files lie, and what they are called.

Everything is below the home (``$SECURE_IPP_HOME``, else ``~/.secure-ipp``): one private directory for each cluster.
Sockets and locks need a local file system and a short path: they lie in the cluster's own `run` directory where that
is both, else below /tmp.  ($XDG_RUNTIME_DIR would not do: it goes when its user logs out, a cluster stays.)  State that
must not travel needs a local file system that outlives a restart: the cluster's `state` directory, else below /var/tmp.
This module looks at no file's contents.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.filesystem import is_local
from secure_ipp.keys.names import check_name, cluster_name
from secure_ipp.keys.private_files import make_private_dir

__all__ = ["ClusterPlace", "NoKeys", "cluster_name", "home"]

LONGEST_SOCKET_NAME = 24  # characters of a socket's name in the runtime directory


class NoKeys(EnvironmentProblem):
    """A cluster has no keys here yet."""

    code = "no-keys"


def home() -> Path:
    """The directory of all clusters; absolute, perhaps not there yet."""
    given = os.environ.get("SECURE_IPP_HOME", "")
    return Path(os.path.abspath(os.path.expanduser(given or os.path.join("~", ".secure-ipp"))))


@dataclass(frozen=True, slots=True)
class ClusterPlace:
    """The files of one cluster.

    Raises:
        UsageError: the name is no name.
    """

    name: str
    home: Path = field(default_factory=home)

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def dir(self) -> Path:
        """The cluster's directory, 0700."""
        return self.home / self.name

    @property
    def config(self) -> Path:
        """Ports, addresses and the pinned issuer; the last file that `init_cluster` writes."""
        return self.dir / "cluster.toml"

    @property
    def server_key(self) -> Path:
        """The doors' Curve key pair; it never leaves this host (S8)."""
        return self.dir / "server.key"

    @property
    def next_server_key(self) -> Path:
        """The key pair that the doors are to have next; only while a rotation is under way (S33)."""
        return self.dir / "server.next.key"

    @property
    def issuer_key(self) -> Path:
        """The issuer's secret; no controller process reads it (S10)."""
        return self.dir / "issuer.key"

    @property
    def registry(self) -> Path:
        """Every grant and every retired key, signed."""
        return self.dir / "registry.json"

    @property
    def derived(self) -> Path:
        """Grants that holders handed on; the hub's."""
        return self.dir / "derived.json"

    @property
    def joins(self) -> Path:
        """Who joined with keys that are good for a number of joins; the hub's."""
        return self.dir / "joins.json"

    @property
    def client_file(self) -> Path:
        """The capability that lets a client in."""
        return self.dir / "ipcontroller-client.json"

    @property
    def engine_file(self) -> Path:
        """The capability with which a host's agent joins."""
        return self.dir / "ipcontroller-engine.json"

    @property
    def log_dir(self) -> Path:
        """Log files, 0700; made by whoever writes the first."""
        return self.dir / "log"

    @property
    def state_file(self) -> Path:
        """What runs now."""
        return self.dir / "state.json"

    @property
    def journal_dir(self) -> Path:
        """The journal's segments, 0700."""
        return self.dir / "journal"

    @property
    def journal_key(self) -> Path:
        """The journal's evolving key; of each only the newest exists."""
        return self.durable_path / "journal.key"

    @property
    def runtime_path(self) -> Path:
        """Where sockets and locks lie; perhaps not there yet.  Every process of this host finds the same."""
        real = os.path.realpath(self.dir)
        inside = os.path.join(real, "run")
        longest = len(os.fsencode(inside)) + 1 + LONGEST_SOCKET_NAME
        if longest <= limits.UNIX_SOCKET_PATH_BYTES and is_local(real):
            return Path(inside)
        return Path(f"/tmp/secure-ipp-{os.geteuid()}") / _digest(real)  # noqa: S108  made private and checked before any use

    @property
    def durable_path(self) -> Path:
        """Where lies what must outlive this host's restart but not leave its disk (S29): the clock mark, the
        journal's key; perhaps not there yet."""
        real = os.path.realpath(self.dir)
        if is_local(real):
            return Path(real) / "state"
        return Path(f"/var/tmp/secure-ipp-{os.geteuid()}") / _digest(real)  # noqa: S108  as above

    @property
    def proofs_file(self) -> Path:
        """The proofs that the doors of Unix sockets have taken, so that none is good twice (S25); the scheduler's."""
        return self.durable_path / "proofs.used"

    @property
    def lock_file(self) -> Path:
        """Held by the running controller."""
        return self.runtime_path / "controller.lock"

    @property
    def registry_lock(self) -> Path:
        """Held while the registry is changed."""
        return self.runtime_path / "registry.lock"

    def runtime_dir(self) -> Path:
        """The runtime directory, made and checked: 0700, this user's, on a local file system.

        Raises:
            PrivateFileError: somebody else could use it.
            EnvironmentProblem: it cannot be made.
        """
        return _made(self.runtime_path)

    def durable_dir(self) -> Path:
        """The durable directory, made and checked: 0700, this user's, on a local file system.

        Raises:
            PrivateFileError: somebody else could use it.
            EnvironmentProblem: it cannot be made.
        """
        return _made(self.durable_path)

    def hub_socket(self) -> Path:
        """The hub link's socket; makes the runtime directory."""
        return self._socket("hub.sock")

    def control_socket(self) -> Path:
        """The hub's control socket; makes the runtime directory."""
        return self._socket("control.sock")

    def client_door_socket(self) -> Path:
        """The client door that is a Unix socket (S25); makes the runtime directory."""
        return self._socket("client.door")

    def engine_door_socket(self) -> Path:
        """The engine door that is a Unix socket (S25); makes the runtime directory."""
        return self._socket("engine.door")

    def _socket(self, name: str) -> Path:
        path = self.runtime_dir() / name
        if len(os.fsencode(path)) > limits.UNIX_SOCKET_PATH_BYTES:
            raise EnvironmentProblem(f"the socket path {path} is too long", "set SECURE_IPP_HOME to a shorter one")
        return path


def _digest(directory: str) -> str:
    return hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]


def _made(path: Path) -> Path:
    if path.parent.parent in (Path("/tmp"), Path("/var/tmp")):  # noqa: S108
        make_private_dir(path.parent)
    return Path(make_private_dir(path))
