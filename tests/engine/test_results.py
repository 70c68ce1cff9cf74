"""Kept results and their streams."""

from __future__ import annotations

from secure_ipp import limits
from secure_ipp.engine.results import Results
from secure_ipp.payload.body import Stream
from secure_ipp.wire.messages import Result


def result(number: int) -> Result:
    return Result(number, "u", f"t{number}", 1, b"", "ok", 0.0, 1.0, [], [], None)


def test_kept_until_said_so_and_sent_again_in_order() -> None:
    results = Results()
    for number in (3, 1, 2):
        results.keep(result(number), None)
    results.kept([2, 9])
    assert [r.number for r in results.unacknowledged()] == [1, 3]


def test_stream_leaves_within_its_credit() -> None:
    results = Results()
    body = bytes(range(256)) * (6 * limits.MIB // 256)
    results.keep(result(1), Stream([b"head", body]))
    leaving = results.pull(1)
    under_way = sum(view.nbytes for _, view in leaving)
    assert under_way <= limits.STREAM_CREDIT_BYTES
    assert results.credit(1, 0) == []
    taken = [bytes(view) for _, view in leaving]
    while leaving:
        leaving = results.credit(1, sum(view.nbytes for _, view in leaving))
        taken += [bytes(view) for _, view in leaving]
    assert b"".join(taken) == b"head" + body
    again = results.pull(1)
    assert again[0][0].offset == 0, "another reader begins anew"
    results.kept([1])
    assert results.pull(1) == []
    assert results.credit(1, 5) == []
    assert results.large_bytes == 0


def test_credit_beyond_what_is_under_way_gives_nothing_extra() -> None:
    results = Results()
    results.keep(result(1), Stream([bytes(20 * limits.MIB)]))
    results.pull(1)
    leaving = results.credit(1, 10**15)
    assert sum(view.nbytes for _, view in leaving) <= limits.STREAM_CREDIT_BYTES


def test_no_room_becomes_an_error() -> None:
    results = Results(most_bytes=100)
    assert results.keep(result(1), Stream([bytes(200)])).status == "ok", "a single one always has room"
    second = results.keep(result(2), Stream([bytes(50)]))
    assert second.status == "error"
    assert second.error is not None and "fetch" in second.error.evalue
    results.kept([1])
    assert results.keep(result(3), Stream([bytes(50)])).status == "ok"
