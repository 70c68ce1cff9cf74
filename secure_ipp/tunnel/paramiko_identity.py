"""Keys to log in with: the one that was named, or a few that the user's ssh would take; never more than a few.

A key in a file is opened only when its turn has come, so that nobody is asked for a passphrase in vain.
"""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from paramiko.agent import Agent, AgentSSH
from paramiko.ecdsakey import ECDSAKey
from paramiko.ed25519key import Ed25519Key
from paramiko.pkey import PublicBlob
from paramiko.rsakey import RSAKey
from paramiko.ssh_exception import SSHException

from secure_ipp import limits
from secure_ipp.keys.strict_json import shown
from secure_ipp.tunnel.failures import LoginRefused
from secure_ipp.tunnel.interface import Asker
from secure_ipp.tunnel.ssh_config import Hop

_UNREADABLE = (ValueError, SSHException, UnsupportedAlgorithm)


@dataclass(slots=True)
class Candidate:
    """A key that may be offered.

    Attributes:
        text: what it is, for people.
        path: its file, or None for one that the agent holds.
    """

    text: str
    path: Path | None = None
    _held: Any = field(default=None, repr=False)

    def key(self, asker: Asker) -> Any:
        """The key; its file is read, and its passphrase asked for, now.

        Raises:
            LoginRefused: it cannot be read, or nobody knows its passphrase.
        """
        return self._held if self.path is None else read_key(self.path, asker)


def read_key(path: Path, asker: Asker) -> Any:
    """The private key in a file, with the certificate that lies beside it if there is one.

    Raises:
        LoginRefused: it cannot be read, or nobody knows its passphrase.
    """
    try:
        return _load(path, None)
    except OSError as error:
        raise LoginRefused(f"the key {path} cannot be read: {error.strerror}",
                           "name another one: --identity, or sshkey=") from None
    except TypeError:
        pass  # it is sealed
    except _UNREADABLE as error:
        raise LoginRefused(f"the key {path} cannot be read: {shown(str(error))}",
                           "name another one: --identity, or sshkey=") from None
    for _ in range(limits.PASSPHRASE_TRIES):
        passphrase = asker.ask(f"Enter passphrase for key '{path}': ")
        if passphrase is None:
            break
        try:
            return _load(path, passphrase.encode())
        except (*_UNREADABLE, TypeError, OSError):
            continue
    raise LoginRefused(f"the key {path} is sealed, and nobody gave its passphrase",
                       "add it to your agent (ssh-add), or give its passphrase at a terminal")


def _load(path: Path, passphrase: bytes | None) -> Any:
    """The key in a file.  cryptography reads it: paramiko cannot read every key that ssh-keygen writes.

    Raises:
        TypeError: it is sealed, and no passphrase was given.
        OSError, ValueError and others: it cannot be read, or this is not its passphrase.
    """
    with path.open("rb") as file:
        data = file.read(limits.SSH_FILE_BYTES)
    try:
        loaded: Any = serialization.load_ssh_private_key(data, passphrase)
    except ValueError:
        loaded = serialization.load_pem_private_key(data, passphrase)
    key: Any
    if isinstance(loaded, rsa.RSAPrivateKey):
        key = RSAKey(key=loaded)
    elif isinstance(loaded, ec.EllipticCurvePrivateKey):
        key = ECDSAKey(vals=(loaded, loaded.public_key()))
    elif isinstance(loaded, ed25519.Ed25519PrivateKey):
        plain = loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH,
                                     serialization.NoEncryption())
        key = Ed25519Key.from_private_key(io.StringIO(plain.decode()))
    else:
        raise ValueError("this kind of key is not known to paramiko")
    if Path(f"{path}-cert.pub").exists():
        key.load_certificate(f"{path}-cert.pub")
    return key


class Identities:
    """The keys of one hop, and the agent that may hold some of them; to be closed.

    Args:
        identity: path of the one key to use; "": as the configuration says.
        seconds: that the agent may take for an answer, which may be its user's.
    """

    def __init__(self, hop: Hop, identity: str, seconds: float) -> None:
        self._hop = hop
        self._seconds = seconds
        self._identity = identity
        self._agent: Agent | None = None

    def __enter__(self) -> Identities:
        return self

    def __exit__(self, *_: object) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def candidates(self) -> Iterator[Candidate]:
        """What may be offered, in order: the agent's keys that the configuration names, its others, then files."""
        if self._identity:
            path = Path(self._identity).expanduser()
            yield Candidate(str(path), path)
            return
        files = [path for path in self._hop.identities if self._hop.named or path.exists()]
        public = {blob: path for path in files if (blob := _public(path)) is not None}
        held = self._held()
        ours = [key for key in held if key.asbytes() in public]
        others = [] if self._hop.only_these else [key for key in held if key.asbytes() not in public]
        offered = {public[key.asbytes()] for key in ours}
        found = [Candidate(f"the agent's {key.get_name()}", None, key) for key in (*ours, *others)]
        found += [Candidate(str(path), path) for path in files if path not in offered and path.exists()]
        yield from found[:limits.SSH_KEYS_TRIED]

    def _held(self) -> list[Any]:
        if not self._hop.agent:
            return []
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._seconds)
            connection.connect(self._hop.agent)
            self._agent = Agent.__new__(Agent)  # its constructor knows the environment's agent only
            AgentSSH.__init__(self._agent)
            self._agent._connect(connection)
            return list(self._agent.get_keys())
        except (OSError, SSHException, ValueError):
            connection.close()
            self._agent = None
            return []


def _public(path: Path) -> bytes | None:
    """The public half that lies beside a private key, if it does."""
    with contextlib.suppress(OSError, ValueError, UnicodeDecodeError):
        return bytes(PublicBlob.from_file(f"{path}.pub").key_blob)
    return None
