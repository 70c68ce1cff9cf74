"""Commands that need no running cluster: help and start-up (doctor: `test_doctor`)."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from secure_ipp.cli import main
from secure_ipp.cli.controller_command import controller
from secure_ipp.cli.engine_command import engine
from secure_ipp.cli.lazy import LazyGroup


def walk(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found += walk(below, f"{path} {name}")
    return found


ALL = [
    *walk(main.secure_ipp, "secure-ipp"), *walk(main.ipcluster, "ipcluster"), *walk(controller, "ipcontroller"),
    *walk(engine, "ipengine"),
]


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_every_help_has_an_example_of_that_command(path: str, command: click.Command) -> None:
    result = CliRunner().invoke(command, ["--help"], prog_name=path)
    assert result.exit_code == 0
    if isinstance(command, click.Group) and not isinstance(command, LazyGroup):
        return  # a plain group lists commands that have examples of their own
    name = path.split()[-1].removeprefix("ip")
    assert "Example" in result.output and name in result.output.partition("Example")[2]


def test_all_commands_are_there() -> None:
    names = {path for path, _ in ALL}
    for group, commands in {
        "secure-ipp": ["keys", "cluster", "controller", "engine", "status", "doctor", "demo"],
        "secure-ipp keys": ["init", "list", "show"], "ipcluster": ["start", "stop", "engines", "list"],
    }.items():
        assert {f"{group} {command}" for command in commands} <= names


@pytest.mark.parametrize("module", ["zmq", "IPython", "cryptography", "psutil", "secure_ipp.client", "tqdm", "numpy"])
def test_help_imports_nothing_heavy(module: str) -> None:
    code = f"""
import sys
from click.testing import CliRunner
from secure_ipp.cli.main import secure_ipp, ipcluster
assert CliRunner().invoke(secure_ipp, ["--help"]).exit_code == 0
assert CliRunner().invoke(ipcluster, ["--help"]).exit_code == 0
assert {module!r} not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, env=dict(os.environ))
