"""Bodies in pieces, there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.errors import ProtocolError, UsageError
from secure_ipp.payload.body import Assembly, Stream, as_body
from secure_ipp.payload.objects import dumps, loads


def test_small_bodies_travel_inline_as_copies() -> None:
    memory = bytearray(b"abc")
    body, sizes, stream = as_body([b"x", memoryview(memory)])
    memory[0] = 0
    assert (body, sizes, stream) == ([b"x", b"abc"], [], None)
    assert as_body([]) == ([], [], None)


def test_large_bodies_are_streamed_without_copies() -> None:
    array = np.zeros(limits.INLINE_BYTES, dtype="u1")
    body, sizes, stream = as_body([*dumps(array), b""])
    assert body == [] and stream is not None and sizes == stream.sizes
    array[7] = 9
    received = Assembly(sizes)
    for offset, piece in stream:
        assert piece.nbytes <= limits.CHUNK_BYTES
        received.add(offset, piece)
    back = loads(received.buffers(), trust="data")
    assert back[7] == 9 and back.flags.writeable


def test_bounds_of_a_body() -> None:
    with pytest.raises(UsageError, match="buffers"):
        as_body([b"x" * 200] * (limits.BUFFERS + 1))
    with pytest.raises(ProtocolError):
        Assembly([limits.BODY_BYTES, 1])
    with pytest.raises(ProtocolError):
        Assembly([-1])
    with pytest.raises(ProtocolError):
        Assembly([0] * (limits.BUFFERS + 1))


def test_announced_memory_is_used_as_it_fills() -> None:
    assembly = Assembly([limits.GIB])
    assembly.add(0, b"x")  # a page or two, not a gigabyte
    assert not assembly.complete
    with pytest.raises(ProtocolError):
        assembly.buffers()


@given(st.lists(st.binary(max_size=40), max_size=6), st.data())
def test_whatever_the_pieces_the_buffers_return(buffers: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(buffers)
    assembly = Assembly([len(buffer) for buffer in buffers])
    at = 0
    while at < len(whole):
        size = data.draw(st.integers(1, len(whole) - at))
        assembly.add(at, memoryview(whole)[at : at + size])
        at += size
    assert [bytes(buffer) for buffer in assembly.buffers()] == buffers


@given(st.lists(st.binary(max_size=3 * 1024), max_size=6))
def test_a_stream_is_the_concatenation(buffers: list[bytes]) -> None:
    stream = Stream(buffers)
    at = 0
    for offset, piece in stream.pieces():
        assert offset == at and piece.nbytes > 0
        at += piece.nbytes
    assert b"".join(bytes(piece) for _, piece in stream) == b"".join(buffers)
    assert at == stream.total
