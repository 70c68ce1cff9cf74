"""``secure-ipp keys issue`` and ``approve``: letting somebody in, by a file of ours or for a key of theirs."""

from __future__ import annotations

import functools
from typing import Any

import click

from secure_ipp.cli.keys_said import force_facts, force_words, note_on_reach
from secure_ipp.cli.keys_seal import to_option
from secure_ipp.cli.keys_ways import way_options
from secure_ipp.cli.options import Command, cluster_options, json_option, run_safely, show_json
from secure_ipp.errors import UsageError
from secure_ipp.keys.places import ClusterPlace


def order_options(command: Command) -> Command:
    """What an identity may do; the command gets `order`, the arguments of `owner_keys.issue` but the name and role."""

    @click.option(
        "--rights", metavar="LIST", default=None,
        help="Of a client, with commas: task, direct, observe, control, admin.  [default: task,direct]",
    )
    @click.option(
        "--expires", metavar="WHEN", default="never", show_default=True,
        help="30m, 12h, 7d, 2w, a date (2031-12-01, UTC unless it names a zone), or never.",
    )
    @click.option(
        "--shared-engines/--own-engines", "shared_engines", default=None,
        help="Whether a client works in the same namespaces of engines as others (a collaborator), or has engines to"
        " itself while it uses them.  [default: own]",
    )
    @click.option(
        "--quota", "quotas", metavar="LIST", default=None,
        help="Of a client: tasks=N,bytes=64M,sessions=N,messages=N (a second).  [default: those of every client]",
    )
    @click.option("--engines", type=int, default=None, metavar="N", help="Of an engine key: so many at one time.")
    @click.option("--joins", type=int, default=None, metavar="N", help="Of an engine key: so many hosts may ever join.")
    @click.option("--single-use", is_flag=True, help="Of an engine key: the same as --joins 1.")
    @click.option("--network", "networks", multiple=True, metavar="CIDR",
                  help="Of an engine key: good from these addresses only (repeatable).")
    @way_options
    @functools.wraps(command)
    def with_order(
        *args: Any, rights: str | None, expires: str, shared_engines: bool | None, quotas: str | None,
        engines: int | None, joins: int | None, single_use: bool, networks: tuple[str, ...],
        ways: dict[str, Any], **others: Any,
    ) -> Any:
        if single_use and joins not in (None, 1):
            raise UsageError("a single-use key lets one host join", "say --single-use or --joins, not both")
        order = {
            "rights": rights, "expires": expires, "shared_engines": shared_engines, "quotas": quotas,
            "engines": engines, "joins": 1 if single_use else joins, "networks": networks, **ways,
        }
        return command(*args, order=order, **others)

    return with_order  # type: ignore[return-value]


@click.command(
    epilog="""\b
Examples:
  secure-ipp keys issue ada --expires 7d --out ada.json
  secure-ipp keys issue ada --to recipient:l1Kq... --out ada.json      (opened by her recipient.key alone)
  secure-ipp keys issue ben --rights task,direct,observe --shared-engines --out ben.json
  secure-ipp keys issue night-run --rights task --quota tasks=5000,bytes=256M --out night.json
  secure-ipp keys issue lab-hosts --role engine --engines 64 --network 192.0.2.0/24 --out lab-engine.json
  secure-ipp keys issue ben --ssh ben@login.example --ssh-host-key here --out ben.json
""",
)
@click.argument("name")
@run_safely
@cluster_options
@click.option("--role", type=click.Choice(["client", "engine"]), default="client", show_default=True,
              help="A person or program that sends work, or hosts that offer engines.")
@order_options
@click.option("--out", required=True, metavar="FILE", help="The new capability file; nothing is overwritten.")
@to_option
@json_option
def issue(
    name: str, place: ClusterPlace, role: str, order: dict[str, Any], out: str, to: str, as_json: bool
) -> None:
    """Make an identity called NAME, and its capability file.

    Whoever holds a copy of FILE is that identity, with these rights, until it expires or is revoked; hand it over as
    you would a private SSH key, or seal it to its holder (--to). If its holder can make the key, the secret need not
    travel at all: see request and approve.
    """
    from secure_ipp.cluster.owner_keys import issue as issue_key

    tell_issued(place, issue_key(name, out, role=role, to=to, cluster=place, **order), as_json)


@click.command(
    epilog="""\b
Examples:
  secure-ipp keys approve ada.request --as ada --expires 30d --out ada.answer
  secure-ipp keys approve ada.request --as ada --fingerprint k3vq-5x2a-7wjd-qm4n-c6tr-z2ye --out ada.answer
""",
)
@click.argument("request", metavar="REQUEST")
@run_safely
@cluster_options
@click.option("--as", "name", required=True, metavar="NAME", help="What the identity is called here.")
@click.option("--fingerprint", default="", metavar="KEY", help="That its maker told you; then nothing is asked.")
@click.option("--yes", is_flag=True, help="Ask nothing; you have compared the fingerprint.")
@order_options
@click.option("--out", required=True, metavar="ANSWER", help="The new answer, which is no secret.")
@json_option
def approve(
    request: str, place: ClusterPlace, name: str, fingerprint: str, yes: bool, order: dict[str, Any], out: str,
    as_json: bool,
) -> None:
    """Grant a REQUEST that came from somebody who made a key of its own.

    What the request wishes is shown and not followed: rights, end and quotas are what you say here. Compare the
    fingerprint with its maker by another way than the file came (by voice, say), lest somebody swapped the file.
    """
    from secure_ipp.cluster.owner_keys import approve as approve_request
    from secure_ipp.keys.requests import read_request

    asked = read_request(request)
    found = asked.public_key.fingerprint
    if not as_json:
        click.echo(f"key      {found}")
        click.echo(f"wishes   role {asked.role}, name {asked.name}, rights {','.join(asked.rights)}")
    if not fingerprint and not yes:
        compare(f"Is {found} what its maker tells you?", "--fingerprint KEY, or --yes", as_json)
    issued = approve_request(request, name, out, fingerprint=fingerprint or found, cluster=place, **order)
    tell_issued(place, issued, as_json)


def compare(question: str, instead: str, as_json: bool) -> None:
    """Ask at a terminal.

    Raises:
        UsageError: there is none, or the answer is no.
    """
    import sys

    if as_json or not sys.stdin.isatty():
        raise UsageError("somebody must say yes, and nobody can be asked here", f"say {instead}", code="unconfirmed")
    if not click.confirm(question):
        raise UsageError("nothing was done", code="unconfirmed")


def tell_issued(place: ClusterPlace, issued: Any, as_json: bool) -> None:
    """Say what was made, and whether it is in force."""
    import time

    from secure_ipp.cluster.owner_keys import engines_that_reach
    from secure_ipp.keys.facts import grant_facts

    facts = grant_facts(issued.grant, time.time())
    if as_json:
        show_json({"grant": facts, "file": issued.file, "issuer": issued.issuer, **force_facts(issued.applied)})
        return
    click.echo(f"{issued.grant.name}: {issued.grant.role}, {', '.join(issued.grant.rights)}")
    click.echo(f"  file     {issued.file}")
    click.echo(f"  key      {facts['key']}")
    click.echo(f"  issuer   {issued.issuer}")
    click.echo(f"  expires  {facts['expires_in_words']}")
    if issued.grant.role == "client":
        shared = "shared with others, in the same namespaces" if facts["shared_engines"] else "its own while it works"
        click.echo(f"  engines  {shared}")
    click.echo(force_words(issued.applied))
    note_on_reach(engines_that_reach(place))
