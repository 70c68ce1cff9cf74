"""Sentences and tables that the commands about keys share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from secure_ipp.keys.desk import Applied

REACH_NOTE = (
    "note: {engines} can read the owner's private files here. Code that runs on them is as powerful as you are:\n"
    "rights and revocation do not bind it. To separate them, run engines as another user or on another host,\n"
    "or hide the cluster's directory from them in a mount namespace."
)


def force_words(applied: Applied) -> str:
    """Whether a change is in force."""
    version = f"registry version {applied.registry.version}"
    if applied.in_force:
        return f"in force now ({version})"
    return f"the controller is not running: in force at its next start ({version})"


def force_facts(applied: Applied) -> dict[str, Any]:
    """The same, for scripts."""
    return {"version": applied.registry.version, "in_force": applied.in_force, "controller": applied.controller}


def note_on_reach(engines: int | None) -> None:
    """Say that engines can read the keys, if some can (S26)."""
    if engines:
        click.echo(REACH_NOTE.format(engines=f"{engines} engines" if engines != 1 else "1 engine"))


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines with columns of one width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
