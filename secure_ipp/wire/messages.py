"""Every message, typed: what travels, in which direction, with every length bounded.

A message is a msgpack array whose first element is its tag; unknown tags, missing, extra or over-long
fields are refused by the decoder.  Which union may arrive where is fixed below (`FromClient`, `ToClient`, ...),
so a client cannot even spell an engine's message.  Bulk data never stands in a message: a `Chunk` announces
one zmq frame that follows the packet's header, in order.

Bodies.  A body is a list of buffers: the pickle stream first, then its out-of-band buffers.  If their sum is at
most `limits.INLINE_BYTES` they stand in `body`; else `body` is empty and `sizes` gives their lengths, and the
bytes, as one concatenation, are streamed on request (`Pull`, `Chunk`, `Credit`).

Identity.  No message names its sender: the receiving end knows it from the authenticated connection.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from secure_ipp import limits

TaskId = Annotated[str, Meta(min_length=1, max_length=limits.TASK_ID_CHARS)]
Text = Annotated[str, Meta(max_length=limits.TEXT_CHARS)]
LongText = Annotated[str, Meta(max_length=limits.TRACEBACK_CHARS)]
Label = Annotated[str, Meta(max_length=256)]
UserId = Annotated[str, Meta(max_length=limits.NAME_CHARS)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
EngineId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
RequestId = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = float  # since the epoch, or a duration; each field says which
SessionToken = Annotated[bytes, Meta(max_length=16)]
PublicKeyBytes = Annotated[bytes, Meta(min_length=32, max_length=32)]
Digest = Annotated[bytes, Meta(max_length=32)]  # SHA-256 of a function's pickle; empty when the task carries none
Ticket = Annotated[bytes, Meta(max_length=16)]
Small = Annotated[bytes, Meta(max_length=limits.INLINE_BYTES)]
Opaque = Annotated[bytes, Meta(max_length=limits.FRAME_BYTES)]
Body = Annotated[list[Small], Meta(max_length=limits.BUFFERS)]
Size = Annotated[int, Meta(ge=0, le=limits.BODY_BYTES)]
Sizes = Annotated[list[Size], Meta(max_length=limits.BUFFERS)]
TaskIds = Annotated[list[TaskId], Meta(max_length=limits.TASKS_NAMED)]
EngineIds = Annotated[list[EngineId], Meta(max_length=limits.TARGETS)]
Numbers = Annotated[list[Count], Meta(max_length=limits.TASKS_NAMED)]
Version = Annotated[str, Meta(max_length=64)]
Kind = Literal["apply", "execute", "push", "pull", "clear"]
Status = Literal["ok", "error", "aborted", "lost"]


class Message(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all messages."""


# --- greeting: alone in the first zmq message of a connection ---------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    """First words of the connecting end."""

    protocol: Count
    role: Literal["client", "agent", "engine", "scheduler", "probe"]
    package: Version
    python: Version  # "3.11.7"
    resume: SessionToken = b""  # the session to go on with; empty for a new one
    received: Count = 0  # number of the last packet received in it
    host: Text = ""
    pid: Count = 0
    user: Text = ""  # login name, for people to read; proves nothing


class Welcome(Message, frozen=True, tag="welcome"):
    session: SessionToken
    resumed: bool
    received: Count  # last packet the door has from this session
    incarnation: SessionToken  # this run of the answering process; another one has forgotten what was not resent
    cluster: Text
    package: Version
    python: Version


class Refusal(Message, frozen=True, tag="refusal"):
    """Last words before a connection is cut; also the answer to a request."""

    code: Text
    reason: Text
    advice: Text = ""


Greeting = Hello
GreetingReply = Welcome | Refusal


# --- shared pieces (not messages) --------------------------------------------------------------------


class ErrorInfo(Message, frozen=True):
    """An exception, as text; nothing in it is ever executed or unpickled."""

    ename: Text
    evalue: LongText
    traceback: Annotated[list[LongText], Meta(max_length=256)]


class EngineInfo(Message, frozen=True):
    id: EngineId
    uuid: UserId  # the grant id of the engine's session key
    host: Text
    pid: Count


class LiveTask(Message, frozen=True):
    """What an engine says of a task it holds, after a reconnect."""

    owner: UserId
    task: TaskId
    attempt: Count
    number: Count
    state: Literal["queued", "started"]


