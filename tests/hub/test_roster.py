"""Who is remembered across restarts of either side."""

from __future__ import annotations

import pytest

from secure_ipp import limits
from secure_ipp.hub.roster import Roster
from tests.hub.engines import engine


def uuids(records: object) -> list[str]:
    return [record.info.uuid for record in records]  # type: ignore[attr-defined]


def with_engines(*numbers: int) -> Roster:
    roster = Roster()
    roster.scheduler_joined(restarted=True)
    for number in numbers:
        assert roster.join(engine(number))
    return roster


def test_joined_and_left() -> None:
    roster = with_engines(0, 1)
    assert uuids(roster.engines()) == ["engine-0", "engine-1"]
    assert roster.leave("engine-0") == engine(0)
    assert roster.leave("engine-0") is None
    assert uuids(roster.engines()) == ["engine-1"]


def test_joining_again_is_no_news_but_the_last_word_stands() -> None:
    roster = with_engines(0)
    assert not roster.join(engine(0, host="moved"))
    assert [record.info.host for record in roster.engines()] == ["moved"]
    assert len(roster) == 1


def test_scheduler_restarts_and_is_told_who_to_wait_for() -> None:
    roster = with_engines(0, 1)
    assert uuids(roster.scheduler_joined(restarted=True)) == ["engine-0", "engine-1"]
    change = roster.merge([])
    assert change.joined == change.left == ()
    assert roster.is_awaited("engine-0")
    assert roster.is_awaited("engine-1")
    assert not roster.join(engine(0))
    assert not roster.is_awaited("engine-0")


def test_scheduler_restarts_twice_before_anybody_reported() -> None:
    roster = with_engines(0, 1)
    roster.scheduler_joined(restarted=True)
    roster.merge([])
    assert uuids(roster.scheduler_joined(restarted=True)) == ["engine-0", "engine-1"]


def test_after_recovery_whoever_did_not_come_has_left() -> None:
    roster = with_engines(0, 1, 2)
    roster.scheduler_joined(restarted=True)
    roster.merge([engine(1)])
    roster.leave("engine-2")
    assert uuids(roster.recovered()) == ["engine-0"]
    assert uuids(roster.engines()) == ["engine-1"]
    assert roster.recovered() == ()


def test_a_lost_link_alone_makes_the_scheduler_s_word_whole() -> None:
    roster = with_engines(0, 1)
    roster.scheduler_joined(restarted=False)
    change = roster.merge([engine(1), engine(2)])
    assert uuids(change.joined) == ["engine-2"]
    assert uuids(change.left) == ["engine-0"]
    assert uuids(roster.engines()) == ["engine-1", "engine-2"]
    assert not roster.is_awaited("engine-1")


def test_hub_restarts_and_takes_what_it_is_told() -> None:
    roster = Roster()
    assert roster.scheduler_joined(restarted=True) == []
    change = roster.merge([engine(0), engine(1)])
    assert uuids(change.joined) == ["engine-0", "engine-1"]
    assert change.left == ()
    assert roster.recovered() == ()


def test_no_more_than_one_message_can_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TARGETS", 2)
    roster = with_engines(0, 1)
    assert not roster.join(engine(2))
    assert uuids(roster.engines()) == ["engine-0", "engine-1"]
    assert not roster.join(engine(1, host="moved"))
    assert roster.engines()[1].info.host == "moved"
