"""Which requests may be sent, and what is said again in a new session."""

from __future__ import annotations

from typing import Any

import pytest

from secure_ipp import limits
from secure_ipp.client.ledger import Ledger, Request
from secure_ipp.client.tasks import Call, Task
from secure_ipp.errors import ProtocolError
from secure_ipp.payload.body import Stream
from secure_ipp.wire import messages

from .fake import direct, submit

CALL = Call("f", "apply")


def add(ledger: Ledger, message: Any, code: bytes = b"", stream: Stream | None = None) -> Request:
    ids = message.tasks if isinstance(message, messages.Direct) else [message.task]
    tasks = [Task(task_id, CALL, 1000.0) for task_id in ids]
    for task in tasks:
        ledger.open[task.id] = task
    request = Request(message, tasks, code, stream)
    ledger.add(request)
    return request


def sent(ledger: Ledger) -> list[Any]:
    return [message for message, _ in ledger.next_messages()]


def test_a_request_is_sent_once():
    ledger = Ledger()
    message = submit("a")
    add(ledger, message)
    assert sent(ledger) == [message]
    assert sent(ledger) == []


def test_no_more_tasks_go_out_than_the_quota_and_the_rest_follows_as_they_end(monkeypatch):
    monkeypatch.setattr(limits, "OWNER_TASKS", 3)
    ledger = Ledger()
    for name in "abcde":
        add(ledger, submit(name))
    assert [m.task for m in sent(ledger)] == ["a", "b", "c"]
    assert ledger.waiting
    assert ledger.ended("b") is not None
    assert [m.task for m in sent(ledger)] == ["d"]


def test_inline_bytes_count_too(monkeypatch):
    monkeypatch.setattr(limits, "OWNER_TASK_BYTES", 100)
    ledger = Ledger()
    for name in "ab":
        add(ledger, submit(name, body=[b"x" * 60]))
    assert [m.task for m in sent(ledger)] == ["a"]
    ledger.ended("a")
    assert [m.task for m in sent(ledger)] == ["b"]


def test_a_request_above_the_quota_goes_alone(monkeypatch):
    monkeypatch.setattr(limits, "OWNER_TASKS", 2)
    ledger = Ledger()
    add(ledger, direct(["a", "b", "c"]))
    assert len(sent(ledger)) == 1


def test_direct_requests_overtake_balanced_ones_that_wait(monkeypatch):
    monkeypatch.setattr(limits, "OWNER_TASKS", 1)
    ledger = Ledger()
    add(ledger, submit("a"))
    assert len(sent(ledger)) == 1
    add(ledger, submit("b"))
    add(ledger, direct(["c"]))
    ledger.ended("a")
    assert [type(m) for m in sent(ledger)] == [messages.Direct]


def test_a_function_is_said_before_its_first_request_and_once():
    ledger = Ledger()
    add(ledger, submit("a", function=b"d"), b"code")
    add(ledger, submit("b", function=b"d"), b"code")
    assert [type(m) for m in sent(ledger)] == [messages.Function, messages.Submit, messages.Submit]


def test_a_function_is_kept_while_a_task_names_it_and_no_longer():
    ledger = Ledger()
    add(ledger, submit("a", function=b"d"), b"code")
    add(ledger, submit("b", function=b"d"), b"code")
    sent(ledger)
    ledger.ended("a")
    assert ledger.function(b"d") == messages.Function(b"d", b"code")
    ledger.ended("b")
    assert ledger.function(b"d") is None


def test_a_task_ends_once():
    ledger = Ledger()
    add(ledger, submit("a"))
    assert ledger.ended("a") is not None
    assert ledger.ended("a") is None
    assert ledger.ended("never") is None


def test_a_new_session_is_told_what_is_unfinished_and_how_far_it_had_come():
    ledger = Ledger()
    for name in "abc":
        add(ledger, submit(name, function=b"d"), b"code")
    requests = [request for _, request in ledger.next_messages() if request is not None]
    ledger.acknowledged([requests[0], requests[1]])
    ledger.ended("a")
    again = [message for message, _ in ledger.new_session()]
    assert again[0] == messages.Function(b"d", b"code")
    assert [(m.task, m.resend) for m in again[1:]] == [("b", 2), ("c", 1)]


def test_what_was_once_acknowledged_stays_so_through_later_sessions():
    ledger = Ledger()
    add(ledger, submit("a"))
    ledger.acknowledged([request for _, request in ledger.next_messages()])
    list(ledger.new_session())
    assert [m.resend for m, _ in ledger.new_session()] == [2]


