"""The journal's records for people and programs: chosen, one a task, as plain data.

Nothing here verifies; `verify` does.  Laws: what was being written when it was read is left out; a line that is damaged
is shown as such, in its place, and ends nothing; every record has `n`, `at`, `event` and its other fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secure_ipp.audit import segments
from secure_ipp.audit.chain import NotALine, parse_line
from secure_ipp.audit.record import TaskRow

_PLUMBING = frozenset({"prev", "signature"})
_WHO = ("user", "owner", "id", "agent", "grant", "name", "by")
_GRANTS = ("grant_issued", "grant_changed", "key_rotated", "grant_handed_on")


@dataclass
class Choice:
    """Which records are wanted; an empty part chooses all.

    Attributes:
        who: a grant's id, or a name: then whatever the grants that ever had it did, too.
        what: names of events, of tasks' outcomes, or of what the scheduler reported.
        since, until: seconds since the epoch; `from_number` is a line's number.
    """

    who: str = ""
    what: tuple[str, ...] = ()
    since: float = 0.0
    until: float = float("inf")
    from_number: int = 0
    _ids: set[str] = field(default_factory=set)

    def wants(self, record: dict[str, Any]) -> bool:
        """Whether this record is chosen; to be asked in their order."""
        details = record["details"] if isinstance(record.get("details"), dict) else {}
        if self.who:
            if record["event"] in _GRANTS and record.get("name") == self.who:
                self._ids.update(str(record[name]) for name in ("id", "grant") if name in record)
            people = {str(source[name]) for source in (record, details) for name in _WHO if name in source}
            if not people & {self.who, *self._ids}:
                return False
        if self.what and not {record["event"], record.get("what"), record.get("status")} & set(self.what):
            return False
        return bool(record["n"] >= self.from_number and self.since <= record["at"] <= self.until)


def records(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The records of whole lines, in order; a batch of tasks is one record, `task_ended`, for each of them."""
    number = -1
    for text in lines:
        try:
            fields = parse_line(text)
        except NotALine as error:
            number += 1
            yield {"n": number, "at": 0.0, "event": "damaged", "reason": str(error)}
            continue
        number = fields["n"]
        plain = {name: value for name, value in fields.items() if name not in _PLUMBING}
        at = plain.pop("at", 0.0)
        first = {"n": plain.pop("n"), "at": float(at) if isinstance(at, int | float) else 0.0}
        rows = plain.get("tasks") if plain["event"] == "tasks_ended" else None
        if isinstance(rows, list):
            for row in rows:
                yield {**first, "event": "task_ended", **_task(row)}
        else:
            yield {**first, **plain}


def _task(row: Any) -> dict[str, Any]:
    names = TaskRow.__struct_fields__
    return dict(zip(names, row, strict=False)) if isinstance(row, list) else {"reason": "damaged"}


class Tail:
    """Gives the lines that a running hub adds, from the end of what was read on, over any number of segments.

    Args:
        directory: the journal's.
        number: the number of the first line that is wanted.
    """

    def __init__(self, directory: Path, number: int = 0) -> None:
        self._directory = directory
        found = segments.segments(directory)
        self._path = [path for first, path in found if first <= number or path == found[0][1]][-1]
        self._offset = 0

    def lines(self) -> Iterator[bytes]:
        """Whole lines that are new."""
        while True:
            yield from self._fresh()
            later = [path for _, path in segments.segments(self._directory) if path.name > self._path.name]
            if not later:
                return
            yield from self._fresh()  # what came between the two looks; nothing comes behind an end
            self._path, self._offset = later[0], 0

    def _fresh(self) -> Iterator[bytes]:
        try:
            data = segments.read_segment(self._path, self._offset)
        except FileNotFoundError:
            return  # removed by retention
        end = data.rfind(b"\n") + 1
        self._offset += end
        yield from data[:end].splitlines()
