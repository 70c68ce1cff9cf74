"""The only maker of sockets (rule S1): whatever binds here asks the gate, whatever connects here speaks Curve.

`bind_door` takes the live gate as an argument, so that it cannot be forgotten; libzmq fails open without one.
No function here makes a plain tcp or ipc socket.
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from typing import Any, Protocol

import zmq

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, PolicyError
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.wire.monitor import Monitor

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_ENFORCE_DOMAIN = 93  # in libzmq's draft list by name only; the released library acts on it
# Plain numbers, and the method beneath the one that knows of drafts: these calls are made for every packet.
_LAST, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _READABLE = int(zmq.EVENTS), int(zmq.POLLIN)
_send = zmq.backend.Socket.send
_REBIND_POLL_SECONDS = 0.005


class LiveGate(Protocol):
    """What `bind_door` needs to know of the gate."""

    def alive(self) -> bool:
        """Whether its thread answers."""


def has_curve() -> bool:
    """Whether this libzmq has Curve."""
    return bool(zmq.has("curve"))


def seed_routing_ids() -> None:
    """Seed the C library's `rand`, from which libzmq takes automatic routing ids (S6)."""
    ctypes.CDLL(None).srand(int.from_bytes(os.urandom(4), "little"))


def make_context() -> zmq.Context[zmq.Socket[bytes]]:
    """A context whose automatic routing ids nobody can guess.

    Raises:
        EnvironmentProblem: this libzmq has no Curve.
    """
    if not zmq.has("curve"):
        raise EnvironmentProblem(
            "this libzmq was built without Curve",
            "install pyzmq's wheel (pip install --force-reinstall --only-binary :all: 'pyzmq>=27.3.0')",
            code="no-curve",
        )
    seed_routing_ids()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 65535)
    return context


def zap_socket(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """The gate's own socket; inside the process only."""
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(ZAP_ENDPOINT)
    return socket


@dataclass(frozen=True, slots=True)
class BoundDoor:
    """A ROUTER that admits whom the gate admits, and nobody else.

    Attributes:
        monitor: set before anybody could connect.
        last_id: number of the last automatic routing id that was given before; secret, like all of them.
        endpoints: where it listens, as libzmq names them.
    """

    socket: zmq.Socket[bytes]
    monitor: Monitor
    last_id: int
    endpoints: tuple[str, ...]


def bind_door(
    context: zmq.Context[zmq.Socket[bytes]], gate: LiveGate, *, domain: str, endpoints: list[str], keys: KeyPair
) -> BoundDoor:
    """Open a door.

    Raises:
        PolicyError: the gate does not run, or the domain is empty.
        EnvironmentProblem: an address or port cannot be bound.
    """
    if not gate.alive():
        raise PolicyError("the gate does not run, so no door may open", code="no-gate")
    if not domain:
        raise PolicyError("a door needs a ZAP domain", code="no-domain")
    socket = context.socket(zmq.ROUTER)
    try:
        _common(socket)
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.raw)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.raw)
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        socket.setsockopt(ZAP_ENFORCE_DOMAIN, 1)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.BACKLOG, limits.BACKLOG)
        socket.setsockopt(zmq.IPV6, int(any("[" in endpoint for endpoint in endpoints)))
        last_id = _routing_id_now(context, socket)
        watch = Monitor(socket)
        bound = tuple(_bind(socket, endpoint) for endpoint in endpoints)
    except BaseException:
        socket.close(0)
        raise
    return BoundDoor(socket, watch, last_id, bound)


def rebind_door(gate: LiveGate, door: BoundDoor, keys: KeyPair) -> None:
    """Have a door prove itself with another key (S33).

    A bound socket ignores a key that is set later, so its addresses are let go and taken again; with them fall all
    connections, whose links resume with the new key.

    Raises:
        PolicyError: the gate does not run.
        EnvironmentProblem: an address was taken by somebody else meanwhile.
    """
    if not gate.alive():
        raise PolicyError("the gate does not run, so no door may open", code="no-gate")
    for endpoint in door.endpoints:
        door.socket.unbind(endpoint)
    door.socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.raw)
    door.socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.raw)
    until = time.monotonic() + limits.REBIND_SECONDS
    for endpoint in door.endpoints:
        while True:
            try:
                _bind(door.socket, endpoint)
                break
            except EnvironmentProblem as error:
                if error.code != "port-in-use" or time.monotonic() >= until:
                    raise
                time.sleep(_REBIND_POLL_SECONDS)  # libzmq's thread lets go of an address a moment later


