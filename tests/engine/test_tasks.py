"""The engine's queue: order, claims, bodies in pieces, functions that come late or wrong."""

from __future__ import annotations

import hashlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.engine.functions import FunctionCache
from secure_ipp.engine.tasks import Action, Say, Start, TaskBoard
from secure_ipp.wire.codec import PacketDecoder, encode_message, join_packet
from secure_ipp.wire.messages import (
    Assign,
    Cancel,
    Cancelled,
    EngineChunk,
    EngineCredit,
    EngineFunction,
    EngineNeedsFunction,
    FromEngine,
    Report,
)

CODE = b"\x00code"
DIGEST = hashlib.sha256(CODE).digest()


def assign(number: int, **changes: Any) -> Assign:
    values: dict[str, Any] = {
        "number": number, "owner": "u", "task": f"t{number}", "attempt": 1, "ticket": b"", "kind": "apply",
        "function": b"", "body": [b"x"], "sizes": [],
    }  # fmt: skip
    return Assign(**{**values, **changes})


def started(actions: list[Action]) -> list[int]:
    return [action.task.number for action in actions if isinstance(action, Start)]


def said(actions: list[Action]) -> list[object]:
    return [action.message for action in actions if isinstance(action, Say)]


def test_complete_tasks_start_at_once_and_in_order() -> None:
    board = TaskBoard()
    assert started(board.assign(assign(1))) == [1]
    assert started(board.assign(assign(2))) == [2]


def test_a_number_is_taken_once() -> None:
    board = TaskBoard()
    board.assign(assign(5))
    assert board.assign(assign(5)) == []
    assert board.assign(assign(4)) == []


def test_a_task_that_waits_holds_up_those_behind() -> None:
    board = TaskBoard()
    assert said(board.assign(assign(1, function=DIGEST))) == [EngineNeedsFunction("u", DIGEST)]
    assert board.assign(assign(2)) == []
    assert board.assign(assign(3, function=DIGEST)) == [], "one function is asked for once"
    assert started(board.function(EngineFunction("u", DIGEST, CODE))) == [1, 2, 3]
    assert started(board.assign(assign(4, function=DIGEST))) == [4], "it is kept"


def test_functions_of_other_owners_do_not_serve() -> None:
    board = TaskBoard()
    board.function(EngineFunction("somebody else", DIGEST, CODE))
    assert started(board.assign(assign(1, function=DIGEST))) == []


def test_wrong_function_ends_its_tasks_only() -> None:
    board = TaskBoard()
    board.assign(assign(1, function=DIGEST))
    board.assign(assign(2))
    actions = board.function(EngineFunction("u", DIGEST, b"\x00evil"))
    assert started(actions) == [1, 2]
    first, second = (action.task for action in actions if isinstance(action, Start))
    assert first.error is not None and first.function is None
    assert second.error is None


def test_body_in_pieces_is_credited_and_starts_when_whole() -> None:
    board = TaskBoard()
    assert board.assign(assign(1, body=[], sizes=[3, 0, 5])) == []
    assert board.assign(assign(2)) == []
    assert board.chunk(EngineChunk(1, 0), memoryview(b"abcde")) == [Say(EngineCredit(1, 5))]
    actions = board.chunk(EngineChunk(1, 5), memoryview(b"fgh"))
    assert said(actions) == [EngineCredit(1, 3)]
    assert started(actions) == [1, 2]
    task = next(action.task for action in actions if isinstance(action, Start))
    assert [bytes(part) for part in task.body] == [b"abc", b"", b"defgh"]


def test_piece_out_of_place_ends_the_task() -> None:
    board = TaskBoard()
    board.assign(assign(1, body=[], sizes=[10]))
    actions = board.chunk(EngineChunk(1, 4), memoryview(b"abc"))
    assert started(actions) == [1]
    assert actions[0].task.error is not None  # type: ignore[union-attr]
    assert board.chunk(EngineChunk(1, 0), memoryview(b"abc")) == []
    assert board.chunk(EngineChunk(99, 0), memoryview(b"abc")) == []


