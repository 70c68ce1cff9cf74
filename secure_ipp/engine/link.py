"""An engine's end of its link to the scheduler: turns messages into tasks, and what tasks leave into messages.

Runs in the thread that talks.  Laws: a new session begins with the report and all results that are still kept; a
result follows all output of its task; `Started` is said only of tasks that run for longer than a moment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from secure_ipp import limits
from secure_ipp.engine.bootstrap import EngineEvent
from secure_ipp.engine.executor import Finished
from secure_ipp.engine.output import Event, Text
from secure_ipp.engine.results import Piece, Results
from secure_ipp.engine.streams import Capture
from secure_ipp.engine.tasks import Action, Say, Task, TaskBoard
from secure_ipp.errors import SecureIppError
from secure_ipp.wire import messages
from secure_ipp.wire.loop import Loop

_MOMENT_SECONDS = 0.05  # a task that has run for so long is said to have started
log = logging.getLogger("secure_ipp.engine")


class EngineLink:
    """Handler of the engine's connection.

    Args:
        report: what to say of this engine; its lists are filled in here.
        start: hands a task to the thread that runs user code.
        registered: told the engine's id.
        end: told the exit status, and what to say to the agent, when it is over.
        interrupt: interrupts the task of this number, if it still runs.
    """

    def __init__(
        self, loop: Loop, board: TaskBoard, capture: Capture, *, report: messages.Report,
        start: Callable[[Task], None], registered: Callable[[int], None],
        end: Callable[[int, EngineEvent | None], None], interrupt: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._board = board
        self._capture = capture
        self._report = report
        self._start = start
        self._registered = registered
        self._end = end
        self._interrupt = interrupt
        self._results = Results()
        self._ticking = False
        self._said_started = 0
        self.connection: Any = None
        self._handlers: dict[type, Callable[[Any, list[memoryview]], None]] = {
            messages.Assign: lambda message, _: self._act(board.assign(message)),
            messages.EngineFunction: lambda message, _: self._act(board.function(message)),
            messages.EngineChunk: lambda message, frames: self._act(board.chunk(message, frames[0])),
            messages.Cancel: lambda message, _: self._cancel(message),
            messages.Forget: lambda message, _: board.forget(message.owner),
            messages.Kept: lambda message, _: self._results.kept(message.numbers),
            messages.EnginePull: lambda message, _: self._stream(self._results.pull(message.number)),
            messages.EngineCredit: lambda message, _: self._stream(
                self._results.credit(message.number, message.bytes)
            ),
            messages.Registered: lambda message, _: self._registered(message.id),
            messages.Dismiss: lambda message, _: self._dismissed(message.reason),
            messages.Goodbye: lambda message, _: self._dismissed(message.reason or "the scheduler ended"),
        }

    # --- events of the connection ------------------------------------------------------------------------

    def on_welcome(self, welcome: messages.Welcome) -> None:
        if welcome.resumed:
            return
        self._results.forget_readings()
        asked = self._board.new_session()
        kept = self._results.unacknowledged()
        self.connection.send(
            replace(
                self._report, highest=self._board.highest, started=self._board.started, live=self._board.live(),
                finished=[result.number for result in kept],
            )
        )
        for result in kept:
            self.connection.send(result)
        self._act(asked)

    def on_message(self, message: Any, frames: list[memoryview]) -> None:
        self._handlers[type(message)](message, frames)

    def on_acknowledged(self, tokens: list[object]) -> None:
        """The scheduler's `Kept` counts, not the link's word."""

    def on_lost(self, reason: str) -> None:
        log.warning("connection to the scheduler lost: %s", reason)

    def on_failed(self, error: SecureIppError) -> None:
        log.error("%s", error)
        self._end(3, EngineEvent("failed", -1, error.code, error.message, error.advice))

    def on_closed(self) -> None:
        """Engines do not say goodbye: they are dismissed or stopped."""

    # --- in ------------------------------------------------------------------------------------------------

    def _dismissed(self, reason: str) -> None:
        log.info("dismissed: %s", reason)
        self._end(0, None)

    def _cancel(self, message: messages.Cancel) -> None:
        self._act(self._board.cancel(message))
        running = self._board.running
        if message.interrupt and running is not None and running.number in message.numbers:
            self._interrupt(running.number)

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Say):
                self.connection.send(action.message)
            else:
                self._start(action.task)
                if not self._ticking:
                    self._ticking = True
                    self._loop.call_later(limits.OUTPUT_COALESCE_SECONDS, self._tick)

    # --- out -----------------------------------------------------------------------------------------------

    def finished(self, finished: Finished) -> None:
        """A task has ended."""
        self._tell(finished.result.number, finished.output)
        self.connection.send(self._results.keep(finished.result, finished.stream))

    def _tell(self, number: int, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Text):
                self.connection.send(messages.EngineOutput(number, event.name, event.text))
            else:
                self.connection.send(messages.EngineDisplay(number, event.kind, event.content))

    def _stream(self, pieces: list[Piece]) -> None:
        for message, view in pieces:
            self.connection.send(message, [view])

    def _tick(self) -> None:
        """While there is work: say what runs long, and pass on what it writes."""
        running = self._board.running
        since = 0.0 if running is None or running.number <= self._said_started else running.since
        if running is not None and since and time.time() - since >= _MOMENT_SECONDS:
            self._said_started = running.number
            self.connection.send(messages.Started(running.number, since))
        self._capture.drain()
        for number, events in self._capture.take():
            self._tell(number, events)
        self._ticking = self._board.busy
        if self._ticking:
            self._loop.call_later(limits.OUTPUT_COALESCE_SECONDS, self._tick)
