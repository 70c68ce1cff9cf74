"""``secure-ipp audit``: the journal's records, its head, and whether it is whole."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from secure_ipp.audit import verify as verifier
from secure_ipp.audit.reading import Choice, Tail, records
from secure_ipp.cli.options import (
    EXIT_CODES_HELP,
    FAILED,
    cluster_options,
    end,
    json_option,
    run_safely,
    show_json,
)
from secure_ipp.errors import EnvironmentProblem, SecureIppError, UsageError
from secure_ipp.keys.config import load_config
from secure_ipp.keys.places import ClusterPlace

_FOLLOW_SECONDS = 0.3
_AGO = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PLAIN = re.compile(r"[A-Za-z0-9_.,:;/@+*()<>=-]+", re.ASCII)
_COLUMNS = ("n", "time", "event", "what", "user", "owner", "name", "task", "status", "engine", "reason")


@click.group(name="audit", epilog=EXIT_CODES_HELP)
def audit() -> None:
    """Look at a cluster's journal: who came, who was refused, what ran, what became of each key.

    \b
    Examples:
      secure-ipp audit show --what gate --since 1h
      secure-ipp audit verify
      secure-ipp audit head > ~/head.json        (keep it elsewhere: it finds out a tail that was cut off)
    """


@audit.command(
    epilog="""\b
Examples:
  secure-ipp audit verify
  secure-ipp audit verify --since ~/head.json --json
An auditor needs no more than the journal, the issuer's public key, and one file of this package:
  python -m secure_ipp.audit.verify DIRECTORY --issuer KEY
""",
)
@run_safely
@cluster_options
@json_option
@click.option(
    "--since", "heads", multiple=True, metavar="HEAD", help="A head that somebody kept (file or text); repeatable."
)
def verify(place: ClusterPlace, as_json: bool, heads: tuple[str, ...]) -> None:
    """Say whether the journal is whole; exit status 1 when it is not.

    Finds lines that were edited, deleted, moved, forged or re-sealed, missing segments, and a journal without
    checkpoints. That its newest lines were cut off shows only against a head that was kept somewhere else.
    """
    try:
        known = [verifier.read_head(text) for text in heads]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"a head cannot be read: {error}", "give what `secure-ipp audit head` wrote") from None
    report = _verified(place, known)
    if as_json:
        show_json({"ok": report.ok, **asdict(report)})
    else:
        click.echo("\n".join(verifier.in_words(report)))
    if not report.ok:
        end(FAILED)


@audit.command(
    epilog="""\b
Examples:
  secure-ipp audit show --who ada --since 2d
  secure-ipp audit show --what engine_joined --what engine_left --json
  secure-ipp audit show --what task_ended --since 5000 --until 2026-11-21T12:00
  secure-ipp audit show --follow
""",
)
@run_safely
@cluster_options
@json_option
@click.option("--who", default="", metavar="NAME|ID", help="Only what this identity did, or what was done to it.")
@click.option(
    "--what", multiple=True, metavar="EVENT", help="Only this event, report or outcome (gate, admitted, lost, ...)."
)
@click.option("--since", default="", metavar="TIME|N", help="From a time (UTC), an age (30m, 2h, 7d) or a line number.")
@click.option("--until", default="", metavar="TIME", help="To a time or an age.")
@click.option("--follow", is_flag=True, help="Go on with what is written from now on; Ctrl-C ends it.")
def show(
    place: ClusterPlace, as_json: bool, who: str, what: tuple[str, ...], since: str, until: str, follow: bool
) -> None:
    """Show records, oldest first; with --json, one JSON object a line.

    Whatever text peers sent is shown escaped: it cannot move the cursor or pretend to be a line.
    """
    choice = _choice(who, what, since, until)
    try:
        for record in _chosen(place, choice, follow):
            click.echo(_json(record) if as_json else _words(record))
    except KeyboardInterrupt:
        click.echo("", err=True)


@audit.command(
    epilog="""\b
Examples:
  secure-ipp audit export --format csv > journal.csv
  secure-ipp audit export --who ada --since 30d
""",
)
@run_safely
@cluster_options
@click.option("--format", "kind", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--who", default="", metavar="NAME|ID", help="Only what this identity did, or what was done to it.")
@click.option("--what", multiple=True, metavar="EVENT", help="Only this event, report or outcome.")
@click.option("--since", default="", metavar="TIME|N", help="From a time (UTC), an age (30m, 2h, 7d) or a line number.")
@click.option("--until", default="", metavar="TIME", help="To a time or an age.")
def export(place: ClusterPlace, kind: str, who: str, what: tuple[str, ...], since: str, until: str) -> None:
    """Write records for other programs: a task a record.

    In CSV no cell begins with a character that a spreadsheet takes for a formula.
    """
    if kind == "csv":
        click.echo(_row([*_COLUMNS, "more"]))
    for record in _chosen(place, _choice(who, what, since, until), follow=False):
        if kind == "jsonl":
            click.echo(_json(record))
            continue
        plain = {**record, "time": _moment(record["at"])}
        more = {name: value for name, value in record.items() if name not in (*_COLUMNS, "at")}
        click.echo(_row([*(plain.get(name, "") for name in _COLUMNS), _json(more)]))


@audit.command(
    epilog="""\b
