"""From a packed call to tasks under way: makes the messages, counts nothing, keeps nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from secure_ipp import limits
from secure_ipp.client.ledger import Request
from secure_ipp.client.session import Session
from secure_ipp.client.tasks import Call, Task
from secure_ipp.payload.body import as_body
from secure_ipp.payload.calls import PackedCall
from secure_ipp.payload.functions import pack_function
from secure_ipp.payload.objects import dumps
from secure_ipp.wire import messages

_BATCH = 128  # requests of a map that are handed over together, so that the first run while the last are pickled


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a balanced task may run, and when; fields as the wire has them."""

    targets: list[int] = field(default_factory=list)
    retries: int = 0
    timeout: float = 0.0
    after: list[str] = field(default_factory=list)
    follow: list[str] = field(default_factory=list)
    after_flags: int = 5
    follow_flags: int = 5


def direct(session: Session, call: Call, packed: PackedCall, engines: Sequence[int]) -> tuple[list[Task], Request]:
    """One body for these engines."""
    body, sizes, stream = as_body(packed.buffers)
    tasks = session.new_tasks(call, engines)
    message = messages.Direct(
        tasks=[task.id for task in tasks], engines=list(engines), kind=packed.kind, function=packed.digest, body=body,
        sizes=sizes, submitted=tasks[0].submitted, label=call.label, broadcast=call.broadcast,
    )
    return tasks, Request(message, tasks, packed.code, stream)


def balanced(task: Task, packed: PackedCall, placement: Placement) -> Request:
    """One task for whichever engine is free."""
    body, sizes, stream = as_body(packed.buffers)
    # Positional, since thousands are made each second: task, kind, function, body, sizes, submitted, label, ...
    message = messages.Submit(
        task.id, packed.kind, packed.digest, body, sizes, task.submitted, task.call.label, placement.targets,
        placement.retries, placement.timeout, placement.after, placement.follow, placement.after_flags,
        placement.follow_flags,
    )
    return Request(message, (task,), packed.code, stream)


def packer(function: Callable[..., Any]) -> Callable[[tuple[Any, ...]], PackedCall]:
    """Packs calls of one function with differing arguments; the function is packed once."""
    packed = pack_function(function)
    code, digest = packed.code, packed.digest
    if len(code) > limits.FUNCTION_BYTES:
        return lambda args: PackedCall("apply", b"", b"", dumps((code, args, {})))
    return lambda args: PackedCall("apply", digest, code, dumps((args, {})))


def submit_all(session: Session, requests: Iterable[Request]) -> None:
    """Hand over many requests while they are being made."""
    batch: list[Request] = []
    for request in requests:
        batch.append(request)
        if len(batch) >= _BATCH:
            session.submit(batch)
            batch = []
    if batch:
        session.submit(batch)
