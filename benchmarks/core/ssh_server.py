"""An OpenSSH server on loopback, and the files of a user who logs in to it; the real ``~/.ssh`` is not touched."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

_START_SECONDS = 15.0
_SBIN = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
_SERVER = """\
Port {port}
ListenAddress 127.0.0.1
PidFile none
LogLevel ERROR
HostKey {place}/host
AuthorizedKeysFile {place}/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
MaxSessions 1000
UseDNS no
"""
_USER = """\
Host bench
    HostName 127.0.0.1
    Port {port}
Host *
    User {user}
    IdentityFile {place}/user
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile {place}/known_hosts
    GlobalKnownHostsFile {place}/none
    BatchMode yes
"""


class NoServer(Exception):
    """There is no OpenSSH server on this machine."""


class SshServer:
    """One sshd with throw-away keys.

    Attributes:
        config: of the user's ssh (``-F``); it calls the server ``bench``.
        route: user@host:port.
        programs: a directory with an ``ssh`` that uses `config`, for those who cannot be told.
    """

    def __init__(self) -> None:
        self._program = shutil.which("sshd", path=_SBIN) or ""
        if not self._program or shutil.which("ssh") is None:
            raise NoServer("neither ssh nor sshd: install OpenSSH")
        self._place = Path(tempfile.mkdtemp(prefix="bench-ssh-", dir="/tmp")).resolve()
        self.config = self._place / "config"
        self.programs = self._place / "programs"
        self._port = free_port()
        self.route = f"{getpass.getuser()}@127.0.0.1:{self._port}"
        self._sshd: subprocess.Popen[bytes] | None = None
        self._by_hand: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Returns when it answers."""
        place = self._place
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(place / name)], check=True,
                stdin=subprocess.DEVNULL,
            )
        shutil.copy(place / "user.pub", place / "authorized_keys")
        (place / "known_hosts").write_text(f"[127.0.0.1]:{self._port} {(place / 'host.pub').read_text()}")
        (place / "sshd_config").write_text(_SERVER.format(port=self._port, place=place))
        self.config.write_text(_USER.format(port=self._port, user=getpass.getuser(), place=place))
        self.programs.mkdir()
        wrapper = self.programs / "ssh"
        wrapper.write_text(f'#!/bin/sh\ntrap "" HUP\nexec {shutil.which("ssh")} -F {self.config} "$@"\n')
        wrapper.chmod(0o700)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._sshd = subprocess.Popen(
            [self._program, "-D", "-f", str(place / "sshd_config"), "-E", str(place / "log")], cwd="/",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        _await(self._port, self._sshd)

    def forward(self, port: int, *options: str) -> int:
        """What a user does by hand: ``ssh -N -L``; the local port."""
        local = free_port()
        ssh = subprocess.Popen(
            ["ssh", "-F", str(self.config), "-o", "ExitOnForwardFailure=yes", *options, "-N", "-T",
             "-L", f"127.0.0.1:{local}:127.0.0.1:{port}", "bench"], stdin=subprocess.DEVNULL,
        )
        self._by_hand.append(ssh)
        _await(local, ssh)
        return local

    def processes(self) -> list[psutil.Process]:
        """The server, what serves its connections, and the forwards made by hand."""
        found = []
        for parent in (self._sshd, *self._by_hand):
            with contextlib.suppress(psutil.NoSuchProcess):
                if parent is not None:
                    process = psutil.Process(parent.pid)
                    found += [process, *process.children(recursive=True)]
        return found

    def stop(self) -> None:
        """End it, its connections and the forwards; they outlive their listener."""
        left = self.processes()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for child in (self._sshd, *self._by_hand):
            if child is not None:
                child.wait()
        psutil.wait_procs(left, 5)
        shutil.rmtree(self._place, ignore_errors=True)


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise NoServer(f"{process.args!r} has ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens at port {port}")
