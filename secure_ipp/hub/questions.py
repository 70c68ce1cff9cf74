"""A client's question to the hub, answered.

The question is opaque to the scheduler, which puts it in an envelope (`Forward`) that only its key can send.  Laws:
- who asks is what the envelope says, never what the question says; nothing in a question names its asker (S30);
- an envelope inside an envelope, or anything else that is no question, is refused (S30);
- the rights of the live grant are checked here again, whatever the scheduler thought (S14, S30);
- every look at the store names the asker as owner: another's task is answered exactly like an unknown one (S15);
- every envelope is answered, with an `Answer` or a `Failure` of bounded size.

What an answer holds is said with its question in `wire.messages`.  The hub knows ends only: a task that has not
ended is unknown to it, so `pending` is empty.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from secure_ipp import limits
from secure_ipp.access import rights
from secure_ipp.audit.record import AuditRecord, GrantHandedOn, QuestionRefused, RecordsPurged, bounded
from secure_ipp.errors import ProtocolError, Refused, SecureIppError
from secure_ipp.hub.grants import LiveGrants, live_grants_of
from secure_ipp.hub.handing_on import HandingOn
from secure_ipp.keys.derived import DerivedGrants
from secure_ipp.store.interface import TaskStore
from secure_ipp.wire.codec import decode_question
from secure_ipp.wire.messages import (
    Answer,
    Attenuate,
    Failure,
    Forward,
    Forwarded,
    GrantInfo,
    History,
    OwnGrant,
    PurgeRecords,
    ResultStatus,
    Whois,
)

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send back, and what must be done before it is sent.

    Attributes:
        records: go on record.
        derived: is kept on the disk, and in force.
    """

    forwarded: Forwarded
    records: Sequence[AuditRecord] = ()
    derived: DerivedGrants | None = None


def answer(
    forward: Forward, grants: LiveGrants | None, store: TaskStore, now: float, *, handing_on: HandingOn | None = None,
    engines: Collection[bytes] = (),
) -> Reply:
    """Answer one envelope.

    Args:
        forward: from the scheduler; its `body` is unverified bytes of the client.
        grants: in force; None when the registry cannot be read.
        store: of task records.
        now: seconds since the epoch, trusted.
        handing_on: what holders have handed on.
        engines: session keys of the engines that are there.
    """
    asked = "unreadable"
    derived = None
    try:
        grant = live_grants_of(grants).client(forward.user, now)
        question = decode_question(forward.body)
        asked = type(question).__name__
        rights.check("client", grant.rights, asked)
        if isinstance(question, OwnGrant | Attenuate):
            body, records, derived = _hand_on(question, grant, handing_on or HandingOn(), engines, now)
        else:
            body, records = _answer(question, grant, store, now)
        encoded = _encode(body)
        if len(encoded) > limits.FRAME_BYTES:
            raise ProtocolError("the answer is too large", "ask about fewer tasks at a time", code="too-large")
    except (Refused, ProtocolError) as error:
        refused = QuestionRefused(at=now, user=bounded(forward.user), question=asked, reason=bounded(error.message))
        return Reply(_failure(forward, error), (refused,))
    except SecureIppError as error:
        return Reply(_failure(forward, error))
    return Reply(Forwarded(forward.session, Answer(forward.request, encoded)), records, derived)


def _hand_on(
    question: OwnGrant | Attenuate, grant: GrantInfo, handing_on: HandingOn, engines: Collection[bytes], now: float
) -> tuple[dict[str, Any], Sequence[AuditRecord], DerivedGrants | None]:
    if isinstance(question, OwnGrant):
        return {"chain": handing_on.chain(grant.id)}, (), None
    derived = handing_on.judged(grant.id, question.grant, engines, now)
    if derived is None:
        return {"granted": True}, (), None
    new = derived.grants[-1]
    record = GrantHandedOn(
        at=now, user=grant.id, grant=new.id, name=new.name, fingerprint=new.key.fingerprint, rights=list(new.rights),
        expires=float(new.expires),
    )
    return {"granted": True}, (record,), derived


def not_kept(forward: Forward, error: SecureIppError) -> Forwarded:
    """What was granted could not be kept, so that it is not in force."""
    return _failure(forward, error)


def _answer(
    question: ResultStatus | History | PurgeRecords | Whois, grant: GrantInfo, store: TaskStore, now: float
) -> tuple[dict[str, Any], Sequence[AuditRecord]]:
    match question:
        case ResultStatus():
            return _result_status(question, grant.id, store), ()
        case History():
            return _history(question, grant.id, store), ()
        case PurgeRecords():
            purged = _purge(question, grant, store)
            record = RecordsPurged(at=now, user=grant.id, tasks=purged, everyone=question.everyone)
            return {"purged": purged}, (record,) if purged or question.everyone else ()
        case Whois():
            whois = {"user": grant.id, "name": grant.name, "rights": list(grant.rights), "expires": grant.expires}
            return whois, ()


def _result_status(question: ResultStatus, owner: str, store: TaskStore) -> dict[str, Any]:
    ended = {record.outcome.task for record in store.get(owner, question.tasks)}
    asked = list(dict.fromkeys(question.tasks))
    return {
        "pending": [],
        "completed": [task for task in asked if task in ended],
        "unknown": [task for task in asked if task not in ended],
    }


def _history(question: History, owner: str, store: TaskStore) -> dict[str, Any]:
    page = store.ids(owner, after=question.after, limit=limits.HISTORY_IDS + 1)
    more = len(page) > limits.HISTORY_IDS
    page = page[: limits.HISTORY_IDS]
    return {"tasks": [task for _, task in page], "next": page[-1][0] if more else 0}


def _purge(question: PurgeRecords, grant: GrantInfo, store: TaskStore) -> int:
    tasks = question.tasks or None
    if not question.everyone:
        return store.purge(grant.id, tasks)
    rights.check("client", grant.rights, "PurgeEveryone")
    return sum(store.purge(owner, tasks) for owner in store.owners())


def _failure(forward: Forward, error: SecureIppError) -> Forwarded:
    reason, advice = error.message[: limits.TEXT_CHARS], error.advice[: limits.TEXT_CHARS]
    return Forwarded(forward.session, Failure(forward.request, error.code, reason, advice))
