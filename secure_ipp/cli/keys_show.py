"""``secure-ipp keys list`` and ``show``: what a registry and a capability file say; never a secret."""

from __future__ import annotations

import time
from typing import Any

import click

from secure_ipp.cli.keys_said import note_on_reach, table
from secure_ipp.cli.options import cluster_options, json_option, run_safely, show_json
from secure_ipp.keys.expiry import as_text
from secure_ipp.keys.places import ClusterPlace


@click.command(
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
    """List the identities that a cluster lets in, those that holders handed on included."""
    from secure_ipp.cluster.owner_keys import engines_that_reach
    from secure_ipp.keys.facts import all_facts

    found = all_facts(place, time.time())
    reaching = engines_that_reach(place)
    if as_json:
        show_json({**found, "engines_that_can_read_the_keys": reaching})
        return
    rows: list[tuple[str, ...]] = [("NAME", "ROLE", "RIGHTS", "EXPIRES", "ENGINES", "KEY")]
    rows += [_row(facts) for facts in (*found["grants"], *found["derived"])]
    for line in table(rows):
        click.echo(line)
    click.echo(f"registry version {found['version']}, {len(found['retired'])} retired keys")
    note_on_reach(reaching)


@click.command(
    name="show",
    epilog="""\b
Examples:
  secure-ipp keys show owner
  secure-ipp keys show ~/ipcontroller-engine.json
""",
)
@click.argument("what", metavar="NAME|FINGERPRINT|FILE")
@run_safely
@cluster_options
@json_option
def show(what: str, place: ClusterPlace, as_json: bool) -> None:
    """Show one identity, by its NAME or FINGERPRINT in the registry, or a capability FILE; never its secret.

    Of a file it also says whether its key is still in the registry, where that can be known: on the machine where the
    cluster's keys were made.
    """
    from secure_ipp.cluster.owner_keys import describe

    facts = describe(what, place)
    if as_json:
        show_json(facts)
        return
    shown = {name: value for name, value in facts.items() if not _is_said_elsewhere(name, facts)}
    width = max(len(name) for name in shown)
    for name, value in shown.items():
        click.echo(f"{name.replace('_', ' ').ljust(width)}  {_text(name, value, facts)}")


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    if facts["role"] == "engine":
        engines = f"up to {facts['engines']:,}"
    else:
        engines = "shared" if facts["shared_engines"] else "own"
    ended = "" if facts["good"] else " (ended)"
    expires = as_text(facts["expires"]) + ended
    return facts["title"], facts["role"], ",".join(facts["rights"]), expires, engines, facts["key"]


def _is_said_elsewhere(name: str, facts: dict[str, Any]) -> bool:
    if name == "ssh_host_keys":
        return not facts["ssh_host_keys"]
    return name == "expires_in_words" or (name == "title" and facts["title"] == facts["name"])


def _text(name: str, value: Any, facts: dict[str, Any]) -> str:
    if name == "expires":
        return str(facts["expires_in_words"])
    if name == "made":
        return as_text(value)
    if name == "joins":
        return f"{value:,}" if value else "any number of hosts"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}={amount}" for key, amount in value.items()) or "the defaults"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "-"
    return str(value) if value != "" else "-"
