"""Memory that is used again: never while somebody sees it, never with what lay there before."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from secure_ipp import limits
from secure_ipp.payload import memory
from secure_ipp.payload.body import Assembly
from secure_ipp.payload.memory import MAPPED_BYTES, Kept, copied, memory_to_fill

SIZE = 3 * limits.MIB + 5
MAPPED = 4 * limits.MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kept where the kernel takes memory back")


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """What this test gives back, and nothing else."""
    fresh = Kept(limits.KEPT_MEMORY_BYTES)
    monkeypatch.setattr(memory, "_kept", fresh)
    yield fresh
    if fresh._watch_collector in gc.callbacks:
        gc.callbacks.remove(fresh._watch_collector)


def address(view: memoryview) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def test_memory_is_used_again_when_the_last_view_of_it_is_gone(kept: Kept) -> None:
    np = pytest.importorskip("numpy")
    view = memory_to_fill(SIZE)
    place = address(view)
    array = np.frombuffer(view[8:24], dtype="<u8")
    piece, half = view[:4], view.cast("B").toreadonly()
    for name in ("view", "piece", "half"):
        assert kept.bytes == 0, f"given back before {name} was gone"
        del view, piece
        view = piece = half
    del view, piece, half
    assert kept.bytes == 0, "the array still sees it"
    other = memory_to_fill(SIZE)
    assert address(other) != place
    del array
    assert kept.bytes == MAPPED
    again = memory_to_fill(SIZE)
    assert address(again) == place and kept.bytes == 0


def test_it_is_a_writable_view_of_bytes_like_any_other() -> None:
    for size in (MAPPED_BYTES, SIZE, 2 * limits.MIB):
        view = memory_to_fill(size)
        assert (view.format, view.itemsize, view.ndim, view.nbytes, view.readonly) == ("B", 1, 1, size, False)
        view[1:4] = b"abc"
        assert bytes(view[1:4]) == b"abc" and view.cast("B")[1:4] == memoryview(b"abc")


def test_nothing_beyond_a_buffer_holds_what_lay_there_before(kept: Kept) -> None:
    view = memory_to_fill(MAPPED)
    view[:] = b"s" * MAPPED
    del view
    assert kept.bytes == MAPPED
    shorter = memory_to_fill(SIZE)
    mapping = shorter.obj._objects["ffffffff"]  # as far as anybody can look
    assert len(mapping) == MAPPED and not any(mapping[SIZE:])


def test_a_body_that_did_not_come_whole_shows_nothing_of_the_one_before() -> None:
    whole = Assembly([SIZE])
    whole.add(0, b"s" * SIZE)
    assert whole.complete
    del whole
    part = Assembly([SIZE])
    part.add(0, b"x")
    with pytest.raises(memory.ProtocolError):
        part.buffers()
    part.add(1, b"y" * (SIZE - 1))
    (buffer,) = part.buffers()
    assert bytes(buffer) == b"x" + b"y" * (SIZE - 1)


def test_a_copy_is_the_copy_of_all_bytes() -> None:
    first = copied(memoryview(b"s" * SIZE))
    del first
    assert copied(memoryview(b"t" * SIZE)) == b"t" * SIZE


def test_a_view_that_a_finalizer_brings_back_keeps_its_memory(kept: Kept) -> None:
    saved: list[memoryview] = []

    class Phoenix:
        def __init__(self, view: memoryview) -> None:
            self.view, self.me = view, self

        def __del__(self) -> None:
            saved.append(self.view)

    view = memory_to_fill(SIZE)
    view[:] = b"s" * SIZE
    Phoenix(view)
    del view
    gc.collect()
    assert len(saved) == 1 and kept.bytes == 0
    other = memory_to_fill(SIZE)
    other[:] = b"t" * SIZE
    assert saved[0] == b"s" * SIZE


def test_memory_that_is_seen_is_not_handed_out_even_if_it_was_given_back(kept: Kept) -> None:
    view = memory_to_fill(SIZE)
    kept._ended(view.obj._objects["ffffffff"].obj)
    assert kept.bytes == MAPPED
    assert address(memory_to_fill(SIZE)) != address(view)


def test_no_more_is_kept_than_the_bound() -> None:
    kept = Kept(2 * MAPPED)
    views = [kept.lend(memory._mapped(MAPPED), SIZE) for _ in range(3)]
    places = [address(view) for view in views]
    while views:
        del views[0]
    assert kept.bytes == 2 * MAPPED
    newest = kept.lend(kept.take(MAPPED) or pytest.fail("none is kept"), SIZE)
    assert address(newest) == places[2]
    assert kept.take(2 * MAPPED) is None and kept.bytes == MAPPED
    gc.callbacks.remove(kept._watch_collector)


def test_a_buffer_may_die_while_another_thread_asks_for_one(kept: Kept) -> None:
    wrong: list[bytes] = []

    def work(mark: bytes) -> Callable[[], None]:
        def go() -> None:
            for _ in range(40):
                view = memory_to_fill(SIZE)
                view[:] = mark * SIZE
                if bytes(view[:64]) != mark * 64 or bytes(view[-64:]) != mark * 64:
                    wrong.append(mark)
        return go

    threads = [threading.Thread(target=work(bytes([number]))) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and kept.bytes <= limits.KEPT_MEMORY_BYTES


def test_a_forked_child_writes_to_a_copy() -> None:
    view = memory_to_fill(SIZE)
    del view
    view = memory_to_fill(SIZE)
    view[:4] = b"mine"
    pid = os.fork()
    if pid == 0:
        view[:4] = b"your"
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0 and view[:4] == b"mine"
