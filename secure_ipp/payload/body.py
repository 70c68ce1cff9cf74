"""Bodies on their way: small ones inside their message, large ones as a stream of pieces.

Decides how a list of buffers is cut, and puts received pieces together again.  No sockets.

Laws.
- A piece never spans two buffers and never exceeds `CHUNK_BYTES`; sending copies nothing.
- Pieces are received in order: a gap, an overlap or a byte too many is a ProtocolError.
- Memory of an announced body is used as its bytes arrive, not when it is announced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from secure_ipp import limits
from secure_ipp.errors import ProtocolError, UsageError
from secure_ipp.payload.memory import memory_to_fill
from secure_ipp.payload.objects import Buffer


class Stream:
    """A large body to be sent, piece by piece, any number of times."""

    __slots__ = ("_views", "sizes", "total")

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self._views = [memoryview(buffer).cast("B") for buffer in buffers]
        self.sizes = [view.nbytes for view in self._views]
        self.total = sum(self.sizes)

    def pieces(self) -> Iterator[tuple[int, memoryview]]:
        """(offset in the whole, at most CHUNK_BYTES), from the beginning."""
        offset = 0
        for view in self._views:
            for start in range(0, view.nbytes, limits.CHUNK_BYTES):
                piece = view[start : start + limits.CHUNK_BYTES]
                yield offset + start, piece
            offset += view.nbytes

    def __iter__(self) -> Iterator[tuple[int, memoryview]]:
        return self.pieces()


def as_body(buffers: Sequence[Buffer]) -> tuple[list[bytes], list[int], Stream | None]:
    """How these buffers travel: (body, sizes, stream), as the messages have it.

    A small body is copied, so that later changes to the caller's arrays do not travel.

    Raises:
        UsageError: too large, or in too many buffers.
    """
    if len(buffers) == 1:  # nearly all calls and results
        only = buffers[0]
        if type(only) is bytes and len(only) <= limits.INLINE_BYTES:
            return [only], [], None
    total = 0
    for buffer in buffers:
        total += len(buffer) if type(buffer) is bytes else memoryview(buffer).nbytes
    if total <= limits.INLINE_BYTES and len(buffers) <= limits.BUFFERS:
        return [buffer if type(buffer) is bytes else bytes(buffer) for buffer in buffers], [], None
    if total > limits.BODY_BYTES:
        raise UsageError(
            f"{total:,} bytes are more than one task may carry ({limits.BODY_BYTES:,})",
            "send it in parts, or let the engines read it from a file",
        )
    if len(buffers) > limits.BUFFERS:
        raise UsageError(f"{len(buffers)} buffers are more than one task may carry", "join them")
    stream = Stream(buffers)
    return [], stream.sizes, stream


class Assembly:
    """A large body being received."""

    __slots__ = ("_at", "_buffers", "_index", "_sizes", "received", "total")

    def __init__(self, sizes: Sequence[int]) -> None:
        if len(sizes) > limits.BUFFERS or any(size < 0 for size in sizes) or sum(sizes) > limits.BODY_BYTES:
            raise ProtocolError("a body was announced that is larger than any may be")
        self._sizes = list(sizes)
        self.total = sum(sizes)
        self.received = 0
        self._buffers: list[memoryview] = []
        self._index = 0  # buffer that the next byte belongs to
        self._at = 0  # and where in it

    @property
    def complete(self) -> bool:
        return self.received == self.total

    def add(self, offset: int, piece: memoryview | bytes) -> None:
        """Take the next piece.

        Args:
            offset: where in the whole its sender says it belongs (unverified).
            piece: its bytes; copied.

        Raises:
            ProtocolError: it is not the next piece of this body.
        """
        view = memoryview(piece).cast("B")
        if offset != self.received:
            raise ProtocolError(f"a piece at {offset} came where {self.received} was next")
        if view.nbytes > self.total - self.received:
            raise ProtocolError("more bytes came than were announced")
        done = 0
        while done < view.nbytes:
            target = self._target()
            count = min(view.nbytes - done, target.nbytes - self._at)
            target[self._at : self._at + count] = view[done : done + count]
            done += count
            self._at += count
        self.received += done

    def _target(self) -> memoryview:
        """The buffer that the next byte belongs to."""
        while True:
            if len(self._buffers) <= self._index:
                self._buffers.append(memory_to_fill(self._sizes[self._index]))
            target = self._buffers[self._index]
            if self._at < target.nbytes:
                return target
            self._index += 1
            self._at = 0

    def buffers(self) -> list[Buffer]:
        """The body, once it is complete; its memory is writable.

        Raises:
            ProtocolError: it is not.
        """
        if not self.complete:
            raise ProtocolError(f"a body ended after {self.received} of {self.total} bytes")
        while len(self._buffers) < len(self._sizes):
            self._buffers.append(memory_to_fill(self._sizes[len(self._buffers)]))
        return list(self._buffers)