def connect(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, *, server_key: CurvePublicKey, keys: KeyPair
) -> zmq.Socket[bytes]:
    """A DEALER towards a door; it claims no routing id and never reconnects by itself (S5). Not yet connected."""
    socket = context.socket(zmq.DEALER)
    _common(socket)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.raw)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.raw)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.raw)
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))
    return socket


def send_packet(socket: zmq.Socket[bytes], packet: list[Any], to: bytes | None = None) -> None:
    """Send a link's frames as one message, bulk frames without a copy; never waits.

    Args:
        to: the routing id of its receiver, from a ROUTER.

    Raises:
        zmq.ZMQError: the peer is gone, or the high-water mark is reached.
    """
    if to is not None:
        _send(socket, to, _MORE)
    last = len(packet) - 1
    for index, frame in enumerate(packet):
        _send(socket, frame, _MORE if index < last else _LAST, index == 0)


def receive(socket: zmq.Socket[bytes]) -> list[zmq.Frame]:
    """Take in one message; never waits.

    Raises:
        zmq.Again: there is none.
    """
    frame = socket.recv(_LAST, copy=False)
    frames = [frame]
    while frame.more:
        frame = socket.recv(_LAST, copy=False)
        frames.append(frame)
    return frames


def holds_message(socket: zmq.Socket[bytes]) -> bool:
    """Whether there is something to receive; cheaper than trying, if there is not."""
    return bool(int(socket.getsockopt(_EVENTS)) & _READABLE)


def _common(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, limits.HIGH_WATER_MARK)
    socket.setsockopt(zmq.RCVHWM, limits.HIGH_WATER_MARK)
    socket.setsockopt(zmq.MAXMSGSIZE, limits.MAX_FRAME_BYTES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, int(limits.HANDSHAKE_SECONDS * 1000))
    socket.setsockopt(zmq.HEARTBEAT_IVL, int(limits.HEARTBEAT_SECONDS * 1000))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(limits.HEARTBEAT_TIMEOUT_SECONDS * 1000))
    socket.setsockopt(zmq.HEARTBEAT_TTL, int(limits.HEARTBEAT_TIMEOUT_SECONDS * 1000))


def _routing_id_now(context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]) -> int:
    """The number that libzmq counts on from; learnt inside the process, before the router is bound elsewhere."""
    name = f"inproc://{os.urandom(16).hex()}"
    router.bind(name)
    probe = context.socket(zmq.DEALER)
    try:
        probe.setsockopt(zmq.LINGER, 0)
        probe.connect(name)
        probe.send(b"")
        if not router.poll(int(limits.HANDSHAKE_SECONDS * 1000)):
            raise EnvironmentProblem("this libzmq passes nothing on within the process", "install pyzmq's wheel")
        return int.from_bytes(router.recv_multipart()[0][1:], "big")
    finally:
        probe.close(0)
        router.unbind(name)


def _bind(socket: zmq.Socket[bytes], endpoint: str) -> str:
    """Listen there; the address as libzmq names it."""
    if endpoint.startswith("ipc://") and len(endpoint.encode()) - 6 > limits.UNIX_SOCKET_PATH_BYTES:
        raise EnvironmentProblem(f"the socket path {endpoint} is too long", "set XDG_RUNTIME_DIR to a short directory")
    try:
        socket.bind(endpoint)
        return socket.getsockopt_string(zmq.LAST_ENDPOINT)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise EnvironmentProblem(
                f"{endpoint} is in use by another process",
                "stop that process (`ss -ltnp` names it; `ipcluster list` shows clusters), or make a cluster with "
                "other ports (`secure-ipp keys init --client-port … --engine-port …`)",
                code="port-in-use",
            ) from None
        raise EnvironmentProblem(
            f"cannot listen on {endpoint}: {error.strerror}",
            "check the address in cluster.toml; it must be one of this host's own",
            code="cannot-bind",
        ) from None
