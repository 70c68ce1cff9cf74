"""``ipcontroller`` and ``secure-ipp controller``: a controller without engines."""

from __future__ import annotations

import click

from secure_ipp.cli.options import EXIT_CODES_HELP, cluster_options, run_safely
from secure_ipp.cli.running import door_options, journal_options, log_level_option, note_on_ssh_door, say, scheme_option
from secure_ipp.keys.places import ClusterPlace


@click.command(epilog=EXIT_CODES_HELP)
@run_safely
@cluster_options
@click.option("--client-port", type=click.IntRange(1, 65535), default=None, help="Instead of the cluster's own.")
@click.option("--engine-port", type=click.IntRange(1, 65535), default=None, help="Instead of the cluster's own.")
@click.option("--host", "bind", default="", metavar="ADDRESS", help="Listen on this address only; * is all.")
@door_options
@click.option("--daemonize", is_flag=True, help="Return when it is ready, and leave it running.")
@scheme_option
@journal_options
@log_level_option
def controller(
    place: ClusterPlace, client_port: int | None, engine_port: int | None, bind: str, curve: bool, ssh_door: bool,
    daemonize: bool, scheme: str, log_level: str, journal_keep: str, journal_sync: str,
) -> None:
    """Start the controller of a cluster.

    The ports and addresses in the connection files are those of `secure-ipp keys init`. Other ports given here hold for
    this run only, and are for a firewall or tunnel that forwards the ports in the files to them.

    \b
    Examples:
      ipcontroller
      ipcontroller --host 10.0.0.5
      ipcontroller --client-port 5555 --engine-port 5556
    """
    from secure_ipp.cluster.foreground import Wanted, run_cluster

    warn_of_other_ports(place, client_port, engine_port)
    if ssh_door:
        note_on_ssh_door(place)
    wanted = Wanted(
        background=daemonize, log_level=log_level, client_port=client_port or 0, engine_port=engine_port or 0,
        bind=bind, ssh_door=ssh_door, curve=curve, scheme=scheme, journal_keep=journal_keep, journal_sync=journal_sync,
    )
    run_cluster(place, wanted, say)


def warn_of_other_ports(place: ClusterPlace, client_port: int | None, engine_port: int | None) -> None:
    """Say so when peers will look for the doors elsewhere."""
    from secure_ipp.cluster.launch import require_keys
    from secure_ipp.keys.config import load_config

    require_keys(place)
    config = load_config(place)
    doors = (("client", client_port, config.client_port), ("engine", engine_port, config.engine_port))
    for door, given, known in doors:
        if given is not None and known and given != known:
            say(f"note: the {door} files name port {known}; something has to forward it to {given}")