Examples:
  secure-ipp audit head > head.json
  secure-ipp audit verify --since head.json
""",
)
@run_safely
@cluster_options
@json_option
def head(place: ClusterPlace, as_json: bool) -> None:
    """Show the newest signed head: keep it where whoever might cut the journal cannot reach it."""
    from secure_ipp.audit.chain import head_of

    config = load_config(place)
    newest = b""
    for line in Tail(place.journal_dir).lines():
        if line.startswith(b'{"n":') and b'","event":"checkpoint",' in line[:120]:
            newest = line
    if not newest:
        raise EnvironmentProblem("the journal has no checkpoint yet", "start the controller once")
    found = head_of(config.cluster_id, newest)
    if as_json:
        show_json(found)
    else:
        click.echo(_json(found))


@audit.command(
    epilog="""\b
Examples:
  secure-ipp audit renew --reason "restored from the backup of Monday"
""",
)
@run_safely
@cluster_options
@json_option
@click.option("--reason", required=True, help="For the record.")
@click.option(
    "--lost-through", type=click.IntRange(0, 10**15), default=None, metavar="N",
    help="The highest line number that somebody has seen and that is lost (an error or a client's warning tells it).",
)
def renew(place: ClusterPlace, as_json: bool, reason: str, lost_through: int | None) -> None:
    """Let a journal go on that is damaged, was restored from a copy, or has lost its key.

    Repairs nothing. The issuer signs, on record, that the journal goes on with new keys from here; what was wrong
    before stays in every later verification. The controller must be stopped.
    """
    from secure_ipp.audit.renewal import renew as go_on
    from secure_ipp.keys.cluster_keys import load_issuer

    config, issuer = load_config(place), load_issuer(place)
    number = go_on(
        place, issuer, config.cluster, config.cluster_id, reason, time.time(),
        -1 if lost_through is None else lost_through,
    )
    if as_json:
        show_json({"number": number})
    else:
        click.echo(f"the journal of {place.name!r} goes on with new keys at line {number}")


def _verified(place: ClusterPlace, heads: list[dict[str, Any]]) -> verifier.Report:
    """The report; a journal that its own key has outrun was cut off here, which needs no head."""
    from secure_ipp.keys.journal_key import read_journal_key

    config = load_config(place)
    try:
        signed = read_journal_key(place.journal_key).number  # before the journal, which may grow meanwhile
    except SecureIppError as error:
        signed, problem = -1, error.message
    else:
        problem = ""
    for attempt in (1, 2, 3):
        try:
            report = verifier.verify(place.journal_dir, config.issuer_key.text, heads)
            break
        except FileNotFoundError as error:
            if attempt == 3:
                raise EnvironmentProblem(
                    f"there is no journal in {place.journal_dir}",
                    "restore it from its copy, or: secure-ipp audit renew",
                ) from error
        except OSError as error:
            problem = f"the journal cannot be read: {error.strerror}"
            raise EnvironmentProblem(problem, "see that its disk is there") from None
    if problem:
        report.notes.append(f"the journal's key was not looked at: {problem}")
    elif signed > report.last:
        report.findings.append(verifier.Finding(
            "truncated", "", 0, report.last, f"the journal's key has signed line {signed}; it ends at {report.last}"
        ))
    return report


def _chosen(place: ClusterPlace, choice: Choice, follow: bool) -> Iterator[dict[str, Any]]:
    load_config(place)
    tail = Tail(place.journal_dir, 0 if choice.who else choice.from_number)
    while True:
        yield from (record for record in records(tail.lines()) if choice.wants(record))
        if not follow:
            return
        time.sleep(_FOLLOW_SECONDS)


def _choice(who: str, what: tuple[str, ...], since: str, until: str) -> Choice:
    choice = Choice(who=who, what=what)
    if since.isdecimal() and since.isascii():
        choice.from_number = int(since)
    elif since:
        choice.since = _time(since)
    if until:
        choice.until = _time(until)
    return choice


def _time(text: str) -> float:
    """Seconds since the epoch; without a zone it is UTC, as all that is shown."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return time.time() - int(ago[1]) * _UNITS[ago[2]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            "a time is 2026-11-21, 2026-11-21T12:30 (UTC), or an age: 30m, 2h, 7d", "or a line number, for --since"
        ) from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def _moment(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    except (ValueError, OverflowError, OSError):
        return str(at)


def _json(value: Any) -> str:
    """On one line, in printable ASCII."""
    return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")


def _words(record: dict[str, Any]) -> str:
    """One line; whatever is not a plain word is quoted and escaped (S31)."""
    shown = [
        f"{_word(name)}={_word(value)}" for name, value in record.items() if name not in ("n", "at", "event")
    ]
    return "  ".join([_moment(record["at"]), f"#{record['n']}", _word(record["event"]), *shown])


def _word(value: Any) -> str:
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else _json(value)


def _row(cells: list[Any]) -> str:
    """A line of CSV (RFC 4180), in printable ASCII."""
    texts = []
    for cell in cells:
        text = cell if isinstance(cell, str) else _json(cell)
        text = _json(text)[1:-1].replace('\\"', '"').replace("\\\\", "\\")
        if text[:1] in ("=", "+", "-", "@"):
            text = "'" + text
        texts.append('"' + text.replace('"', '""') + '"')
    return ",".join(texts)
