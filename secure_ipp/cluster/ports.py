"""Whether the controller's two ports can be had, and who sits on them if not.

The check is made before the scheduler is started, so that the user reads one clear sentence; the scheduler's own bind
remains the one that counts (another process may take a port in between).
"""

from __future__ import annotations

import errno
import os
import socket

from secure_ipp.errors import EnvironmentProblem


def check_free(port: int, door: str, bind: str = "*") -> None:
    """Try to bind the port as libzmq will.

    Args:
        port: TCP port.
        door: "client" or "engine", for the message.
        bind: address to bind; "*" is any.

    Raises:
        EnvironmentProblem: the port is in use, not allowed, or the address is not this machine's.
    """
    with socket.socket(_family(bind), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as libzmq: TIME_WAIT is no obstacle
        try:
            probe.bind(("" if bind == "*" else bind.strip("[]"), port))
            probe.listen(1)
        except (OSError, OverflowError) as error:
            raise _explain(error, port, door, bind) from error


def _family(bind: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in bind else socket.AF_INET


def _explain(error: OSError | OverflowError, port: int, door: str, bind: str) -> EnvironmentProblem:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return EnvironmentProblem(
            f"port {port}, the {door} door's, is in use{_by_whom(port)}",
            f"end that process, or start with another port (--{door}-port N), or make a cluster with other ports"
            " (secure-ipp keys init --cluster NAME)",
            code="port-in-use",
        )
    if number == errno.EACCES:
        return EnvironmentProblem(
            f"port {port}, the {door} door's, may not be bound by this user", f"take one above 1023 (--{door}-port N)",
            code="port-refused",
        )
    if number == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return EnvironmentProblem(
            f"{bind} is no address of this machine", "give one that is (--host), or * for all", code="bind-address"
        )
    return EnvironmentProblem(
        f"cannot listen on {bind}:{port} for the {door} door: {error}", "give another port or address",
        code="bind-failed",
    )


def _by_whom(port: int) -> str:
    """" by process 123 (python)" where the system tells, else nothing."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,) and connection.pid:
                whose = " (this user's)" if psutil.Process(connection.pid).uids().real == os.getuid() else ""
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()}){whose}"
    except (psutil.Error, AttributeError):
        return ""  # the system does not tell this user
    return ""
