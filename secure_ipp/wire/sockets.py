"""The only maker of sockets (rule S1): whatever binds here asks the gate, whatever connects here speaks Curve.

`bind_door` takes the live gate as an argument, so that it cannot be forgotten; libzmq fails open without one.
No function here makes a plain tcp socket.  Where there is no Curve there are Unix sockets in directories that only
their owner can enter, which take one-time proofs (S25), and nothing else; no option of Curve is touched for them, so
that a libzmq without it will do.
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import zmq

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, PolicyError
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.wire.monitor import Monitor
from secure_ipp.wire.unix_sockets import leave_place, path_of, shut_to_others, take_place

if TYPE_CHECKING:
    from secure_ipp.access.prover import Trial

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


def require_curve() -> None:
    """Return if this libzmq has Curve.

    Raises:
        EnvironmentProblem: it has none.
    """
    if not has_curve():
        raise EnvironmentProblem(
            "this libzmq was built without Curve",
            "install pyzmq's wheel (pip install --force-reinstall --only-binary :all: 'pyzmq>=27.3.0')",
            code="no-curve",
        )


def make_context() -> zmq.Context[zmq.Socket[bytes]]:
    """A context whose automatic routing ids nobody can guess."""
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
        by_proof: it takes proofs, and no Curve.
    """

    socket: zmq.Socket[bytes]
    monitor: Monitor
    last_id: int
    endpoints: tuple[str, ...]
    by_proof: bool


def bind_door(
    context: zmq.Context[zmq.Socket[bytes]], gate: LiveGate, *, domain: str, endpoints: list[str], keys: KeyPair,
    by_proof: bool = False,
) -> BoundDoor:
    """Open a door.

    Args:
        by_proof: it takes proofs in place of Curve (S25); then it is Unix sockets alone.

    Raises:
        PolicyError: the gate does not run, the domain is empty, or a door for proofs would not be a Unix socket in a
            private directory.
        EnvironmentProblem: an address or port cannot be bound, or this libzmq has no Curve.
    """
    if not gate.alive():
        raise PolicyError("the gate does not run, so no door may open", code="no-gate")
    if not domain:
        raise PolicyError("a door needs a ZAP domain", code="no-domain")
    if not by_proof:
        require_curve()
    elif not all(map(_is_unix, endpoints)):
        raise PolicyError("a door without Curve is a Unix socket, and nothing else", code="no-curve")
    socket = context.socket(zmq.ROUTER)
    try:
        _common(socket)
        if by_proof:
            socket.setsockopt(zmq.PLAIN_SERVER, 1)
        else:
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
        bind = _bind_private if by_proof else _bind
        bound = tuple(bind(socket, endpoint) for endpoint in endpoints)
    except BaseException:
        socket.close(0)
        raise
    return BoundDoor(socket, watch, last_id, bound, by_proof)


def rebind_door(gate: LiveGate, door: BoundDoor, keys: KeyPair) -> None:
    """Have a door prove itself with another key (S33).

    A bound socket ignores a key that is set later, so its addresses are let go and taken again; with them fall all
    connections, whose links resume with the new key.  A door that takes proofs has its key at the gate, and does the
    same for the sake of those connections.

    Raises:
        PolicyError: the gate does not run.
        EnvironmentProblem: an address was taken by somebody else meanwhile.
    """
    if not gate.alive():
        raise PolicyError("the gate does not run, so no door may open", code="no-gate")
    for endpoint in door.endpoints:
        door.socket.unbind(endpoint)
    if door.by_proof:
        for endpoint in door.endpoints:
            _bind_private(door.socket, endpoint, ours=True)
        return
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


def close_door(door: BoundDoor) -> None:
    """Let go of it; its monitor is closed already."""
    door.socket.close(0)
    if door.by_proof:
        for endpoint in door.endpoints:
            leave_place(path_of(endpoint))


def connect(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, *, server_key: CurvePublicKey, keys: KeyPair,
    trial: Trial | None = None,
) -> zmq.Socket[bytes]:
    """A DEALER towards a door; it claims no routing id and never reconnects by itself (S5). Not yet connected.

    Args:
        trial: a fresh proof of the key, in place of Curve (S25).

    Raises:
        PolicyError: a proof would leave by another way than a Unix socket.
        EnvironmentProblem: this libzmq has no Curve.
    """
    if trial is None:
        require_curve()
    elif not _is_unix(endpoint):
        raise PolicyError("a proof is shown at Unix sockets only, never over TCP", code="no-curve")
    socket = context.socket(zmq.DEALER)
    _common(socket)
    if trial is None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.raw)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.raw)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.raw)
    else:
        socket.setsockopt(zmq.PLAIN_USERNAME, trial.proof.username)
        socket.setsockopt(zmq.PLAIN_PASSWORD, trial.proof.password)
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    socket.setsockopt(zmq.IPV6, int("[" in endpoint and not _is_unix(endpoint)))
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


def _is_unix(endpoint: str) -> bool:
    return endpoint.startswith("ipc:///")


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


def _bind_private(socket: zmq.Socket[bytes], endpoint: str, *, ours: bool = False) -> str:
    """Listen at a Unix socket that nobody else can reach; `ours`: what is there is this very socket's own."""
    path = path_of(endpoint)
    take_place(path, ours=ours)
    with shut_to_others(path):
        return _bind(socket, endpoint)


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
