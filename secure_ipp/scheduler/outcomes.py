"""How the end of a task is put into words."""

from __future__ import annotations

from collections.abc import Iterable

from secure_ipp.scheduler.task import Task
from secure_ipp.wire.messages import ErrorInfo, Outcome, Result, Status


def plain_error(ename: str, text: str) -> ErrorInfo:
    """An error that the scheduler itself reports."""
    return ErrorInfo(ename, text, [f"{ename}: {text}"])


ABORTED = plain_error("TaskAborted", "it was aborted before it started")


def outcome_of(task: Task, status: Status, now: float, error: ErrorInfo | None, result: Result | None) -> Outcome:
    """The end of a task that was accepted; `result` is its engine's word, if that is how it ended."""
    engine = task.engine
    engine_id, uuid = (engine.id, engine.uuid) if engine is not None else (-1, "")
    if result is None:
        return Outcome(
            task.id, status, engine_id, uuid, task.submitted, 0.0, now, [], [], error, task.accepted_at, task.attempt
        )
    error = result.error
    if error is None and status != "ok":
        error = plain_error("EngineError", "its engine gave no reason")
    return Outcome(
        task.id, status, engine_id, uuid, task.submitted, result.started, result.completed, result.body,
        result.sizes, error, task.accepted_at, task.attempt, result.execution_count,
    )


def without_engine(task_id: str, status: Status, ename: str, text: str) -> Outcome:
    """The end of a task that was never taken, or that nobody has."""
    return Outcome(
        task=task_id, status=status, engine=-1, engine_uuid="", submitted=0.0, started=0.0, completed=0.0, body=[],
        sizes=[], error=plain_error(ename, text),
    )


def unknown(task_id: str) -> Outcome:
    """There is no such task of this identity, whoever else may have one (S15)."""
    return Outcome(
        task=task_id, status="error", engine=-1, engine_uuid="", submitted=0.0, started=0.0, completed=0.0, body=[],
        sizes=[], error=plain_error("KeyError", f"no task {task_id} of this identity is known"), known=False,
    )


def some(engine_ids: Iterable[int]) -> str:
    """A few of these, for a sentence."""
    ids = sorted(engine_ids)
    shown = ", ".join(map(str, ids[:8]))
    return f"{shown}, ..." if len(ids) > 8 else shown
