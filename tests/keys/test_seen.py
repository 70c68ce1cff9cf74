"""What a user has seen of a cluster: private, the highest number wins, and damage counts as nothing seen."""

import json
import multiprocessing
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.errors import PrivateFileError
from secure_ipp.keys import seen
from secure_ipp.keys.seen import Seen, SeenHead

ID = "A" * 22


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))


def head(number, proof="A" * 43):
    return SeenHead(number, f'{{"n":{number}}}', proof, 3)


def test_nothing_is_seen_at_first_and_looking_makes_nothing(tmp_path):
    assert seen.load(ID) == Seen()
    assert not (tmp_path / "home").exists()


def test_the_highest_number_stays():
    for number, stays in ((5, 5), (3, 5), (5, 5), (9, 9)):
        assert seen.remember(ID, seen.with_head(head(number))).head.number == stays
        assert seen.load(ID).head.number == stays
    assert seen.load("B" * 22) == Seen()
    assert len(seen.load(ID).head.proof_bytes()) == 32
    assert head(1, "!").proof_bytes() == b""


def test_the_file_is_private():
    seen.remember(ID, seen.with_head(head(1)))
    path = seen.path_of(ID)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.parent.chmod(0o777)
    with pytest.raises(PrivateFileError):
        seen.remember(ID, seen.with_head(head(2)))


def test_fields_of_other_versions_are_kept():
    seen.remember(ID, seen.with_head(head(1)))
    path = seen.path_of(ID)
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": {"x": 1}}))
    seen.remember(ID, seen.with_head(head(2)))
    told = json.loads(path.read_text())
    assert told["later"] == {"x": 1}
    assert told["head"]["number"] == 2


@given(st.one_of(st.binary(max_size=200), st.sampled_from([b'{"head":{"number":-1}}', b'{"head":5}', b"[]", b"{"])))
def test_any_bytes_are_nothing_seen_and_are_replaced(data):
    path = seen.path_of(ID)
    os.makedirs(path.parent, mode=0o700, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)
    assert seen.load(ID) == Seen()
    assert seen.remember(ID, seen.with_head(head(1))).head.number == 1


@pytest.mark.parametrize("cluster_id", ["", "../x", "A" * 23, "A/" * 11])
def test_s22_only_an_id_names_a_file(cluster_id):
    with pytest.raises(ValueError):
        seen.path_of(cluster_id)


def _remember(numbers):
    for number in numbers:
        seen.remember(ID, seen.with_head(head(number)))


def test_clients_at_once_lose_nothing():
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_remember, args=(range(start, 60, 3),)) for start in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert seen.load(ID).head.number == 59
