"""Finished work that is not yet safe elsewhere, and its way out.

Pure.  Laws: a result is kept until the scheduler says `Kept`; a large one leaves only when it is pulled, with at
most `STREAM_CREDIT_BYTES` under way, any number of times; what is kept of large results is bounded, and a result for
which there is no room becomes an error that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from secure_ipp import limits
from secure_ipp.payload.body import Stream
from secure_ipp.payload.tracebacks import plain_error
from secure_ipp.wire.messages import EngineChunk, Result

Piece = tuple[EngineChunk, memoryview]


class _Reading:
    """One streaming of one result."""

    __slots__ = ("_next", "_pieces", "number", "under_way")

    def __init__(self, number: int, stream: Stream) -> None:
        self.number = number
        self.under_way = 0
        self._pieces: Iterator[tuple[int, memoryview]] = stream.pieces()
        self._next = next(self._pieces, None)

    def pieces(self) -> list[Piece]:
        """What may leave now."""
        leaving: list[Piece] = []
        while self._next is not None:
            offset, view = self._next
            if self.under_way + view.nbytes > limits.STREAM_CREDIT_BYTES:
                break
            self.under_way += view.nbytes
            leaving.append((EngineChunk(self.number, offset), view))
            self._next = next(self._pieces, None)
        return leaving


class Results:
    """All results that this engine still keeps."""

    def __init__(self, most_bytes: int = limits.ENGINE_RESULT_BYTES) -> None:
        self._most = most_bytes
        self._results: dict[int, Result] = {}
        self._streams: dict[int, Stream] = {}
        self._readings: dict[int, _Reading] = {}
        self.large_bytes = 0

    def keep(self, result: Result, stream: Stream | None) -> Result:
        """Keep a result; returns what is to be sent for it."""
        if stream is not None:
            if self._streams and self.large_bytes + stream.total > self._most:
                result = replace(
                    result, status="error", body=[], sizes=[],
                    error=plain_error(
                        "EngineError",
                        f"the result of {stream.total} bytes was dropped: this engine already keeps "
                        f"{self.large_bytes} bytes of results that nobody has fetched\n"
                        "  -> fetch results (`.get()`) before asking for more, or keep them in the engine's namespace",
                    ),
                )
            else:
                self._streams[result.number] = stream
                self.large_bytes += stream.total
        self._results[result.number] = result
        return result

    def kept(self, numbers: Iterable[int]) -> None:
        """These are safe elsewhere."""
        for number in numbers:
            self._results.pop(number, None)
            self._readings.pop(number, None)
            stream = self._streams.pop(number, None)
            if stream is not None:
                self.large_bytes -= stream.total

    def pull(self, number: int) -> list[Piece]:
        """Stream a result, from its beginning."""
        stream = self._streams.get(number)
        if stream is None:
            return []
        reading = self._readings[number] = _Reading(number, stream)
        return reading.pieces()

    def credit(self, number: int, taken: int) -> list[Piece]:
        """The reader has taken so many bytes more (unverified: never more room than was in use)."""
        reading = self._readings.get(number)
        if reading is None:
            return []
        reading.under_way -= min(taken, reading.under_way)
        return reading.pieces()

    def unacknowledged(self) -> list[Result]:
        """To be sent again in a new session, oldest first."""
        return [self._results[number] for number in sorted(self._results)]

    def forget_readings(self) -> None:
        """A new session: whoever read will ask anew."""
        self._readings.clear()
