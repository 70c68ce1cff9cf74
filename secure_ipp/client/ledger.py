"""What is unfinished: which requests wait here, which the scheduler has, and what must be said again.

Pure: no socket, no clock, no thread.  `add` and `next_messages` decide what may be sent now; after a session was
lost, `new_session` tells the whole of it anew.

Laws.
- At most `OWNER_TASKS` unfinished tasks and `OWNER_TASK_BYTES` inline bytes of theirs (or one request) are at the
  scheduler, and no more than it allows; the rest waits here, direct requests before balanced ones, each in the order of
  their calls.
- A function is said before the first request that names it, once in a session; its bytes are kept while a request
  that names it is unfinished.
- What ended is never said again: a resent direct request names only its unfinished tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from secure_ipp import limits
from secure_ipp.client.streams import Outgoing
from secure_ipp.client.tasks import Task
from secure_ipp.payload.body import Stream
from secure_ipp.wire import messages

_SAID = 10_000  # digests said in this session that are remembered; a forgotten one is said again

QUEUED, SENT, ACKNOWLEDGED = range(3)


class Request:
    """One Submit or Direct, from the call to the end of its last task."""

    __slots__ = ("bytes", "code", "left", "message", "state", "stream", "tasks")

    def __init__(
        self, message: messages.Submit | messages.Direct, tasks: Sequence[Task], code: bytes = b"",
        stream: Stream | None = None,
    ) -> None:
        self.message = message
        self.tasks = tasks
        self.code = code
        self.stream = stream
        size = 0
        for part in message.body:
            size += len(part)
        self.bytes = size
        self.left = len(tasks)
        self.state = QUEUED

    @property
    def delivered(self) -> bool:
        """Its arguments have left this process: they may be changed."""
        return self.left == 0 or (self.state == ACKNOWLEDGED and not self.message.sizes) or (
            bool(self.message.sizes) and self.stream is None
        )


class Ledger:
    """All unfinished requests of a client.

    Attributes:
        most_tasks, most_bytes: that may be at the scheduler.
    """

    def __init__(self) -> None:
        self.most_tasks, self.most_bytes = limits.OWNER_TASKS, limits.OWNER_TASK_BYTES
        self.open: dict[str, Task] = {}  # unfinished tasks, in the order of their calls
        self._attached: dict[str, None] = {}  # those of them that another session sent
        self._direct: deque[Request] = deque()
        self._balanced: deque[Request] = deque()
        self._tasks_out = 0
        self._bytes_out = 0
        self._codes: dict[bytes, tuple[bytes, int]] = {}
        self._said: set[bytes] = set()
        self._streams: dict[str, Outgoing] = {}

    # --- new requests ------------------------------------------------------------------------------------

    def add(self, request: Request) -> None:
        """Take in a request whose tasks stand in `open`."""
        for task in request.tasks:
            task.request = request
        digest = request.message.function
        if digest:
            code, count = self._codes.get(digest, (request.code, 0))
            self._codes[digest] = (code, count + 1)
        (self._direct if type(request.message) is messages.Direct else self._balanced).append(request)

    def attach(self, task_ids: Sequence[str]) -> Iterator[messages.Attach]:
        """Ask for outcomes of tasks, standing in `open`, that another session sent."""
        self._attached.update(dict.fromkeys(task_ids))
        for start in range(0, len(task_ids), limits.TASKS_NAMED):
            yield messages.Attach(list(task_ids[start : start + limits.TASKS_NAMED]))

    def own(self) -> list[str]:
        """Ids of the unfinished tasks that this client sent; from any thread."""
        return [task_id for task_id in list(self.open) if task_id not in self._attached]

    @property
    def undelivered(self) -> bool:
        """Arguments of some unfinished task are still here."""
        return any(task.request is not None and not task.request.delivered for task in self.open.values())

    @property
    def waiting(self) -> bool:
        """Some requests have not been sent."""
        return bool(self._direct or self._balanced)

    def next_messages(self) -> Iterator[tuple[messages.Message, Request | None]]:
        """What may be sent now, in order; a request's message comes with its request."""
        for queue in (self._direct, self._balanced):
            while queue:
                request = queue[0]
                if request.left == 0:
                    queue.popleft()
                    continue
                if self._tasks_out and (
                    self._tasks_out + request.left > self.most_tasks
                    or self._bytes_out + request.bytes > self.most_bytes
                ):
                    return
                queue.popleft()
                yield from self._say(request, self._unfinished(request, 0))

    def _say(
        self, request: Request, message: messages.Submit | messages.Direct
    ) -> Iterator[tuple[messages.Message, Request | None]]:
        if request.state == QUEUED:
            request.state = SENT
        self._tasks_out += request.left
        self._bytes_out += request.bytes
        digest = message.function
        if digest and digest not in self._said:
            if len(self._said) >= _SAID:
                self._said.clear()
            self._said.add(digest)
            yield messages.Function(digest, self._codes[digest][0]), None
        yield message, request

    def _unfinished(self, request: Request, resend: Literal[0, 1, 2]) -> messages.Submit | messages.Direct:
        """The request's message without the tasks that have ended."""
        message = request.message
        if request.left < len(request.tasks):
            assert isinstance(message, messages.Direct)
            pairs = [(t, e) for t, e in zip(message.tasks, message.engines, strict=True) if t in self.open]
            message = msgspec.structs.replace(message, tasks=[t for t, _ in pairs], engines=[e for _, e in pairs])
        return message if message.resend == resend else msgspec.structs.replace(message, resend=resend)

    # --- events --------------------------------------------------------------------------------------------

    def acknowledged(self, requests: Sequence[object]) -> None:
        """The scheduler's process has these."""
        for request in requests:
            if isinstance(request, Request) and request.state == SENT:
                request.state = ACKNOWLEDGED

    def ended(self, task_id: str) -> Task | None:
        """A task is over; None if it was already, or never was."""
        task = self.open.pop(task_id, None)
        if task is None:
            return None
        request = task.request
        if request is None:
            self._attached.pop(task_id, None)
        else:
            task.request = None
            request.left -= 1
            if request.state != QUEUED:
                self._tasks_out -= 1
            if request.left == 0:
                self._forget(request)
        if self._streams:
            self._streams.pop(task_id, None)
        return task

    def _forget(self, request: Request) -> None:
        if request.state != QUEUED:
            self._bytes_out -= request.bytes
        request.stream = None
        digest = request.message.function
        if digest:
            code, count = self._codes[digest]
            if count > 1:
                self._codes[digest] = (code, count - 1)
            else:
                del self._codes[digest]

    def queued(self, task_ids: Sequence[str]) -> list[str]:
        """Those of these tasks (of all, if none is named) that the scheduler has not heard of."""
        names = task_ids or list(self.open)
        waiting = []
        for name in names:
            task = self.open.get(name)
            if task is not None and task.request is not None and task.request.state == QUEUED:
                waiting.append(name)
        return waiting

    def function(self, digest: bytes) -> messages.Function | None:
        """A function that the scheduler has lost; None if no unfinished request names it."""
        found = self._codes.get(digest)
        return None if found is None else messages.Function(digest, found[0])

    # --- a new session -------------------------------------------------------------------------------------

    def new_session(self) -> Iterator[tuple[messages.Message, Request | None]]:
        """All that the other end must be told again, since it knows nothing of this session's past."""
        self._said.clear()
        self._streams.clear()
        self._tasks_out = self._bytes_out = 0
        again: dict[Request, None] = {}
        for task in list(self.open.values()):
            if task.request is not None and task.request.state != QUEUED:
                again[task.request] = None
        for request in again:
            yield from self._say(request, self._unfinished(request, 2 if request.state == ACKNOWLEDGED else 1))
        for message in self.attach(list(self._attached)):
            yield message, None

    # --- streams of arguments ------------------------------------------------------------------------------

    def pull(self, task_id: str) -> Iterator[tuple[int, memoryview]] | None:
        """Begin a stream: its first chunks; None if its bytes were let go."""
        task = self.open.get(task_id)
        if task is None or task.request is None:
            return iter(())
        if task.request.stream is None:
            return None
        outgoing = self._streams[task_id] = Outgoing(task.request.stream)
        return outgoing.ready()

    def credit(self, task_id: str, count: int) -> Iterator[tuple[int, memoryview]]:
        """The receiver of a stream took bytes: the chunks that may follow.

        A direct request's bytes are let go when its engines have them: such a task is never placed anew.

        Raises:
            ProtocolError: credit for what was never sent.
        """
        outgoing = self._streams.get(task_id)
        if outgoing is None:
            return iter(())
        outgoing.credit(count)
        if outgoing.delivered:
            del self._streams[task_id]
            task = self.open.get(task_id)
            if task is not None and task.request is not None and type(task.request.message) is messages.Direct:
                task.request.stream = None
            return iter(())
        return outgoing.ready()
