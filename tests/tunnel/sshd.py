"""Real OpenSSH servers on loopback, and the files of a user who logs in to them.

A `Server` has a directory, keys, a port and a log of its own; a `User` has a key, a known_hosts file and an ssh
configuration, which is handed to the client by path: the real ``~/.ssh`` is neither read nor written.
"""

from __future__ import annotations

import base64
import functools
import getpass
import hashlib
import hmac
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from tests import running

SBIN = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
PidFile none
LogLevel DEBUG1
AuthorizedKeysFile {directory}/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitUserEnvironment no
PermitTTY no
MaxStartups 100
MaxSessions 1000
UseDNS no
"""


@functools.cache
def program() -> str | None:
    """The server's program, if it is installed."""
    return shutil.which("sshd", path=SBIN)


def need_sshd() -> str:
    """The server's program; without it the test is skipped, or fails where tests must find all that they need."""
    found = program()
    if found is None:
        reason = "no OpenSSH server here: tools/test-services install openssh"
        if os.environ.get("SECURE_IPP_TEST_TOOLS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """A new key pair at `path` and ``path.pub``.

    Args:
        kind: ed25519, rsa or ecdsa.
        passphrase: seals the private half, if not empty.
    """
    size = ["-b", "2048"] if kind == "rsa" else []
    subprocess.run(  # the passphrase is no secret: it stands in the test
        ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", "", "-f", str(path)],
        check=True, capture_output=True, stdin=subprocess.DEVNULL,
    )
    return path


def public(path: Path) -> str:
    """The public half of the key at `path`: kind and base64."""
    return " ".join(Path(f"{path}.pub").read_text().split()[:2])


def fingerprint(public_key: str) -> str:
    """As OpenSSH writes it: ``SHA256:`` and 43 characters."""
    digest = hashlib.sha256(base64.b64decode(public_key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def hashed(name: str) -> str:
    """A name as a hashed known_hosts file has it."""
    salt = os.urandom(20)
    digest = hmac.new(salt, name.encode(), "sha1").digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@functools.cache
def _version() -> tuple[int, int]:
    said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr
    found = re.match(r"OpenSSH_(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class Reached(Protocol):
    """A server, real or with a fault."""

    host: str
    port: int

    @property
    def name(self) -> str: ...

    def host_key(self, kind: str = "") -> str: ...


class Server:
    """One sshd.

    Args:
        kinds: of its host keys.
        lines: further lines of its configuration; those after a ``Match`` line belong to it.
        authorized: public keys that are let in; more can be added with `authorize`.
    """

    def __init__(self, kinds: Sequence[str] = ("ed25519",), lines: Sequence[str] = (),
                 authorized: Sequence[str] = ()) -> None:
        self._program = need_sshd()
        self.directory = running.short_directory()
        self.kinds = tuple(kinds)
        self.lines = list(lines)
        self.port = free_port()
        self.host = "127.0.0.1"
        self._process: subprocess.Popen[bytes] | None = None
        for kind in kinds:
            make_key(self.key_path(kind), kind)
        (self.directory / "authorized_keys").write_text("".join(f"{key}\n" for key in authorized))

    def key_path(self, kind: str = "") -> Path:
        return self.directory / f"host_{kind or self.kinds[0]}"

    def host_key(self, kind: str = "") -> str:
        """Its public key: kind and base64."""
        return public(self.key_path(kind))

    def fingerprint(self, kind: str = "") -> str:
        return fingerprint(self.host_key(kind))

    @property
    def name(self) -> str:
        """As known_hosts has it."""
        return f"[{self.host}]:{self.port}"

    def authorize(self, public_key: str, options: str = "") -> None:
        """Let a key in, with options of authorized_keys if there are any."""
        with (self.directory / "authorized_keys").open("a") as file:
            file.write(f"{options} {public_key}\n".lstrip())

    def new_host_key(self, kind: str = "") -> None:
        """Replace a host key; the next start uses it."""
        path = self.key_path(kind)
        for old in (path, Path(f"{path}.pub")):
            old.unlink()
        make_key(path, kind or self.kinds[0])

    def start(self) -> Server:
        """Start it, or start it again on the same port."""
        assert self._process is None
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        lines = [*(f"HostKey {self.key_path(kind)}" for kind in self.kinds), *self.lines]
        if _version() >= (9, 8):  # it would shut out an address that tries wrong keys
            lines.insert(0, "PerSourcePenalties no")
        path = self.directory / "sshd_config"
        path.write_text(CONFIG.format(port=self.port, directory=self.directory) + "\n".join(lines) + "\n")
        self._process = subprocess.Popen(
            [self._program, "-D", "-f", str(path), "-E", str(self.directory / "log")], cwd="/",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            running.wait_until(self._answers, 10, "sshd")
        except TimeoutError:
            self.kill()
            raise
        return self

    def _answers(self) -> bool:
        process = self._process
        assert process is not None and process.poll() is None, self.log()
        try:
            with socket.create_connection((self.host, self.port), 1) as one:
                return one.recv(4) == b"SSH-"
        except OSError:
            return False

    def processes(self) -> list[psutil.Process]:
        """The listener and what serves connections now."""
        if self._process is None:
            return []
        try:
            listener = psutil.Process(self._process.pid)
            return [listener, *listener.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def sessions(self) -> list[psutil.Process]:
        """What serves connections now; ending them drops the connections and leaves the listener."""
        return [one for one in self.processes()[1:] if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def drop(self) -> None:
        """End all connections as a cable that is pulled ends them for the server: no goodbye."""
        for one in self.sessions():
            running.end_process(one.pid)

    def kill(self) -> None:
        """End it and every connection at once; returns when all are gone."""
        process, self._process = self._process, None
        if process is None:
            return
        listener = psutil.Process(process.pid)
        left = listener.children(recursive=True)  # they outlive the listener
        process.kill()
        process.wait()
        for child in left:
            running.end_process(child.pid)
        _, alive = psutil.wait_procs(left, 5)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
        with socket.socket() as one:
            assert one.connect_ex((self.host, self.port)) != 0

    stop = kill

    def log(self) -> str:
        """What it has logged, at debug level."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class User:
    """Who logs in: a directory with a key, known_hosts and a configuration, in place of ``~/.ssh``.

    Attributes:
        directory: 0700.
        identity: path of the private key.
        config: path of the ssh configuration (``-F``), which names these files and no others.
        known_hosts: path; empty at first.
    """

    def __init__(self, kind: str = "ed25519", passphrase: str = "") -> None:
        self.directory = running.short_directory()
        self.name = getpass.getuser()
        self.identity = make_key(self.directory / f"id_{kind}", kind, passphrase)
        self.known_hosts = self.directory / "known_hosts"
        self.known_hosts.touch(0o600)
        self.config = self.directory / "config"
        self.configure()

    @property
    def public_key(self) -> str:
        return public(self.identity)

    def configure(self, text: str = "", identity: Path | str | None = None) -> None:
        """Write the configuration.

        Args:
            text: goes first, so that it wins.
            identity: the IdentityFile, in place of this user's.
        """
        self.config.write_text(
            f"{text.rstrip()}\n"
            "Host *\n"
            f"    User {self.name}\n"
            f"    IdentityFile {identity or self.identity}\n"
            "    IdentitiesOnly yes\n"
            "    IdentityAgent none\n"
            f"    UserKnownHostsFile {self.known_hosts}\n"
            f"    GlobalKnownHostsFile {self.directory / 'none'}\n"
        )

    def alias(self, name: str, server: Reached, *lines: str) -> str:
        """The stanza that calls a server `name`; for `configure`."""
        settings = (f"HostName {server.host}", f"Port {server.port}", *lines)
        return f"Host {name}\n" + "".join(f"    {setting}\n" for setting in settings)

    def knows(self, server: Reached, *, kind: str = "", key: str = "", marker: str = "", plain: bool = True,
              name: str = "") -> None:
        """Add a line to known_hosts.

        Args:
            kind: which of the server's keys.
            key: another public key than the server's.
            marker: ``@revoked`` or ``@cert-authority``.
            plain: the name as it is, or hashed.
            name: another name than the server's.
        """
        called = name or server.name
        words = (marker, called if plain else hashed(called), key or server.host_key(kind))
        with self.known_hosts.open("a") as file:
            file.write(" ".join(word for word in words if word) + "\n")

    def forgets(self) -> None:
        """Empty known_hosts."""
        self.known_hosts.write_text("")