def test_what_waits_here_is_not_resent_but_sent():
    ledger = Ledger()
    add(ledger, submit("a"))
    assert list(ledger.new_session()) == []
    assert [m.resend for m in sent(ledger)] == [0]


def test_a_resent_direct_request_names_only_its_unfinished_tasks():
    ledger = Ledger()
    add(ledger, direct(["a", "b", "c"]))
    sent(ledger)
    ledger.ended("b")
    [(message, _)] = ledger.new_session()
    assert (message.tasks, message.engines, message.resend) == (["a", "c"], [0, 2], 1)


def test_attached_tasks_are_asked_for_again():
    ledger = Ledger()
    for name in "ab":
        ledger.open[name] = Task(name, CALL, 0.0)
    assert list(ledger.attach(["a", "b"])) == [messages.Attach(["a", "b"])]
    ledger.ended("a")
    assert [m for m, _ in ledger.new_session()] == [messages.Attach(["b"])]
    assert ledger.own() == []


def test_only_what_the_scheduler_has_not_heard_of_counts_as_queued(monkeypatch):
    monkeypatch.setattr(limits, "OWNER_TASKS", 1)
    ledger = Ledger()
    add(ledger, submit("a"))
    add(ledger, submit("b"))
    sent(ledger)
    assert ledger.queued([]) == ["b"]
    assert ledger.queued(["a", "nobody"]) == []


def test_arguments_count_as_delivered_when_the_other_process_has_them():
    ledger = Ledger()
    add(ledger, submit("a"))
    assert ledger.undelivered
    requests = [request for _, request in ledger.next_messages()]
    assert ledger.undelivered
    ledger.acknowledged(requests)
    assert not ledger.undelivered


def test_an_aborted_queued_request_is_never_sent(monkeypatch):
    monkeypatch.setattr(limits, "OWNER_TASKS", 1)
    ledger = Ledger()
    add(ledger, submit("a"))
    add(ledger, submit("b"))
    sent(ledger)
    ledger.ended("b")
    ledger.ended("a")
    assert sent(ledger) == []


class TestStreams:
    def stream(self, chunks: int) -> Stream:
        return Stream([bytes(chunks * limits.CHUNK_BYTES)])

    def test_not_more_than_the_credit_is_under_way(self):
        ledger = Ledger()
        stream = self.stream(10)
        add(ledger, submit("a", sizes=stream.sizes), stream=stream)
        sent(ledger)
        first = [offset for offset, _ in ledger.pull("a")]
        assert len(first) == limits.STREAM_CREDIT_BYTES // limits.CHUNK_BYTES
        more = [offset for offset, _ in ledger.credit("a", limits.CHUNK_BYTES)]
        assert more == [first[-1] + limits.CHUNK_BYTES]

    def test_a_balanced_stream_can_be_asked_for_again(self):
        ledger = Ledger()
        stream = self.stream(1)
        add(ledger, submit("a", sizes=stream.sizes), stream=stream)
        sent(ledger)
        assert [offset for offset, _ in ledger.pull("a")] == [0]
        list(ledger.credit("a", stream.total))
        assert [offset for offset, _ in ledger.pull("a")] == [0]

    def test_a_direct_stream_is_let_go_when_its_engines_have_it(self):
        ledger = Ledger()
        stream = self.stream(1)
        request = add(ledger, direct(["a", "b"], sizes=stream.sizes), stream=stream)
        sent(ledger)
        list(ledger.pull("a"))
        assert not request.delivered
        list(ledger.credit("a", stream.total))
        assert request.delivered
        assert request.stream is None
        assert ledger.pull("a") is None

    def test_credit_for_what_was_not_sent_breaks_the_protocol(self):
        ledger = Ledger()
        stream = self.stream(1)
        add(ledger, submit("a", sizes=stream.sizes), stream=stream)
        sent(ledger)
        list(ledger.pull("a"))
        with pytest.raises(ProtocolError):
            ledger.credit("a", stream.total + 1)

    def test_nobody_gets_the_stream_of_a_task_that_ended(self):
        ledger = Ledger()
        stream = self.stream(1)
        request = add(ledger, submit("a", sizes=stream.sizes), stream=stream)
        sent(ledger)
        ledger.ended("a")
        assert request.stream is None
        assert list(ledger.pull("a")) == []
        assert list(ledger.credit("a", 5)) == []
