"""``ipengine`` and ``secure-ipp engine``: engines of this host, for a controller anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from secure_ipp.cli.options import EXIT_CODES_HELP, cluster_options, run_safely
from secure_ipp.cli.running import log_level_option, say
from secure_ipp.cli.tunnel import confirm, way_options, wishes_of
from secure_ipp.errors import UsageError
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.unlocking import somebody_there


@click.command(epilog=EXIT_CODES_HELP)
@run_safely
@cluster_options
@click.option("-n", "--n", "engines", type=click.IntRange(1), default=1, show_default=True, help="How many engines.")
@click.option(
    "--file", "file", type=click.Path(path_type=Path), default=None,
    help="The connection file; the default is the cluster's ipcontroller-engine.json on this machine.",
)
@click.option("--daemonize", is_flag=True, help="Return when they are ready, and leave them running.")
@click.option("--work-dir", default="", metavar="DIRECTORY", help="Working directory of the engines.")
@click.option("--preload", multiple=True, metavar="MODULE", help="Import this before engines are forked; repeatable.")
@log_level_option
@way_options
def engine(
    place: ClusterPlace, engines: int, file: Path | None, daemonize: bool, work_dir: str, preload: tuple[str, ...],
    log_level: str, **way: Any,
) -> None:
    """Start engines on this host and join them to a controller.

    The file is a copy of the ipcontroller-engine.json that `secure-ipp keys init` made on the controller's host. It
    lets this host join, and nothing else. Only you may be able to read it (mode 0600).

    Where the controller's engine port cannot be reached, the way leads through SSH: with the route that stands in the
    file, or the one of --ssh. The agent and its engines share one tunnel, which ends with them.

    \b
    Examples:
      ipengine -n 8 --file ~/ipcontroller-engine.json
      ipengine -n 8 --file ~/ipcontroller-engine.json --ssh ada@login.example.org
      ipengine
    """
    from secure_ipp.cluster.foreground import Wanted, run_engines
    from secure_ipp.cluster.launch import require_keys
    from secure_ipp.engine.bootstrap import WayWanted

    wanted = Wanted(engines=engines, background=daemonize, log_level=log_level, work_dir=work_dir, preload=preload)
    if file is None:
        if any(way.values()):
            raise UsageError("the options of SSH need a --file", "name the engine file of the cluster to join")
        require_keys(place)
        run_engines(place.engine_file, place, wanted, say)
        return
    path = file.expanduser().absolute()
    if not path.exists():
        raise UsageError(
            f"there is no file {path}", "copy ipcontroller-engine.json from the controller's host", code="missing"
        )
    here = place if path == place.engine_file.absolute() else None
    wishes = replace(wishes_of("ipengine", **way), transport="ssh" if way["route"] else "")
    wanted = replace(wanted, way=WayWanted(
        wishes.transport, wishes.route, wishes.identity, wishes.backend, wishes.post_quantum,
    ))
    run_engines(path, here, wanted, say, wishes, confirm if somebody_there() else None)
