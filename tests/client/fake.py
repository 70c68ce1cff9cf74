"""A scheduler made of plain messages, and a client's receiver without threads or sockets."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from secure_ipp.client.asyncresult import AsyncResult
from secure_ipp.client.heads import SeenFile
from secure_ipp.client.ledger import Request
from secure_ipp.client.receiver import Receiver
from secure_ipp.client.tasks import Call, Task
from secure_ipp.payload.objects import dumps
from secure_ipp.wire import messages


class FakeLoop:
    """Runs what is due at the end of a turn when `turn` is called."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def at_turn_end(self, callback: Callable[[], None]) -> None:
        self.due.append(callback)

    def turn(self) -> None:
        while self.due:
            due, self.due = self.due, []
            for callback in due:
                callback()


class FakeConnection:
    """Keeps what it is given to send."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.frames: list[bytes] = []
        self.tokens: list[object] = []
        self.abandoned = False

    def send(self, message: Any, frames: Any = (), on_acknowledged: object | None = None) -> None:
        self.sent.append(message)
        self.frames += [bytes(frame) for frame in frames]
        if on_acknowledged is not None:
            self.tokens.append(on_acknowledged)

    def abandon(self) -> None:
        self.abandoned = True

    def take(self) -> list[Any]:
        sent, self.sent = self.sent, []
        return sent


class Desk:
    """A receiver, its connection, and short ways to make tasks and their ends."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.connection = FakeConnection()
        self.receiver = Receiver(self.loop, SeenFile(""))  # type: ignore[arg-type]
        self.receiver.connection = self.connection  # type: ignore[assignment]
        self.aborted: list[list[str]] = []
        self.session = SimpleNamespace(
            receiver=self.receiver, trust="any", check_waiting=lambda: None, abort=self._abort
        )
        self.client = SimpleNamespace(session=self.session)
        self._count = 0

    def _abort(self, ids: list[str]) -> Any:
        self.aborted.append(ids)
        for task_id in ids:
            self.end(task_id, status="aborted")
        return SimpleNamespace(result=lambda timeout: None)

    def tasks(self, count: int = 1, kind: messages.Kind = "apply", name: str = "f") -> list[Task]:
        call = Call(name, kind)
        made = []
        for _ in range(count):
            self._count += 1
            made.append(Task(f"t{self._count}", call, 1000.0))
        return made

    def submit(self, tasks: list[Task], **fields: Any) -> list[Request]:
        requests = [Request(submit(task.id, **fields), (task,), b"code" if fields.get("function") else b"")
                    for task in tasks]
        for task, request in zip(tasks, requests, strict=True):
            self.receiver.ledger.open[task.id] = task
            self.receiver.take(request)
        self.receiver.send_ready()
        return requests

    def result(self, tasks: list[Task], **options: Any) -> AsyncResult:
        made = AsyncResult(self.client, tasks, "f", **options)  # type: ignore[arg-type]
        self.submit(tasks)
        return made

    def say(self, message: Any, frame: bytes | None = None) -> None:
        self.receiver.on_message(message, [] if frame is None else [memoryview(frame)])

    def end(self, task_id: str, value: Any = None, **fields: Any) -> None:
        self.say(outcome(task_id, value, **fields))
        self.loop.turn()


def submit(task: str, **fields: Any) -> messages.Submit:
    return messages.Submit(**{
        "task": task, "kind": "apply", "function": b"", "body": [], "sizes": [], "submitted": 1000.0, **fields,
    })


def direct(tasks: list[str], **fields: Any) -> messages.Direct:
    return messages.Direct(**{
        "tasks": tasks, "engines": list(range(len(tasks))), "kind": "apply", "function": b"", "body": [], "sizes": [],
        "submitted": 1000.0, **fields,
    })


def outcome(task: str, value: Any = None, **fields: Any) -> messages.Outcome:
    return messages.Outcome(**{
        "task": task, "status": "ok", "engine": 0, "engine_uuid": "u", "submitted": 1000.0, "started": 1001.0,
        "completed": 1002.0, "body": [bytes(b) for b in dumps(value)], "sizes": [], **fields,
    })


def failed(task: str, ename: str = "ValueError", evalue: str = "no", **fields: Any) -> messages.Outcome:
    error = messages.ErrorInfo(ename, evalue, [f"{ename}: {evalue}\n"])
    return outcome(task, status="error", error=error, body=[], **fields)


def welcome(resumed: bool = False) -> messages.Welcome:
    return messages.Welcome(
        session=b"s", resumed=resumed, received=0, incarnation=b"i", cluster="c", package="1", python="3.11.0"
    )
