"""``secure-ipp doctor``: shows what its checks found, worst last in the exit code."""

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
@click.argument("file", required=False, metavar="[FILE]")
def doctor(place: ClusterPlace, file: str | None, as_json: bool) -> None:
    """Look for what is wrong on this machine, and with a cluster's files or one capability FILE.

    With a FILE (a connection file that somebody gave you, say) its doors are tried: what could its holder do, and is
    its key still admitted? Without one, this user's own cluster is examined. Nothing is changed, and no secret shown.

    Exit code 0 when there is nothing worse than a note, 1 when there is a warning, 7 when there is an error.

    \b
    Examples:
      secure-ipp doctor
      secure-ipp doctor --cluster physics --json
      secure-ipp doctor ~/ipcontroller-client.json
    """
    from secure_ipp.cli import checks, doctor_cluster, doctor_file, doctor_host, doctor_install

    about = doctor_cluster.checks(place) if file is None else doctor_file.Examination(file).checks()
    found = checks.ask_all([*doctor_install.checks(), *doctor_host.checks(), *about])
    worst = checks.worst(found)
    if as_json:
        findings = [dataclasses.asdict(finding) for finding in found]
        show_json({"format": checks.FORMAT, "worst": worst, "findings": findings})
    else:
        for finding in found:
            mark = click.style(f"{finding.level:>7}", fg=_COLOURS[finding.level])
            click.echo(f"{mark}  {finding.check}: {escape(finding.text)}")
            if finding.advice:
                click.echo(f"         -> {escape(finding.advice)}")
    end({"error": ExitCode.ENVIRONMENT, "warning": ExitCode.FAILED}.get(worst, ExitCode.OK))
