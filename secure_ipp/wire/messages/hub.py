"""Between scheduler and hub, and the clients' questions that travel inside."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from secure_ipp import limits
from secure_ipp.wire.messages.client import Outcome
from secure_ipp.wire.messages.fields import (
    Count,
    Digest,
    Kind,
    Label,
    Message,
    Opaque,
    PublicKeyBytes,
    RequestId,
    Seconds,
    SessionToken,
    TaskIds,
    Text,
    UserId,
)
from secure_ipp.wire.messages.shared import Answer, EngineInfo, Failure, Goodbye, Head

# --- scheduler -> hub ------------------------------------------------------------------------------------


class TaskRecord(Message, frozen=True):
    """One finished task."""

    owner: UserId
    kind: Kind
    function: Digest
    mode: Literal["direct", "balanced", "broadcast"]
    label: Label
    outcome: Outcome
    session: SessionToken


class EngineRecord(Message, frozen=True):
    info: EngineInfo
    key: PublicKeyBytes
    agent: UserId  # grant id of the join key
    reads_cluster_dir: bool = False
    reads_join_file: bool = False
    tenant: UserId = ""  # whose work it has held (S27): an identity's, "shared", or empty: nobody's that is known


class ClientRecord(Message, frozen=True):
    user: UserId
    name: Text
    host: Text
    pid: Count
    address: Text
    since: Seconds


class HubRoster(Message, frozen=True, tag="hub_roster"):
    """To the hub after each new link: all engines now there.  From the hub: those it remembers."""

    engines: Annotated[list[EngineRecord], Meta(max_length=limits.TARGETS)]


class EngineJoined(Message, frozen=True, tag="engine_joined"):
    engine: EngineRecord


class EngineLeft(Message, frozen=True, tag="engine_left"):
    uuid: UserId
    reason: Text


class Records(Message, frozen=True, tag="records"):
    number: Count  # of the batch; answered by RecordsKept
    records: Annotated[list[TaskRecord], Meta(max_length=limits.RECORDS_PER_MESSAGE)]


EVENTS_LOST = "events-lost"  # the event that tells how many others were dropped while the hub was away


class AuditEvent(Message, frozen=True, tag="audit_event"):
    """For the record: an admission, a refusal, a join, a departure."""

    event: Text
    at: Seconds
    details: dict[Text, Text]


class Forward(Message, frozen=True, tag="forward"):
    """A client's question, in the one envelope that names its sender; `body` is opaque to the scheduler."""

    user: UserId
    session: SessionToken
    request: RequestId
    body: Opaque


class Lookup(Message, frozen=True, tag="lookup"):
    """Which of these tasks of this owner ended, and how?"""

    request: RequestId
    owner: UserId
    tasks: TaskIds


class SeenHead(Message, frozen=True, tag="seen_head"):
    """A client has seen this line of the journal, and proven that this cluster's controller had signed it."""

    user: UserId
    number: Count
    hash: Label
    registry: Count


class DoorsClosed(Message, frozen=True, tag="doors_closed"):
    """From the hub: nobody is served any more, for this reason, until the owner has looked (S17)."""

    reason: Text
    advice: Text


class SchedulerStatus(Message, frozen=True, tag="scheduler_status"):
    clients: Annotated[list[ClientRecord], Meta(max_length=limits.TARGETS)]
    tasks_waiting: Count
    tasks_running: Count
    tasks_done: Count
    gate_refused: Count
    recovering: bool
    door_keys: Count = 0  # number of the statement of the server's keys that the doors go by
    unaware: Count = 0  # peers who are connected and have not confirmed that they know it


class StopController(Message, frozen=True, tag="stop_controller"):
    """A client with the right asked for it."""

    user: UserId


class JoinAsked(Message, frozen=True, tag="join_asked"):
    """May this agent join? Said of keys that are good for a number of joins."""

    user: UserId
    session: SessionToken
    instance: Annotated[bytes, Meta(max_length=32)]


class GrantsInForce(Message, frozen=True, tag="grants_in_force"):
    """The gate answers from this edition, and the connections of whoever lost a grant are cut."""

    version: Count
    edition: Count


FromScheduler = (
    GrantsInForce | JoinAsked | HubRoster | EngineJoined | EngineLeft | Records | AuditEvent | Forward | Lookup
    | SchedulerStatus | StopController | SeenHead | Goodbye
)


# --- hub -> scheduler ------------------------------------------------------------------------------------


