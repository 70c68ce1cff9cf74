"""What the processes of an engine host are told when they start, and how: JSON lines over pipes, never argv (S11)."""

from __future__ import annotations

import os
import socket
from typing import Any

import msgspec

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem

LINE_BYTES = 1 * limits.MIB


class WayWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to get to the door; see `tunnel.reach.Wishes`."""

    transport: str = ""
    route: str = ""
    identity: str = ""
    backend: str = ""
    post_quantum: bool = False


class AgentBootstrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For `python -m secure_ipp.engine.agent`, on its stdin.

    Attributes:
        capability: the engine file, as its JSON object.
        engines: how many to run.
        log_file: where to log; None: stderr.
        preload: modules that the template imports before it forks.
        work_dir: working directory of the engines; empty: that of the agent.
        cluster_dir: the cluster's directory, if it is on this machine; engines say whether they can open it (S26).
        join_file: the engine file's path; engines say whether they can open it.
        ready_fd: inherited descriptor for event lines; -1: none.
        way: how to get to the door.
    """

    capability: dict[str, Any]
    engines: int
    log_file: str | None = None
    log_level: str = "INFO"
    preload: list[str] = []
    work_dir: str = ""
    cluster_dir: str = ""
    join_file: str = ""
    ready_fd: int = -1
    way: WayWanted = WayWanted()

    def __repr__(self) -> str:
        return f"<AgentBootstrap of {self.engines} engines>"


class EngineBootstrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For one engine, over its socket to the agent.

    Attributes:
        uuid: the id of its session key.
        doors: addresses of the scheduler's engine door.
        by_proof: these are Unix sockets, where the key is proved without Curve (S25).
        server_keys: which the door may prove itself with, base64url; `issuer_key` signs what is said of others (S33).
        public_key, secret_key: base64url.
        wanted_id: the id it should have; -1: any.
    """

    uuid: str
    doors: list[str]
    server_keys: list[str]
    issuer_key: str
    cluster_id: str
    public_key: str
    secret_key: str
    work_dir: str = ""
    cluster_dir: str = ""
    join_file: str = ""
    log_file: str | None = None
    log_level: str = "INFO"
    wanted_id: int = -1
    by_proof: bool = False

    def __repr__(self) -> str:
        return f"<EngineBootstrap {self.uuid}>"


class TemplateOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From the agent to the template.

    Attributes:
        do: "preload" (modules), "fork" (two descriptors come along: the engine's socket and its page) or "signal".
    """

    do: str
    uuid: str = ""
    signum: int = 0
    modules: list[str] = []


class TemplateEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From the template to the agent.

    Attributes:
        event: "ready", "forked" (pid), "exited" (status: exit code, or minus the signal) or "refused" (reason).
    """

    event: str
    uuid: str = ""
    pid: int = 0
    status: int = 0
    reason: str = ""


class EngineEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From an engine to its agent: it has its place ("registered"), or it cannot get one ("failed")."""

    event: str
    id: int = -1
    code: str = ""
    message: str = ""
    advice: str = ""


def read_line(descriptor: int) -> bytes:
    """The first line of a pipe or socket, and not a byte more.

    Raises:
        EnvironmentProblem: no whole line came.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(descriptor, 1)
        if not piece or len(line) >= LINE_BYTES:
            raise EnvironmentProblem("this process was not told what to do", "it is started by ipengine, not by hand")
        line += piece
    return bytes(line)


class Lines:
    """The reading end of a stream of JSON lines, with the descriptors that came along."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._rest = b""
        self.descriptors: list[int] = []
        self.ended = False

    def read(self) -> list[bytes]:
        """Whole lines that have arrived; blocks only if the socket does."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._channel, 65536, 16)
        except BlockingIOError:
            return []
        except ConnectionError:
            data, descriptors = b"", []
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self.descriptors.extend(descriptors)
        if not data:
            self.ended = True
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines


def send_line(channel: socket.socket, message: msgspec.Struct, descriptors: tuple[int, ...] = ()) -> bool:
    """Send a message as one line; False if nobody listens any more."""
    data = msgspec.json.encode(message) + b"\n"
    try:
        if descriptors:
            sent = socket.send_fds(channel, [data], list(descriptors))
            channel.sendall(data[sent:])
        else:
            channel.sendall(data)
    except (BrokenPipeError, ConnectionError):
        return False
    return True
