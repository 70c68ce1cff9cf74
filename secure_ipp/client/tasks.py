"""What a client knows of one task: a slim record, made before the task is sent and complete when it has ended.

A task is written by the I/O thread (its outcome and output) and read by whoever waits; `outcome` is set last, once.
Laws: the value is unpickled by the first reader, not by the I/O thread; it is unpickled once; a task holds on to the
asynchronous results that watch it only until it ends, so that dropping them frees everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from secure_ipp import limits
from secure_ipp.client.errors import KernelError, TaskAborted, UnknownTask, remote_error
from secure_ipp.client.metadata import metadata_of
from secure_ipp.client.replies import ExecuteReply
from secure_ipp.client.terminal import harmless
from secure_ipp.errors import SecureIppError
from secure_ipp.payload import objects
from secure_ipp.wire import messages

if TYPE_CHECKING:
    from secure_ipp.client.asyncresult import AsyncResult
    from secure_ipp.client.ledger import Request

_NOT_LOADED: Any = object()
_SMALL = 1024  # bytes of a body that are not worth dropping once it is unpickled


class Call:
    """What the tasks of one call have in common."""

    __slots__ = ("after", "broadcast", "code", "follow", "kind", "label", "name", "trust")

    def __init__(
        self, name: str, kind: messages.Kind, label: str = "", *, code: str = "", broadcast: bool = False,
        after: Any = None, follow: Any = None, trust: objects.Trust | None = None,
    ) -> None:
        self.name = name
        self.kind: messages.Kind = kind
        self.label = label
        self.code = code  # of an execute
        self.broadcast = broadcast
        self.after = after
        self.follow = follow
        self.trust = trust  # what its results may hold; None: as the session has it

    @property
    def method(self) -> str:
        return "execute" if self.kind == "execute" else "apply"


class Printed:
    """Output of a task, as it came."""

    __slots__ = ("data", "displays", "result", "stderr", "stdout")

    def __init__(self) -> None:
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self.displays: list[dict[str, Any]] = []
        self.result: dict[str, Any] | None = None
        self.data: dict[str, Any] = {}

    def add_display(self, kind: str, content: str) -> None:
        """Keep a rich output, unless it is none."""
        try:
            bundle = msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError):
            return
        if not isinstance(bundle, dict):
            return
        if kind == "execute_result":
            self.result = bundle
        elif kind == "data":
            data = bundle.get("data", bundle)
            self.data.update(data if isinstance(data, dict) else {})
        elif kind == "clear_output":
            self.displays.clear()
        elif kind == "display_data":
            self.displays.append(bundle)


class Task:
    """One task of this client, or one of its identity's that it asked for."""

    __slots__ = (
        "__weakref__", "_value", "_weighed", "bad", "buffers", "call", "engine", "groups", "id", "outcome", "printed",
        "received", "request", "submitted",
    )

    def __init__(self, task_id: str, call: Call, submitted: float, engine: int = -1) -> None:
        self.id = task_id
        self.call = call
        self.submitted = submitted
        self.engine = engine
        self.groups: tuple[AsyncResult, ...] = ()
        self.outcome: messages.Outcome | None = None
        self.buffers: list[Any] | None = None  # of a streamed result
        self.printed: Printed | None = None
        self.received = 0.0
        self.request: Request | None = None
        self._value = _NOT_LOADED
        self._weighed: objects.Trust | None = None  # the trust that its value was made with, if another may differ
        self.bad = False  # its value, once asked for, is the error that it ended with

    def output(self) -> Printed:
        """Where its output is kept; made when there is some."""
        if self.printed is None:
            self.printed = Printed()
        return self.printed

    def fail(self, error: SecureIppError) -> None:
        """Let this error be its result, whatever its outcome will say."""
        self._value = error
        self.bad = True

    @property
    def sent(self) -> bool:
        """Its arguments have left this process; in any case when it has ended."""
        request = self.request  # None until the I/O thread has taken it, and again when the task has ended
        return self.outcome is not None or (request is not None and request.delivered)

    def result(self, trust: objects.Trust) -> Any:
        """Its value, or the error that it ended with (as a value).

        Args:
            trust: what may be unpickled (S19).
        """
        if self._value is _NOT_LOADED or (self._weighed is not None and self._weighed != trust):
            outcome = self.outcome
            assert outcome is not None
            self._weighed = None
            if outcome.status == "ok":
                self.bad = False
                self._value = self._load(outcome, trust)
            else:
                self.bad = True
                self._value = self._error(outcome)
            if self._weighed is not None:
                return self._value  # the bytes are kept for a user who trusts them more
            self.buffers = None
            if len(outcome.body) > 1 or (outcome.body and len(outcome.body[0]) > _SMALL):
                self.outcome = msgspec.structs.replace(outcome, body=[])
        return self._value

    @property
    def failure(self) -> Any:
        """The error that it ended with; None if it has not, or ended well."""
        if self.outcome is not None and self.outcome.status != "ok":
            return self.result("data")  # nothing to unpickle
        return self._value if self.bad else None

    def _load(self, outcome: messages.Outcome, trust: objects.Trust) -> Any:
        # No other kind counts cells; of a task that another session sent the kind is not known here.
        if self.call.kind == "execute" or outcome.execution_count:
            self._weighed = trust
            return ExecuteReply(outcome, metadata_of(self, as_sent=trust == "any"), trusted=trust == "any")
        buffers = self.buffers if self.buffers is not None else outcome.body
        if not buffers:
            return None
        try:
            return objects.loads(buffers, trust=trust)
        except objects.UntrustedResult as error:
            self.bad = True
            self._weighed = trust
            return error
        except Exception as error:  # noqa: BLE001  a result's own code, or a class that is absent here
            why = harmless(f"{type(error).__name__}: {error}")
            failed = KernelError(
                f"the result of {self.call.name} cannot be rebuilt here: {why}",
                "return plain data, or make the result's class importable here too",
            )
            failed.__cause__ = error
            self.bad = True
            return failed

    def _error(self, outcome: messages.Outcome) -> KernelError:
        if not outcome.known:
            return UnknownTask(f"no task {self.id} of this identity is known: it never was, or it was forgotten")
        info: dict[str, Any] = {"method": self.call.method}
        if outcome.engine >= 0:
            info = {"engine_id": outcome.engine, "engine_uuid": outcome.engine_uuid, **info}
        error = outcome.error
        if outcome.status == "aborted":
            return TaskAborted(harmless(error.evalue) if error is not None and error.evalue else self.id)
        if error is None:
            return remote_error("EngineError", f"the task ended as {outcome.status}", [], info)
        if outcome.status == "lost":
            return remote_error("EngineError", error.evalue, error.traceback, info)
        return remote_error(error.ename, error.evalue, error.traceback, info)


def local_outcome(task: Task, status: messages.Status, ename: str, text: str) -> messages.Outcome:
    """An end that this client declares itself."""
    return messages.Outcome(
        task=task.id, status=status, engine=-1, engine_uuid="", submitted=task.submitted, started=0.0, completed=0.0,
        body=[], sizes=[], error=messages.ErrorInfo(ename[: limits.TEXT_CHARS], text[: limits.TRACEBACK_CHARS], []),
    )
