"""A task and its states: one table, one place."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Literal

from msgspec import Struct

from secure_ipp.scheduler.dependencies import Waits
from secure_ipp.scheduler.quota import Charge
from secure_ipp.wire.messages import ErrorInfo, Kind

Mode = Literal["direct", "balanced", "broadcast"]


class TaskState(enum.Enum):
    SUBMITTED = "submitted"  # resent after a restart; not yet known whether it ran
    ACCEPTED = "accepted"
    ASSIGNED = "assigned"
    STARTED = "started"
    OK = "ok"
    ERROR = "error"
    ABORTED = "aborted"
    LOST = "lost"

    __hash__ = object.__hash__  # Enum's own is Python code, and every step of every task looks a state up


S = TaskState
ENDED = frozenset({S.OK, S.ERROR, S.ABORTED, S.LOST})
_NEXT: dict[TaskState, frozenset[TaskState]] = {
    S.SUBMITTED: frozenset({S.ACCEPTED, S.ASSIGNED, S.STARTED}) | ENDED,
    S.ACCEPTED: frozenset({S.ASSIGNED}) | ENDED,
    # back to accepted: recalled, retried, or its engine died before it started
    S.ASSIGNED: frozenset({S.STARTED, S.ACCEPTED}) | ENDED,
    S.STARTED: frozenset({S.ACCEPTED}) | ENDED,
    S.OK: frozenset(),
    S.ERROR: frozenset(),
    S.ABORTED: frozenset(),
    S.LOST: frozenset(),
}


class IllegalTransition(RuntimeError):
    """A defect of ours, no peer's or user's: a task was moved where its table does not lead."""


class Task(Struct, eq=False):
    """One task of one owner; lives in the scheduler until it has ended.

    A Struct, whose many fields are set from defaults in C: a task is made for every call of every client.
    """

    owner: str
    id: str
    kind: Kind
    function: bytes
    body: list[bytes]
    sizes: list[int]
    submitted: float
    label: str
    mode: Mode
    session: Any  # whom the outcome goes to; None: nobody is there
    accepted_at: float
    group: str  # names the stream of a shared body; at first the task itself
    charge: Charge | None = None
    state: TaskState = S.ACCEPTED
    attempt: int = 1
    retries: int = 0
    targets: frozenset[int] = frozenset()  # engines allowed; empty: any
    excluded: frozenset[int] = frozenset()  # engines where a dependency was not met
    after: list[str] = []
    follow: list[str] = []
    waits: tuple[Waits, Waits] | None = None  # for `after` and `follow`, until they are met
    places: frozenset[int] | None = None  # engines that may run it, once that is known; None: any
    after_flags: int = 5
    follow_flags: int = 5
    deadline: float = 0.0  # for its dependencies; 0: none
    queued: Any = None  # where it waits for an engine
    engine: Any = None
    number: int = -1
    ticket: bytes = b""  # of its assignment
    watchers: list[Any] = []  # further sessions of the owner that asked for the outcome
    adopted: bool = False  # known from an engine's report after a restart; its body is not here
    aborting: bool = False  # its engine was asked to give it back for good
    withdrawn: ErrorInfo | None = None  # why, if it was not its owner who asked
    recalling: bool = False  # its engine was asked to give it back for another one
    written: int = 0  # characters that its engine has passed on as text
    shown: int = 0  # and as rich output
    printed: int = 0  # characters in these two, and what was left out
    stdout: list[str] = []
    stderr: list[str] = []

    def to(self, state: TaskState) -> None:
        """Move to another state.

        Raises:
            IllegalTransition: the table has no such step.
        """
        if state not in _NEXT[self.state]:
            raise IllegalTransition(f"task {self.id}: {self.state.value} -> {state.value}")
        self.state = state

    @property
    def constrained(self) -> bool:
        """Not every engine will do."""
        return self.places is not None or bool(self.excluded)

    def runs_on(self, engines: Iterable[Any]) -> bool:
        """Whether one of these engines may run it."""
        return not self.constrained or any(
            (self.places is None or engine.id in self.places) and engine.id not in self.excluded for engine in engines
        )
