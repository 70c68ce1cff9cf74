"""``secure-ipp keys revoke`` and ``renew``: what becomes of an identity after it was issued."""

from __future__ import annotations

import time
from typing import Any

import click

from secure_ipp.cli.keys_issue import compare, tell_issued
from secure_ipp.cli.keys_said import force_facts, force_words
from secure_ipp.cli.keys_ways import way_options
from secure_ipp.cli.options import cluster_options, json_option, run_safely, show_json
from secure_ipp.keys.places import ClusterPlace


@click.command(
    epilog="""\b
Examples:
  secure-ipp keys revoke ada
  secure-ipp keys revoke k3vq-5x2a-7wjd-qm4n-c6tr-z2ye
  secure-ipp keys revoke --prefix course-2031-
  secure-ipp keys revoke ada/ben                 (what ada has handed on to ben)
""",
)
@click.argument("what", metavar="NAME|FINGERPRINT")
@run_safely
@cluster_options
@click.option("--prefix", is_flag=True, help="All whose name or fingerprint begins so; they are listed first.")
@click.option("--yes", is_flag=True, help="With --prefix: ask nothing.")
@json_option
def revoke(what: str, place: ClusterPlace, prefix: bool, yes: bool, as_json: bool) -> None:
    """Take an identity away.

    Its key is refused, its connections are cut, its queued tasks end with an error and its running ones are
    interrupted; so is what it handed on to others. Its key never comes back; its name may. Nobody else is disturbed.

    If a controller runs, the command succeeds only when that is in force there; else it fails and says so. If none
    runs, it is in force at the next start.
    """
    from secure_ipp.cluster.owner_keys import desk_of
    from secure_ipp.keys import revoking
    from secure_ipp.keys.facts import grant_facts

    desk = desk_of(place)
    chosen = revoking.choose(revoking.identities(desk), what, prefix=prefix)
    if prefix and not yes:
        for one in chosen:
            click.echo(f"  {one.title}  {one.grant.role}  {one.grant.key.fingerprint}", err=as_json)
        compare(f"Take away these {len(chosen)}?", "--yes", as_json)
    applied = revoking.revoke(desk, chosen)
    if as_json:
        gone = [grant_facts(one.grant, time.time(), title=one.title, live=False) for one in chosen]
        show_json({"revoked": gone, **force_facts(applied)})
        return
    for one in chosen:
        click.echo(f"revoked {one.title} ({one.grant.role}, key {one.grant.key.fingerprint})")
    click.echo(force_words(applied))


@click.command(
    epilog="""\b
Examples:
  secure-ipp keys renew ada --expires 30d --out ada.answer     (send it to ada, who accepts it)
  secure-ipp keys renew night-run --expires 12h --file night.json
  secure-ipp keys renew ada --expires never --out ada.answer
""",
)
@click.argument("name", metavar="NAME|FINGERPRINT")
@run_safely
@cluster_options
@click.option("--expires", required=True, metavar="WHEN", help="30m, 12h, 7d, 2w, a date, or never.")
@click.option("--out", default=None, metavar="ANSWER", help="A new answer for the holder; it is no secret.")
@click.option("--file", default=None, metavar="FILE", help="The holder's capability file, where it is here.")
@way_options
@json_option
def renew(
    name: str, place: ClusterPlace, expires: str, out: str | None, file: str | None, ways: dict[str, Any],
    as_json: bool,
) -> None:
    """Give an identity another end, later or sooner; its key stays.

    The end also stands, signed, in the holder's file. Where that file is here, name it (--file) and it is replaced.
    Else write an answer (--out), and its holder joins it to the file: secure-ipp keys accept ANSWER --out FILE. An
    answer says of the ways to the cluster what is said here; a file that is replaced keeps its own.
    """
    from secure_ipp.cluster.owner_keys import renew as renew_key

    tell_issued(place, renew_key(name, expires, out=out, file=file, cluster=place, **ways), as_json)
