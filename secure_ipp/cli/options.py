"""What all commands share: which cluster is meant, JSON, how errors are shown, exit statuses."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from secure_ipp import errors

Command = TypeVar("Command", bound=Callable[..., Any])

OK = 0
FAILED = 1  # what was asked for was done, and its answer is no (a demo or a doctor that found something wrong)
USAGE = 2  # the caller asked for something that cannot be; click's own errors too
POLICY = 3  # a rule said no: a file that others can read, a refused key, a missing right
PEER = 4  # nobody answered in time, or a peer broke the protocol
ENVIRONMENT = 5  # the machine: ports in use, no keys yet, a full disk, a process that died
INTERRUPTED = 130

EXIT_STATUS_HELP = """\b
Exit status:
  0  done
  1  done, and the answer is no
  2  a usage error
  3  a rule said no (a file that others can read, a refused key, a missing right)
  4  nobody answered in time, or a peer broke the protocol
  5  the machine is not as it must be (no keys yet, ports in use, a process that died)
"""


def exit_status(error: errors.SecureIppError) -> int:
    """The status that tells a script whose fault it was."""
    for kind, status in (
        (errors.UsageError, USAGE), (errors.PolicyError, POLICY), (errors.PeerError, PEER),
        (errors.EnvironmentProblem, ENVIRONMENT),
    ):
        if isinstance(error, kind):
            return status
    return FAILED


def show_error(error: errors.SecureIppError, as_json: bool = False) -> None:
    """Message and advice on stderr; with `--json`, one object on stdout besides."""
    if as_json:
        click.echo(json.dumps({"error": error.message, "code": error.code, "advice": error.advice}))
    click.echo(f"error: {error.message}", err=True)
    if error.advice:
        click.echo(f"  -> {error.advice}", err=True)


class Failing:
    """Mixed in before a click command: an error of this package ends it in a sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)  # type: ignore[misc]
        except errors.SecureIppError as error:
            show_error(error, as_json="--json" in sys.argv)
            ctx.exit(exit_status(error))

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        try:
            context: click.Context = super().make_context(*args, **options)  # type: ignore[misc]
        except errors.SecureIppError as error:
            show_error(error, as_json="--json" in sys.argv)
            sys.exit(exit_status(error))
        return context


class FailingCommand(Failing, click.Command):
    """A command that shows errors so."""


def json_option(command: Command) -> Command:
    """``--json``; the command gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def cluster_options(command: Command) -> Command:
    """``--cluster``, ``--profile``, ``--cluster-id``; the command gets `place`, a `ClusterPlace`."""

    @click.option("--cluster", default="", metavar="NAME", help="Which cluster; the default is 'default'.")
    @click.option("--profile", default="", metavar="NAME", help="The same, as ipyparallel's users type it.")
    @click.option("--cluster-id", default="", metavar="ID", help="One of several clusters of a profile.")
    @functools.wraps(command)
    def with_place(cluster: str, profile: str, cluster_id: str, **others: Any) -> Any:
        from secure_ipp.keys.places import ClusterPlace, cluster_name

        return command(place=ClusterPlace(cluster_name(cluster, profile, cluster_id)), **others)

    return with_place  # type: ignore[return-value]
