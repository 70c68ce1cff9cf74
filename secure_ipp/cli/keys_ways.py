"""``secure-ipp keys ways``, and the options by which files say how a cluster is reached other than by Curve on TCP."""

from __future__ import annotations

import functools
from typing import Any

import click

from secure_ipp.cli.options import Command, cluster_options, json_option, run_safely, show_json
from secure_ipp.keys.places import ClusterPlace

ROUTE_HELP = "user@host:port of the ssh server that leads to the cluster's host"
HOST_KEY_HELP = (
    "With --ssh: the fingerprint of that server's key as ssh-keygen -lf prints it, SHA256:...; or here, for the keys of"
    " this host's ssh server (repeatable)."
)
DOOR_HELP = (
    "a door for ssh: a Unix socket of this host that only the account which owns the cluster can use, by logging in"
    " with ssh"
)


def way_options(command: Command) -> Command:
    """What one file says of the ways; the command gets `ways`, three arguments of the functions in `owner_keys`."""

    @click.option("--ssh", metavar="ROUTE", default=None,
                  help=f"{ROUTE_HELP}, to stand in the file; '' for none.  [default: as keys ways says]")
    @click.option("--ssh-host-key", "ssh_host_keys", multiple=True, metavar="KEY|here", help=HOST_KEY_HELP)
    @click.option(
        "--ssh-door/--no-ssh-door", "ssh_door", default=None,
        help=f"Whether the file names {DOOR_HELP}.  [default: no, unless there is no other door]",
    )
    @functools.wraps(command)
    def with_ways(
        *args: Any, ssh: str | None, ssh_host_keys: tuple[str, ...], ssh_door: bool | None, **others: Any
    ) -> Any:
        ways = {"ssh": ssh, "ssh_host_keys": ssh_host_keys or None, "ssh_door": ssh_door}
        return command(*args, ways=ways, **others)

    return with_ways  # type: ignore[return-value]


@click.command(
    epilog="""\b
Examples:
  secure-ipp keys ways                                    show them
  secure-ipp keys ways --ssh-door --ssh ada@login.example --ssh-host-key here
  secure-ipp keys ways --no-ssh-door
  secure-ipp keys ways --require-post-quantum
""",
)
@run_safely
@cluster_options
@click.option("--ssh", metavar="ROUTE", default=None, help=f"{ROUTE_HELP}, to stand in files; '' for none.")
@click.option("--ssh-host-key", "ssh_host_keys", multiple=True, metavar="KEY|here", help=HOST_KEY_HELP)
@click.option("--ssh-door/--no-ssh-door", "ssh_door", default=None, help=f"Whether the cluster has {DOOR_HELP}.")
@click.option(
    "--require-post-quantum/--no-require-post-quantum", "require_post_quantum", default=None,
    help="Whether files ask ssh for a key exchange that is post-quantum, and refuse any other.",
)
@json_option
def ways(
    place: ClusterPlace, ssh: str | None, ssh_host_keys: tuple[str, ...], ssh_door: bool | None,
    require_post_quantum: bool | None, as_json: bool,
) -> None:
    """Show or change the ways to a cluster besides Curve on TCP: those that go through ssh.

    What is said here stands in cluster.toml, is signed anew into the owner's two files, and is what files say that are
    made later. Files of others stay as they are; `secure-ipp keys renew` gives a holder a newer one. Ports and hosts
    stay, and Curve is neither turned on nor off: that is for `secure-ipp keys init` to say.

    Through a route (--ssh), peers reach the ports with Curve, whoever they are at that host. The door for ssh
    (--ssh-door) is for hosts where Curve or a port cannot be had: a Unix socket in the cluster's own directory, so that
    only who logs in as the account that owns the cluster reaches it; there, too, the holder of a file is let in by its
    key, once for each proof, and has the rights that it has anywhere.
    """
    from secure_ipp.cluster.owner_keys import change_ways
    from secure_ipp.cluster.state import read_state
    from secure_ipp.keys.config import load_config
    from secure_ipp.keys.facts import way_facts

    asked = {"ssh": ssh, "ssh_host_keys": ssh_host_keys or None, "ssh_door": ssh_door,
             "require_post_quantum": require_post_quantum}
    if all(value is None for value in asked.values()):
        facts: dict[str, Any] = way_facts(place, load_config(place))
    else:
        done = change_ways(place, **asked)  # type: ignore[arg-type]
        facts = way_facts(place, done.config)
        facts["rewritten"] = list(done.files)
        facts["left"] = [{"file": file, "why": why} for file, why in done.left]
    controller = read_state(place)
    facts["restart_needed"] = controller is not None and bool(controller.client_socket) != facts["ssh_door"]
    if as_json:
        show_json(facts)
        return
    for line in sentences(facts):
        click.echo(line)


def sentences(facts: dict[str, Any]) -> list[str]:
    """For people: what `way_facts` says, and what was done."""
    curve, door = facts["curve"], facts["ssh_door"]
    ports = f"ports {facts['client_port']} (clients) and {facts['engine_port']} (engines)"
    lines = [
        f"Curve on TCP   {ports if curve else 'none: nothing listens on TCP'}",
        f"door for ssh   {', '.join(facts['sockets']) if door else 'none'}",
        f"ssh route      {facts['ssh'] or '-'}",
        f"host keys      {', '.join(facts['ssh_host_keys']) or '-'}",
        f"post-quantum   {'required of ssh' if facts['require_post_quantum'] else 'not required'}",
    ]
    if door:
        lines.append("only the account that owns the cluster reaches the door for ssh")
    lines += [f"rewritten: {file}" for file in facts.get("rewritten", ())]
    lines += [
        f"left as it is: {one['file']} ({one['why']}); once it can be opened, say the same again"
        for one in facts.get("left", ())
    ]
    if facts["restart_needed"]:
        lines.append("the controller that runs was started with other doors; these are there after a new start")
    return lines
