"""What the owner of a connection is told."""

from __future__ import annotations

from typing import Any, Protocol

from secure_ipp.errors import SecureIppError
from secure_ipp.wire import messages


class ConnectionHandler(Protocol):
    """Told of everything in the loop's thread; must not block."""

    def on_welcome(self, welcome: messages.Welcome) -> None:
        """A session is there; unless `resumed`, the other end knows nothing of what was before."""

    def on_message(self, message: Any, frames: list[memoryview]) -> None:
        """A message, in order, once; bulk data in `frames`."""

    def on_acknowledged(self, tokens: list[object]) -> None:
        """The other process has these messages."""

    def on_lost(self, reason: str) -> None:
        """The connection is gone and another is being tried."""

    def on_failed(self, error: SecureIppError) -> None:
        """No connection, and none will be tried any more."""

    def on_closed(self) -> None:
        """After `close`: everything was flushed, or its time was over."""
