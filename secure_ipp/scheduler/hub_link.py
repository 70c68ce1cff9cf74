"""What the link to the hub tells, passed on to the process."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from secure_ipp import limits
from secure_ipp.errors import SecureIppError
from secure_ipp.wire import messages

_log = logging.getLogger(__name__)


class Sender(Protocol):
    """What is needed of the connection to the hub."""

    def send(
        self, message: messages.Message, frames: tuple[()] = (), on_acknowledged: object | None = None, /
    ) -> None:
        """Queue a message."""


class HubLink:
    """The handler of the connection to the hub.

    Law: what was given to `record` is kept until the hub's process has it, over any number of new sessions; beyond
    `limits.RECORDS_UNACKNOWLEDGED` the oldest is dropped, and said so.

    Args:
        welcomed: a session is there; whether it was resumed.
        said: a message of the hub's.
        failed: the hub refused the link for good.
    """

    def __init__(
        self, welcomed: Callable[[bool], None], said: Callable[[Any], None], failed: Callable[[SecureIppError], None]
    ) -> None:
        self._welcomed = welcomed
        self._said = said
        self._failed = failed
        self._unsaid: OrderedDict[int, messages.Message] = OrderedDict()
        self._number = 0
        self._dropped = 0

    def record(self, connection: Sender, message: messages.Message) -> None:
        """Send what must not be lost: an event for the record, a request to stop."""
        self._number += 1
        self._unsaid[self._number] = message
        if len(self._unsaid) > limits.RECORDS_UNACKNOWLEDGED:
            self._unsaid.popitem(last=False)
            self._dropped += 1
            _log.error("the hub has been away for so long that %d events will not be on record", self._dropped)
        connection.send(message, (), self._number)

    def say_again(self, connection: Sender) -> None:
        """A new session of the hub's: it may not have what was not acknowledged."""
        if self._dropped:
            count, self._dropped = self._dropped, 0
            self.record(connection, messages.AuditEvent(messages.EVENTS_LOST, time.time(), {"count": str(count)}))
        for number, message in self._unsaid.items():
            connection.send(message, (), number)

    def on_welcome(self, welcome: messages.Welcome) -> None:
        self._welcomed(welcome.resumed)

    def on_message(self, message: Any, frames: list[memoryview]) -> None:
        self._said(message)

    def on_acknowledged(self, tokens: list[object]) -> None:
        for token in tokens:
            if isinstance(token, int):
                self._unsaid.pop(token, None)

    def on_lost(self, reason: str) -> None:
        _log.warning("the hub is away: %s", reason)

    def on_failed(self, error: SecureIppError) -> None:
        self._failed(error)

    def on_closed(self) -> None:
        """Never asked for: the link ends with the process."""
