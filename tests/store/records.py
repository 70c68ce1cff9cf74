"""Task records for tests."""

from __future__ import annotations

from typing import Literal

from secure_ipp.wire.messages import ErrorInfo, Outcome, TaskRecord


def task_record(
    owner: str,
    task: str,
    *,
    status: Literal["ok", "error", "aborted", "lost"] = "ok",
    submitted: float = 1.0,
    body: list[bytes] | None = None,
    traceback: list[str] | None = None,
    label: str = "",
) -> TaskRecord:
    error = None if traceback is None else ErrorInfo(ename="ValueError", evalue="no", traceback=traceback)
    outcome = Outcome(
        task=task, status=status, engine=0, engine_uuid="e" * 22, submitted=submitted, started=submitted,
        completed=submitted, body=[b"result"] if body is None else body, sizes=[], error=error,
    )
    return TaskRecord(
        owner=owner, kind="apply", function=b"\x01" * 32, mode="balanced", label=label, outcome=outcome,
        session=b"s" * 16,
    )
