"""Proofs of a key, and the memory of those that were taken (S25)."""

import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.access.proof import NONCE_BYTES, Proof, Purpose, SharedKey, is_timely, parse_proof, shared_key
from secure_ipp.access.proof_file import ProofFile
from secure_ipp.access.prover import Prover
from secure_ipp.access.used_proofs import UsedProofs, parse_used, row_line
from secure_ipp.errors import EnvironmentProblem, PolicyError, PrivateFileError, ProtocolError
from secure_ipp.keys import base64url
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from tests.running import short_directory

NOW = 1_800_000_000.0
CLUSTER = "a" * 22
HOLDER, SERVER, OTHER = KeyPair.generate(), KeyPair.generate(), KeyPair.generate()
PURPOSE = Purpose(CLUSTER, "client-socket", SERVER.public, HOLDER.public)


def made(now=NOW, nonce=None, purpose=PURPOSE):
    shared = shared_key(HOLDER, purpose.server)
    return shared.make_proof(purpose, now=now, nonce=os.urandom(NONCE_BYTES) if nonce is None else nonce)


# --- the proof ------------------------------------------------------------------------------------------------


def test_what_the_holder_made_the_server_finds_good_and_can_answer():
    proof = made()
    parsed = parse_proof(proof.username, proof.password)
    assert parsed == proof
    at_server = shared_key(SERVER, HOLDER.public)
    at_server.check(parsed, PURPOSE)
    assert at_server.answer(parsed, PURPOSE) == shared_key(HOLDER, SERVER.public).answer(proof, PURPOSE)
    assert at_server.answer(parsed, PURPOSE) != proof.mac


@pytest.mark.parametrize("change", [
    {"cluster_id": "b" * 22}, {"door": "engine-socket"}, {"door": "client"}, {"server": OTHER.public},
    {"holder": OTHER.public},
])
def test_it_is_good_for_nothing_else(change):
    with pytest.raises(ProtocolError):
        shared_key(SERVER, HOLDER.public).check(made(), replace(PURPOSE, **change))
    with pytest.raises(ProtocolError):
        shared_key(OTHER, HOLDER.public).check(made(), PURPOSE)


@pytest.mark.parametrize("change", [
    {"milliseconds": int(NOW * 1000) + 1}, {"nonce": bytes(16)}, {"mac": bytes(32)}, {"holder": OTHER.public},
])
def test_nothing_in_it_can_be_another(change):
    with pytest.raises(ProtocolError):
        shared_key(SERVER, HOLDER.public).check(replace(made(), **change), PURPOSE)


def test_a_key_that_agrees_with_every_other_agrees_with_none():
    """Points of low order make a shared secret that everybody knows (RFC 7748, section 6.1)."""
    for point in (bytes(32), b"\1" + bytes(31)):
        with pytest.raises(ValueError):
            SharedKey(SERVER.secret, CurvePublicKey(point))


@given(st.binary(max_size=80), st.binary(max_size=120))
def test_the_parser_takes_only_what_make_proof_writes(username, password):
    try:
        proof = parse_proof(username, password)
    except ProtocolError:
        return
    assert (proof.username, proof.password) == (username, password)


@given(
    st.integers(0, 2**64 - 1), st.integers(0, 255), st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32), st.binary(max_size=3),
)
def test_versions_times_and_lengths_are_those_that_are_written(milliseconds, version, nonce, mac, more):
    body = bytes([version]) + milliseconds.to_bytes(8, "big") + nonce + mac + more
    text = base64url.encode(body).encode()
    if version == 1 and milliseconds <= 2**53 and not more:
        assert parse_proof(HOLDER.public.text.encode(), text).password == text
    else:
        with pytest.raises(ProtocolError):
            parse_proof(HOLDER.public.text.encode(), text)


