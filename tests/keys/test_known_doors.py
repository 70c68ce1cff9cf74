"""What a peer believes of its cluster's server keys, and what a user's clients remember of it (S33)."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.errors import PolicyError, SecureIppError
from secure_ipp.keys import fields
from secure_ipp.keys.capability import Capability, sign_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.door_keys import DoorKeys, parse_door_keys, sign_door_keys
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.known_doors import KnownDoors
from secure_ipp.keys.seen_doors import known_doors, read_seen, remember, seen_path
from tests.keys.killing import fork, killed_at

ISSUER = IssuerKey.generate()
CLUSTER_ID = fields.new_id()
KEYS = tuple(KeyPair.generate().public for _ in range(5))
A, B, C, D, _ = KEYS


def stated(number: int, *keys, former=(), issuer=ISSUER, cluster_id=CLUSTER_ID) -> bytes:
    return sign_door_keys(issuer, cluster_id, number=number, keys=keys, former=tuple(former)).to_bytes()


def knower(*keys, **options) -> KnownDoors:
    return KnownDoors(keys, issuer=ISSUER.public(), cluster_id=CLUSTER_ID, **options)


def capability(*keys, issuer=ISSUER) -> Capability:
    return sign_capability(
        issuer, keys=KeyPair.generate(), cluster="work", cluster_id=CLUSTER_ID, role="client", name="ada",
        rights=("task",), expires=0, server_keys=keys, door=("tcp://127.0.0.1:5",),
    )


def test_announced_switched_and_gone() -> None:
    changes = []
    known = knower(A, changed=lambda known: changes.append(known.keys))
    known.learn(stated(1, A, B))
    assert known.keys == (A, B) and not known.refused
    known.learn(stated(2, B, former=[A]))
    assert known.keys == (B,) and known.refused == {A} and changes == [(A, B), (B,)]


def test_who_has_seen_the_next_key_accepted_refuses_the_old_one() -> None:
    known = knower(A, B)
    known.accepted(A)
    assert known.keys == (A, B)
    known.accepted(B)
    assert known.keys == (B,) and known.refused == {A}
    known.learn(stated(7, A, C))  # not even the issuer brings it back
    assert A not in known.keys


@given(st.lists(st.tuples(
    st.integers(1, 6), st.lists(st.integers(0, 4), min_size=1, max_size=2, unique=True), st.booleans()
), max_size=12))
@settings(max_examples=60, deadline=None)
def test_laws_over_any_story(story) -> None:
    """Never empty, never back, never lower."""
    known = knower(A, B)
    refused, number = set(), 0
    for said, indices, accept in story:
        if accept:
            known.accepted(KEYS[indices[0]])
        else:
            known.learn(stated(said, *(KEYS[index] for index in indices)))
        assert known.keys and not set(known.keys) & known.refused
        assert known.refused >= refused and known.number >= number
        refused, number = set(known.refused), known.number


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_nothing(data: bytes) -> None:
    known = knower(A)
    known.learn(data)
    assert known.keys == (A,) and known.number == 0
    with pytest.raises(ValueError):
        parse_door_keys(data)


def test_a_statement_says_each_key_once() -> None:
    draft = DoorKeys(cluster_id=CLUSTER_ID, number=1, keys=(A, A), signature="")
    with pytest.raises(ValueError, match="twice"):
        draft.verify(ISSUER.public(), CLUSTER_ID)
    for keys, former in (((A, B), [B]), ((A,), [B, B])):
        with pytest.raises(ValueError):
            sign_door_keys(ISSUER, CLUSTER_ID, number=1, keys=keys, former=tuple(former))


# --- remembered ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))


def test_the_next_client_believes_no_less() -> None:
    file = capability(A)
    known_doors(file)
    assert not seen_path(file).exists()  # nothing to remember
    first = known_doors(file)
    first.learn(stated(1, A, B))
    first.accepted(B)
    assert seen_path(file).stat().st_mode & 0o777 == 0o600
    again = known_doors(file)
    assert (again.keys, again.refused, again.number) == ((B,), {A}, 1)
    again.learn(stated(1, A, B))
    assert again.keys == (B,)


@pytest.mark.parametrize("keys, expected", [
    ((A, B), (B, C)),  # an older file
    ((A,), (B, C)), ((B,), (B, C)), ((B, C), (B, C)),
    ((C,), (C,)), ((C, D), (C, D)),  # a newer one: its maker knows that B was given up
    ((D,), (D,)),  # one that is two rotations newer
])
def test_a_file_and_what_was_seen(keys, expected) -> None:
    known_doors(capability(A)).learn(stated(3, B, C, former=[A]))
    assert known_doors(capability(*keys)).keys == expected


def test_s33_a_new_file_ends_the_belief_in_a_key_that_was_stolen() -> None:
    """The owner rotated because somebody has B, and sent a new file; whoever has B answers first."""
    known_doors(capability(A)).learn(stated(2, B, former=[A]))
    known = known_doors(capability(C))
    assert known.keys == (C,)
    known.learn(stated(1, B))
    assert known.keys == (C,)
    known.learn(stated(4, C, former=[A, B]))
    assert known_doors(capability(A, B)).keys == (C,)


def test_s33_of_very_many_keys_the_newest_stay_refused() -> None:
    """More rotations than are remembered: the oldest is forgotten, not whichever its bytes put last."""
    file, most = capability(B), limits.SEEN_SERVER_KEYS
    former = [KeyPair.generate().public for _ in range(most + 8)]
    for number, key in enumerate(former, start=1):
        known_doors(file).learn(stated(number, B, former=[key]))
    refused = read_seen(file).refused
    assert refused == tuple(former[8:])


def test_a_file_that_knows_only_what_was_given_up_goes_by_what_was_seen() -> None:
    known_doors(capability(A)).learn(stated(2, B, former=[A]))
    assert known_doors(capability(A)).keys == (B,)


def test_another_issuer_has_another_memory() -> None:
    known_doors(capability(A)).learn(stated(2, B, former=[A]))
    assert known_doors(capability(A, issuer=IssuerKey.generate())).keys == (A,)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff"])
def test_a_damaged_memory_is_an_error_with_advice(data: bytes) -> None:
    file = capability(A)
    known_doors(file).learn(stated(2, B, former=[A]))
    seen_path(file).write_bytes(data)
    with pytest.raises(PolicyError) as caught:
        known_doors(file)
    assert caught.value.code == "seen" and caught.value.advice


def test_a_disk_that_says_no_ends_nothing(caplog) -> None:
    file = capability(A)
    seen_path(file).parent.parent.mkdir(mode=0o700)
    seen_path(file).parent.write_text("in the way")
    known = known_doors_in_memory(file)
    known.learn(stated(2, B, former=[A]))
    assert known.keys == (B,) and "could not be kept" in caplog.text


def known_doors_in_memory(file: Capability) -> KnownDoors:
    from secure_ipp.keys.seen_doors import _try_to_remember

    return knower(*file.server_keys, changed=lambda known: _try_to_remember(file, known))


def test_many_clients_write_and_none_goes_back() -> None:
    file = capability(A)

    def client(number: int) -> None:
        known = knower(A)
        known.learn(stated(number, B, former=[A]))
        for _ in range(5):
            remember(file, known)
            seen = read_seen(file)
            assert seen is not None and seen.number >= number and seen.refused == (A,)

    for pid in [fork(lambda number=number: client(number)) for number in range(1, 7)]:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    seen = read_seen(file)
    assert seen is not None and seen.number == 6


def test_a_kill_at_any_step_leaves_the_old_or_the_new_memory() -> None:
    file = capability(A)
    known_doors(file).learn(stated(1, A, B))
    for number in range(1, 40):
        if not killed_at(number, lambda: known_doors(file).learn(stated(2, B, former=[A]))):
            break
        try:
            seen = read_seen(file)
        except SecureIppError as error:
            pytest.fail(error.message)
        assert seen is not None and (seen.number, seen.keys) in ((1, (A, B)), (2, (B,)))
        known_doors(file)
    assert number > 5 and read_seen(file).number == 2
