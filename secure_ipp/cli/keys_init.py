"""``secure-ipp keys init``: make a cluster's keys, once."""

from __future__ import annotations

import time
from typing import Any

import click

from secure_ipp.cli.keys_ways import DOOR_HELP, HOST_KEY_HELP, ROUTE_HELP
from secure_ipp.cli.options import cluster_options, json_option, run_safely, show_json
from secure_ipp.keys.cluster_keys import InitResult, init_cluster
from secure_ipp.keys.facts import grant_facts, way_facts
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.ways import in_words, owners_ways, way_values


@click.command(
    name="init",
    epilog="""\b
Examples:
  secure-ipp keys init
  secure-ipp keys init --cluster lab --host head.lab.example --client-port 25001 --engine-port 25002
  secure-ipp keys init --bind 127.0.0.1          (this host only)
  secure-ipp keys init --ssh ada@login.example --ssh-host-key here
  secure-ipp keys init --ssh ada@login.example --ssh-host-key here --ssh-door
  secure-ipp keys init --no-curve --ssh ada@login.example --ssh-host-key here --cluster no-curve
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
@click.option("--bind", default="", metavar="ADDRESS", help="Address to listen on.  [default: *, which is all]")
@click.option("--ssh", metavar="ROUTE", default="", help=f"{ROUTE_HELP}, to stand in files.")
@click.option("--ssh-host-key", "ssh_host_keys", multiple=True, metavar="KEY|here", help=HOST_KEY_HELP)
@click.option("--ssh-door", is_flag=True, help=f"Beside Curve, have {DOOR_HELP}.")
@click.option(
    "--curve/--no-curve", "curve", default=True, show_default=True,
    help="Without Curve nothing listens on TCP: the door for ssh is the only way in.",
)
@click.option(
    "--require-post-quantum", is_flag=True,
    help="Have files ask ssh for a key exchange that is post-quantum, and refuse any other.",
)
def init(
    place: ClusterPlace, as_json: bool, hosts: tuple[str, ...], client_port: int, engine_port: int, bind: str, ssh: str,
    ssh_host_keys: tuple[str, ...], ssh_door: bool, curve: bool, require_post_quantum: bool,
) -> None:
    """Make a cluster's keys, once.  Nothing is ever overwritten.

    Writes two files that let in whoever holds them: one for clients, one for hosts that run engines.
    Ports are chosen here and kept, so that the files stay good when the controller is started again.

    Peers that cannot reach the ports go through ssh, with Curve inside, if the files name a route (--ssh). With
    --ssh-door there is also a way in without Curve, for hosts where Curve cannot be had: a Unix socket in the cluster's
    directory, which only the account that owns the cluster can use, by logging in with ssh; a holder is let in by a
    proof of its key. --no-curve makes a cluster whose only way in that is: it opens no port at all. What is said here
    about ssh is changed later by: secure-ipp keys ways.
    """
    result = init_cluster(
        place, hosts=hosts, client_port=client_port, engine_port=engine_port, bind=bind, curve=curve, ssh=ssh,
        ssh_host_keys=ssh_host_keys, ssh_door=ssh_door, require_post_quantum=require_post_quantum,
    )
    if as_json:
        show_json(_init_as_json(result))
    else:
        _tell_init(result)


def _tell_init(result: InitResult) -> None:
    place, config = result.place, result.config
    lines = [
        f"Made the keys of cluster {place.name!r} in {place.dir} (readable by you alone).",
        "",
        f"  for clients        {place.client_file}",
        f"                     key {result.client.key.fingerprint}{_port(config.client_port)}",
        f"  for engine hosts   {place.engine_file}",
        f"                     key {result.engine.key.fingerprint}{_port(config.engine_port)}",
        f"  server key         {result.server_fingerprint}",
    ]
    if config.curve:
        lines += [
            f"  addresses          {', '.join(config.hosts)}",
            f"  listens on         {'all addresses of this host' if config.bind == '*' else config.bind}",
        ]
    else:
        lines.append("  listens on         no port: the only way in is the door for ssh")
    if config.ssh_door:
        lines.append("  door for ssh       only the account that owns the cluster reaches it")
    if config.ssh:
        lines.append(f"  ssh route          {config.ssh}")
        lines += [f"                     key {key}" for key in config.ssh_host_keys]
    lines += [
        *_next(result),
        "",
        "Whoever holds a copy of one of the two files is let in: copy them over ssh only, mode 600.",
        f"Never copy {place.server_key.name} or {place.issuer_key.name} anywhere but into a backup.",
    ]
    click.echo("\n".join(lines))


def _port(port: int) -> str:
    return f", port {port}" if port else ""


def _next(result: InitResult) -> list[str]:
    place, config = result.place, result.config
    start = f"ipcluster start{in_words(place)}{'' if config.curve else ' --no-curve'} -n 4"
    lines = ["", "Next:", f"  here               {start}"]
    loopback = ("tcp://127.", "tcp://[::1]", "tcp://localhost:")
    if not config.ssh and all(door.startswith(loopback) for door in config.doors(1)):
        why = "it has no port, and its files name no route (--ssh)" if not config.curve else (
            "this cluster listens on this host only (--bind)"
        )
        return [*lines, f"  other hosts        cannot connect: {why}"]
    lines += [
        f"  a client's host    copy {place.client_file.name} there (scp -p) and give its path to Client(...)",
        f"  an engine's host   copy {place.engine_file.name} there (scp -p) and run ipengine with it",
    ]
    if config.curve:
        ports = f"{config.client_port} (clients) and {config.engine_port} (engines)"
        lines.append(f"  a firewall         let TCP {ports} in")
    return lines


def _init_as_json(result: InitResult) -> dict[str, Any]:
    place, config = result.place, result.config
    return {
        "cluster": config.cluster,
        "cluster_id": config.cluster_id,
        "dir": str(place.dir),
        "client_file": str(place.client_file),
        "engine_file": str(place.engine_file),
        "client_door": list(way_values(place, config, "client", owners_ways(config))["door"]),
        "engine_door": list(way_values(place, config, "engine", owners_ways(config))["door"]),
        "bind": config.bind,
        "ways": way_facts(place, config),
        "server_key": result.server_fingerprint,
        "grants": [grant_facts(grant, time.time()) for grant in (result.client, result.engine)],
    }
