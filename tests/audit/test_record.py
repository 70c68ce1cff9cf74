"""Records: one object, one line, printable ASCII, bounded, whatever the text was (S20)."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.audit import record
from secure_ipp.audit.record import (
    AuditRecord,
    EngineLeft,
    HubStarted,
    Reported,
    TaskRow,
    TasksEnded,
    bounded,
    bounded_details,
    line,
)

KINDS = AuditRecord.__subclasses__()


def ended(**changes: object) -> TasksEnded:
    fields: dict[str, object] = {
        "owner": "o", "task": "t", "kind": "apply", "mode": "balanced", "function": "ab", "status": "ok",
        "engine": 0, "engine_uuid": "e", "submitted": 1.0, "started": 2.0, "completed": 3.0, "attempts": 1,
    }
    return TasksEnded(at=1.0, tasks=[TaskRow(**{**fields, **changes})])  # type: ignore[arg-type]


def test_a_line_is_an_object_that_names_its_event() -> None:
    assert json.loads(line(HubStarted(at=1.5, pid=7, cluster="work"))) == {
        "event": "hub_started", "at": 1.5, "pid": 7, "cluster": "work",
    }


def test_each_kind_of_event_has_a_name_of_its_own() -> None:
    tags = [kind.__struct_config__.tag for kind in KINDS]
    assert len(set(tags)) == len(tags) > 20


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_record_can_hold_what_must_not_be_kept(kind: type[AuditRecord]) -> None:
    names = {field.name for field in (*msgspec.structs.fields(kind), *msgspec.structs.fields(TaskRow))}
    assert not names & {"body", "arguments", "args", "result", "code", "secret", "key", "ticket", "stdout", "stderr"}


@given(st.text(), st.dictionaries(st.text(max_size=8), st.text()))
def test_any_text_stays_on_its_line_and_in_printable_ascii(text: str, details: dict[str, str]) -> None:
    written = line(Reported(at=1.0, what=text, when=2.0, details=details))
    assert written.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in written[:-1])
    read = json.loads(written)
    assert read["what"] == text
    assert read["details"] == details


@pytest.mark.parametrize(
    "hostile",
    ['"}\n{"event":"stop_asked"', "\x1b[2J\x1b]0;x\x07", "\u2028\u2029\x85", "\x7f", "\x9b31m", "\x00", "\udc9b"],
)
def test_no_line_and_no_terminal_injection(hostile: str) -> None:
    written = line(EngineLeft(at=1.0, engine=0, uuid=hostile, reason=hostile))
    assert written.count(b"\n") == 1
    assert json.loads(written)["reason"] == hostile
    assert not set(written[:-1]) & {*range(0x20), *range(0x7F, 0x100)}


@pytest.mark.parametrize("time", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("owner", ["ascii", "\u00e9"])
def test_a_time_that_is_no_number_leaves_the_line_valid(time: float, owner: str) -> None:
    [row] = json.loads(line(ended(owner=owner, submitted=time)), parse_constant=pytest.fail)["tasks"]
    assert row[0] == owner
    assert row[8] is None


def test_text_is_cut_and_says_so() -> None:
    assert bounded("short") == "short"
    cut = bounded("x" * 5000)
    assert len(cut) == limits.AUDIT_TEXT_CHARS
    assert cut.endswith(record.CUT)


def test_details_are_bounded_in_number_and_length() -> None:
    details = bounded_details({f"n{n}": "y" * 5000 for n in range(500)})
    assert len(details) == limits.AUDIT_FIELDS + 1
    assert details["cut"] == str(500 - limits.AUDIT_FIELDS)
    assert max(map(len, details.values())) == limits.AUDIT_TEXT_CHARS
