"""What messages are made of: types with every length bounded, and the base of all messages."""

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