# --- both ways: bulk data and output -----------------------------------------------------------------


class Chunk(Message, frozen=True, tag="chunk"):
    """One frame of a client's stream; names the stream by its (first) task."""

    task: TaskId
    offset: Count


class Pull(Message, frozen=True, tag="pull"):
    """Start streaming the body (to a client) or the result (from a client) of this task."""

    task: TaskId


class Credit(Message, frozen=True, tag="credit"):
    """The receiver of a stream has taken so many bytes more."""

    task: TaskId
    bytes: Count


class Function(Message, frozen=True, tag="function"):
    """A pickled function under the SHA-256 of its bytes."""

    digest: Digest
    code: Annotated[bytes, Meta(max_length=limits.FUNCTION_BYTES)]


class NeedFunction(Message, frozen=True, tag="need_function"):
    digest: Digest


class Answer(Message, frozen=True, tag="answer"):
    """Reply to the request of this number; `body` is msgpack."""

    request: RequestId
    body: Opaque


class Failure(Message, frozen=True, tag="failure"):
    request: RequestId
    code: Text
    reason: Text
    advice: Text = ""


class Goodbye(Message, frozen=True, tag="goodbye"):
    """Orderly end of a session: nothing will be resumed."""

    reason: Text = ""


# --- client -> scheduler -------------------------------------------------------------------------------


class Submit(Message, frozen=True, tag="submit"):
    """A load-balanced task."""

    task: TaskId
    kind: Kind
    function: Digest
    body: Body
    sizes: Sizes
    submitted: Seconds
    label: Label = ""
    targets: EngineIds = []
    retries: Annotated[int, Meta(ge=0, le=limits.RETRIES)] = 0
    timeout: Annotated[float, Meta(ge=0)] = 0.0  # seconds to wait for dependencies; 0: for ever
    after: TaskIds = []
    follow: TaskIds = []
    after_flags: Annotated[int, Meta(ge=0, le=7)] = 5  # 1: all (else any), 2: failures count, 4: successes count
    follow_flags: Annotated[int, Meta(ge=0, le=7)] = 5
    resend: Literal[0, 1, 2] = 0  # 0 new; 1 sent before, never acknowledged; 2 acknowledged before


class Direct(Message, frozen=True, tag="direct"):
    """One body for named engines: tasks[i] runs on engines[i], in the order sent."""

    tasks: TaskIds
    engines: EngineIds
    kind: Kind
    function: Digest
    body: Body
    sizes: Sizes
    submitted: Seconds
    label: Label = ""
    broadcast: bool = False  # sent by a BroadcastView (a word in the record; routed alike)
    resend: Literal[0, 1, 2] = 0


class Abort(Message, frozen=True, tag="abort"):
    """End these tasks if they have not started; each then ends as `aborted`. Empty: all of the sender's."""

    request: RequestId
    tasks: TaskIds
    engines: EngineIds = []


class Attach(Message, frozen=True, tag="attach"):
    """Send me the outcomes of these tasks of my identity, when they are there."""

    tasks: TaskIds


class Received(Message, frozen=True, tag="received"):
    """These streamed results have arrived whole; their engine may drop them."""

    tasks: TaskIds


class QueueStatus(Message, frozen=True, tag="queue_status"):
    request: RequestId
    engines: EngineIds  # empty: all
    verbose: bool = False


class Signal(Message, frozen=True, tag="signal"):
    request: RequestId
    engines: EngineIds  # empty: all
    signum: Annotated[int, Meta(ge=1, le=64)]


class Shutdown(Message, frozen=True, tag="shutdown"):
    request: RequestId
    engines: EngineIds  # empty: all
    controller: bool = False
    restart: bool = False


class Ask(Message, frozen=True, tag="ask"):
    """A question for the hub; the scheduler does not look inside."""

    request: RequestId
    body: Opaque


FromClient = (
    Submit | Direct | Function | Chunk | Credit | Pull | Received | Abort | Attach | QueueStatus | Signal
    | Shutdown | Ask | Goodbye
)


# --- scheduler -> client -------------------------------------------------------------------------------


