"""Between the scheduler and an engine."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from secure_ipp import limits
from secure_ipp.wire.messages.fields import (
    Body,
    Count,
    Digest,
    EngineId,
    Kind,
    Message,
    Numbers,
    Seconds,
    Sizes,
    Status,
    TaskId,
    Text,
    Ticket,
    UserId,
)
from secure_ipp.wire.messages.shared import DoorKeys, ErrorInfo, Goodbye, LiveTask

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
    interrupt: bool = False  # and interrupt the one of them that runs


class Forget(Message, frozen=True, tag="forget"):
    """Drop the functions of this owner."""

    owner: UserId


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
    Assign | EngineFunction | Cancel | Forget | EngineChunk | EnginePull | EngineCredit | Kept | Registered | Dismiss
    | DoorKeys | Goodbye
)


# --- engine -> scheduler -------------------------------------------------------------------------------


class Report(Message, frozen=True, tag="report"):
    """First message of each session: what this engine is and what it holds."""

    host: Text
    pid: Count
    highest: Count  # highest assignment number ever received
    started: Count  # highest assignment number ever started
    live: Annotated[list[LiveTask], Meta(max_length=limits.REPORTED_TASKS)]
    finished: Annotated[list[Count], Meta(max_length=limits.REPORTED_RESULTS)]  # of results that nobody acknowledged
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
