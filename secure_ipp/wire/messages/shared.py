"""Pieces that several messages carry, and messages that go both ways: bulk data, functions, answers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from secure_ipp import limits
from secure_ipp.wire.messages.fields import (
    Count,
    Digest,
    EngineId,
    LongText,
    Message,
    Opaque,
    RequestId,
    TaskId,
    Text,
    Ticket,
    UserId,
)

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
    """What an engine says of a task it holds, after a reconnect; the ticket is that of the assignment (S16)."""

    owner: UserId
    task: TaskId
    attempt: Count
    number: Count
    ticket: Ticket
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


class Head(Message, frozen=True, tag="head"):
    """The newest signed line of the journal, for a client to remember; with a proof that this controller said so.

    From the hub it comes without the proof, which is the scheduler's to make.
    """

    line: Text
    proof: Annotated[bytes, Meta(max_length=32)] = b""


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


class DoorKeys(Message, frozen=True, tag="door_keys"):
    """What the issuer states of the server's keys (S33); whoever gets it verifies it, for the sender signs nothing."""

    statement: Annotated[bytes, Meta(max_length=limits.DOOR_KEYS_BYTES)]  # JSON, see keys.door_keys
