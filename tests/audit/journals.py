"""Journals for tests: small segments, times that are given, and the owner's key at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secure_ipp.audit.journal import Journal
from secure_ipp.audit.record import AuditRecord, StopAsked, TaskRow, TasksEnded
from secure_ipp.audit.retention import Keep
from secure_ipp.audit.verify import Report, verify
from secure_ipp.keys.genesis import genesis_steps
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import make_private_dir

CLUSTER_ID = "A" * 22
START = 1_700_000_000.0


def begin(home: Path, issuer: IssuerKey, name: str = "lab") -> ClusterPlace:
    """A place with a journal's first line, and nothing else."""
    place = ClusterPlace(name, home=home)
    make_private_dir(place.dir)
    for _, write in genesis_steps(place, issuer, name, CLUSTER_ID, START):
        write()
    return place


def opened(place: ClusterPlace, now: float = START, **options: Any) -> Journal:
    journal = Journal(place, **options)
    journal.open(now)
    return journal


def asked(number: int) -> StopAsked:
    """A record that can be told from others."""
    return StopAsked(at=START + number / 10, user=f"user-{number}", granted=False)


def batch(number: int, tasks: int = 3) -> TasksEnded:
    row = TaskRow("A" * 22, "t", "apply", "balanced", "ab" * 32, "ok", 0, "B" * 22, 1.0, 2.0, 3.0, 1)
    return TasksEnded(at=START + number / 10, tasks=[row] * tasks)


def long_journal(
    place: ClusterPlace, records: int = 200, segment_bytes: int = 4000, keep: Keep | None = None,
    make: Callable[[int], AuditRecord] = asked,
) -> None:
    """Some segments, checkpoints among them, closed in order."""
    journal = opened(place, segment_bytes=segment_bytes, keep=keep)
    for number in range(records):
        journal.write([make(number)])
        if number % 10 == 9:
            journal.checkpoint(START + number / 10)
    journal.close(START + records / 10)


def lines(place: ClusterPlace) -> list[dict[str, Any]]:
    """Every whole line, in order."""
    texts = [text for path in sorted(place.journal_dir.glob("segment-*")) for text in path.read_bytes().split(b"\n")]
    return [json.loads(text) for text in texts if text.endswith(b"}")]


def checked(place: ClusterPlace, issuer: IssuerKey, *heads: dict[str, Any]) -> Report:
    return verify(place.journal_dir, issuer.public().text, list(heads))


def kinds(report: Report) -> set[str]:
    return {finding.kind for finding in report.findings}
