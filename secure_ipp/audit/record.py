"""What goes on record: one type for each kind of event, each one JSON object on one line.

Laws (S11, S15, S20):
- no record has a field for a secret, a task's arguments or its result;
- text that came from outside is cut to `AUDIT_TEXT_CHARS`, and lists and maps to `AUDIT_FIELDS`, before it is kept;
- a line is printable ASCII whatever the text was, so that no text can end a line, begin another, or reach a terminal;
- what the hub was told by the scheduler is `Reported`, apart from what the hub itself saw.

Times are seconds since the epoch, by the hub's clock unless a field says otherwise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from secure_ipp import limits

CUT = "..."  # ends every text that was cut


def bounded(text: str) -> str:
    """The text, cut to what one field of a record may hold."""
    if len(text) <= limits.AUDIT_TEXT_CHARS:
        return text
    return text[: limits.AUDIT_TEXT_CHARS - len(CUT)] + CUT


def bounded_details(details: Mapping[str, str]) -> dict[str, str]:
    """The first `AUDIT_FIELDS` of the details, each cut; a field `cut` tells how many were left out."""
    kept = {bounded(name): bounded(text) for name, text in list(details.items())[: limits.AUDIT_FIELDS]}
    if len(details) > limits.AUDIT_FIELDS:
        kept["cut"] = str(len(details) - limits.AUDIT_FIELDS)
    return kept


class AuditRecord(msgspec.Struct, frozen=True, tag_field="event", kw_only=True):
    """Base of all records."""

    at: float


class HubStarted(AuditRecord, frozen=True, tag="hub_started"):
    pid: int
    cluster: str


class HubStopped(AuditRecord, frozen=True, tag="hub_stopped"):
    pid: int
    reason: str


class SchedulerJoined(AuditRecord, frozen=True, tag="scheduler_joined"):
    pid: int
    restarted: bool  # not the process that this hub knew last, so it may have forgotten things


class SchedulerLeft(AuditRecord, frozen=True, tag="scheduler_left"):
    reason: str


class EngineJoined(AuditRecord, frozen=True, tag="engine_joined"):
    engine: int
    uuid: str
    agent: str  # grant id of the join key
    host: str
    pid: int
    reads_cluster_dir: bool  # S26: code there can read the cluster's secrets, so rights do not bind it
    reads_join_file: bool


class EngineLeft(AuditRecord, frozen=True, tag="engine_left"):
    engine: int
    uuid: str
    reason: str


class TaskRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A task, in summary. Times are its outcome's: `submitted` by the client's clock, the others by the engine's."""

    owner: str
    task: str
    kind: str
    mode: str
    function: str  # SHA-256 of the function's pickle, hex; empty when the task carried none
    status: str
    engine: int
    engine_uuid: str
    submitted: float
    started: float
    completed: float
    attempts: int


class TasksEnded(AuditRecord, frozen=True, tag="tasks_ended"):
    """One batch, as rows without field names: what a task costs here, every task costs."""

    tasks: list[TaskRow]


class RecordsPurged(AuditRecord, frozen=True, tag="records_purged"):
    user: str
    tasks: int  # how many were forgotten
    everyone: bool


class QuestionRefused(AuditRecord, frozen=True, tag="question_refused", omit_defaults=True):
    """The hub's own check said no; the scheduler's refusals come as `Reported`."""

    user: str
    question: str
    reason: str
    count: int = 1  # so many of this identity and kind, in about a second, of which this was the last


class RegistryLoaded(AuditRecord, frozen=True, tag="registry_loaded"):
    version: int
    grants: int


class GrantHandedOn(AuditRecord, frozen=True, tag="grant_handed_on"):
    """A holder has put a narrower grant in force, for somebody else (S32)."""

    user: str  # who handed on
    grant: str
    name: str
    fingerprint: str  # of the public key
    rights: list[str]
    expires: float  # 0: never


class HostJoined(AuditRecord, frozen=True, tag="host_joined"):
    """An agent joined with a key that is good for a number of joins."""

    user: str  # the join key's grant
    count: int  # with this one
    granted: bool


