"""Which ports and addresses a new cluster's doors get.

Ports are free when they are chosen, belong to no other cluster of this home, and lie below the ephemeral range.
Addresses are tried by peers in the order given here: loopback first, then what other hosts use.
"""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Sequence

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, SecureIppError, UsageError
from secure_ipp.keys.config import LOOPBACK, load_config
from secure_ipp.keys.names import check_host
from secure_ipp.keys.places import ClusterPlace

_TRIES = 200
_MOST_OWN_ADDRESSES = 8
_VIRTUAL = ("docker", "veth", "virbr", "br-", "cni", "flannel", "lxc", "podman")  # not reached from other hosts


def choose_ports(place: ClusterPlace, client_port: int, engine_port: int, bind: str) -> tuple[int, int]:
    """The two doors' ports: those given, free ones in place of 0.

    Raises:
        UsageError: a given one is no port, or both are the same.
        EnvironmentProblem: a given one is in use or may not be used, or no free one was found.
    """
    for port in (client_port, engine_port):
        if not 0 <= port <= 65535:
            raise UsageError(f"{port} is no port", "give a number from 1 to 65535")
    if client_port and client_port == engine_port:
        raise UsageError("both doors cannot have one port", "give --client-port and --engine-port different numbers")
    for port in (client_port, engine_port):
        problem = _problem(bind, port) if port else None
        if problem is not None:
            raise EnvironmentProblem(
                f"port {port} cannot be used: {problem}", "choose another, or none: a free one is then found",
                code="port-in-use",
            )
    taken = ports_of_others(place) | {client_port, engine_port}
    first = client_port or _free_port(bind, taken)
    second = engine_port or _free_port(bind, taken | {first})
    return first, second


def ports_of_others(place: ClusterPlace) -> set[int]:
    """Ports that other clusters of this home have for good, running or not."""
    ports: set[int] = set()
    for path in place.home.glob("*/cluster.toml"):
        if path.parent == place.dir:
            continue
        try:
            config = load_config(ClusterPlace(path.parent.name, place.home))
        except SecureIppError:
            continue  # damaged or not ours: it cannot be started, so it takes no port
        ports |= {config.client_port, config.engine_port}
    return ports


def hosts_for(given: Sequence[str], bind: str) -> tuple[str, ...]:
    """The hosts that stand in the capability files, in the order in which peers try them.

    Args:
        given: what the user says other hosts should use.
        bind: "*", or the one address that is listened on.

    Raises:
        UsageError: one of them is no host.
    """
    hosts = [check_host(host) for host in given]
    if bind == "*":
        found = ["127.0.0.1", *(hosts or own_addresses())]
    elif check_host(bind) in LOOPBACK:
        found = [bind, *hosts]
    else:
        found = [*hosts, bind]
    return tuple(dict.fromkeys(found))[:32]


def own_addresses() -> list[str]:
    """IPv4 addresses of this host's interfaces that are up, and its name; no loopback, no virtual bridges."""
    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    addresses = [
        address.address
        for name, known in sorted(psutil.net_if_addrs().items())
        if name in up and not name.startswith(_VIRTUAL)
        for address in known
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]
    name = socket.gethostname()
    try:
        name = check_host(name)
    except UsageError:
        return addresses[:_MOST_OWN_ADDRESSES]
    return addresses[:_MOST_OWN_ADDRESSES] + ([name] if name.split(".")[0].lower() != "localhost" else [])


def _free_port(bind: str, taken: set[int]) -> int:
    for _ in range(_TRIES):
        port = limits.PORT_FIRST + secrets.randbelow(limits.PORT_LAST - limits.PORT_FIRST)
        if port not in taken and _problem(bind, port) is None:
            return port
    problem = _problem(bind, port) or "all tried were in use"
    raise EnvironmentProblem(f"no free port found on {bind}: {problem}", "give --client-port and --engine-port")


def _problem(bind: str, port: int) -> str | None:
    """Why this port cannot be listened on; None if it can."""
    host = "0.0.0.0" if bind == "*" else bind  # noqa: S104  bound for a moment, nothing listens
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(found[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[4])
    except OSError as error:
        return "another process has it" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
    return None
