"""``secure-ipp doctor``: shows what `checks` found, worst last in the exit code."""

from __future__ import annotations

import dataclasses

import click

from secure_ipp.cli.options import EXIT_CODES_HELP, ExitCode, cluster_options, end, json_option, run_safely, show_json
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.logs import escape

_COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


@click.command(epilog=EXIT_CODES_HELP)
@run_safely
@cluster_options
@json_option
def doctor(place: ClusterPlace, as_json: bool) -> None:
    """Look for what is wrong on this machine and with a cluster's files.

    Exit code 0 when there is nothing worse than a note, 1 when there is a warning, 7 when there is an error.

    \b
    Examples:
      secure-ipp doctor
      secure-ipp doctor --cluster physics --json
    """
    from secure_ipp.cli.checks import LEVELS, all_findings

    found = all_findings(place)
    worst = max((finding.level for finding in found), key=LEVELS.index)
    if as_json:
        show_json({"worst": worst, "findings": [dataclasses.asdict(finding) for finding in found]})
    else:
        for finding in found:
            mark = click.style(f"{finding.level:>7}", fg=_COLOURS[finding.level])
            click.echo(f"{mark}  {finding.check}: {escape(finding.text)}")
            if finding.advice:
                click.echo(f"         -> {escape(finding.advice)}")
    end({"error": ExitCode.ENVIRONMENT, "warning": ExitCode.FAILED}.get(worst, ExitCode.OK))
