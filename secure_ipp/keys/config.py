"""cluster.toml: a cluster's name, ports and addresses, and the pinned public half of its issuer.

Read strictly: every field, no other ones.  It holds no secret, but it lies in the private directory, because who
could change it could move the doors or pin another issuer.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, SecureIppError
from secure_ipp.keys import fields
from secure_ipp.keys.issuer import IssuerPublicKey
from secure_ipp.keys.names import check_host
from secure_ipp.keys.places import ClusterPlace, NoKeys
from secure_ipp.keys.private_files import MissingFile, read_private
from secure_ipp.keys.strict_json import shown

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ConfigError(EnvironmentProblem):
    """cluster.toml is not what `init_cluster` writes."""

    code = "config"


class ClusterConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a cluster's doors are."""

    cluster: fields.Name
    cluster_id: fields.Id
    client_port: fields.PortOrNone
    engine_port: fields.PortOrNone
    hosts: fields.Hosts  # names and addresses that stand in the capability files
    bind: str  # "*": all addresses of this host; else one of them
    curve: bool  # false: no door on TCP, so no ports, hosts and address to bind
    issuer_key: IssuerPublicKey
    ssh_door: bool = False  # both doors are Unix sockets, too (S25)
    ssh: str = ""  # the route that stands in files, unless another one is said; likewise what follows
    ssh_host_keys: fields.HostKeys = ()
    require_post_quantum: bool = False

    def doors(self, port: int) -> tuple[str, ...]:
        """The addresses on TCP of one of the two doors, for capability files."""
        return tuple(fields.make_door(host, port) for host in self.hosts)

    def endpoints(self, port: int) -> list[str]:
        """What the scheduler binds for one of the two doors."""
        return [f"tcp://*:{port}" if self.bind == "*" else fields.make_door(self.bind, port)]


def check_config(config: ClusterConfig) -> ClusterConfig:
    """The configuration, once what the types cannot say has been checked.

    Raises:
        ConfigError: something in it cannot be.
    """
    try:
        _check_tcp(config)
        fields.check_ssh_route(config.ssh)
        fields.check_host_keys(config.ssh_host_keys)
    except ConfigError:
        raise
    except SecureIppError as error:
        raise ConfigError(error.message, error.advice) from None
    except ValueError as error:
        raise ConfigError(str(error), "write both as secure-ipp keys ways takes them") from None
    if config.ssh_host_keys and not config.ssh:
        raise ConfigError("ssh_host_keys without ssh", "give the route that leads to the host with these keys")
    return config


def _check_tcp(config: ClusterConfig) -> None:
    """With Curve there are ports, hosts and an address to bind; without it nothing listens on TCP (S25)."""
    if not config.curve:
        if config.client_port or config.engine_port or config.hosts or config.bind:
            raise ConfigError(
                "curve = false, but ports, hosts or an address to bind are there: nothing listens on TCP without Curve",
                "set both ports to 0, hosts to [] and bind to \"\"",
            )
        if not config.ssh_door:
            raise ConfigError("curve = false and ssh_door = false: this cluster has no door", "set ssh_door = true")
        return
    if not config.client_port or not config.engine_port or not config.hosts:
        raise ConfigError("a cluster with Curve has two ports and a host", "give client_port, engine_port and hosts")
    for host in config.hosts:
        check_host(host)
    if config.bind != "*":
        check_host(config.bind)
    if config.client_port == config.engine_port:
        raise ConfigError("both doors have one port", "give client_port and engine_port different numbers")


def parse_config(data: bytes) -> ClusterConfig:
    """The configuration that this TOML text spells.

    Raises:
        ConfigError: it spells none.
    """
    import tomllib

    advice = "undo your change, or move the cluster's directory away and make new keys (secure-ipp keys init)"
    try:
        plain = tomllib.loads(data.decode("utf-8"))
        return check_config(msgspec.convert(plain, ClusterConfig, dec_hook=fields.decode_key))
    except ConfigError as error:
        raise ConfigError(f"cluster.toml: {error.message}", error.advice) from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, msgspec's
        raise ConfigError(f"cluster.toml cannot be read: {shown(str(error))}", advice) from None


def format_config(config: ClusterConfig) -> bytes:
    """The text of cluster.toml."""
    hosts = ", ".join(f'"{host}"' for host in config.hosts)
    host_keys = ", ".join(f'"{key}"' for key in config.ssh_host_keys)
    return (
        "# Made by `secure-ipp keys init`.  The ports and hosts also stand, signed, in the capability files:\n"
        "# whoever changes them here must make new files too.\n"
        f'cluster = "{config.cluster}"\n'
        f'cluster_id = "{config.cluster_id}"\n'
        f"client_port = {config.client_port}\n"
        f"engine_port = {config.engine_port}\n"
        f"hosts = [{hosts}]\n"
        f'bind = "{config.bind}"  # "*": all addresses of this host\n'
        f"curve = {_word(config.curve)}\n"
        f"ssh_door = {_word(config.ssh_door)}  # Unix sockets, which the owner's account alone reaches, by ssh\n"
        f'ssh = "{config.ssh}"\n'
        f"ssh_host_keys = [{host_keys}]\n"
        f"require_post_quantum = {_word(config.require_post_quantum)}\n"
        f'issuer_key = "{config.issuer_key.text}"\n'
    ).encode()


def _word(value: bool) -> str:
    return "true" if value else "false"


def load_config(place: ClusterPlace) -> ClusterConfig:
    """The configuration of a cluster of this host.

    Raises:
        NoKeys: `init_cluster` has not been there.
        ConfigError, PrivateFileError: the file is damaged, or others could change it.
    """
    try:
        config = parse_config(read_private(place.config, limits.CAPABILITY_BYTES))
    except MissingFile:
        raise NoKeys(
            f"cluster {place.name!r} has no keys in {place.dir}",
            f"make them: secure-ipp keys init --cluster {place.name}",
        ) from None
    if config.cluster != place.name:
        raise ConfigError(
            f"{place.config} is of cluster {config.cluster!r}, not {place.name!r}",
            "a cluster's directory keeps its name; move it back",
        )
    return config
