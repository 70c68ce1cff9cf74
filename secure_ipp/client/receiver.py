"""What a client does with each message: the handler of its connection, in the I/O thread.

It runs no user code and unpickles nothing.  Laws: an outcome counts once; a large result is fetched before its task
counts as ended; when the session is over for good, everything unfinished ends in an error.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from secure_ipp import limits
from secure_ipp.client.callbacks import Callbacks
from secure_ipp.client.heads import Heads, SeenFile
from secure_ipp.client.ledger import Ledger, Request
from secure_ipp.client.questions import Questions, error_of
from secure_ipp.client.roster import EngineRoster
from secure_ipp.client.tasks import Task, local_outcome
from secure_ipp.client.terminal import line
from secure_ipp.errors import PeerError, ProtocolError, SecureIppError
from secure_ipp.payload.body import Assembly
from secure_ipp.wire import messages
from secure_ipp.wire.connection import Connection
from secure_ipp.wire.loop import Loop

if TYPE_CHECKING:
    from secure_ipp.client.asyncresult import AsyncResult

log = logging.getLogger("secure_ipp.client")


_RETURN_SECONDS = 2 * limits.RECONNECT_MAX_SECONDS  # engines try again within half of it


class Receiver:
    """Owns the state that the I/O thread writes; other threads read it under `lock` or `changed`."""

    def __init__(self, loop: Loop, seen: SeenFile) -> None:
        self._loop = loop
        self._seen = seen
        self._heads = Heads(seen.load().head)
        self._head_kept = 0.0
        self.connection: Connection | None = None
        self.ledger = Ledger()
        self.questions = Questions()
        self.roster = EngineRoster()
        self.callbacks = Callbacks()
        self.finished: WeakValueDictionary[str, Task] = WeakValueDictionary()  # what its user still holds
        self.lock = threading.Lock()  # a task's end, and who watches it
        self.changed = threading.Condition()  # the roster, the welcome, the failure
        self.welcome: messages.Welcome | None = None
        self.explain: Callable[[SecureIppError], SecureIppError] = lambda error: error  # what the way there knows
        self.error: SecureIppError | None = None  # why there is no connection, and never will be
        self.closed = threading.Event()
        self._returning: frozenset[int] = frozenset()  # engines that a restarted scheduler may not have heard of yet
        self._returned_by = 0.0
        self._fetching: dict[str, tuple[messages.Outcome, Assembly]] = {}
        self._due: dict[AsyncResult, None] = {}
        self._send_due = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            messages.Allowance: self._allowance,
            messages.Roster: self._roster, messages.Output: self._output, messages.Display: self._display,
            messages.NeedFunction: self._need_function, messages.Pull: self._pull, messages.Credit: self._credit,
            messages.Answer: self.questions.answered, messages.Failure: self._failure, messages.Notice: self._notice,
            messages.Goodbye: self._goodbye, messages.Head: self._head,
        }

    # --- the connection's events ---------------------------------------------------------------------------

    def on_welcome(self, welcome: messages.Welcome) -> None:
        if not welcome.resumed:
            self._fetching.clear()
            greeting = self._heads.greeting()
            if greeting is not None:
                self._send(greeting)
            if self.welcome is not None:
                self._returning = frozenset(self.roster.ids)
                self._returned_by = time.monotonic() + _RETURN_SECONDS
            self._send_all(self.ledger.new_session())
            for message in self.questions.new_session():
                self._send(message)
            self.send_ready()
        with self.changed:
            self.welcome = welcome
            self.changed.notify_all()

    def on_message(self, message: Any, frames: list[memoryview]) -> None:
        if type(message) is messages.Outcome:
            self._outcome(message)
        elif type(message) is messages.Chunk:
            self._chunk(message, frames)
        else:
            self._handlers[type(message)](message)

    def on_acknowledged(self, tokens: list[object]) -> None:
        self.ledger.acknowledged(tokens)

    def on_lost(self, reason: str) -> None:
        log.info("connection lost: %s; trying again", reason)

    def on_failed(self, error: SecureIppError) -> None:
        self.fail(self.explain(error))
        self.closed.set()

    def on_closed(self) -> None:
        self.closed.set()

    def gather(self) -> None:
        """Wait a moment, after a restart of the scheduler, for the engines that were there before (any thread)."""
        if self._returning and time.monotonic() < self._returned_by:
            with self.changed:
                self.changed.wait_for(
                    lambda: self.error is not None or self._returning <= self.roster.engines.keys(),
                    self._returned_by - time.monotonic(),
                )
        self._returning = frozenset()

    # --- sending ---------------------------------------------------------------------------------------------

    def _send(self, message: messages.Message) -> None:
        if self.connection is not None and self.error is None:
            self.connection.send(message)

    def _send_all(self, outgoing: Iterator[tuple[messages.Message, Request | None]]) -> None:
        connection = self.connection
        assert connection is not None
        for message, request in outgoing:
            connection.send(message, (), request)

    def send_ready(self) -> None:
        """Send what there is room for at the scheduler."""
        self._send_due = False
        if self.error is None:
            self._send_all(self.ledger.next_messages())

    def take(self, item: Request | messages.Message) -> None:
        """A submission or another message, from the user's thread."""
        if self.error is not None:
            if type(item) is Request:
                self._end_with(item.tasks, self.error)
        elif type(item) is Request:
            self.ledger.add(item)
        else:
            self.send_ready()  # what was submitted before goes before
            self._send(item)  # type: ignore[arg-type]

    def attach(self, tasks: list[Task]) -> None:
        """Ask for the outcomes of tasks that another session sent."""
        if self.error is not None:
            self._end_with(tasks, self.error)
            return
        for message in self.ledger.attach([task.id for task in tasks]):
            self._send(message)

    def abort_queued(self, task_ids: list[str]) -> None:
        """End those that the scheduler has not heard of."""
        for task_id in self.ledger.queued(task_ids):
            task = self.ledger.open[task_id]
            self._end(task, local_outcome(task, "aborted", "TaskAborted", f"{task_id} was aborted before it was sent"))

    # --- the end of tasks ------------------------------------------------------------------------------------

    def _outcome(self, outcome: messages.Outcome) -> None:
        task = self.ledger.open.get(outcome.task)
        if task is None:
            if outcome.sizes:
                self._send(messages.Received([outcome.task]))
            return
        if outcome.sizes:
            self._fetching[outcome.task] = (outcome, Assembly(outcome.sizes))
            self._send(messages.Pull(outcome.task))
            return
        if self._fetching:
            self._fetching.pop(outcome.task, None)
        self._end(task, outcome)

    def _chunk(self, chunk: messages.Chunk, frames: list[memoryview]) -> None:
        fetching = self._fetching.get(chunk.task)
        if fetching is None:
            return
        outcome, assembly = fetching
        piece = frames[0]
        assembly.add(chunk.offset, piece)
        if not assembly.complete:
            self._send(messages.Credit(chunk.task, piece.nbytes))
            return
        del self._fetching[chunk.task]
        self._send(messages.Credit(chunk.task, piece.nbytes))
        self._send(messages.Received([chunk.task]))
        task = self.ledger.open.get(chunk.task)
        if task is not None:
            task.buffers = assembly.buffers()
            self._end(task, outcome)

    def _end(self, task: Task, outcome: messages.Outcome) -> None:
        ledger = self.ledger
        if ledger.ended(task.id) is None:
            return
        task.received = time.time()
        task.engine = outcome.engine
        with self.lock:
            task.outcome = outcome
            groups, task.groups = task.groups, ()
        self.finished[task.id] = task
        for group in groups:
            if group.task_ended(task):
                if not self._due:
                    self._loop.at_turn_end(self._tell_watchers)
                self._due[group] = None
        if ledger.waiting and not self._send_due:
            self._send_due = True
            self._loop.at_turn_end(self.send_ready)

    def _tell_watchers(self) -> None:
        due, self._due = self._due, {}
        for group in due:
            group.tell_watchers()

    def _end_with(self, tasks: Any, error: SecureIppError) -> None:
        for task in tasks:
            task.fail(error)
            self._end(task, local_outcome(task, "error", type(error).__name__, str(error)))

    def fail(self, error: SecureIppError) -> None:
        """There is no connection and there will be none: all that waits ends."""
        if self.error is not None:
            return
        self.error = error
        self._end_with(list(self.ledger.open.values()), error)
        self.questions.end(error)
        with self.changed:
            self.roster.clear()
            self.changed.notify_all()

    # --- other messages --------------------------------------------------------------------------------------

    def _allowance(self, message: messages.Allowance) -> None:
        self.ledger.most_tasks = min(message.tasks, limits.OWNER_TASKS)
        self.ledger.most_bytes = min(message.bytes, limits.OWNER_TASK_BYTES)
        self.send_ready()

    def _roster(self, message: messages.Roster) -> None:
        with self.changed:
            self.roster.apply(message)
            self.changed.notify_all()

    def _output(self, message: messages.Output) -> None:
        task = self.ledger.open.get(message.task)
        if task is None:
            return
        printed = task.output()
        (printed.stdout if message.name == "stdout" else printed.stderr).append(message.text)
        for group in task.groups:
            if group.streaming:
                self.callbacks.call(lambda g=group, m=message: g.show(m))  # type: ignore[misc]

    def _display(self, message: messages.Display) -> None:
        task = self.ledger.open.get(message.task)
        if task is None:
            return
        task.output().add_display(message.kind, message.content)
        for group in task.groups:
            if group.streaming:
                self.callbacks.call(lambda g=group, m=message: g.show(m))  # type: ignore[misc]

    def _need_function(self, message: messages.NeedFunction) -> None:
        function = self.ledger.function(message.digest)
        if function is not None:
            self._send(function)

    def _pull(self, message: messages.Pull) -> None:
        chunks = self.ledger.pull(message.task)
        if chunks is not None:
            self._send_chunks(message.task, chunks)
            return
        task = self.ledger.open[message.task]
        self._send(messages.Abort(0, [message.task]))
        self._end(task, local_outcome(
            task, "lost", "EngineError", "its arguments were let go here before they were asked for again"
        ))

    def _credit(self, message: messages.Credit) -> None:
        self._send_chunks(message.task, self.ledger.credit(message.task, message.bytes))

    def _send_chunks(self, task_id: str, chunks: Iterator[tuple[int, memoryview]]) -> None:
        assert self.connection is not None
        for offset, piece in chunks:
            self.connection.send(messages.Chunk(task_id, offset), (piece,))

    def _failure(self, message: messages.Failure) -> None:
        if not self.questions.failed(message):
            log.warning("the controller refused something: %s", error_of(message))

    def _notice(self, message: messages.Notice) -> None:
        text = line(message.text)
        if message.level == "info":
            log.info("%s", text)
        else:
            self.warn(text)

    def _head(self, message: messages.Head) -> None:
        said = self._heads.came(message)
        if said:
            self.warn(said)
        now = time.monotonic()
        if now - self._head_kept >= limits.SEEN_SECONDS or not self._head_kept:
            self._head_kept = now
            self.callbacks.call(self.keep_head)

    def keep_head(self) -> None:
        """Remember the newest head; not in the I/O thread, for it waits for the disk."""
        self._seen.keep(self._heads.known)

    def warn(self, text: str) -> None:
        """Warn the user, on the thread for callbacks."""
        self.callbacks.call(lambda: warnings.warn(text, RuntimeWarning, stacklevel=2))

    def _goodbye(self, message: messages.Goodbye) -> None:
        assert self.connection is not None
        self.connection.abandon()
        self.fail(PeerError(
            f"the controller ended the session: {line(message.reason) or 'it is stopping'}",
            "start the cluster again, or ask its owner; then make a new client",
        ))
        self.closed.set()

    def broken(self, error: BaseException) -> None:
        """The I/O thread met an error that it cannot go on from."""
        problem = error if isinstance(error, ProtocolError) else PeerError(
            f"the client's I/O ended: {type(error).__name__}: {error}", "make a new client; the log has the traceback"
        )
        self.fail(problem)
        self.closed.set()
