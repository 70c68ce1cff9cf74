"""``secure-ipp status``: what a running cluster says of itself, through the hub's private socket."""

from __future__ import annotations

import time
from typing import Any

import click

from secure_ipp.cli.clock import sentences as clock_sentences
from secure_ipp.cli.options import EXIT_CODES_HELP, cluster_options, json_option, run_safely, show_json
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.logs import escape


@click.command(epilog=EXIT_CODES_HELP)
@run_safely
@cluster_options
@json_option
def status(place: ClusterPlace, as_json: bool) -> None:
    """Ask a running cluster how it is: engines, clients, tasks, grants.

    Only the user who started it, on the machine where it runs, gets an answer.

    \b
    Examples:
      secure-ipp status
      secure-ipp status --cluster physics --json
    """
    found = gather(place)
    if as_json:
        show_json(found)
        return
    for line in sentences(found):
        click.echo(escape(line))  # host names and the like come from elsewhere


def gather(place: ClusterPlace) -> dict[str, Any]:
    """The supervisor's state file and the hub's answer, as one object.

    Raises:
        EnvironmentProblem: it does not run, or does not answer.
    """
    from secure_ipp.cluster import control, state
    from secure_ipp.cluster.launch import require_keys

    require_keys(place)
    controller = state.read_state(place)
    if controller is None:
        name = "" if place.name == "default" else f" --cluster {place.name}"
        raise EnvironmentProblem(
            f"cluster {place.name!r} does not run", f"start it: ipcluster start{name}", code="not-running"
        )
    answer = control.ask(place, "status")
    answer["controller"] = {
        "supervisor": controller.pid, "host": controller.host, "started": controller.started,
        "restarts": controller.restarts, "client_port": controller.client_port,
        "engine_port": controller.engine_port, "client_socket": controller.client_socket,
        "engine_socket": controller.engine_socket, "log_dir": str(place.log_dir),
    }
    return answer


def sentences(found: dict[str, Any]) -> list[str]:
    """For people."""
    controller, scheduler, registry = found["controller"], found["scheduler"], found["registry"]
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(controller["started"]))
    lines = [
        f"cluster {found['cluster']} runs since {since} (supervisor {controller['supervisor']}, hub"
        f" {found['hub']['pid']}, scheduler {scheduler['pid'] or 'away'}; {controller['restarts']} restarts)",
        f"doors: {_doors(controller)}",
        f"tasks: {scheduler.get('tasks_waiting', 0)} waiting, {scheduler.get('tasks_running', 0)} running,"
        f" {scheduler.get('tasks_done', 0)} done; {found['records']['records']} on record",
        f"refused at the doors: {scheduler.get('gate_refused', 0)}",
    ]
    if registry["problem"]:
        lines.append(f"! the registry of keys cannot be used: {registry['problem']}; nobody new is admitted")
    if found.get("journal", {}).get("problem"):
        lines.append(f"! {found['journal']['problem']}; no new work is taken")
    if found.get("journal", {}).get("doors_closed"):
        lines.append(f"! the doors are closed: {found['journal']['doors_closed']}; see docs/journal.md")
    lines += [line for line in clock_sentences(found["clock"]) if line.startswith("!")]
    if scheduler.get("recovering"):
        lines.append("! the scheduler was restarted and waits for its engines to report")
    lines.append(f"engines: {len(found['engines'])}")
    for engine in found["engines"]:
        away = "" if engine["state"] == "here" else f", {engine['state']}"
        reach = ", can read the cluster's private files" if _reaches(engine) else ""
        lines.append(f"  {engine['id']:>4}  {engine['host']}, process {engine['pid']}{away}{reach}")
    if any(_reaches(engine) for engine in found["engines"]):
        lines.append(
            "  note: code on an engine that can read them is as powerful as you are; rights and revocation do not bind"
            " it. To separate them, run engines as another user or on another host, or hide the cluster's directory"
            " from them in a mount namespace."
        )
    lines.append(f"clients: {len(found['clients'])}")
    for client in found["clients"]:
        lines.append(f"  {client['name']} from {client['host']} ({client['address']}), process {client['pid']}")
    return lines


def _doors(controller: dict[str, Any]) -> str:
    by_ssh = f"by ssh as this account alone {controller['client_socket']} and {controller['engine_socket']}"
    if not controller["client_port"]:
        return f"no port; {by_ssh}"
    ports = f"clients {controller['client_port']}, engines {controller['engine_port']}, both with Curve"
    return f"{ports}; {by_ssh}" if controller["client_socket"] else ports


def _reaches(engine: dict[str, Any]) -> bool:
    return bool(engine["reads_cluster_dir"] or engine["reads_join_file"])
