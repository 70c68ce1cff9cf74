"""``secure-ipp keys revoke``, ``renew`` and ``rotate``: what becomes of an identity after it was issued."""

from __future__ import annotations

import time

import click

from secure_ipp.cli.keys_issue import compare, tell_issued
from secure_ipp.cli.keys_said import force_facts, force_words
from secure_ipp.cli.keys_seal import to_option
from secure_ipp.cli.options import cluster_options, json_option, run_safely, show_json
from secure_ipp.errors import UsageError
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
@click.option("--ssh", metavar="ROUTE", default="", help="With --out: user@host:port, to stand in the file.")
@json_option
def renew(
    name: str, place: ClusterPlace, expires: str, out: str | None, file: str | None, ssh: str, as_json: bool
) -> None:
    """Give an identity another end, later or sooner; its key stays.

    The end also stands, signed, in the holder's file. Where that file is here, name it (--file) and it is replaced.
    Else write an answer (--out), and its holder joins it to the file: secure-ipp keys accept ANSWER --out FILE.
    """
    from secure_ipp.cluster.owner_keys import renew as renew_key

    tell_issued(place, renew_key(name, expires, out=out, file=file, ssh=ssh, cluster=place), as_json)


@click.command(
    epilog="""\b
Examples:
  secure-ipp keys rotate ada --out ada-2.json
  secure-ipp keys rotate engines --out new-engine.json
  secure-ipp keys rotate ada --request ada-2.request --out ada-2.answer
""",
)
@click.argument("name", metavar="NAME|FINGERPRINT")
@run_safely
@cluster_options
@click.option("--out", required=True, metavar="FILE", help="The new capability file; with --request, the new answer.")
@click.option("--request", default=None, metavar="REQUEST", help="Of the holder, who made the new key.")
@click.option("--fingerprint", default="", metavar="KEY", help="With --request: that its maker told you.")
@click.option("--yes", is_flag=True, help="With --request: ask nothing; you have compared the fingerprint.")
@click.option("--ssh", metavar="ROUTE", default="", help="user@host:port, to stand in the file.")
@to_option
@json_option
def rotate(
    name: str, place: ClusterPlace, out: str, request: str | None, fingerprint: str, yes: bool, ssh: str, to: str,
    as_json: bool,
) -> None:
    """Give an identity a new key; what it may do, and what is its own, stays.

    The old key is refused from then on and never comes back, and what its holder handed on ends with it. Of an engine
    key, hosts that joined with the old one have to join with the new file.
    """
    from secure_ipp.cluster.owner_keys import rotate as rotate_key
    from secure_ipp.keys.requests import read_request

    if request is None and (fingerprint or yes):
        raise UsageError("there is no request whose fingerprint could be compared", "name it: --request REQUEST")
    if request is not None and not fingerprint:
        fingerprint = read_request(request).public_key.fingerprint
        if not yes:
            compare(f"Is {fingerprint} what its maker tells you?", "--fingerprint KEY, or --yes", as_json)
    tell_issued(
        place, rotate_key(name, out, request=request, fingerprint=fingerprint, ssh=ssh, to=to, cluster=place), as_json
    )
