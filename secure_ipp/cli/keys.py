"""``secure-ipp keys``: make a cluster's keys, and look at them.  No command shows a secret."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from secure_ipp.cli.options import EXIT_CODES_HELP, cluster_options, json_option, run_safely, show_json
from secure_ipp.errors import UsageError
from secure_ipp.keys.capability import Capability, load_capability
from secure_ipp.keys.cluster_keys import InitResult, init_cluster
from secure_ipp.keys.grants import Grant
from secure_ipp.keys.owned import made_here
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.registry import Registry
from secure_ipp.keys.strict_json import shown


@click.group(name="keys", epilog=EXIT_CODES_HELP)
def keys() -> None:
    """Make and show the keys that let clients and engines in."""


@keys.command(
    name="init",
    epilog="""\b
Examples:
  secure-ipp keys init
  secure-ipp keys init --cluster lab --host head.lab.example --client-port 25001 --engine-port 25002
  secure-ipp keys init --bind 127.0.0.1          (this host only)
""",
)
@run_safely
@cluster_options
@json_option
@click.option(
    "--host", "hosts", multiple=True, metavar="HOST",
    help="Name or address by which other hosts reach this one (may be repeated; default: this host's own addresses).",
)
@click.option("--client-port", type=click.IntRange(0, 65535), default=0, help="Port for clients (0: find a free one).")
@click.option("--engine-port", type=click.IntRange(0, 65535), default=0, help="Port for engines (0: find a free one).")
@click.option("--bind", default="*", metavar="ADDRESS", show_default=True, help="Address to listen on (*: all).")
def init(
    place: ClusterPlace, as_json: bool, hosts: tuple[str, ...], client_port: int, engine_port: int, bind: str
) -> None:
    """Make a cluster's keys, once.  Nothing is ever overwritten.

    Writes two files that let in whoever holds them: one for clients, one for hosts that run engines.
    Ports are chosen here and kept, so that the files stay good when the controller is started again.
    """
    result = init_cluster(place, hosts=hosts, client_port=client_port, engine_port=engine_port, bind=bind)
    if as_json:
        show_json(_init_as_json(result))
    else:
        _tell_init(result)


@keys.command(
    name="list",
    epilog="""\b
Examples:
  secure-ipp keys list
  secure-ipp keys list --cluster lab --json
""",
)
@run_safely
@cluster_options
@json_option
def list_keys(place: ClusterPlace, as_json: bool) -> None:
    """List the identities that a cluster lets in."""
    registry = Registry.load(place)
    if as_json:
        show_json({
            "cluster": registry.cluster,
            "version": registry.version,
            "grants": [_grant_as_json(grant) for grant in registry.grants],
            "retired": [key.fingerprint for key in registry.retired],
        })
        return
    rows = [("NAME", "ROLE", "RIGHTS", "EXPIRES", "KEY")]
    rows += [
        (grant.name, grant.role, ",".join(grant.rights), _moment(grant.expires), grant.key.fingerprint)
        for grant in registry.grants
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    click.echo(f"registry version {registry.version}, {len(registry.retired)} retired keys")


@keys.command(
    name="show",
    epilog="""\b
Examples:
  secure-ipp keys show owner
  secure-ipp keys show ~/ipcontroller-engine.json
""",
)
@click.argument("what", metavar="NAME|FILE")
@run_safely
@cluster_options
@json_option
def show(what: str, place: ClusterPlace, as_json: bool) -> None:
    """Show one identity, by its NAME in the registry, or a capability FILE; never its secret."""
    looks_like_file = os.sep in what or what.endswith(".json") or os.path.exists(what)
    if looks_like_file:
        facts = _capability_as_json(load_capability(os.path.expanduser(what), now=0.0))
    else:
        registry = Registry.load(place)
        grant = registry.named(what)
        if grant is None:
            raise UsageError(
                f"cluster {place.name!r} has no identity {shown(what, 64)!r}, and there is no such file",
                "secure-ipp keys list shows the names",
                code="unknown-name",
            )
        facts = _grant_as_json(grant)
    if as_json:
        show_json(facts)
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' ').ljust(width)}  {_text(name, value)}")


def _tell_init(result: InitResult) -> None:
    place, config = result.place, result.config
    named = "" if place.name == "default" else f" --cluster {place.name}"
    only_here = all(door.startswith(("tcp://127.", "tcp://[::1]", "tcp://localhost:")) for door in config.doors(1))
    lines = [
        f"Made the keys of cluster {place.name!r} in {place.dir} (readable by you alone).",
        "",
        f"  for clients        {place.client_file}",
        f"                     key {result.client.key.fingerprint}, port {config.client_port}",
        f"  for engine hosts   {place.engine_file}",
        f"                     key {result.engine.key.fingerprint}, port {config.engine_port}",
        f"  server key         {result.server_fingerprint}",
        f"  addresses          {', '.join(config.hosts)}",
        f"  listens on         {'all addresses of this host' if config.bind == '*' else config.bind}",
        "",
        "Next:",
        f"  here               ipcluster start{named} -n 4",
    ]
    if only_here:
        lines.append("  other hosts        cannot connect: this cluster listens on this host only (--bind)")
    else:
        lines += [
            f"  a client's host    copy {place.client_file.name} there (scp -p) and give its path to Client(...)",
            f"  an engine's host   copy {place.engine_file.name} there (scp -p) and run ipengine with it",
            f"  a firewall         let TCP {config.client_port} (clients) and {config.engine_port} (engines) in",
        ]
    lines += [
        "",
        "Whoever holds a copy of one of the two files is let in: copy them over ssh only, mode 600.",
        f"Never copy {place.server_key.name} or {place.issuer_key.name} anywhere but into a backup.",
    ]
    click.echo("\n".join(lines))


def _init_as_json(result: InitResult) -> dict[str, Any]:
    place, config = result.place, result.config
    return {
        "cluster": config.cluster,
        "cluster_id": config.cluster_id,
        "dir": str(place.dir),
        "client_file": str(place.client_file),
        "engine_file": str(place.engine_file),
        "client_door": list(config.doors(config.client_port)),
        "engine_door": list(config.doors(config.engine_port)),
        "bind": config.bind,
        "server_key": result.server_fingerprint,
        "grants": [_grant_as_json(result.client), _grant_as_json(result.engine)],
    }


def _grant_as_json(grant: Grant) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": grant.name,
        "role": grant.role,
        "id": grant.id,
        "key": grant.key.fingerprint,
        "rights": list(grant.rights),
        "expires": grant.expires,
        "made": grant.made,
    }
    return {**facts, "engines": grant.engines} if grant.role == "engine" else facts


def _capability_as_json(capability: Capability) -> dict[str, Any]:
    return {
        "name": capability.name,
        "role": capability.role,
        "cluster": capability.cluster,
        "cluster_id": capability.cluster_id,
        "key": capability.public_key.fingerprint,
        "server_keys": [key.fingerprint for key in capability.server_keys],
        "issuer": capability.issuer_key.fingerprint,
        "rights": list(capability.rights),
        "expires": capability.expires,
        "expired": bool(capability.expires) and time.time() >= capability.expires,
        "door": list(capability.door),
        "ssh": capability.ssh,
        "made_here": made_here(capability),
    }


def _text(name: str, value: Any) -> str:
    if name in ("expires", "made"):
        return _moment(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return str(value) if value != "" else "-"


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds)) if seconds else "never"
