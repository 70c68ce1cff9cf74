"""Options of the commands that start something, and how these speak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from secure_ipp import limits
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.logs import escape

Command = TypeVar("Command", bound=Callable[..., Any])


def say(text: str) -> None:
    """Sentences for the user, one a line; on stderr, so that stdout stays what a script reads.

    Part of it may be another process's or host's words: it is escaped (S31).
    """
    for line in text.split("\n"):
        click.echo(escape(line), err=True)


def default_engines() -> int:
    """One for each core that this process may use."""
    from secure_ipp.cluster.twins import usable_cores

    return usable_cores()


def engines_option(command: Command) -> Command:
    return click.option(
        "-n", "--n", "engines", type=click.IntRange(0, limits.ENGINES_PER_JOIN_KEY), default=default_engines,
        help="How many engines; the default is one for each core.",
    )(command)


def log_level_option(command: Command) -> Command:
    return click.option(
        "--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False), default="INFO",
        show_default=True, help="Of the log files.",
    )(command)


def scheme_option(command: Command) -> Command:
    return click.option(
        "--scheme", type=click.Choice(["leastload", "plainrandom"]), default="leastload", show_default=True,
        help="How load-balanced tasks are placed.",
    )(command)


def journal_options(command: Command) -> Command:
    """``--journal-keep`` and ``--journal-sync``."""
    command = click.option(
        "--journal-sync", type=click.Choice(["batch", "each"]), default="batch", show_default=True,
        help="When the journal is forced to the disk: 'batch' before anything takes effect but the ends of tasks, which"
        " follow within half a second; 'each' before these count, too.",
    )(command)
    return click.option(
        "--journal-keep", default="all", show_default=True, metavar="all|N|DAYSd", callback=_checked_keep,
        help="What to keep of the journal: all, the newest N segments (32 MB each), or those of so many days (90d).",
    )(command)


def _checked_keep(context: click.Context, option: click.Parameter, value: str) -> str:
    from secure_ipp.audit.retention import parse_keep
    from secure_ipp.errors import UsageError

    try:
        return str(parse_keep(value))
    except UsageError as error:
        raise click.BadParameter(error.message, context, option) from None


def door_options(command: Command) -> Command:
    """``--curve/--no-curve`` and ``--ssh-door``."""
    command = click.option(
        "--ssh-door", is_flag=True,
        help="Beside Curve, open a door for ssh in this run: a Unix socket that only the account which owns the cluster"
        " can use, by logging in with ssh. For every run: secure-ipp keys ways --ssh-door.",
    )(command)
    return click.option(
        "--curve/--no-curve", "curve", default=True, show_default=True,
        help="Encrypt and authenticate every connection with Curve. --no-curve starts a cluster that was made with"
        " secure-ipp keys init --no-curve, whose only way in is ssh, and no other one; there is never a plain port.",
    )(command)


def note_on_ssh_door(place: ClusterPlace) -> None:
    """Say so when files do not name the door for ssh that is being opened."""
    from secure_ipp.errors import SecureIppError
    from secure_ipp.keys.capability import read_capability
    from secure_ipp.keys.ways import in_words

    silent: list[str] = []
    for file in (place.client_file, place.engine_file):
        try:
            if not read_capability(file, now=0.0).socket_doors:
                silent.append(file.name)
        except SecureIppError:
            continue  # one that was moved away or is damaged is told of where it is needed
    if silent:
        say(
            f"note: {' and '.join(silent)} {'do' if len(silent) > 1 else 'does'} not name the door for ssh;"
            f" to have them name it: secure-ipp keys ways --ssh-door{in_words(place)}"
        )
