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
    client_port: fields.Port
    engine_port: fields.Port
    hosts: fields.Hosts  # names and addresses that stand in the capability files
    bind: str  # "*": all addresses of this host; else one of them
    curve: bool
    issuer_key: IssuerPublicKey

    def doors(self, port: int) -> tuple[str, ...]:
        """The addresses of one of the two doors, for capability files."""
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
        for host in config.hosts:
            check_host(host)
        if config.bind != "*":
            check_host(config.bind)
        if config.client_port == config.engine_port:
            raise ConfigError("both doors have one port", "give client_port and engine_port different numbers")
        if not config.curve:
            raise ConfigError(
                "curve = false: this version has no door without Curve", "remove the directory and make new keys"
            )
    except ConfigError:
        raise
    except SecureIppError as error:
        raise ConfigError(error.message, error.advice) from None
    return config


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
    return (
        "# Made by `secure-ipp keys init`.  The ports and hosts also stand, signed, in the capability files:\n"
        "# whoever changes them here must make new files too.\n"
        f'cluster = "{config.cluster}"\n'
        f'cluster_id = "{config.cluster_id}"\n'
        f"client_port = {config.client_port}\n"
        f"engine_port = {config.engine_port}\n"
        f"hosts = [{hosts}]\n"
        f'bind = "{config.bind}"  # "*": all addresses of this host\n'
        f"curve = {'true' if config.curve else 'false'}\n"
        f'issuer_key = "{config.issuer_key.text}"\n'
    ).encode()


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
