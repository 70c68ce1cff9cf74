"""``secure-ipp keys rotate``: a new key for an identity, or, without a name, for the server."""

from __future__ import annotations

from typing import Any

import click

from secure_ipp.cli.keys_issue import compare, tell_issued
from secure_ipp.cli.keys_said import force_facts, force_words
from secure_ipp.cli.keys_seal import to_option
from secure_ipp.cli.keys_ways import way_options
from secure_ipp.cli.options import cluster_options, json_option, run_safely, show_json
from secure_ipp.errors import UsageError
from secure_ipp.keys.places import ClusterPlace


@click.command(
    epilog="""\b
Examples, for an identity:
  secure-ipp keys rotate ada --out ada-2.json
  secure-ipp keys rotate engines --out new-engine.json
  secure-ipp keys rotate ada --request ada-2.request --out ada-2.answer
\b
Examples, for the server:
  secure-ipp keys rotate                      announce the next key
  secure-ipp keys rotate --status             who knows it, and since when
  secure-ipp keys rotate --switch             the doors have it from now on
  secure-ipp keys rotate --now                both, as soon as all who are connected know it
  secure-ipp keys rotate --file laptop.json   announce, also in a file that lies here
  secure-ipp keys rotate --abort              withdraw it, before the switch
""",
)
@click.argument("name", metavar="[NAME|FINGERPRINT]", required=False, default=None)
@run_safely
@cluster_options
@click.option("--out", default=None, metavar="FILE", help="The new capability file; with --request, the new answer.")
@click.option("--request", default=None, metavar="REQUEST", help="Of the holder, who made the new key.")
@click.option("--fingerprint", default="", metavar="KEY", help="With --request: that its maker told you.")
@click.option("--yes", is_flag=True, help="With --request: ask nothing; you have compared the fingerprint.")
@way_options
@to_option
@click.option("--switch", is_flag=True, help="The server: have the announced key take the current one's place.")
@click.option("--now", is_flag=True, help="The server: announce, wait until those connected know it, and switch.")
@click.option("--status", is_flag=True, help="The server: show how far its rotation is.")
@click.option("--abort", is_flag=True, help="The server: withdraw what was announced.")
@click.option("--anyway", is_flag=True, help="With --switch or --now: wait for nobody.")
@click.option("--file", "files", multiple=True, metavar="FILE", help="The server: a file that is to name its keys.")
@json_option
def rotate(
    name: str | None, place: ClusterPlace, out: str | None, request: str | None, fingerprint: str, yes: bool,
    ways: dict[str, Any], to: str, switch: bool, now: bool, status: bool, abort: bool, anyway: bool,
    files: tuple[str, ...], as_json: bool,
) -> None:
    """Give an identity a new key; or, without a NAME, the server.

    An identity keeps what it may do and what is its own. Its old key is refused from then on and never comes back, and
    what its holder handed on ends with it. Of an engine key, hosts that joined with the old one have to join with the
    new file.

    The server's key changes in two steps, and connected work goes on. First the next key is announced, signed, to all
    who are connected, and stands in every file that is made from then on. With --switch it takes the current one's
    place, and the old one is erased. In between lies the time in which everybody learns of it: whoever does not needs a
    new file. Without a controller the steps are in force at its next start.
    """
    steps = [word for word, chosen in (("--switch", switch), ("--now", now), ("--status", status), ("--abort", abort))
             if chosen]
    if name is not None:
        if steps or anyway or files:
            raise UsageError(f"{(steps or ['this option'])[0]} is about the server's key", "leave the name out")
        _rotate_holder(place, name, out, request, fingerprint, yes, ways, to, as_json)
        return
    if out or request or fingerprint or yes or to or any(value is not None for value in ways.values()):
        raise UsageError("a new file is made of an identity's key", "say whose: secure-ipp keys rotate NAME --out FILE")
    if len(steps) > 1:
        raise UsageError(f"{' and '.join(steps)} are different steps", "say one")
    if anyway and not (switch or now):
        raise UsageError("there is nothing to wait for", "say --switch or --now with it")
    if status:
        _show(place, as_json)
    elif abort:
        _abort(place, files, as_json)
    else:
        _rotate_server(place, files, announce=not switch, switch=switch or now, anyway=anyway, as_json=as_json)