@settings(max_examples=40)
@given(st.data())
def test_a_flipped_bit_anywhere_is_an_error(data):
    proof = made()
    field = bytearray(data.draw(st.sampled_from([proof.username, proof.password])))
    is_name = bytes(field) == proof.username
    field[data.draw(st.integers(0, len(field) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ProtocolError):
        changed = parse_proof(bytes(field) if is_name else proof.username, proof.password if is_name else bytes(field))
        shared_key(SERVER, HOLDER.public).check(changed, PURPOSE)


def test_neither_key_nor_mac_shows_in_a_repr():
    proof, shared = made(), shared_key(HOLDER, SERVER.public)
    trial = Prover(CLUSTER, "client-socket", lambda: NOW).prove(HOLDER, SERVER.public)
    shown = repr((proof, shared, trial))
    assert repr(proof.mac) not in shown and repr(trial.expected) not in shown and repr(shared._key) not in shown


def test_clocks_may_differ_by_so_much():
    limit = limits.PROOF_SECONDS
    assert is_timely(made(NOW - limit), NOW) and is_timely(made(NOW + limit), NOW)
    assert not is_timely(made(NOW - limit - 1), NOW) and not is_timely(made(NOW + limit + 1), NOW)
    assert not is_timely(made(), 0.0), "before anybody has told the time"


def test_each_try_is_another_one():
    prover = Prover(CLUSTER, "client-socket", lambda: NOW)
    trials = [prover.prove(HOLDER, SERVER.public) for _ in range(2)]
    assert trials[0].proof.nonce != trials[1].proof.nonce
    assert trials[0].is_answered(trials[0].expected) and not trials[0].is_answered(trials[1].expected)
    assert not trials[0].is_answered(b"")


# --- the memory -----------------------------------------------------------------------------------------------


def test_what_was_taken_is_refused_for_ever():
    used, proof = UsedProofs(), made()
    assert not used.is_used(proof)
    used.take(proof)
    for later in (0, 60, 119, 121, 1e6):
        used.forget(NOW + later)
        assert used.is_used(proof), later
    assert len(used) == 0, "it does not grow"
    assert not used.is_used(made(NOW + 1e6))


def test_a_clock_that_was_set_back_makes_nothing_good_again():
    used, proof = UsedProofs(), made()
    used.take(proof)
    used.forget(NOW + 1000)
    again = parse_used(used.text(CLUSTER), CLUSTER)
    again.forget(NOW)
    assert again.is_used(proof) and again.is_used(made(NOW - 1))


def test_it_is_bounded_in_all_and_for_each_key(monkeypatch):
    monkeypatch.setattr(limits, "PROOFS_KEPT", 3)
    monkeypatch.setattr(limits, "PROOFS_PER_KEY", 2)
    used = UsedProofs()
    for _ in range(2):
        used.take(made())
    assert not used.has_room(made())
    theirs = Proof(OTHER.public, int(NOW * 1000), bytes(16), bytes(32))
    assert used.has_room(theirs)
    used.take(theirs)
    assert not used.has_room(replace(theirs, holder=SERVER.public))
    used.forget(NOW + 121)
    assert used.has_room(made())


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=5, unique=True), st.integers(0, 2**50))
def test_a_file_says_what_was_written(nonces, floor):
    used = UsedProofs(floor)
    lines = [row_line(used.take(made(NOW, nonce))) for nonce in nonces]
    found = parse_used(UsedProofs(floor).text(CLUSTER) + b"".join(lines), CLUSTER)
    assert found.text(CLUSTER) == used.text(CLUSTER) and found.floor == floor


@settings(max_examples=60)
@given(st.data())
def test_any_change_of_a_file_is_damage_and_a_torn_end_is_none(data):
    used = UsedProofs(5)
    for number in range(3):
        used.take(made(NOW, bytes([number]) * 16))
    text = used.text(CLUSTER)
    last = text[:-1].rfind(b"\n") + 1
    torn = parse_used(text[: data.draw(st.integers(last, len(text) - 1))], CLUSTER)
    assert len(torn) == 2
    changed = bytearray(text)
    place = data.draw(st.integers(0, last - 1))
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(PolicyError, match="damaged"):
        parse_used(bytes(changed), CLUSTER)


@pytest.mark.parametrize("text", [b"", b"\n", b"secure-ipp-proofs/1 x 0 00000000\n"])
def test_what_is_no_such_file_is_damage(text):
    with pytest.raises(PolicyError):
        parse_used(text, CLUSTER)


def test_the_memory_of_another_cluster_is_none():
    with pytest.raises(PolicyError):
        parse_used(UsedProofs().text("b" * 22), CLUSTER)


# --- the file -------------------------------------------------------------------------------------------------


@pytest.fixture
def path():
    return short_directory() / "proofs.used"


def opened(path):
    memory = ProofFile(path, CLUSTER)
    memory.open(NOW)
    return memory


def test_a_proof_is_on_the_disk_before_it_is_taken(path, monkeypatch):
    synced = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (sync(descriptor), synced.append(path.read_bytes())))
    memory, proof = opened(path), made()
    memory.take(proof, NOW)
    assert base64url.encode(proof.name).encode() in synced[0]
    other = opened(path)  # as after a kill
    assert other.is_used(proof)
    assert path.stat().st_mode & 0o777 == 0o600
    memory.close()
    other.close()


def test_it_is_written_anew_without_what_is_out_of_time(path, monkeypatch):
    monkeypatch.setattr(limits, "PROOFS_APPENDED", 10)
    memory = opened(path)
    first = made()
    memory.take(first, NOW)
    for number in range(1, 60):
        memory.take(made(NOW + 10 * number), NOW + 10 * number)
    assert len(path.read_bytes().splitlines()) < 40
    memory.close()
    assert opened(path).is_used(first)


@pytest.mark.parametrize("damage", [b"", b"nonsense\n", None])
def test_a_damaged_file_is_never_taken_for_an_empty_one(path, damage):
    memory, proof = opened(path), made()
    memory.take(proof, NOW)
    memory.close()
    text = bytearray(path.read_bytes())
    text[-20] ^= 1
    path.write_bytes(bytes(text) if damage is None else damage)
    memory = ProofFile(path, CLUSTER)
    with pytest.raises(PolicyError, match="damaged"):
        memory.open(NOW)
    assert memory.is_used(made())
    with pytest.raises(EnvironmentProblem):
        memory.take(made(), NOW)


def test_a_file_that_others_can_read_is_refused(path):
    opened(path).close()
    path.chmod(0o644)
    with pytest.raises(PrivateFileError):
        opened(path)


def test_while_it_cannot_be_written_nobody_is_admitted_and_afterwards_nothing_was_forgotten(path, monkeypatch):
    memory, first, second, third = opened(path), made(), made(), made()
    memory.take(first, NOW)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        with pytest.raises(EnvironmentProblem, match="No space left"):
            memory.take(second, NOW)
        patch.setattr(os, "fsync", full)
        with pytest.raises(EnvironmentProblem, match="No space left"):
            memory.take(third, NOW)
    memory.take(third, NOW)
    memory.close()
    again = opened(path)
    assert [again.is_used(proof) for proof in (first, second, third)] == [True, True, True]
    again.close()
