"""Options of the commands that start something, and how these speak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from secure_ipp import limits
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


def curve_option(command: Command) -> Command:
    return click.option(
        "--curve/--no-curve", "curve", default=True, callback=_only_curve, expose_value=True,
        help="Encrypt and authenticate every connection. This is so anyway; --no-curve is refused.",
    )(command)


def _only_curve(context: click.Context, option: click.Parameter, value: bool) -> bool:
    """S25: nobody gets a plain socket by asking for one."""
    if not value:
        raise click.UsageError(
            "a cluster without Curve is not offered by this version\n"
            "  -> leave --no-curve out. For hosts where Curve cannot be had at all a later version will offer Unix"
            " sockets reached through SSH; plain TCP will never be offered",
            context,
        )
    return value
