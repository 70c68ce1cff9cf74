"""What one task wrote and showed, on its way to its client.

Pure.  Laws: order is kept within and between stdout, stderr and displays; texts of one name that follow each other
travel together; a task's output is bounded, and the cut is said once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secure_ipp import limits
from secure_ipp.payload.tracebacks import clean_text

Name = Literal["stdout", "stderr"]
DisplayKind = Literal["display_data", "execute_result", "error", "data", "clear_output"]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of stdout or stderr, small enough for one message."""

    name: Name
    text: str


@dataclass(frozen=True, slots=True)
class Shown:
    """Something rich, as JSON text small enough for one message."""

    kind: DisplayKind
    content: str


Event = Text | Shown


class TaskOutput:
    """The output of one task."""

    __slots__ = ("_events", "_pieces", "_room", "_said_cut", "_show_room", "number")

    def __init__(
        self, number: int, bound: int = limits.OUTPUT_BYTES_PER_TASK, show_bound: int = limits.DISPLAY_BYTES_PER_TASK
    ) -> None:
        self.number = number
        self._room = bound
        self._show_room = show_bound
        self._said_cut = False
        self._events: list[Event] = []
        self._pieces: list[tuple[Name, str]] = []

    def __bool__(self) -> bool:
        return bool(self._events or self._pieces)

    def write(self, name: Name, text: str) -> None:
        """Text that the task wrote."""
        if not text or self._said_cut:
            return
        if len(text) > self._room:
            text = text[: self._room]
            self._said_cut = True
        self._room -= len(text)
        self._pieces.append((name, text))
        if self._said_cut:
            bound = limits.OUTPUT_BYTES_PER_TASK // limits.MIB
            self._pieces.append((name, f"\n... output cut: a task may write {bound} MiB ...\n"))

    def show(self, kind: DisplayKind, content: str) -> bool:
        """Something rich that the task showed; False if there was no room for it."""
        if len(content) > min(self._show_room, limits.FRAME_BYTES // 2):
            return False
        self._show_room -= len(content)
        self._merge()
        self._events.append(Shown(kind, content))
        return True

    def take(self) -> list[Event]:
        """All that is there, once."""
        self._merge()
        events, self._events = self._events, []
        return events

    def _merge(self) -> None:
        pieces, self._pieces = self._pieces, []
        start = 0
        while start < len(pieces):
            name = pieces[start][0]
            end = start
            while end < len(pieces) and pieces[end][0] == name:
                end += 1
            text = "".join(piece[1] for piece in pieces[start:end])
            start = end
            for at in range(0, len(text), limits.OUTPUT_EVENT_BYTES):
                part = text[at : at + limits.OUTPUT_EVENT_BYTES]
                self._events.append(Text(name, clean_text(part, limits.OUTPUT_EVENT_BYTES)))
