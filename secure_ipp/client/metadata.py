"""What is known about a task besides its value, as a dict whose keys are attributes too."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from secure_ipp.client.terminal import harmless

if TYPE_CHECKING:
    from secure_ipp.client.tasks import Task

KEYS = frozenset({
    "msg_id", "submitted", "started", "completed", "received", "engine_uuid", "engine_id", "follow", "after", "status",
    "execute_input", "execute_result", "error", "stdout", "stderr", "outputs", "data", "label", "is_broadcast",
    "is_coalescing", "attempts",
})


class Metadata(dict[str, Any]):
    """One task's; what is not known yet is None.

    Times are aware datetimes, by the clock of whoever saw the event.  `stdout` and `stderr` are what came so far;
    `error` is what the task's result would raise.
    """

    def __getattr__(self, name: str) -> Any:
        if name in KEYS:
            return self[name]
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in KEYS:
            raise AttributeError(name)
        self[name] = value


def _time(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds).astimezone() if seconds else None


def submitted_at(task: Task) -> float:
    """When it was submitted, seconds since the epoch; 0: not known (yet) of a task of another session."""
    return task.submitted or (task.outcome.submitted if task.outcome is not None else 0.0)


def received_at(task: Task) -> float:
    """When its end was known: here, or at the cluster if it had ended before it was asked for; 0: it has not ended."""
    if task.submitted or task.outcome is None or not task.outcome.completed:
        return task.received
    return min(task.received, task.outcome.completed)


def metadata_of(task: Task, *, as_sent: bool = False) -> Metadata:
    """The state of a task as of now.

    Args:
        as_sent: what the engine printed is given as it came; else harmless for a terminal (S31).
    """
    outcome, printed, call = task.outcome, task.printed, task.call
    stdout = "".join(printed.stdout) if printed else ""
    stderr = "".join(printed.stderr) if printed else ""
    if outcome is not None:
        stdout, stderr = stdout or outcome.stdout, stderr or outcome.stderr
    if not as_sent:
        stdout, stderr = harmless(stdout), harmless(stderr)
    return Metadata(
        msg_id=task.id,
        submitted=_time(submitted_at(task)),
        started=_time(outcome.started) if outcome else None,
        completed=_time(outcome.completed) if outcome else None,
        received=_time(received_at(task)),
        engine_uuid=outcome.engine_uuid or None if outcome else None,
        engine_id=(outcome.engine if outcome.engine >= 0 else None) if outcome else None,
        follow=list(call.follow or []),
        after=list(call.after or []),
        status=None if outcome is None else outcome.status if outcome.status in ("ok", "aborted") else "error",
        execute_input=call.code or None,
        execute_result=printed.result if printed else None,
        error=task.failure,
        stdout=stdout,
        stderr=stderr,
        outputs=list(printed.displays) if printed else [],
        data=dict(printed.data) if printed else {},
        label=call.label or None,
        is_broadcast=call.broadcast,
        is_coalescing=False,
        attempts=outcome.attempts if outcome else 0,
    )
