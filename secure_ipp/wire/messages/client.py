"""Between a client and the scheduler."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from secure_ipp import limits
from secure_ipp.wire.messages.fields import (
    Body,
    Count,
    Digest,
    EngineId,
    EngineIds,
    Kind,
    Label,
    LongText,
    Message,
    Opaque,
    RequestId,
    Seconds,
    Sizes,
    Status,
    TaskId,
    TaskIds,
    Text,
    UserId,
)
from secure_ipp.wire.messages.shared import (
    Answer,
    Chunk,
    Credit,
    DoorKeys,
    EngineInfo,
    ErrorInfo,
    Failure,
    Function,
    Goodbye,
    Head,
    NeedFunction,
    Pull,
)

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


class Seen(Message, frozen=True, tag="seen"):
    """Said once, first: the newest head that this user has seen of this cluster, whenever that was (S17)."""

    line: Text
    proof: Annotated[bytes, Meta(min_length=32, max_length=32)]


class Ask(Message, frozen=True, tag="ask"):
    """A question for the hub; the scheduler does not look inside."""

    request: RequestId
    body: Opaque


FromClient = (
    Submit | Direct | Function | Chunk | Credit | Pull | Received | Abort | Attach | QueueStatus | Signal
    | Shutdown | Ask | Seen | Goodbye
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


class Allowance(Message, frozen=True, tag="allowance"):
    """How much unfinished work this session is to keep at the scheduler, by its identity's quotas; the rest waits."""

    tasks: Count
    bytes: Count  # inline


class Notice(Message, frozen=True, tag="notice"):
    """A sentence for the client's user."""

    level: Literal["info", "warning", "error"]
    text: Text


ToClient = (
    Allowance | Roster | Outcome | Output | Display | NeedFunction | Pull | Credit | Chunk | Answer | Failure | Notice
    | Head | DoorKeys | Goodbye
)
