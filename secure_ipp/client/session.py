"""A client's side of its session: the I/O thread, and the way for other threads to reach it.

Laws: user threads touch no socket; many submissions cost one wake-up; nothing waits for a connection that is over:
what is asked of it raises.  A session belongs to the process that made it: after a fork it refuses.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from secure_ipp import limits
from secure_ipp.client.ending import Ending
from secure_ipp.client.errors import ClientClosed, TimeoutError
from secure_ipp.client.heads import SeenFile
from secure_ipp.client.ledger import Request
from secure_ipp.client.receiver import Receiver
from secure_ipp.client.tasks import Call, Task
from secure_ipp.errors import ControllerUnreachable
from secure_ipp.keys.capability import Capability
from secure_ipp.keys.seen_doors import known_doors
from secure_ipp.payload.objects import Trust
from secure_ipp.wire import messages
from secure_ipp.wire.connection import Connection
from secure_ipp.wire.loop import Loop

if TYPE_CHECKING:
    from secure_ipp.tunnel.reached import Reached

log = logging.getLogger("secure_ipp.client")

_TAKEN_PER_TURN = 512  # submissions handed on before the loop looks at its sockets again
_EXIT_SECONDS = 1.0  # flushing at interpreter exit
_ORPHAN_SECONDS = 2.0  # a session whose client is gone is closed this soon

_sessions: WeakSet[Session] = WeakSet()


class Session:
    """One identity's connection to one cluster.

    Args:
        capability: a client's.
        trust: what its results may hold (S19).
        remembers: whether what was seen of the cluster outlives this process; not for one that does not, either.
    """

    def __init__(self, capability: Capability, trust: Trust, *, remembers: bool = True) -> None:
        self.capability = capability
        self.doors = known_doors(capability, remembers=remembers)
        self.trust: Trust = trust
        self._ending = Ending(capability)
        self.ends_soon = ""  # at the start: what its user should know
        self._look_again: float | None = None
        self._pid = os.getpid()
        self._prefix = secrets.token_urlsafe(9)
        self._count = 0
        self._count_lock = threading.Lock()
        self._inbox: deque[Request | Callable[[], None]] = deque()
        self._waking = False
        self._closing = False
        self.orphaned = False  # set when nobody holds the client any more
        self._loop = Loop()
        self.receiver = Receiver(self._loop, SeenFile(capability.cluster_id if remembers else ""))
        self._thread: threading.Thread | None = None
        self._reached: Reached | None = None

    # --- life ------------------------------------------------------------------------------------------------

    def start(self, timeout: float, reached: Reached | None = None) -> messages.Welcome:
        """Connect, and wait for the welcome and the list of engines.

        Args:
            reached: the way, which is this session's from now on; None: to the addresses of the file, with Curve.

        Raises:
            SecureIppError: there is no controller, or it refuses this key.
        """
        receiver, capability = self.receiver, self.capability
        if reached is not None:
            self._reached, receiver.explain = reached, reached.explain
        self.ends_soon, self._look_again = self._ending.look(time.time())
        receiver.connection = Connection(
            self._loop, doors=capability.tcp_doors if reached is None else reached.doors,
            server_key=self.doors, keys=capability.keys, role="client",
            receives=messages.ToClient, handler=receiver, first_patience=timeout,
            patience=limits.AGENT_PATIENCE_SECONDS,
            proves=None if reached is None else reached.prover(capability),
        )
        self._thread = threading.Thread(target=self._run, name="secure-ipp-client", daemon=True)
        self._thread.start()
        _sessions.add(self)
        deadline = time.monotonic() + timeout + 1.0
        with receiver.changed:
            receiver.changed.wait_for(
                lambda: (receiver.welcome is not None and receiver.roster.known) or receiver.error is not None,
                max(0.0, deadline - time.monotonic()),
            )
        if receiver.error is not None:
            self.close(timeout=0.0)
            raise receiver.error
        if receiver.welcome is None or not receiver.roster.known:
            self.close(timeout=0.0)
            raise receiver.explain(ControllerUnreachable(
                f"the controller of cluster {capability.cluster!r} did not answer within {timeout:g} s",
                "see whether it runs, or give a longer timeout",
            ))
        return receiver.welcome

    def _run(self) -> None:
        try:
            self._loop.call_later(0.0, self._begin)
            self._loop.run()
        except Exception as error:
            log.exception("the client's I/O thread failed")
            self.receiver.broken(error)
        finally:
            if self.receiver.connection is not None:
                self.receiver.connection.abandon()
            self._loop.close()
            self._refuse_rest()
            if self._reached is not None:
                self._reached.release()

    def _begin(self) -> None:
        assert self.receiver.connection is not None
        self.receiver.connection.start()
        if self._reached is not None:
            self._reached.watch(self._loop, self.receiver.connection, self.receiver.on_failed)
        self._loop.call_later(_ORPHAN_SECONDS, self._look_for_owner)
        self._look_for_end_in(self._look_again)

    def _look_for_end_in(self, seconds: float | None) -> None:
        if seconds is not None:
            self._loop.call_later(seconds, self._look_for_end)

    def _look_for_end(self) -> None:
        said, look_again = self._ending.look(time.time())
        if said:
            self.receiver.warn(said)
        self._look_for_end_in(look_again)

    def _look_for_owner(self) -> None:
        # A finalizer may run anywhere, also inside the loop's own locks: it only sets a flag.
        if not self.orphaned:
            self._loop.call_later(_ORPHAN_SECONDS, self._look_for_owner)
            return
        self._closing = True
        self._end(limits.CLOSE_SECONDS)
        self._stop_when_closed()

    def _stop_when_closed(self) -> None:
        if self.receiver.closed.is_set():
            self.receiver.callbacks.end()
            self._loop.stop()
        else:
            self._loop.call_later(0.05, self._stop_when_closed)

    def close(self, timeout: float = limits.CLOSE_SECONDS) -> None:
        """Flush, say goodbye and end the thread; what is unfinished here ends in `ClientClosed`.

        Args:
            timeout: seconds for the arguments of what was called to reach the cluster.
        """
        if self._closing or os.getpid() != self._pid:
            return
        self._closing = True
        thread = self._thread
        if thread is None:
            self._loop.close()
            if self._reached is not None:
                self._reached.release()
            return
        if threading.current_thread() is not thread:
            if thread.is_alive():
                self._loop.call_threadsafe(lambda: self._end(timeout))
                self.receiver.closed.wait(timeout + 0.5)
                self._loop.stop()
            thread.join(timeout + 1.0)
            self.receiver.keep_head()
        self.receiver.callbacks.end()

    def _end(self, timeout: float) -> None:
        self._drain_all()
        self._end_when_delivered(time.monotonic() + timeout)

    def _end_when_delivered(self, deadline: float) -> None:
        receiver = self.receiver
        connection = receiver.connection
        assert connection is not None
        if receiver.error is not None:
            receiver.closed.set()
            return
        remaining = deadline - time.monotonic()
        if remaining > 0 and connection.connected and receiver.ledger.undelivered:
            self._loop.call_later(0.02, lambda: self._end_when_delivered(deadline))
            return
        connection.close("the client was closed", max(0.2, remaining))
        receiver.fail(ClientClosed(
            "the client was closed before this ended",
            "the task goes on at its engine; another client of this identity can get its result by its id",
        ))

    @property
    def closed(self) -> bool:
        return self._closing or self.receiver.error is not None

    def check(self) -> None:
        """See whether anything can be asked of this session.

        Raises:
            SecureIppError: it cannot.
        """
        if os.getpid() != self._pid:
            raise ClientClosed(
                "this client was made in another process, before a fork", "make a new Client in each process"
            )
        if self._closing:
            raise ClientClosed("this client was closed", "make a new Client")
        if self.receiver.error is not None:
            raise self.receiver.error

    def check_waiting(self) -> None:
        """See whether this thread may wait for results.

        Raises:
            ClientClosed: it is in a forked child, where none will ever come.
        """
        if os.getpid() != self._pid:
            self.check()

    # --- submissions -----------------------------------------------------------------------------------------

    def new_tasks(self, call: Call, engines: Sequence[int]) -> list[Task]:
        """Fresh tasks, one for each engine named (-1: wherever)."""
        with self._count_lock:
            first = self._count + 1
            self._count += len(engines)
        prefix, now = self._prefix, time.time()
        return [Task(f"{prefix}-{first + i}", call, now, engine) for i, engine in enumerate(engines)]

    def submit(self, requests: Iterable[Request]) -> None:
        """Hand over requests, in order."""
        self.check()
        unfinished = self.receiver.ledger.open
        for request in requests:
            for task in request.tasks:
                unfinished[task.id] = task
            self._inbox.append(request)
        self._wake()
        if self.receiver.error is not None:
            self._refuse_rest()

    def _refuse_rest(self) -> None:
        """The I/O thread may be gone: end what it will not take any more."""
        while True:
            try:
                item = self._inbox.popleft()
            except IndexError:
                return
            if type(item) is Request:
                self.receiver.take(item)

    def _wake(self) -> None:
        if not self._waking:
            self._waking = True
            self._loop.call_threadsafe(self._drain)

    def _drain(self) -> None:
        self._waking = False
        inbox, receiver = self._inbox, self.receiver
        for _ in range(_TAKEN_PER_TURN):
            if not inbox:
                break
            item = inbox.popleft()
            if type(item) is Request:
                receiver.take(item)
            else:
                receiver.send_ready()  # what was submitted before goes before
                item()  # type: ignore[operator]
        receiver.send_ready()
        if inbox and not self._waking:
            self._waking = True
            self._loop.call_later(0.0, self._drain)

    def _drain_all(self) -> None:
        while self._inbox:
            self._drain()

    # --- requests --------------------------------------------------------------------------------------------

    def ask(self, make: Callable[[int], messages.Message], *, repeatable: bool = True) -> Future[Any]:
        """Send a request.

        Args:
            make: the message, given its number.
            repeatable: it may be sent again if the controller is lost before it answers.

        Returns:
            A future of the answer.
        """
        self.check()
        question = self.receiver.questions.new(make, repeatable=repeatable)

        def send() -> None:
            question.sent = True
            self.receiver.take(question.message)

        self._inbox.append(send)
        self._wake()
        if self.receiver.error is not None:
            self.receiver.questions.end(self.receiver.error)
        return question.future

    def abort(self, task_ids: Sequence[str], engines: Sequence[int] = ()) -> Future[Any]:
        """End tasks that have not started; no ids means all of this identity's."""
        self.check()
        if not engines:
            self._inbox.append(lambda: self.receiver.abort_queued(list(task_ids)))
        return self.ask(lambda number: messages.Abort(number, list(task_ids), list(engines)))

    def attach(self, tasks: list[Task]) -> None:
        """Wait for tasks that another session of this identity sent."""
        self.check()
        for task in tasks:
            self.receiver.ledger.open[task.id] = task
        self._inbox.append(lambda: self.receiver.attach(tasks))
        self._wake()
        if self.receiver.error is not None:
            self.receiver.attach(tasks)

    def question(self, question: messages.HubQuestion, timeout: float = 30.0) -> Any:
        """Ask the hub.

        Raises:
            TimeoutError: it does not answer.
            SecureIppError: it refuses.
        """
        from msgspec.msgpack import encode

        return answer(self.ask(lambda number: messages.Ask(number, encode(question))), timeout)

    def task(self, task_id: str) -> Task | None:
        """A task that is unfinished, or whose result somebody here still holds."""
        return self.receiver.ledger.open.get(task_id) or self.receiver.finished.get(task_id)


def answer(future: Future[Any], timeout: float | None) -> Any:
    """Wait for a request's answer.

    Raises:
        TimeoutError: it does not come in time.
    """
    from concurrent.futures import TimeoutError as Late

    try:
        return future.result(timeout)
    except Late:
        if future.done():
            raise
        raise TimeoutError(
            f"the controller did not answer within {timeout:g} s", "see whether it is overloaded, or gone"
        ) from None


def _close_all() -> None:
    for session in list(_sessions):
        session.close(_EXIT_SECONDS)


atexit.register(_close_all)
