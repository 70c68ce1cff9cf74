"""What the hub does about each event; the process around it does the I/O.

Takes messages of the scheduler, changes of the registry, and the time; gives actions, to be done in order.  Laws:
- what goes on record is written before what it is about takes effect: `Write` stands before the `Send` it goes with,
  so that records are acknowledged, and grants spread, only when they are on the disk (S20, S21);
- without a verified registry there is no beat and there are no grants, so that nobody new is admitted (S10);
- no result is ever unpickled, and none goes on record (S19).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from secure_ipp import limits
from secure_ipp.access import rights
from secure_ipp.audit import record as audit
from secure_ipp.errors import ProtocolError, Refused, SecureIppError
from secure_ipp.hub import key_life, questions, recorded, status
from secure_ipp.hub.actions import Action, Adopted, Compare, HandKey, InForce, Keep, Send, Stop, Write
from secure_ipp.hub.grants import LiveGrants, live_grants_of
from secure_ipp.hub.handing_on import HandingOn
from secure_ipp.hub.joins import Joins, judged
from secure_ipp.hub.refusals import Refusals
from secure_ipp.hub.roster import Roster
from secure_ipp.keys.door_keys import DoorKeys
from secure_ipp.store.interface import TaskStore
from secure_ipp.wire import messages


class Hub:
    """The state of the hub.

    Attributes:
        registry_problem: why no grant is in force; empty: they are.
        handing_on: what holders have handed on.
        joins: who joined with keys that are good for a number of joins; None: that cannot be read.
        trusted: the time by which grants expire, set before each event; None: the event's own.

    Args:
        cluster: its name.
        pid: of this process; for people.
        store: of task records.
        started: now, seconds since the epoch.
        before, doors_before: the grants and the statement of the server's keys that an earlier hub had on record.
    """

    def __init__(
        self, *, cluster: str, pid: int, store: TaskStore, started: float, before: Mapping[str, messages.GrantInfo],
        doors_before: DoorKeys | None = None,
    ) -> None:
        self._cluster = cluster
        self._pid = pid
        self._store = store
        self._started = started
        self._roster = Roster()
        self._refusals = Refusals()
        self._grants: LiveGrants | None = None
        self._of_registry: LiveGrants | None = None  # of the issuer's own; those handed on come to them
        self.handing_on = HandingOn()
        self._on_record, self._doors_on_record = before, doors_before
        self.joins: Joins | None = None
        self.trusted: float | None = None
        self._edition = 0  # of the grants; counts what the scheduler was, or is to be, told
        self._in_force = -1  # the newest edition that the connected scheduler has confirmed
        self.registry_problem = "not read yet"
        self.doors_closed = ""  # why nobody is served, until the next start
        self._head: messages.Head | None = None
        self._scheduler_pid: int | None = None
        self._last_scheduler_pid: int | None = None
        self._scheduler_since = 0.0
        self._scheduler_status: messages.SchedulerStatus | None = None
        self._lost_unseen = 0.0  # when engines were last given up of which nobody knows what they had started

    # --- this process ------------------------------------------------------------------------------------

    def start(self) -> list[Action]:
        return [_write(audit.HubStarted(at=self._started, pid=self._pid, cluster=self._cluster))]

    def stop(self, reason: str, now: float) -> list[Action]:
        untold = _writes(self._refusals.due(float("inf")))
        return [*untold, _write(audit.HubStopped(at=now, pid=self._pid, reason=reason))]

    def beat(self, now: float) -> list[Action]:
        """Once in `limits.BEAT_SECONDS`; silence makes the gate admit nobody new."""
        if self._grants is None:
            return []
        untold = _writes(self._refusals.due(now))
        return [*untold, Send(messages.Beat(self._grants.version, self._edition, self._time(now)))]

    def control_refused(self, reason: str, now: float) -> list[Action]:
        """Somebody was turned away at the control socket."""
        return [_write(audit.ControlRefused(at=now, reason=audit.bounded(reason)))]

    def incident(self, what: str, details: dict[str, str], now: float) -> list[Action]:
        """Somebody was admitted, refused or cut at the link."""
        return [_write(audit.AtLink(at=now, what=audit.bounded(what), details=audit.bounded_details(details)))]

    def clock_jumped(self, seconds: float, now: float) -> list[Action]:
        """The wall clock is so far ahead of the trusted time (or behind, negative)."""
        return [_write(audit.ClockJumped(at=now, seconds=seconds, trusted=self._time(now)))]

    def clock_accepted(self, now: float) -> list[Action]:
        """The owner said that the wall clock is right; the scheduler learns at once."""
        return [_write(audit.ClockAccepted(at=now, trusted=self._time(now))), *self.beat(now)]

    def _time(self, now: float) -> float:
        return now if self.trusted is None else self.trusted

    # --- the registry ------------------------------------------------------------------------------------

    def registry_loaded(self, grants: LiveGrants, now: float) -> list[Action]:
        """A registry that was read and verified."""
        self._of_registry = grants
        self._grants = self.handing_on.merged(grants, self._time(now))
        self._edition += 1
        self.registry_problem = ""
        loaded = audit.RegistryLoaded(at=now, version=grants.version, grants=len(grants.by_id))
        told = key_life.changes(self._on_record, self._grants.by_id, grants.version, self._time(now), at=now)
        told += key_life.door_changes(self._doors_on_record, grants.doors, grants.version, now)
        self._on_record, self._doors_on_record = self._grants.by_id, grants.doors
        return [Write((*told, loaded)), Adopted(grants.version), *self._tell_grants(now)]

    def remember(self, before: LiveGrants, now: float) -> None:
        """What an earlier hub had on record, with what holders had handed on by then."""
        self._on_record = self.handing_on.merged(before, self._time(now)).by_id

    def _question(self, forward: messages.Forward, now: float) -> list[Action]:
        reply = questions.answer(
            forward, self._grants, self._store, self._time(now), handing_on=self.handing_on,
            engines={engine.key for engine in self._roster.engines()},
        )
        if reply.derived is not None:
            return [Keep(reply.derived, self.handing_on.file, forward, reply)]
        records = [
            told for record in reply.records
            for told in (self._refusals.came(record) if isinstance(record, audit.QuestionRefused) else (record,))
        ]
        return [*_writes(records), Send(reply.forwarded)]

    def _join(self, asked: messages.JoinAsked, now: float) -> list[Action]:
        try:
            joins = judged(self.joins, live_grants_of(self._grants), asked.user, asked.instance)
        except Refused as error:
            return [*self._counted(asked.user, now, granted=False), Send(_not_joined(asked, error))]
        return [Send(messages.JoinAnswered(asked.session))] if joins is None else [Keep(joins, self.joins, asked)]

    def _counted(self, user: str, now: float, *, granted: bool) -> list[Action]:
        count = len(self.joins.joined.get(user, ())) if self.joins is not None else 0
        return [_write(audit.HostJoined(at=now, user=audit.bounded(user), count=count, granted=granted))]

    def overtaken(self, keep: Keep) -> bool:
        """Whether another file was kept since this was judged, so that what was asked is to be judged again."""
        return keep.after is not (self.joins if isinstance(keep.file, Joins) else self.handing_on.file)

    def kept(self, keep: Keep, now: float) -> list[Action]:
        """It is on the disk; an answer follows the grants that what was handed on is in."""
        if isinstance(keep.file, Joins):
            self.joins = keep.file
            answer = Send(messages.JoinAnswered(keep.asked.session))
            return [*self._counted(keep.asked.user, now, granted=True), answer]
        assert keep.reply is not None  # a holder's question has one
        self.handing_on.kept(keep.file)
        if self._of_registry is not None and self._grants is not None:
            self._grants = self.handing_on.merged(self._of_registry, self._time(now))
            self._on_record = self._grants.by_id
            self._edition += 1
        return [*_writes(keep.reply.records), *self._tell_grants(now), Send(keep.reply.forwarded)]

    def not_kept(self, keep: Keep, error: SecureIppError) -> list[Action]:
        """It could not be written, and is not in force."""
        if isinstance(keep.asked, messages.JoinAsked):
            return [Send(_not_joined(keep.asked, error))]
        return [Send(questions.not_kept(keep.asked, error))]

    def in_force(self, version: int) -> bool:
        """Whether the connected scheduler has this version of the registry, or a newer one, in force."""
        return (
            self._grants is not None and self._grants.version >= version and self._in_force == self._edition
            and self._scheduler_pid is not None
        )

    def _tell_grants(self, now: float) -> list[Action]:
        if self._grants is None:
            return []
        key = [] if self._of_registry is None or self._of_registry.doors is None else [HandKey(self._of_registry.doors)]
        return [*key, *(Send(part) for part in self._grants.messages(self._edition)), *self.beat(now)]

    def registry_refused(self, error: SecureIppError, now: float) -> list[Action]:
        """It cannot be read or believed; nobody has any right until it can."""
        self._grants = None
        self.registry_problem = error.message
        return [_write(audit.RegistryRefused(at=now, reason=audit.bounded(error.message)))]

    # --- the journal -------------------------------------------------------------------------------------

    def head(self, line: str) -> list[Action]:
        """The journal has a new checkpoint."""
        self._head = messages.Head(line)
        return [Send(self._head)]

    def behind(self, seen: messages.SeenHead, reason: str, now: float) -> list[Action]:
        """A client has seen what the journal does not hold: the controller was put back from a copy (S17)."""
        told = audit.Fork(at=now, user=seen.user, number=seen.number, hash=audit.bounded(seen.hash), reason=reason)
        self.doors_closed = reason
        return [_write(told), *self._tell_closed()]

    def _tell_closed(self) -> list[Action]:
        if not self.doors_closed:
            return []
        advice = (
            "the cluster's owner stops the controller, then puts the newest copy of its directory back or accepts the "
            "loss: secure-ipp audit renew --lost-through N"
        )
        return [Send(messages.DoorsClosed(self.doors_closed, advice))]

    # --- the scheduler's session -----------------------------------------------------------------------------

    def scheduler_joined(self, pid: int, now: float) -> list[Action]:
        """It opened a session, and knows nothing of what was said in an earlier one."""
        restarted = pid != self._last_scheduler_pid
        self._scheduler_pid = self._last_scheduler_pid = pid
        self._scheduler_since = now
        self._scheduler_status = None
        self._in_force = -1
        remembered = self._roster.scheduler_joined(restarted=restarted)
        return [
            _write(audit.SchedulerJoined(at=now, pid=pid, restarted=restarted)),
            Send(messages.HubRoster(remembered)),
            *self._tell_grants(now),
            *([] if self._head is None else [Send(self._head)]),
            *self._tell_closed(),
        ]

    def scheduler_left(self, reason: str, now: float) -> list[Action]:
        self._scheduler_pid = None
        self._scheduler_status = None
        return [_write(audit.SchedulerLeft(at=now, reason=audit.bounded(reason)))]

    def handle(self, message: messages.Message, now: float) -> list[Action]:
        """One message of the scheduler.

        Raises:
            Refused, ProtocolError: no scheduler says such a thing.
        """
        rights.check("scheduler", (), type(message).__name__)
        match message:
            case messages.Records():
                return self._records(message, now)
            case messages.Lookup():
                return self._lookup(message)
            case messages.Forward():
                return self._question(message, now)
            case messages.JoinAsked():
                return self._join(message, now)
            case messages.HubRoster():
                change = self._roster.merge(message.engines)
                came = [recorded.joined(engine, now) for engine in change.joined]
                went = [recorded.left(engine, "gone when the scheduler's link was back", now) for engine in change.left]
                return _writes([*came, *went])
            case messages.EngineJoined():
                return _writes([recorded.joined(message.engine, now)] if self._roster.join(message.engine) else [])
            case messages.EngineLeft():
                engine = self._roster.leave(message.uuid)
                return _writes([] if engine is None else [recorded.left(engine, message.reason, now)])
            case messages.AuditEvent():
                return [_write(recorded.reported(message, now))]
            case messages.SchedulerStatus():
                return self._status_came(message, now)
            case messages.GrantsInForce():
                self._in_force = max(self._in_force, message.edition)
                return [InForce(message.version)] if self.in_force(message.version) else []
            case messages.StopController():
                return self._stop(message.user, now)
            case messages.SeenHead():
                return [Compare(message)]
            case _:
                raise ProtocolError(f"a scheduler does not send {type(message).__name__}", code="unexpected")

    def status(self, now: float) -> dict[str, Any]:
        """For the control socket; plain data."""
        return {
            "cluster": self._cluster,
            "hub": {"pid": self._pid, "since": self._started, "now": now},
            "scheduler": status.scheduler_part(self._scheduler_pid, self._scheduler_since, self._scheduler_status),
            "registry": {
                **status.registry_part(self._grants, self.registry_problem),
                "in_force": self._grants is not None and self.in_force(self._grants.version),
                "derived_problem": self.handing_on.problem,
            },
            "engines": status.engines_part(self._roster, self._grants),
            "clients": status.clients_part(self._scheduler_status),
            "records": status.records_part(self._store.size()),
        }

    # --- messages --------------------------------------------------------------------------------------------

    def _records(self, batch: messages.Records, now: float) -> list[Action]:
        fresh = list(self._not_on_record(batch.records))
        self._store.add(fresh)
        kept = Send(messages.RecordsKept(batch.number))
        if not fresh:
            return [kept]
        return [_write(audit.TasksEnded(at=now, tasks=[recorded.row(record) for record in fresh])), kept]

    def _not_on_record(self, records: Iterable[messages.TaskRecord]) -> Iterator[messages.TaskRecord]:
        """A batch may come twice, after a lost link; what is known already is not news."""
        by_owner: dict[str, dict[str, messages.TaskRecord]] = {}
        for record in records:
            by_owner.setdefault(record.owner, {}).setdefault(record.outcome.task, record)
        for owner, tasks in by_owner.items():
            known = {record.outcome.task for record in self._store.get(owner, tasks)}
            yield from (record for task, record in tasks.items() if task not in known)

    def _lookup(self, lookup: messages.Lookup) -> list[Action]:
        """In parts of at most `FOUND_BYTES` characters, or one outcome; all but the last say that more follow."""
        parts: list[list[messages.Outcome]] = [[]]
        held = 0
        for record in self._store.get(lookup.owner, lookup.tasks):
            size = _characters(record.outcome)
            if parts[-1] and held + size > limits.FOUND_BYTES:
                parts.append([])
                held = 0
            parts[-1].append(record.outcome)
            held += size
        # what was submitted before such a loss may have run: the scheduler that saw the loss may be gone, too
        horizon = max(self._store.horizon(lookup.owner), self._lost_unseen)
        last = len(parts) - 1
        return [
            Send(messages.Found(lookup.request, lookup.owner, part, horizon, more=number < last))
            for number, part in enumerate(parts)
        ]

    def _status_came(self, message: messages.SchedulerStatus, now: float) -> list[Action]:
        self._scheduler_status = message
        if message.recovering:
            return []
        gone = self._roster.recovered()
        if gone:
            self._lost_unseen = now
        return _writes(recorded.left(engine, "did not report after the scheduler's restart", now) for engine in gone)

    def _stop(self, user: str, now: float) -> list[Action]:
        try:
            grant = live_grants_of(self._grants).client(user, self._time(now))
            rights.check("client", grant.rights, "Shutdown")
        except Refused:
            return [_write(audit.StopAsked(at=now, user=audit.bounded(user), granted=False))]
        return [_write(audit.StopAsked(at=now, user=user, granted=True)), Stop(user)]


def _characters(outcome: messages.Outcome) -> int:
    total = 512 + sum(map(len, outcome.body)) + len(outcome.stdout) + len(outcome.stderr)
    if outcome.error is not None:
        total += len(outcome.error.ename) + len(outcome.error.evalue) + sum(map(len, outcome.error.traceback))
    return total


def _not_joined(asked: messages.JoinAsked, error: SecureIppError) -> messages.JoinAnswered:
    longest = limits.TEXT_CHARS
    return messages.JoinAnswered(asked.session, error.code, error.message[:longest], error.advice[:longest])


def _write(record: audit.AuditRecord) -> Write:
    return Write((record,))


def _writes(records: Iterable[audit.AuditRecord]) -> list[Action]:
    """One batch, or nothing to do."""
    batch = tuple(records)
    return [Write(batch)] if batch else []
