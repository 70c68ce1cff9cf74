"""The four commands: ``secure-ipp``, ``ipcluster``, ``ipcontroller``, ``ipengine``.

Each imports what it needs when it is used.
"""

from __future__ import annotations

import click

from secure_ipp._version import __version__
from secure_ipp.cli.lazy import LazyGroup
from secure_ipp.cli.options import EXIT_CODES_HELP

_CLUSTER = {
    "start": ("secure_ipp.cli.cluster_commands:start", "Start a controller and engines on this machine."),
    "stop": ("secure_ipp.cli.cluster_commands:stop", "Stop a cluster."),
    "engines": ("secure_ipp.cli.cluster_commands:engines", "Start more engines on this machine."),
    "list": ("secure_ipp.cli.cluster_commands:list_clusters", "List this user's clusters."),
}


@click.group(cls=LazyGroup, lazy=_CLUSTER, epilog=EXIT_CODES_HELP)
@click.version_option(__version__, package_name="secure-ipp")
def ipcluster() -> None:
    """Start, stop and list clusters on this machine.

    \b
    Examples:
      ipcluster start --curve -n 4
      ipcluster list --json
      ipcluster stop
    """


@click.group(
    cls=LazyGroup,
    epilog=EXIT_CODES_HELP,
    lazy={
        "keys": ("secure_ipp.cli.keys:keys", "Make, list and show the keys of a cluster."),
        "cluster": ("secure_ipp.cli.main:ipcluster", "Start, stop and list clusters (as ipcluster)."),
        "controller": ("secure_ipp.cli.controller_command:controller", "Start a controller (as ipcontroller)."),
        "engine": ("secure_ipp.cli.engine_command:engine", "Start engines on this host (as ipengine)."),
        "tunnel": ("secure_ipp.cli.tunnel:tunnel", "Open, list and close tunnels over SSH."),
        "status": ("secure_ipp.cli.status:status", "Ask a running cluster how it is."),
        "clock": ("secure_ipp.cli.clock:clock", "Show by what time keys expire, or accept this host's clock."),
        "audit": ("secure_ipp.cli.audit:audit", "Verify, show and export a cluster's journal."),
        "doctor": ("secure_ipp.cli.doctor:doctor", "Look for what is wrong on this machine."),
        "demo": ("secure_ipp.cli.demo:demo", "Parse Python's standard library on a cluster with fresh keys."),
    },
)
@click.version_option(__version__, package_name="secure-ipp")
def secure_ipp() -> None:
    """Interactive parallel Python whose foundation is security.

    \b
    Examples:
      secure-ipp keys init
      secure-ipp cluster start -n 4
      secure-ipp status
    """


def ipcontroller() -> None:
    """Entry point of ``ipcontroller``."""
    from secure_ipp.cli.controller_command import controller

    controller(prog_name="ipcontroller")


def ipengine() -> None:
    """Entry point of ``ipengine``."""
    from secure_ipp.cli.engine_command import engine

    engine(prog_name="ipengine")


if __name__ == "__main__":
    secure_ipp(prog_name="secure-ipp")
