"""What is particular to the store in memory: its charge for a record and its cost."""

from __future__ import annotations

import time
import tracemalloc

from secure_ipp.store.memory import MemoryStore, record_bytes
from tests.store.records import task_record


def test_charge_covers_what_a_record_takes_in_memory() -> None:
    tracemalloc.start()
    try:
        store = MemoryStore(started=0.0)
        before, _ = tracemalloc.get_traced_memory()
        store.add([task_record("alice", f"task-{n:032}", body=[bytes(100)]) for n in range(2000)])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before <= store.size().bytes <= 4 * (after - before)


def test_charge_counts_every_part_that_a_peer_can_make_long() -> None:
    plain = record_bytes(task_record("alice", "t", body=[]))
    assert record_bytes(task_record("alice", "t", body=[bytes(5000)])) >= plain + 5000
    assert record_bytes(task_record("alice", "t", body=[], traceback=["x" * 5000])) >= plain + 5000


def test_eviction_costs_the_same_however_much_is_held() -> None:
    """One owner far over the window: a search for the oldest would be quadratic and take minutes."""
    store = MemoryStore(started=0.0, max_records=20_000)
    records = [task_record("alice", str(n)) for n in range(60_000)]
    began = time.perf_counter()
    store.add(records)
    assert time.perf_counter() - began < 5.0
    assert store.size().records == 20_000


def test_eviction_among_many_owners_costs_no_search() -> None:
    store = MemoryStore(started=0.0, max_records=5_000)
    records = [task_record(f"owner-{n}", "t") for n in range(30_000)]
    began = time.perf_counter()
    store.add(records)
    assert time.perf_counter() - began < 5.0
    assert store.size().records == 5_000
