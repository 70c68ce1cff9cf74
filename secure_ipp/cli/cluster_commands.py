"""``ipcluster`` and ``secure-ipp cluster``: start, stop, engines, list."""

from __future__ import annotations

import time
from typing import Any

import click

from secure_ipp.cli.options import EXIT_CODES_HELP, cluster_options, json_option, run_safely, show_json
from secure_ipp.cli.running import (
    door_options,
    engines_option,
    journal_options,
    log_level_option,
    note_on_ssh_door,
    say,
    scheme_option,
)
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.logs import escape


@click.command(epilog=EXIT_CODES_HELP)
@run_safely
@cluster_options
@engines_option
@door_options
@click.option("--daemonize", is_flag=True, help="Return when all is ready, and leave it running.")
@click.option("--client-port", type=click.IntRange(1, 65535), default=None, help="Instead of the cluster's own.")
@click.option("--engine-port", type=click.IntRange(1, 65535), default=None, help="Instead of the cluster's own.")
@click.option("--host", "bind", default="", metavar="ADDRESS", help="Listen on this address only.")
@click.option("--preload", multiple=True, metavar="MODULE", help="Import this before engines are forked; repeatable.")
@scheme_option
@journal_options
@log_level_option
def start(
    place: ClusterPlace, engines: int, curve: bool, ssh_door: bool, daemonize: bool, client_port: int | None,
    engine_port: int | None, bind: str, preload: tuple[str, ...], scheme: str, log_level: str, journal_keep: str,
    journal_sync: str,
) -> None:
    """Start a controller and engines on this machine.

    Every connection is encrypted and authenticated with Curve; `--curve` may be said and changes nothing. A cluster
    that was made without Curve opens no port, is reached by ssh alone, and wants `--no-curve` said. Keys are made once,
    before: secure-ipp keys init.

    \b
    Examples:
      ipcluster start --curve -n 4
      ipcluster start -n 16 --daemonize
      ipcluster start --cluster physics -n 0     (a controller only)
      ipcluster start --ssh-door
    """
    from secure_ipp.cluster.foreground import Wanted, run_cluster

    if ssh_door:
        note_on_ssh_door(place)
    wanted = Wanted(
        engines=engines, background=daemonize, log_level=log_level, client_port=client_port or 0,
        engine_port=engine_port or 0, bind=bind, ssh_door=ssh_door, curve=curve, preload=preload, scheme=scheme,
        journal_keep=journal_keep, journal_sync=journal_sync,
    )
    run_cluster(place, wanted, say)


@click.command(epilog=EXIT_CODES_HELP)
@run_safely
@cluster_options
@json_option
def stop(place: ClusterPlace, as_json: bool) -> None:
    """Stop a cluster: its engines on this machine, then its controller.

    Nothing is left: no process, socket or pid file. Stopping what does not run is no error.

    \b
    Examples:
      ipcluster stop
      ipcluster stop --cluster physics --json
    """
    from secure_ipp.cluster.stopping import stop_cluster

    stopped = stop_cluster(place)
    if as_json:
        outcome = {"controller": stopped.controller, "agents": stopped.agents, "killed": stopped.killed}
        show_json(outcome)
        return
    if not stopped.controller and not stopped.agents:
        click.echo(f"cluster {place.name!r} was not running")
        return
    click.echo(f"cluster {place.name!r} is stopped")
    for pid in stopped.killed:
        click.echo(f"process {pid} did not stop when asked and was killed", err=True)


@click.command(epilog=EXIT_CODES_HELP)
@run_safely
@cluster_options
@engines_option
@click.option("--daemonize", is_flag=True, help="Return when they are ready, and leave them running.")
@click.option("--preload", multiple=True, metavar="MODULE", help="Import this before engines are forked; repeatable.")
@log_level_option
def engines(
    place: ClusterPlace, engines: int, daemonize: bool, preload: tuple[str, ...], log_level: str
) -> None:
    """Start more engines on this machine for a cluster of this machine.

    On another host: ipengine --file FILE.

    \b
    Examples:
      ipcluster engines -n 2
      ipcluster engines -n 8 --daemonize
    """
    from secure_ipp.cluster.foreground import Wanted, run_engines
    from secure_ipp.cluster.launch import require_keys

    require_keys(place)
    wanted = Wanted(engines=engines, background=daemonize, log_level=log_level, preload=preload)
    run_engines(place.engine_file, place, wanted, say)


@click.command("list", epilog=EXIT_CODES_HELP)
@run_safely
@json_option
def list_clusters(as_json: bool) -> None:
    """List this user's clusters on this machine.

    \b
    Examples:
      ipcluster list
      ipcluster list --json
    """
    from secure_ipp.cli.keys_said import note_on_reach

    found = [describe(place) for place in places()]
    if as_json:
        show_json(found)
        return
    if not found:
        click.echo("no clusters; make one: secure-ipp keys init")
        return
    width = max(len(entry["cluster"]) for entry in found)
    click.echo(f"{'CLUSTER':<{width}}  {'STATE':<8}  {'ENGINES':>7}  {'DOORS':<18}  SINCE")
    for entry in found:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry["started"])) if entry["started"] else "-"
        ports = f"{entry['client_port']}, {entry['engine_port']}" if entry["client_port"] else "-"
        ports = "ssh only" if not entry["curve"] else f"{ports} + ssh" if entry["ssh_door"] else ports
        problem = f"  {entry['problem']}" if entry["problem"] else ""
        line = f"{entry['cluster']:<{width}}  {entry['state']:<8}  {entry['engines']:>7}  {ports:<18}  {since}{problem}"
        click.echo(escape(line))
    for entry in found:
        if entry["engines_that_can_read_the_keys"]:
            click.echo(f"cluster {entry['cluster']}:")
            note_on_reach(entry["engines_that_can_read_the_keys"])


def places() -> list[ClusterPlace]:
    """Clusters that have keys, by name."""
    from secure_ipp.keys.places import home

    root = home()
    found = sorted(path.parent.name for path in root.glob("*/cluster.toml")) if root.is_dir() else []
    return [ClusterPlace(name) for name in found]


def describe(place: ClusterPlace) -> dict[str, Any]:
    """One entry of the list: what the files say; a running controller is asked for one number, and need not answer.

    `engines_that_can_read_the_keys` is null where it is not known.
    """
    from secure_ipp.cluster import state
    from secure_ipp.cluster.owner_keys import engines_that_reach
    from secure_ipp.errors import SecureIppError
    from secure_ipp.keys.config import load_config

    entry: dict[str, Any] = {
        "cluster": place.name, "state": "stopped", "directory": str(place.dir), "client_port": 0, "engine_port": 0,
        "curve": True, "ssh_door": False, "pid": 0, "host": "", "started": 0.0, "engines": 0, "agents": [],
        "problem": "", "engines_that_can_read_the_keys": None,
    }
    try:
        config = load_config(place)
        entry.update(
            client_port=config.client_port, engine_port=config.engine_port, curve=config.curve,
            ssh_door=config.ssh_door,
        )
        controller, agents = state.read_state(place), state.read_agents(place)
    except SecureIppError as error:
        entry.update(state="unknown", problem=error.message)
        return entry
    entry.update(agents=[agent.pid for agent in agents], engines=sum(agent.engines for agent in agents))
    if controller is not None:
        entry.update(
            state="running", pid=controller.pid, host=controller.host, started=controller.started,
            client_port=controller.client_port, engine_port=controller.engine_port,
            ssh_door=bool(controller.client_socket), engines_that_can_read_the_keys=engines_that_reach(place),
        )
    return entry


