"""Answers to honest questions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from secure_ipp import limits
from secure_ipp.audit import record as audit
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.hub import questions
from secure_ipp.store.memory import MemoryStore
from secure_ipp.wire import messages
from secure_ipp.wire.codec import encode_message
from tests.hub.engines import client, live
from tests.store.records import task_record

NOW = 1000.0
GRANTS = live(client("alice", "task"), client("bob", "task"), client("boss", "task", "control", expires=NOW + 9))


@pytest.fixture
def store() -> MemoryStore:
    kept = MemoryStore(started=0.0)
    kept.add([task_record("alice", "a1"), task_record("alice", "a2"), task_record("bob", "b1")])
    return kept


def ask(store: MemoryStore, user: str, question: messages.Message) -> questions.Reply:
    forward = messages.Forward(user, b"s" * 16, 9, encode_message(question))
    return questions.answer(forward, GRANTS, store, NOW)


def body(reply: questions.Reply) -> Any:
    answer = reply.forwarded.answer
    assert isinstance(answer, messages.Answer)
    assert (reply.forwarded.session, answer.request) == (b"s" * 16, 9)
    return msgspec.msgpack.decode(answer.body)


def test_result_status_in_the_order_asked(store: MemoryStore) -> None:
    asked = messages.ResultStatus(["a2", "nothing", "a1", "a2"])
    assert body(ask(store, "alice", asked)) == {"pending": [], "completed": ["a2", "a1"], "unknown": ["nothing"]}


def test_history_oldest_first(store: MemoryStore) -> None:
    assert body(ask(store, "alice", messages.History())) == {"tasks": ["a1", "a2"], "next": 0}


def test_history_in_pages(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HISTORY_IDS", 2)
    store.add([task_record("alice", f"a{n}") for n in range(3, 6)])
    found, after = [], 0
    for _ in range(3):
        page = body(ask(store, "alice", messages.History(after)))
        found.append(page["tasks"])
        after = page["next"]
    assert found == [["a1", "a2"], ["a3", "a4"], ["a5"]]
    assert after == 0


def test_the_longest_page_fits_its_frame() -> None:
    store = MemoryStore(started=0.0)
    store.add([task_record("alice", f"{n:064}") for n in range(limits.HISTORY_IDS + 1)])
    page = body(ask(store, "alice", messages.History()))
    assert len(page["tasks"]) == limits.HISTORY_IDS
    assert page["next"] > 0


def test_purge_named_and_all_of_the_asker_s(store: MemoryStore) -> None:
    reply = ask(store, "alice", messages.PurgeRecords(["a1", "b1"]))
    assert body(reply) == {"purged": 1}
    assert reply.records == (audit.RecordsPurged(at=NOW, user="alice", tasks=1, everyone=False),)
    assert body(ask(store, "alice", messages.PurgeRecords([]))) == {"purged": 1}
    assert [task for _, task in store.ids("bob")] == ["b1"]


def test_purge_of_everyone_with_the_right(store: MemoryStore) -> None:
    assert body(ask(store, "boss", messages.PurgeRecords(["a1"], everyone=True))) == {"purged": 1}
    reply = ask(store, "boss", messages.PurgeRecords([], everyone=True))
    assert body(reply) == {"purged": 2}
    assert reply.records == (audit.RecordsPurged(at=NOW, user="boss", tasks=2, everyone=True),)
    assert store.owners() == []


def test_whois(store: MemoryStore) -> None:
    told = body(ask(store, "boss", messages.Whois()))
    assert told == {"user": "boss", "name": "boss", "rights": ["task", "control"], "expires": NOW + 9}


def test_a_store_that_fails_is_told_as_a_failure(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise EnvironmentProblem("disk full", "make room")

    monkeypatch.setattr(store, "get", fails)
    answer = ask(store, "alice", messages.ResultStatus(["a1"])).forwarded.answer
    assert answer == messages.Failure(9, "environment", "disk full", "make room")


def test_an_answer_that_would_not_fit_is_a_failure_with_advice(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FRAME_BYTES", 64)
    answer = ask(store, "alice", messages.ResultStatus([f"{n:064}" for n in range(9)])).forwarded.answer
    assert isinstance(answer, messages.Failure)
    assert (answer.code, answer.request) == ("too-large", 9)
    assert answer.advice
