"""``secure-ipp keys init``: make a cluster's keys, once."""

from __future__ import annotations

import time
from typing import Any

import click

from secure_ipp.cli.options import cluster_options, json_option, run_safely, show_json
from secure_ipp.keys.cluster_keys import InitResult, init_cluster
from secure_ipp.keys.facts import grant_facts
from secure_ipp.keys.places import ClusterPlace


@click.command(
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
        "grants": [grant_facts(grant, time.time()) for grant in (result.client, result.engine)],
    }
