"""``secure-ipp clock``: by what time keys expire, and the owner's word after a jump of the clock."""

from __future__ import annotations

import time
from typing import Any

import click

from secure_ipp.cli.options import EXIT_CODES_HELP, cluster_options, json_option, run_safely, show_json
from secure_ipp.keys.places import ClusterPlace


@click.command(epilog=EXIT_CODES_HELP)
@click.option("--accept", is_flag=True, help="The clock of this host is right: follow it over its jump.")
@run_safely
@cluster_options
@json_option
def clock(place: ClusterPlace, as_json: bool, accept: bool) -> None:
    """Show by what time a cluster judges its keys' expiry, or accept this host's clock.

    A cluster's time never goes back: setting the clock back revives no expired key.  It follows the clock forward,
    but when that jumps by more than an hour, it waits for you: look whether the date is right, then accept it.

    \b
    Examples:
      secure-ipp clock
      secure-ipp clock --accept
      secure-ipp clock --cluster lab --json
    """
    from secure_ipp.cluster import clock_change
    from secure_ipp.cluster.launch import require_keys

    require_keys(place)
    found = clock_change.accept(place) if accept else clock_change.look(place)
    if as_json:
        show_json(found)
        return
    for line in sentences(found):
        click.echo(line)


def sentences(found: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [f"keys expire by   {_moment(found['trusted'])}", f"this host says   {_moment(found['wall'])}"]
    if found["jump"]:
        lines.append(
            f"! this host's clock has jumped ahead by {_span(found['jump'])} and is not followed; if it is right:"
            " secure-ipp clock --accept"
        )
    if found["behind"]:
        lines.append(
            f"! this host's clock is {_span(found['behind'])} behind what it has shown; that revives no expired key"
        )
    return lines


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _span(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86_400)
    hours, minutes = divmod(rest // 60, 60)
    return (f"{days} d " if days else "") + f"{hours} h {minutes} min"
