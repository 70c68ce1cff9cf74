"""Grants come in parts and count when all of them are there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.scheduler.admissions import GrantsInParts
from secure_ipp.wire.messages import Grants
from tests.scheduler.world import grant


def parts_of(edition: int, count: int) -> list[Grants]:
    return [
        Grants(edition, [grant(f"{edition}-{n}")], [bytes([edition, n]) * 16], edition=edition, part=n,
               more=n < count - 1)
        for n in range(count)
    ]


def test_nothing_counts_before_the_last_part() -> None:
    collector = GrantsInParts()
    *first, last = parts_of(1, 4)
    assert [collector.add(part) for part in first] == [None] * 3
    whole = collector.add(last)
    assert whole is not None
    assert [grant.id for grant in whole.grants] == ["1-0", "1-1", "1-2", "1-3"]
    assert len(whole.retired) == 4


@given(st.lists(st.sampled_from([part for edition in (1, 2) for part in parts_of(edition, 3)]), max_size=12))
def test_whatever_comes_a_whole_edition_or_none(came: list[Grants]) -> None:
    collector = GrantsInParts()
    for position, part in enumerate(came):
        whole = collector.add(part)
        if whole is not None:
            assert came[position - 2 : position + 1] == parts_of(part.edition, 3)
            assert [grant.id for grant in whole.grants] == [f"{part.edition}-{n}" for n in range(3)]
