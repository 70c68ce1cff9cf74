"""Records of what the scheduler told, made from its messages.

Pure.  Laws: texts are cut to what a record may hold; of a task's outcome nothing but the summary goes on (S19, S20).
"""

from __future__ import annotations

from secure_ipp.audit import record as audit
from secure_ipp.wire import messages


def joined(engine: messages.EngineRecord, now: float) -> audit.EngineJoined:
    """An engine came."""
    return audit.EngineJoined(
        at=now, engine=engine.info.id, uuid=engine.info.uuid, agent=engine.agent,
        host=audit.bounded(engine.info.host), pid=engine.info.pid,
        reads_cluster_dir=engine.reads_cluster_dir, reads_join_file=engine.reads_join_file,
    )


def left(engine: messages.EngineRecord, reason: str, now: float) -> audit.EngineLeft:
    """An engine went."""
    return audit.EngineLeft(at=now, engine=engine.info.id, uuid=engine.info.uuid, reason=audit.bounded(reason))


def reported(event: messages.AuditEvent, now: float) -> audit.AuditRecord:
    """What the scheduler saw, in bounds."""
    if event.event == messages.EVENTS_LOST:
        count = audit.bounded(event.details.get("count", "?"))
        return audit.Gap(at=now, reason=f"the scheduler had to drop {count} events")
    details = audit.bounded_details(event.details)
    return audit.Reported(at=now, what=audit.bounded(event.event), when=event.at, details=details)


def row(record: messages.TaskRecord) -> audit.TaskRow:
    """A task's end, without what it computed."""
    outcome = record.outcome
    return audit.TaskRow(
        record.owner, outcome.task, record.kind, record.mode, record.function.hex(), outcome.status, outcome.engine,
        outcome.engine_uuid, outcome.submitted, outcome.started, outcome.completed, outcome.attempts,
    )
