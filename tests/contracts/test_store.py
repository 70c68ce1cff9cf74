"""The contract of `TaskStore`, run for every implementation in STORES."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ipp.store.interface import TaskStore
from secure_ipp.store.memory import MemoryStore
from tests.store.records import task_record

STARTED = 1000.0


class MakeStore(Protocol):
    def __call__(self, *, max_records: int = 1000, max_bytes: int = 10_000_000) -> TaskStore: ...


def memory_store(*, max_records: int = 1000, max_bytes: int = 10_000_000) -> TaskStore:
    return MemoryStore(started=STARTED, max_records=max_records, max_bytes=max_bytes)


STORES: list[Callable[..., TaskStore]] = [memory_store]


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def make_store(request: pytest.FixtureRequest) -> MakeStore:
    return request.param


def test_what_was_added_is_found_whole(make_store: MakeStore) -> None:
    store = make_store()
    record = task_record("alice", "t1", body=[b"pickle", b"buffer"])
    store.add([record])
    assert store.get("alice", ["t1"]) == [record]


def test_found_in_the_order_asked_each_once_unknown_left_out(make_store: MakeStore) -> None:
    store = make_store()
    store.add([task_record("alice", task) for task in ("a", "b", "c")])
    found = store.get("alice", ["c", "nobody", "a", "c"])
    assert [record.outcome.task for record in found] == ["c", "a"]


def test_an_owner_sees_and_purges_only_its_own(make_store: MakeStore) -> None:
    store = make_store()
    store.add([task_record("alice", "same", label="hers"), task_record("bob", "same", label="his")])
    assert [record.label for record in store.get("alice", ["same"])] == ["hers"]
    assert store.purge("bob", ["same"]) == 1
    assert [record.label for record in store.get("alice", ["same"])] == ["hers"]
    assert store.get("bob", ["same"]) == []
    assert store.purge("mallory") == 0
    assert store.purge("mallory", ["same"]) == 0
    assert store.ids("mallory") == []
    assert store.horizon("alice") == STARTED


def test_a_task_ends_once(make_store: MakeStore) -> None:
    store = make_store()
    first = task_record("alice", "t", status="ok")
    store.add([first])
    size = store.size()
    store.add([first, task_record("alice", "t", status="error")])
    assert store.get("alice", ["t"]) == [first]
    assert store.size() == size


def test_ids_are_oldest_first_and_page_across_evictions(make_store: MakeStore) -> None:
    store = make_store()
    store.add([task_record("alice", f"t{n}") for n in range(6)])
    page = store.ids("alice", limit=2)
    assert [task for _, task in page] == ["t0", "t1"]
    store.purge("alice", ["t0", "t1", "t2"])
    rest = store.ids("alice", after=page[-1][0])
    assert [task for _, task in rest] == ["t3", "t4", "t5"]
    assert store.ids("alice", after=rest[-1][0]) == []


def test_positions_are_never_used_again(make_store: MakeStore) -> None:
    store = make_store()
    store.add([task_record("alice", "t")])
    [(before, _)] = store.ids("alice")
    store.purge("alice")
    store.add([task_record("alice", "t")])
    [(after, _)] = store.ids("alice")
    assert after > before


def test_window_in_records_forgets_the_oldest(make_store: MakeStore) -> None:
    store = make_store(max_records=3)
    store.add([task_record("alice", f"t{n}", submitted=STARTED + n) for n in range(5)])
    assert [task for _, task in store.ids("alice")] == ["t2", "t3", "t4"]
    assert store.size().records == 3
    assert store.horizon("alice") == STARTED + 1


def test_window_in_bytes_counts_results_and_texts(make_store: MakeStore) -> None:
    store = make_store(max_bytes=100_000)
    store.add([task_record("alice", f"t{n}", body=[bytes(30_000)]) for n in range(5)])
    assert store.size().bytes <= 100_000
    assert [task for _, task in store.ids("alice")] == ["t2", "t3", "t4"]
    store.add([task_record("alice", "error", traceback=["x" * 60_000])])
    assert store.size().bytes <= 100_000
    assert [task for _, task in store.ids("alice")] == ["t4", "error"]


def test_a_record_larger_than_the_window_is_forgotten_not_kept(make_store: MakeStore) -> None:
    store = make_store(max_bytes=10_000)
    store.add([task_record("alice", "huge", body=[bytes(20_000)], submitted=STARTED + 7)])
    assert store.get("alice", ["huge"]) == []
    assert store.size().records == store.size().bytes == 0
    assert store.horizon("alice") == STARTED + 7


def test_a_flood_by_one_owner_costs_the_others_nothing(make_store: MakeStore) -> None:
    store = make_store(max_records=100)
    quiet = [task_record("alice", f"t{n}") for n in range(10)]
    store.add(quiet)
    store.add([task_record("mallory", f"m{n}", submitted=STARTED + n) for n in range(1000)])
    assert len(store.get("alice", [f"t{n}" for n in range(10)])) == 10
    assert store.horizon("alice") == STARTED
    assert store.horizon("mallory") > STARTED
    assert store.size().records == 100


def test_a_flood_of_bytes_costs_the_others_nothing(make_store: MakeStore) -> None:
    store = make_store(max_bytes=1_000_000)
    store.add([task_record("alice", f"t{n}") for n in range(10)])
    store.add([task_record("mallory", f"m{n}", body=[bytes(100_000)]) for n in range(50)])
    assert len(store.ids("alice")) == 10


def test_horizon_begins_with_the_store_and_never_falls(make_store: MakeStore) -> None:
    store = make_store()
    assert store.horizon("alice") == STARTED
    store.add([task_record("alice", "late", submitted=STARTED + 9), task_record("alice", "early", submitted=1.0)])
    assert store.horizon("alice") == STARTED
    store.purge("alice", ["late"])
    assert store.horizon("alice") == STARTED + 9
    store.purge("alice", ["early"])
    assert store.horizon("alice") == STARTED + 9


@pytest.mark.parametrize("submitted", [math.nan, math.inf, -math.inf])
def test_a_time_that_cannot_be_compared_forgets_on_the_safe_side(make_store: MakeStore, submitted: float) -> None:
    store = make_store()
    store.add([task_record("alice", "t", submitted=submitted)])
    store.purge("alice")
    assert store.horizon("alice") == math.inf
    assert store.horizon("bob") == STARTED


def test_purge_gives_the_number_that_was_there(make_store: MakeStore) -> None:
    store = make_store()
    store.add([task_record("alice", f"t{n}") for n in range(4)])
    assert store.purge("alice", ["t0", "t0", "unknown"]) == 1
    assert store.purge("alice") == 3
    assert store.purge("alice") == 0
    assert store.owners() == []
    assert store.size().records == store.size().bytes == 0


OWNERS = st.sampled_from(["alice", "bob", "carol"])
TASKS = st.sampled_from([f"t{n}" for n in range(6)])
STEPS = st.one_of(
    st.tuples(st.just("add"), OWNERS, TASKS, st.floats(STARTED, 2 * STARTED)),
    st.tuples(st.just("purge"), OWNERS, TASKS, st.just(0.0)),
    st.tuples(st.just("purge all"), OWNERS, TASKS, st.just(0.0)),
)


@pytest.mark.parametrize("make", STORES, ids=lambda make: make.__name__)
@settings(max_examples=100, deadline=None)
@given(steps=st.lists(STEPS, max_size=60))
def test_any_history_keeps_the_laws(make: MakeStore, steps: list[tuple[str, str, str, float]]) -> None:
    """What was ever added is either found, or submitted at or before its owner's horizon; the window holds."""
    store = make(max_records=5)
    ended: dict[tuple[str, str], float] = {}
    for step, owner, task, submitted in steps:
        if step == "add":
            if not store.get(owner, [task]):
                ended[owner, task] = submitted
            store.add([task_record(owner, task, submitted=submitted)])
        else:
            store.purge(owner, [task] if step == "purge" else None)
        assert store.size().records == sum(len(store.ids(name)) for name in store.owners()) <= 5
    for (owner, task), submitted in ended.items():
        assert store.get(owner, [task]) or submitted <= store.horizon(owner)
    for owner in store.owners():
        store.purge(owner)
    assert store.size().records == store.size().bytes == 0
