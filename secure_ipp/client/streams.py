"""Large bodies under way between this client and the scheduler.  Pure: it says which chunks may go.

Laws: not more than `STREAM_CREDIT_BYTES` bytes (or one chunk) are ahead of the receiver's credit; credit for what
was never sent is a `ProtocolError`; a stream that is asked for again starts at its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator

from secure_ipp import limits
from secure_ipp.errors import ProtocolError
from secure_ipp.payload.body import Stream


class Outgoing:
    """Arguments on their way to an engine."""

    __slots__ = ("_next", "_pieces", "_total", "credited", "sent")

    def __init__(self, stream: Stream) -> None:
        self._total = stream.total
        self._pieces = iter(stream)
        self._next: tuple[int, memoryview] | None = next(self._pieces, None)
        self.sent = 0
        self.credited = 0

    def ready(self) -> Iterator[tuple[int, memoryview]]:
        """The chunks that there is credit for: (offset, bytes)."""
        while self._next is not None and self.sent - self.credited < limits.STREAM_CREDIT_BYTES:
            offset, piece = self._next
            self.sent += piece.nbytes
            self._next = next(self._pieces, None)
            yield offset, piece

    def credit(self, count: int) -> None:
        """The receiver took so many bytes more.

        Raises:
            ProtocolError: more than were sent.
        """
        if self.credited + count > self.sent:
            raise ProtocolError(f"credit for {self.credited + count} bytes of which {self.sent} were sent")
        self.credited += count

    @property
    def delivered(self) -> bool:
        """The receiver has taken all of it."""
        return self.credited == self._total