class GrantInfo(Message, frozen=True):
    """What the gate and the rights table need of a grant (the hub has verified its signature)."""

    id: UserId
    name: Text
    role: Literal["client", "agent"]
    key: PublicKeyBytes
    rights: Annotated[list[Text], Meta(max_length=16)]
    expires: Seconds  # 0: never
    engines: Count = limits.ENGINES_PER_JOIN_KEY
    parent: UserId = ""  # of a derived grant: whom it draws on and dies with (S32)
    tenancy: Literal["shared", "own"] = "shared"
    sessions: Count = 0  # quotas (S18); 0: the default of limits.py
    tasks: Count = 0
    bytes: Count = 0
    messages: Count = 0
    joins: Count = 0  # hosts that may ever join with it; 0: any number
    networks: Annotated[list[Text], Meta(max_length=32)] = []  # from which alone its agents may come; empty: any


class Grants(Message, frozen=True, tag="grants"):
    """All grants in force, in parts that take effect together, when the last one is there; an absent key is refused.

    `version` is the registry's; `edition` counts what this hub has sent, for grants change without a new version, too.
    """

    version: Count
    grants: Annotated[list[GrantInfo], Meta(max_length=limits.GRANTS_PER_PART)]
    retired: Annotated[list[PublicKeyBytes], Meta(max_length=limits.RETIRED_PER_PART)]  # once held; never new again
    edition: Count = 0
    part: Count = 0
    more: bool = False  # another part follows


class Beat(Message, frozen=True, tag="beat"):
    """The hub is alive, and the grants are those of this edition."""

    version: Count
    edition: Count = 0
    time: Seconds = 0.0  # now, by the hub's clock mark


class RecordsKept(Message, frozen=True, tag="records_kept"):
    number: Count


class Found(Message, frozen=True, tag="found"):
    request: RequestId
    owner: UserId
    outcomes: Annotated[list[Outcome], Meta(max_length=limits.TASKS_NAMED)]
    horizon: Seconds  # a task submitted at or before this may have ended and been forgotten
    more: bool = False  # further outcomes follow under the same request; look for what is missing after the last


class Forwarded(Message, frozen=True, tag="forwarded"):
    """The hub's answer to a forwarded question; goes to that session as it stands."""

    session: SessionToken
    answer: Answer | Failure


class JoinAnswered(Message, frozen=True, tag="join_answered"):
    """It is on record that this agent has joined; or why it may not."""

    session: SessionToken
    code: Text = ""  # empty: it may
    reason: Text = ""
    advice: Text = ""


class DoorSecret(Message, frozen=True, tag="door_secret"):
    """The doors are to be bound with this key from now on, and every peer is to be told of the statement (S33).

    It comes before the grants of the same registry, whose confirmation is its own, too.
    """

    statement: Annotated[bytes, Meta(max_length=limits.DOOR_KEYS_BYTES)]
    secret: PublicKeyBytes  # raw, of the statement's current key

    def __repr__(self) -> str:
        return "<DoorSecret>"  # no secret reaches a log or a traceback (S11)

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


ToScheduler = (
    JoinAnswered | HubRoster | DoorSecret | Grants | Beat | RecordsKept | Found | Forwarded | Head | DoorsClosed
    | Goodbye
)


# --- the hub's questions (inside Ask.body / Forward.body) ------------------------------------------------


class ResultStatus(Message, frozen=True, tag="result_status"):
    """{"pending": [...], "completed": [...], "unknown": [...]}"""

    tasks: TaskIds


class History(Message, frozen=True, tag="history"):
    """{"tasks": [ids of the asker's finished tasks, oldest first], "next": `after` of the next page, 0 at the end}"""

    after: Count = 0


class PurgeRecords(Message, frozen=True, tag="purge_records"):
    """{"purged": how many}"""

    tasks: TaskIds  # empty: all of the asker's
    everyone: bool = False  # needs the right `control`


class Whois(Message, frozen=True, tag="whois"):
    """Who am I: {"user": grant id, "name", "rights", "expires"}"""


class OwnGrant(Message, frozen=True, tag="own_grant"):
    """{"chain": JSON array of signed grants, the issuer's first, the asker's own last}"""


class Attenuate(Message, frozen=True, tag="attenuate"):
    """Put in force a grant that the asker has signed, narrower than its own (S32): {"granted": true}"""

    grant: Annotated[bytes, Meta(max_length=limits.CAPABILITY_BYTES)]  # JSON


HubQuestion = ResultStatus | History | PurgeRecords | Whois | OwnGrant | Attenuate
