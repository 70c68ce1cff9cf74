"""Which doors a controller opens in one run: ports with Curve, Unix sockets (S25), or both.

Decides by what cluster.toml says and what was asked for; opens nothing.  Laws: a cluster with Curve always has its
ports; one without has no port at all, and is started only by who says that it has none; nobody gets less than Curve
without saying so.
"""

from __future__ import annotations

from dataclasses import dataclass

from secure_ipp.errors import UsageError
from secure_ipp.keys.config import ClusterConfig
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.ways import in_words


@dataclass(frozen=True, slots=True)
class Doors:
    """Where the two doors are in one run.

    Attributes:
        client_port, engine_port: with Curve; 0: nothing listens on TCP.
        bind: the address to listen on; "*": all.
        client_socket, engine_socket: paths of Unix sockets; "": there are none.
    """

    client_port: int = 0
    engine_port: int = 0
    bind: str = ""
    client_socket: str = ""
    engine_socket: str = ""

    def client_endpoints(self) -> list[str]:
        """Where the client door listens with Curve, as libzmq spells it."""
        return [endpoint(self.bind, self.client_port)] if self.client_port else []

    def engine_endpoints(self) -> list[str]:
        """The same of the engine door."""
        return [endpoint(self.bind, self.engine_port)] if self.engine_port else []


def endpoint(bind: str, port: int) -> str:
    """Where to listen, as libzmq spells it; an IPv6 address stands in brackets."""
    return f"tcp://[{bind}]:{port}" if ":" in bind else f"tcp://{bind}:{port}"


def doors_for(
    place: ClusterPlace, config: ClusterConfig, *, client_port: int = 0, engine_port: int = 0, bind: str = "",
    ssh_door: bool = False, curve: bool = True,
) -> Doors:
    """The doors of a run.

    Args:
        place: the cluster's; its runtime directory is made.
        config: its cluster.toml.
        client_port, engine_port, bind: instead of what that says; 0 and "" keep it.
        ssh_door: open the Unix sockets even if that does not say so.
        curve: false: it was said that this cluster has none.

    Raises:
        UsageError: the cluster is not as it was said to be, or both doors would have one port.
    """
    check_curve(place, config, curve)
    sockets = (str(place.client_door_socket()), str(place.engine_door_socket()))
    if not config.curve:
        if client_port or engine_port or bind:
            raise UsageError(
                f"cluster {place.name!r} has no Curve, so nothing of it listens on TCP", "leave ports and addresses out"
            )
        return Doors(client_socket=sockets[0], engine_socket=sockets[1])
    ports = (client_port or config.client_port, engine_port or config.engine_port)
    if ports[0] == ports[1]:
        raise UsageError(f"both doors cannot have port {ports[0]}", "give --client-port and --engine-port apart")
    if not (ssh_door or config.ssh_door):
        sockets = ("", "")
    return Doors(*ports, bind or config.bind, *sockets)


def check_curve(place: ClusterPlace, config: ClusterConfig, curve: bool) -> None:
    """Return if the cluster has Curve, or it was said that it has not (S25).

    Raises:
        UsageError: it was said otherwise.
    """
    if config.curve and not curve:
        raise UsageError(
            f"cluster {place.name!r} has Curve, and --no-curve does not take it away",
            "leave --no-curve out (--ssh-door opens a door for ssh beside Curve); a cluster whose only way in is ssh is"
            " made so: secure-ipp keys init --no-curve --cluster NAME",
            code="no-curve",
        )
    if not config.curve and curve:
        raise UsageError(
            f"cluster {place.name!r} was made without Curve: its only way in is ssh, as the account that owns it",
            f"say that you know: --no-curve (ipcluster start --no-curve{in_words(place)}; in Python: curve=False)",
            code="no-curve",
        )
