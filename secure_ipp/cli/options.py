"""What all commands share: which cluster is meant, JSON for scripts, errors with advice, and exit codes.

Order of decorators: `click.command`, `run_safely`, `cluster_options`, `json_option`, then the command's own.  A command
or group whose options' callbacks can raise is made with `cls=` a class that has `Failing` before it.
"""

from __future__ import annotations

import enum
import functools
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click

from secure_ipp.errors import EnvironmentProblem, PeerError, PolicyError, SecureIppError, UsageError
from secure_ipp.logs import escape

Command = TypeVar("Command", bound=Callable[..., Any])


class ExitCode(enum.IntEnum):
    """What a command's exit status says."""

    OK = 0
    FAILED = 1  # among others: what was asked for was done, and its answer is no (a demo or a doctor)
    USAGE = 2  # click's own too
    NO_KEYS = 3
    NOT_RUNNING = 4
    REFUSED = 5  # a rule said no: a file that others can read or that is damaged, a refused key, a missing right
    UNREACHABLE = 6  # or timed out, or broke the protocol
    ENVIRONMENT = 7  # this machine: ports in use, a full disk, a process that died


OK, FAILED = ExitCode.OK, ExitCode.FAILED

EXIT_CODES_HELP = """\b
Exit codes:
  0  done
  1  failed; or done, and the answer is no
  2  wrong usage
  3  the cluster has no keys yet
  4  the cluster does not run
  5  a rule said no (a file that others can read, a refused key, a missing right)
  6  nobody answered in time, or a peer broke the protocol
  7  this machine is not as it must be (a port in use, a full disk)
"""


def exit_code(error: SecureIppError) -> ExitCode:
    """The code that stands for this error."""
    by_word = {"no-keys": ExitCode.NO_KEYS, "not-running": ExitCode.NOT_RUNNING}
    if error.code in by_word:
        return by_word[error.code]
    kinds: list[tuple[type, ExitCode]] = [
        (TimeoutError, ExitCode.UNREACHABLE),
        (PolicyError, ExitCode.REFUSED),
        (UsageError, ExitCode.USAGE),
        (PeerError, ExitCode.UNREACHABLE),
        (EnvironmentProblem, ExitCode.ENVIRONMENT),
    ]
    return next((code for kind, code in kinds if isinstance(error, kind)), ExitCode.FAILED)


def show_error(error: SecureIppError, *, as_json: bool) -> None:
    """Say on stderr what happened and what to do; as one JSON object for scripts."""
    if as_json:
        fields = {"code": error.code, "message": error.message, "advice": error.advice}
        click.echo(json.dumps({"error": fields}), err=True)
        return
    click.echo(f"error: {escape(error.message)}", err=True)  # a door's last words, say, were written elsewhere
    if error.advice:
        click.echo(f"  -> {escape(error.advice)}", err=True)


def show_json(value: Any) -> None:
    """One JSON value on stdout."""
    click.echo(json.dumps(value, indent=2))


def end(code: ExitCode) -> NoReturn:
    """Leave the command with this code."""
    sys.exit(int(code))


def run_safely(command: Command) -> Command:
    """An error of this package ends the command in a sentence, its advice and an exit code, never in a traceback."""

    @functools.wraps(command)
    def safely(*args: Any, **options: Any) -> Any:
        try:
            return command(*args, **options)
        except SecureIppError as error:
            show_error(error, as_json=bool(options.get("as_json", False)))
            code = exit_code(error)
        end(code)

    return safely  # type: ignore[return-value]


class Failing(click.Command):
    """First of a command's or group's bases: does the same as `run_safely` for all below it and for its options."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Run; errors of this package end it with words on stderr and an exit code."""
        try:
            return super().main(args, *more, **options)
        except SecureIppError as error:
            show_error(error, as_json="--json" in (sys.argv[1:] if args is None else args))
            code = exit_code(error)
        end(code)


def json_option(command: Command) -> Command:
    """``--json``; the command gets `as_json`."""
    text = "Write JSON, for scripts (errors too, on stderr)."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def cluster_options(command: Command) -> Command:
    """``--cluster``, ``--profile``, ``--cluster-id``; the command gets one resolved `place`, a `ClusterPlace`."""

    @click.option("--cluster", default="", metavar="NAME", help="Which cluster; the default is 'default'.")
    @click.option("--profile", default="", metavar="NAME", help="The same, as ipyparallel's users type it.")
    @click.option("--cluster-id", default="", metavar="ID", help="One of several clusters of a profile.")
    @functools.wraps(command)
    def with_place(*args: Any, cluster: str, profile: str, cluster_id: str, **others: Any) -> Any:
        from secure_ipp.keys.places import ClusterPlace, cluster_name

        return command(*args, place=ClusterPlace(cluster_name(cluster, profile, cluster_id)), **others)

    return with_place  # type: ignore[return-value]
