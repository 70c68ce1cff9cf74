"""What errors advise can be done: every option that the tunnel's words name is one of a command's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

from secure_ipp import tunnel
from secure_ipp.cli import main

PIPS = {"--upgrade", "--force-reinstall", "--only-binary"}


def options(command: click.Command) -> Iterator[str]:
    for one in command.params:
        yield from one.opts
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from options(found)


def test_options_that_are_named_are_there() -> None:
    there = PIPS.union(options(main.secure_ipp))
    named: dict[str, str] = {}
    for path in Path(tunnel.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.update((option, path.name) for option in re.findall(r"(?<![-\w])--[a-z][a-z-]*", node.value))
    assert "--accept-new" in named
    assert {option: where for option, where in named.items() if option not in there} == {}
