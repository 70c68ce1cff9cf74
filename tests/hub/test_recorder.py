"""What must last before what follows takes effect, under both policies, and what contradicts a client's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_ipp.audit.journal import Journal
from secure_ipp.audit.renewal import renew
from secure_ipp.hub.recorder import Recorder
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.wire.messages import SeenHead
from tests.audit.journals import CLUSTER_ID, START, asked, batch, begin


@pytest.fixture
def issuer() -> IssuerKey:
    return IssuerKey.generate()


@pytest.fixture
def place(tmp_path: Path, issuer: IssuerKey) -> ClusterPlace:
    return begin(tmp_path / "home", issuer)


def recorder(place: ClusterPlace, durability: str = "batch") -> Recorder:
    journal = Journal(place)
    journal.open(START)
    return Recorder(journal, durability)  # type: ignore[arg-type]


def test_only_the_ends_of_tasks_may_wait_for_the_disk(place: ClusterPlace) -> None:
    found = recorder(place)
    found.write([batch(1)], START)
    assert not found.owes and found.journal.unsynced
    found.tick(START)
    assert not found.journal.unsynced
    found.write([batch(1), asked(2)], START)
    assert found.owes
    found.sync(START)
    assert not found.owes and not found.journal.unsynced
    found.close(START)


def test_under_each_everything_lasts_before_it_counts(place: ClusterPlace) -> None:
    found = recorder(place, "each")
    found.write([batch(1)], START)
    assert found.owes
    found.close(START)


def test_a_head_is_new_once_and_once_a_second(place: ClusterPlace) -> None:
    found = recorder(place)
    assert found.new_head(START) == ""
    found.write([asked(1)], START)
    found.tick(START + 6)
    first = found.new_head(START + 6)
    assert '"event":"checkpoint"' in first and found.new_head(START + 8) == ""
    found.write([asked(2)], START + 6.1)
    found.journal.checkpoint(START + 6.2)
    assert found.new_head(START + 6.3) == ""
    assert found.new_head(START + 7.1) not in ("", first)
    found.close(START)


def test_s17_contradictions(place: ClusterPlace, issuer: IssuerKey) -> None:
    found = recorder(place)
    found.write([asked(1), asked(2)], START)
    found.journal.checkpoint(START)
    found.journal.registry = 4
    at = found.journal.at
    for number, hash, registry, words in (
        (at.number, at.hash, 4, ""), (0, found.journal.hash_at(0), 1, ""), (at.number, "x", 4, "another line"),
        (1, "x", 4, "another line"), (at.number + 1, "x", 4, "ends here"), (0, found.journal.hash_at(0), 5, "registry"),
    ):
        said = found.contradiction(SeenHead("alice", number, str(hash), registry))
        assert words in said and bool(said) is bool(words)
    found.close(START)
    renew(place, issuer, "lab", CLUSTER_ID, "lost", START, 50)
    found = recorder(place)
    assert found.contradiction(SeenHead("alice", 50, "x", 9)) == ""
    assert found.contradiction(SeenHead("alice", 51, "x", 0))
    found.close(START)