def test_cancel_gives_back_what_was_not_claimed() -> None:
    board = TaskBoard()
    first = board.assign(assign(1))[0]
    second = board.assign(assign(2))[0]
    assert isinstance(first, Start) and isinstance(second, Start)
    assert board.claim(first.task)
    assert said(board.cancel(Cancel([1, 2, 3]))) == [Cancelled([2])]
    assert not board.claim(second.task)
    assert board.cancel(Cancel([2])) == []
    assert board.running is None or board.running is first.task


def test_cancel_frees_those_behind() -> None:
    board = TaskBoard()
    board.assign(assign(1, body=[], sizes=[10]))
    board.assign(assign(2))
    actions = board.cancel(Cancel([1]))
    assert said(actions) == [Cancelled([1])]
    assert started(actions) == [2]


def test_report_names_what_is_here() -> None:
    board = TaskBoard()
    (start,) = board.assign(assign(1))
    board.assign(assign(2))
    assert isinstance(start, Start)
    board.claim(start.task)
    assert [(live.number, live.state) for live in board.live()] == [(1, "started"), (2, "queued")]
    assert (board.highest, board.started) == (2, 1)
    board.finished()
    assert [live.number for live in board.live()] == [2]


def test_new_session_drops_what_will_never_be_complete_and_what_is_behind() -> None:
    board = TaskBoard()
    (start,) = board.assign(assign(1))
    assert isinstance(start, Start)
    board.assign(assign(2, function=DIGEST))
    board.assign(assign(3, body=[], sizes=[10]))
    board.assign(assign(4))
    board.assign(assign(5, function=DIGEST))
    board.assign(assign(6, function=b"o" * 32))
    assert said(board.new_session()) == [EngineNeedsFunction("u", DIGEST)]
    assert [live.number for live in board.live()] == [1, 2]
    assert board.highest == 6
    assert started(board.function(EngineFunction("u", DIGEST, CODE))) == [2]
    assert started(board.assign(assign(7))) == [7]


def test_cache_is_bounded_for_each_owner() -> None:
    cache = FunctionCache(bytes_per_owner=100)
    codes = [bytes([i]) * 40 for i in range(4)]
    digests = [hashlib.sha256(code).digest() for code in codes]
    for code, digest in zip(codes, digests, strict=True):
        cache.put("a", digest, code)
    cache.put("b", digests[0], codes[0])
    assert [cache.get("a", digest) is not None for digest in digests] == [False, False, True, True]
    assert cache.get("b", digests[0]) is not None


@given(st.lists(st.sampled_from(["plain", "function", "body"]), max_size=12), st.data())
def test_whatever_arrives_when_tasks_start_in_order(kinds: list[str], data: st.DataObject) -> None:
    board = TaskBoard()
    order: list[int] = []
    pending: list[Any] = []
    for number, kind in enumerate(kinds, 1):
        if kind == "plain":
            order += started(board.assign(assign(number)))
        elif kind == "function":
            code = b"\x00" + bytes([number])
            digest = hashlib.sha256(code).digest()
            order += started(board.assign(assign(number, function=digest)))
            pending.append(lambda digest=digest, code=code: board.function(EngineFunction("u", digest, code)))
        else:
            order += started(board.assign(assign(number, body=[], sizes=[4])))
            pending.append(lambda number=number: board.chunk(EngineChunk(number, 0), memoryview(b"1234")))
    for event in data.draw(st.permutations(pending)):
        order += started(event())
    assert order == list(range(1, len(kinds) + 1))
    assert limits.BUFFERS > 0


def test_a_report_that_would_be_too_long_gives_the_last_tasks_back() -> None:
    board = TaskBoard()
    (first,) = board.assign(assign(1))
    assert isinstance(first, Start) and board.claim(first.task)
    for number in range(2, limits.REPORTED_TASKS + 500):
        board.assign(assign(number))
    board.new_session()
    live = board.live()
    assert [task.number for task in live] == list(range(1, limits.REPORTED_TASKS + 1))
    report = Report("host", 1, board.highest, 1, live, list(range(limits.REPORTED_RESULTS)))
    assert len(encode_message(report)) < limits.MAX_FRAME_BYTES - limits.PACKET_BYTES, "a link can send it"
    PacketDecoder(FromEngine).packet(join_packet(1, 0, [encode_message(report)]), 0)