def _rotate_holder(
    place: ClusterPlace, name: str, out: str | None, request: str | None, fingerprint: str, yes: bool,
    ways: dict[str, Any], to: str, as_json: bool,
) -> None:
    from secure_ipp.cluster.owner_keys import rotate as rotate_key
    from secure_ipp.keys.requests import read_request

    if out is None:
        raise UsageError("the new key needs a new file", "name it: --out FILE")
    if request is None and (fingerprint or yes):
        raise UsageError("there is no request whose fingerprint could be compared", "name it: --request REQUEST")
    if request is not None and not fingerprint:
        fingerprint = read_request(request).public_key.fingerprint
        if not yes:
            compare(f"Is {fingerprint} what its maker tells you?", "--fingerprint KEY, or --yes", as_json)
    tell_issued(
        place, rotate_key(name, out, request=request, fingerprint=fingerprint, to=to, cluster=place, **ways), as_json
    )


# --- the server ----------------------------------------------------------------------------------------------------


def _rotate_server(
    place: ClusterPlace, files: tuple[str, ...], *, announce: bool, switch: bool, anyway: bool, as_json: bool
) -> None:
    from secure_ipp.cluster.owner_keys import rotate_server

    step = rotate_server(
        "now" if announce and switch else "announce" if announce else "switch", files=files, anyway=anyway,
        cluster=place,
    )
    if as_json:
        show_json(_step_facts(step))
        return
    found = step.rotation
    if switch:
        click.echo(f"the server's key is {found.current.fingerprint} now; the old one was erased")
    else:
        click.echo(f"the server's next key is announced: {found.next.fingerprint if found.next else ''}")
    _tell_rest(step)
    if not switch:
        click.echo("when all who need it know it: secure-ipp keys rotate --switch")


def _abort(place: ClusterPlace, files: tuple[str, ...], as_json: bool) -> None:
    from secure_ipp.cluster.owner_keys import abort_server_rotation
    from secure_ipp.keys import server_rotation as rotation

    step = abort_server_rotation(files=files, cluster=place)
    if as_json:
        show_json(rotation.facts(rotation.look(place)) if step is None else _step_facts(step))
        return
    click.echo("withdrawn; the server keeps its key")
    if step is not None:
        _tell_rest(step)


def _show(place: ClusterPlace, as_json: bool) -> None:
    from secure_ipp.cluster.aware import unaware_now
    from secure_ipp.keys import server_rotation as rotation

    found = rotation.look(place)
    number = 0 if found.doors is None else found.doors.number
    unaware = unaware_now(place, number) if number else None
    if as_json:
        show_json({**rotation.facts(found), "unaware": unaware})
        return
    click.echo(f"current key: {found.current.fingerprint}")
    if found.doors is not None and found.doors.switched:
        click.echo(f"  it took the last one's place on {rotation.moment(found.doors.switched)}")
    click.echo(_PHASES[found.phase].format(
        next=found.next.fingerprint if found.next else "",
        announced=rotation.moment(found.doors.announced) if found.doors else "",
    ))
    if found.phase == "announced":
        click.echo({
            None: "no controller tells who knows it", 0: "everybody who is connected knows it",
        }.get(unaware, f"{unaware} of those who are connected have not confirmed it"))


_PHASES = {
    "steady": "no rotation is under way",
    "prepared": "a next key was made and not announced: go on with `secure-ipp keys rotate`, or --abort",
    "announced": "next key: {next}, announced on {announced}; then: `secure-ipp keys rotate --switch`, or --abort",
    "switched": "the switch was not finished, and the old secret is still there: `secure-ipp keys rotate --switch`",
    "withdrawn": "a key that was withdrawn is still there: `secure-ipp keys rotate --abort` removes it",
}


def _step_facts(step: Any) -> dict[str, Any]:
    from secure_ipp.keys import server_rotation as rotation

    left = [{"file": file, "why": why} for file, why in step.left]
    return {
        **rotation.facts(step.rotation), **force_facts(step.applied), "rewritten": list(step.rewritten), "left": left,
    }


def _tell_rest(step: Any) -> None:
    click.echo(force_words(step.applied))
    for file in step.rewritten:
        click.echo(f"rewritten: {file}")
    for file, why in step.left:
        click.echo(f"left as it is: {file} ({why}); name it once it can be opened: --file {file}")