class Roster(Message, frozen=True, tag="roster"):
    """Who joined and who left since the last one; the first after a welcome (`whole`) names all."""

    joined: Annotated[list[EngineInfo], Meta(max_length=limits.TARGETS)]
    left: EngineIds
    whole: bool = False
    reasons: dict[EngineId, Text] = {}


class Outcome(Message, frozen=True, tag="outcome"):
    """How a task ended.  Times are seconds since the epoch, by the clock of whoever saw the event."""

    task: TaskId
    status: Status
    engine: Annotated[int, Meta(ge=-1, le=2**31 - 1)]  # -1: none
    engine_uuid: UserId
    submitted: Seconds
    started: Seconds
    completed: Seconds
    body: Body
    sizes: Sizes
    error: ErrorInfo | None = None
    received: Seconds = 0.0
    attempts: Count = 1
    execution_count: Count = 0
    stdout: LongText = ""  # only when read from the record; live output comes as Output
    stderr: LongText = ""
    known: bool = True  # False: no such task of this identity


class Output(Message, frozen=True, tag="output"):
    task: TaskId
    engine: EngineId
    name: Literal["stdout", "stderr"]
    text: Annotated[str, Meta(max_length=limits.OUTPUT_EVENT_BYTES)]


class Display(Message, frozen=True, tag="display"):
    """Rich output: a MIME bundle as JSON text."""

    task: TaskId
    engine: EngineId
    kind: Literal["display_data", "execute_result", "error", "data", "clear_output"]
    content: Annotated[str, Meta(max_length=limits.FRAME_BYTES // 2)]


class Notice(Message, frozen=True, tag="notice"):
    """A sentence for the client's user."""

    level: Literal["info", "warning", "error"]
    text: Text


ToClient = (
    Roster | Outcome | Output | Display | NeedFunction | Pull | Credit | Chunk | Answer | Failure | Notice | Goodbye
)


# --- scheduler -> engine -------------------------------------------------------------------------------


class EngineFunction(Message, frozen=True, tag="engine_function"):
    owner: UserId
    digest: Digest
    code: Annotated[bytes, Meta(max_length=limits.FUNCTION_BYTES)]


class Assign(Message, frozen=True, tag="assign"):
    """Run this.  Numbers rise by one for each assignment to an engine; tasks run in their order."""

    number: Count
    owner: UserId
    task: TaskId
    attempt: Count
    ticket: Ticket
    kind: Kind
    function: Digest
    body: Body
    sizes: Sizes


class Cancel(Message, frozen=True, tag="cancel"):
    """Give these back if they have not started; answered by `Cancelled`."""

    numbers: Numbers


class EngineChunk(Message, frozen=True, tag="engine_chunk"):
    """One frame of a task's body (to the engine) or of its result (from it)."""

    number: Count
    offset: Count


class EnginePull(Message, frozen=True, tag="engine_pull"):
    """Start streaming the result of this assignment."""

    number: Count


class EngineCredit(Message, frozen=True, tag="engine_credit"):
    number: Count
    bytes: Count


class Kept(Message, frozen=True, tag="kept"):
    """These results are safe elsewhere (a client or the hub has them); drop them."""

    numbers: Numbers


class Registered(Message, frozen=True, tag="registered"):
    """The engine's place in the cluster, after its report."""

    id: EngineId
    uuid: UserId


class Dismiss(Message, frozen=True, tag="dismiss"):
    """End now: stopped, or declared dead while away."""

    reason: Text


ToEngine = (
    Assign | EngineFunction | Cancel | EngineChunk | EnginePull | EngineCredit | Kept | Registered | Dismiss | Goodbye
)


# --- engine -> scheduler -------------------------------------------------------------------------------


class Report(Message, frozen=True, tag="report"):
    """First message of each session: what this engine is and what it holds."""

    host: Text
    pid: Count
    highest: Count  # highest assignment number ever received
    started: Count  # highest assignment number ever started
    live: Annotated[list[LiveTask], Meta(max_length=limits.TASKS_NAMED)]
    finished: Numbers  # unacknowledged results, which follow as Result messages
    wanted_id: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = -1  # MPI rank
    reads_cluster_dir: bool = False  # S26: could this uid open the cluster's private directory
    reads_join_file: bool = False


class Result(Message, frozen=True, tag="result"):
    number: Count
    owner: UserId
    task: TaskId
    attempt: Count
    ticket: Ticket
    status: Status
    started: Seconds
    completed: Seconds
    body: Body
    sizes: Sizes
    error: ErrorInfo | None = None
    execution_count: Count = 0


class Started(Message, frozen=True, tag="started"):
    """This assignment runs since (only said of tasks that run longer than a moment)."""

    number: Count
    at: Seconds


class EngineOutput(Message, frozen=True, tag="engine_output"):
    number: Count
    name: Literal["stdout", "stderr"]
    text: Annotated[str, Meta(max_length=limits.OUTPUT_EVENT_BYTES)]


class EngineDisplay(Message, frozen=True, tag="engine_display"):
    number: Count
    kind: Literal["display_data", "execute_result", "error", "data", "clear_output"]
    content: Annotated[str, Meta(max_length=limits.FRAME_BYTES // 2)]


class Cancelled(Message, frozen=True, tag="cancelled"):
    """Given back, never started."""

    numbers: Numbers


class EngineNeedsFunction(Message, frozen=True, tag="engine_needs_function"):
    owner: UserId
    digest: Digest


FromEngine = (
    Report | Result | Started | EngineOutput | EngineDisplay | Cancelled | EngineNeedsFunction | EngineChunk
    | EnginePull | EngineCredit | Goodbye
)


# --- agent -> scheduler -------------------------------------------------------------------------------


class EngineDeath(Message, frozen=True):
    uuid: UserId
    started: Count  # highest assignment number it had started
    status: Annotated[int, Meta(ge=-64, le=255)]  # exit code, or minus the signal
    reason: Text = ""


class Join(Message, frozen=True, tag="join"):
    """First message of each session of an agent."""

    host: Text
    pid: Count
    dead: Annotated[list[EngineDeath], Meta(max_length=limits.TARGETS)]  # died while the scheduler was away


class Announce(Message, frozen=True, tag="announce"):
    """Public halves of the session keys of engines that this agent runs or is about to fork."""

    keys: Annotated[list[PublicKeyBytes], Meta(max_length=limits.TARGETS)]


class EngineStarted(Message, frozen=True, tag="engine_started"):
    uuid: UserId
    pid: Count


class EngineDied(Message, frozen=True, tag="engine_died"):
    death: EngineDeath


FromAgent = Join | Announce | EngineStarted | EngineDied | Goodbye


# --- scheduler -> agent -------------------------------------------------------------------------------


class Announced(Message, frozen=True, tag="announced"):
    """Accepted keys, each with the id its engine will be known by; a refused key has an empty id and a reason."""

    key: PublicKeyBytes
    uuid: UserId
    reason: Text = ""


class SignalEngine(Message, frozen=True, tag="signal_engine"):
    uuid: UserId
    signum: Annotated[int, Meta(ge=1, le=64)]


class StopEngine(Message, frozen=True, tag="stop_engine"):
    uuid: UserId
    restart: bool = False


ToAgent = Announced | SignalEngine | StopEngine | Dismiss | Goodbye


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


class SchedulerStatus(Message, frozen=True, tag="scheduler_status"):
    clients: Annotated[list[ClientRecord], Meta(max_length=limits.TARGETS)]
    tasks_waiting: Count
    tasks_running: Count
    tasks_done: Count
    gate_refused: Count
    recovering: bool


class StopController(Message, frozen=True, tag="stop_controller"):
    """A client with the right asked for it."""

    user: UserId


FromScheduler = (
    HubRoster | EngineJoined | EngineLeft | Records | AuditEvent | Forward | Lookup | SchedulerStatus
    | StopController | Goodbye
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


class Grants(Message, frozen=True, tag="grants"):
    """The whole registry, as of `version`; an absent key is refused."""

    version: Count
    grants: Annotated[list[GrantInfo], Meta(max_length=65536)]
    retired: Annotated[list[PublicKeyBytes], Meta(max_length=65536)]  # keys once held; never welcome as new


class Beat(Message, frozen=True, tag="beat"):
    """The hub is alive and the registry is as of `version`."""

    version: Count


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


ToScheduler = HubRoster | Grants | Beat | RecordsKept | Found | Forwarded | Goodbye


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


HubQuestion = ResultStatus | History | PurgeRecords | Whois
