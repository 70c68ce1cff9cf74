"""What the link to the hub tells, passed on to the process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from secure_ipp.errors import SecureIppError
from secure_ipp.wire import messages

_log = logging.getLogger(__name__)


class HubLink:
    """The handler of the connection to the hub.

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

    def on_welcome(self, welcome: messages.Welcome) -> None:
        self._welcomed(welcome.resumed)

    def on_message(self, message: Any, frames: list[memoryview]) -> None:
        self._said(message)

    def on_acknowledged(self, tokens: list[object]) -> None:
        """Nothing is sent with a token."""

    def on_lost(self, reason: str) -> None:
        _log.warning("the hub is away: %s", reason)

    def on_failed(self, error: SecureIppError) -> None:
        self._failed(error)

    def on_closed(self) -> None:
        """Never asked for: the link ends with the process."""
