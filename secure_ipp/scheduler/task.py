"""A task and its states: one table, one place."""

from __future__ import annotations

import enum
from typing import Any, Literal

from secure_ipp.scheduler.dependencies import Waits
from secure_ipp.scheduler.quota import Charge
from secure_ipp.wire.messages import Kind

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


class Task:
    """One task of one owner; lives in the scheduler until it has ended."""

    __slots__ = (
        "aborting",
        "accepted_at",
        "adopted",
        "after",
        "after_flags",
        "attempt",
        "body",
        "charge",
        "deadline",
        "engine",
        "excluded",
        "follow",
        "follow_flags",
        "function",
        "group",
        "id",
        "kind",
        "label",
        "mode",
        "number",
        "owner",
        "places",
        "printed",
        "queued",
        "recalling",
        "retries",
        "session",
        "shown",
        "sizes",
        "state",
        "stderr",
        "stdout",
        "submitted",
        "targets",
        "waits",
        "watchers",
        "withdrawn",
        "written",
    )

    def __init__(
        self, owner: str, task_id: str, *, kind: Kind, function: bytes, body: list[bytes], sizes: list[int],
        submitted: float, label: str, mode: Mode, session: Any, accepted_at: float,
    ) -> None:
        self.owner = owner
        self.id = task_id
        self.kind = kind
        self.function = function
        self.body = body
        self.sizes = sizes
        self.submitted = submitted
        self.label = label
        self.mode: Mode = mode
        self.session = session  # whom the outcome goes to; None: nobody is there
        self.accepted_at = accepted_at
        self.state = S.ACCEPTED
        self.attempt = 1
        self.retries = 0
        self.targets: frozenset[int] = frozenset()  # engines allowed; empty: any
        self.excluded: set[int] = set()  # engines where a dependency was not met
        self.after: list[str] = []
        self.follow: list[str] = []
        self.waits: tuple[Waits, Waits] | None = None  # for `after` and `follow`, until they are met
        self.places: frozenset[int] | None = None  # engines that may run it, once that is known; None: any
        self.after_flags = 5
        self.follow_flags = 5
        self.deadline = 0.0  # for its dependencies; 0: none
        self.queued: Any = None  # where it waits for an engine
        self.engine: Any = None
        self.number = -1
        self.group = task_id  # names the stream of a shared body
        self.watchers: list[Any] = []  # further sessions of the owner that asked for the outcome
        self.adopted = False  # known from an engine's report after a restart; its body is not here
        self.aborting = False  # its engine was asked to give it back for good
        self.withdrawn = ""  # why, if it was not its owner who asked
        self.recalling = False  # its engine was asked to give it back for another one
        self.charge: Charge | None = None
        self.written = self.shown = 0  # characters that its engine has passed on, as text and as rich output
        self.printed = 0  # characters in these two, and what was left out
        self.stdout: list[str] = []
        self.stderr: list[str] = []

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