class ClockJumped(AuditRecord, frozen=True, tag="clock_jumped"):
    """The wall clock is ahead of the trusted time by more than may be without the owner's word; or behind it."""

    seconds: float  # ahead; negative: behind
    trusted: float


class ClockAccepted(AuditRecord, frozen=True, tag="clock_accepted"):
    """The owner said that the wall clock is right."""

    trusted: float


class RegistryRefused(AuditRecord, frozen=True, tag="registry_refused"):
    """The registry could not be read or believed; nobody new is admitted until it can."""

    reason: str


class GrantIssued(AuditRecord, frozen=True, tag="grant_issued"):
    """A key's life begins: the hub saw it first in this version of the registry."""

    version: int
    id: str
    name: str
    role: str
    fingerprint: str  # of the public key
    rights: list[str]
    expires: float  # 0: never
    engines: int = 0


class GrantChanged(AuditRecord, frozen=True, tag="grant_changed"):
    """Same holder, same key; what it may has changed. The fields are those of now."""

    version: int
    id: str
    name: str
    role: str
    fingerprint: str
    rights: list[str]
    expires: float
    engines: int = 0


class KeyRotated(AuditRecord, frozen=True, tag="key_rotated"):
    """A holder got another key; the old one is never admitted again."""

    version: int
    id: str
    name: str
    role: str
    fingerprint: str
    rights: list[str]
    expires: float
    engines: int = 0
    old_fingerprint: str = ""


class ServerKeyStated(AuditRecord, frozen=True, tag="server_key_stated"):
    """The issuer stated which keys the doors have: a next one was announced, withdrawn, or took its place."""

    version: int
    number: int  # of the statement
    fingerprint: str  # of the current public key
    next_fingerprint: str = ""  # empty: no rotation is announced
    former_fingerprint: str = ""  # of the key that was given up or withdrawn last


class GrantRevoked(AuditRecord, frozen=True, tag="grant_revoked"):
    """A key's life ends."""

    version: int
    id: str
    name: str
    role: str
    fingerprint: str


class Torn(AuditRecord, frozen=True, tag="torn"):
    """The last run died while it wrote a line; so many bytes of it were cut off."""

    bytes: int


class Gap(AuditRecord, frozen=True, tag="gap"):
    """Records may be missing before this one."""

    reason: str


class WriteFailed(AuditRecord, frozen=True, tag="write_failed"):
    """The journal could not be written for a while; nobody new was admitted and nothing acknowledged meanwhile."""

    since: float
    problem: str


class Pruned(AuditRecord, frozen=True, tag="pruned"):
    """The owner's policy lets the lines up to this number go."""

    through: int
    segments: int
    policy: str


class Fork(AuditRecord, frozen=True, tag="fork"):
    """A peer has seen what this journal does not hold: it, or the whole cluster, was put back from a copy."""

    user: str
    number: int
    hash: str
    reason: str


class StopAsked(AuditRecord, frozen=True, tag="stop_asked"):
    user: str
    granted: bool


class ControlRefused(AuditRecord, frozen=True, tag="control_refused"):
    reason: str


class AtLink(AuditRecord, frozen=True, tag="at_link"):
    """Somebody was admitted, refused or cut at the hub's own link, where only the scheduler may be."""

    what: str
    details: dict[str, str]


class Reported(AuditRecord, frozen=True, tag="reported"):
    """Something the scheduler saw: an admission, a refusal, a client's coming or going. `when` is by its clock."""

    what: str
    when: float
    details: dict[str, str]


_encode = msgspec.json.Encoder().encode


def line(record: AuditRecord) -> bytes:
    """One JSON object and a newline, in printable ASCII."""
    try:
        data = _encode(record)
    except UnicodeEncodeError:  # a lone surrogate, as the names of files may have
        data = b"\x7f"
    if not data.isascii() or b"\x7f" in data:
        data = json.dumps(_plain(record), separators=(",", ":")).encode("ascii").replace(b"\x7f", b"\\u007f")
    return data + b"\n"


def _plain(record: AuditRecord) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(record)
    return {name: _finite(value) for name, value in fields.items()}


def _finite(value: Any) -> Any:
    """JSON has no word for what is not a number."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
