"""What can be said of a result besides its value: metadata, times, output."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from secure_ipp.client.errors import TimeoutError
from secure_ipp.client.metadata import KEYS, Metadata, metadata_of, received_at, submitted_at
from secure_ipp.client.outputs import Show, display_bundle, print_text
from secure_ipp.client.tasks import Printed, Task
from secure_ipp.client.trust import said
from secure_ipp.payload.objects import Trust
from secure_ipp.wire import messages

if TYPE_CHECKING:
    from secure_ipp.client.session import Session

_SETTLE_SECONDS = 1.0  # for output that has come and is being printed


class TaskFacts(ABC):
    """The part of an asynchronous result that looks at its tasks and never at its value."""

    _tasks: Sequence[Task]
    _single: bool
    _session: Session
    streaming: int
    _trust: Trust | None = None  # said for this result alone

    @abstractmethod
    def done(self) -> bool:
        """Given by the class that this is mixed into."""

    @abstractmethod
    def _wait(self, limit: float | None) -> bool:
        """Given by the class that this is mixed into."""

    def _trust_of(self, task: Task) -> Trust:
        """What this task's result may hold: as was said for the result, else for the call, else for the client."""
        return self._trust or task.call.trust or self._session.trust

    @property
    def _shows_anything(self) -> bool:
        return all(self._trust_of(task) == "any" for task in self._tasks)

    @property
    def msg_ids(self) -> list[str]:
        """Ids of the tasks."""
        return [task.id for task in self._tasks]

    @property
    def metadata(self) -> Any:
        """Metadata of the task, or a list of those of the tasks."""
        found = [metadata_of(task, as_sent=self._trust_of(task) == "any") for task in self._tasks]
        return found[0] if self._single else found

    def _metadata_item(self, key: str) -> Any:
        found: Metadata | list[Metadata] = self.metadata
        return found[key] if isinstance(found, dict) else [one[key] for one in found]

    def __getattr__(self, name: str) -> Any:
        if name in KEYS:
            return self._metadata_item(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *KEYS})

    def timedelta(
        self, start: Any, end: Any, start_key: Callable[[Any], Any] = min, end_key: Callable[[Any], Any] = max
    ) -> float:
        """Seconds between two (sets of) datetimes: by default, from the earliest start to the latest end."""
        first = start if isinstance(start, datetime) else start_key(start)
        last = end if isinstance(end, datetime) else end_key(end)
        return float((last - first).total_seconds())

    def _needs_end(self) -> None:
        if not self.done():
            raise TimeoutError("Result not ready.")

    @property
    def elapsed(self) -> float:
        """Seconds since the first task was submitted (as far as that is known), up to the end if there is one."""
        now = time.time()
        first = min((at for task in self._tasks if (at := submitted_at(task))), default=now)
        last = max((received_at(task) for task in self._tasks), default=first) if self.done() else now
        return max(0.0, last - first)

    @property
    def serial_time(self) -> float:
        """Sum of the seconds that the tasks ran."""
        self._needs_end()
        ended = [task.outcome for task in self._tasks if task.outcome is not None and task.outcome.started]
        return sum(outcome.completed - outcome.started for outcome in ended)

    @property
    def wall_time(self) -> float:
        """Seconds from the first submission to the last arrival."""
        self._needs_end()
        return self.elapsed

    # --- output ------------------------------------------------------------------------------------------------

    def display_outputs(
        self, groupby: str = "type", result_only: bool = False, *, results: str | None = None
    ) -> None:
        """Show what the engines printed and displayed; waits for the end.

        Args:
            results: "any" shows in a notebook what would run there, too, or load things (HTML, SVG, scripts).
            groupby: "type", "engine" or "order" (see `outputs.Show`).
            result_only: leave out what may have been shown while it came.
        """
        self._wait(None)
        trusted = self._shows_anything if results is None else said("data", results) == "any"
        show = Show(self._tasks, single=self._single, trusted=trusted)
        ways = {"type": show.by_type, "engine": show.by_engine, "order": show.by_order}
        if groupby not in ways:
            raise ValueError(f"groupby is one of {', '.join(ways)}, not {groupby!r}")
        ways[groupby](result_only=result_only)

    @contextmanager
    def stream_output(self) -> Iterator[Self]:
        """While inside, output is printed and displayed as it comes; what came before, first."""
        self.streaming += 1
        for task in self._tasks:
            if task.printed:
                for name in ("stdout", "stderr"):
                    text = "".join(getattr(task.printed, name))
                    if text:
                        print_text(text, name, self._heading(name, task.engine))
                for bundle in [*task.printed.displays, *filter(None, [task.printed.result])]:
                    self._show_bundle(bundle, task.engine)
        try:
            yield self
        finally:
            self._session.receiver.callbacks.settle(_SETTLE_SECONDS)
            self.streaming -= 1

    def _heading(self, name: str, engine: int) -> str:
        return "" if self._single else f"[{name}:{engine}]"

    def show(self, message: messages.Output | messages.Display) -> None:
        """Print or display an output that just came (in the callback thread)."""
        if isinstance(message, messages.Output):
            print_text(message.text, message.name, self._heading(message.name, message.engine))
        elif message.kind in ("display_data", "execute_result"):
            came = Printed()
            came.add_display(message.kind, message.content)
            for bundle in [*came.displays, *filter(None, [came.result])]:
                self._show_bundle(bundle, message.engine)

    def _show_bundle(self, bundle: dict[str, Any], engine: int) -> None:
        heading = self._heading("output", engine)
        if heading:
            print(heading)
        display_bundle(bundle, trusted=self._shows_anything)
