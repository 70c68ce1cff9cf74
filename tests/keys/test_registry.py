"""The registry of keys: signed, versioned, complete, and changed under its lock only (S10, S12)."""

import json
import threading

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ipp.errors import SecureIppError, UsageError
from secure_ipp.keys import fields
from secure_ipp.keys.cluster_keys import init_cluster, load_issuer
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.grants import Grant, sign_grant
from secure_ipp.keys.issuer import BadSignature, IssuerKey
from secure_ipp.keys.locks import Lock, LockHeld
from secure_ipp.keys.registry import Registry, RegistryError, change_registry, first_registry, parse_registry

ISSUER, CLUSTER_ID = IssuerKey.generate(), "C" * 22


def grant(name="ada", issuer=ISSUER, cluster_id=CLUSTER_ID, **changes):
    values = {"role": "client", "key": KeyPair.generate().public, "rights": ("task",), "now": 100.0, **changes}
    return sign_grant(issuer, cluster_id, name=name, **values)


ADA, BOB, ENGINES = grant("ada"), grant("bob"), grant("engines", role="engine", rights=("join",), engines=10)
GOOD = first_registry(ISSUER, "lab", CLUSTER_ID, (ADA, ENGINES))


def parse(registry, **options):
    data = registry if isinstance(registry, bytes) else fields.to_file(registry)
    return parse_registry(data, ISSUER.public(), CLUSTER_ID, **options)


def test_it_goes_round():
    assert parse(GOOD) == GOOD
    assert (GOOD.version, GOOD.grants, GOOD.retired) == (1, (ADA, ENGINES), ())
    assert GOOD.grant(ADA.id) == GOOD.named("ada") == ADA
    assert GOOD.grant("x") is None
    assert GOOD.named("x") is None


def test_a_grant_is_signed_for_its_cluster():
    ADA.verify(ISSUER.public(), CLUSTER_ID)
    for issuer, cluster_id in [(IssuerKey.generate().public(), CLUSTER_ID), (ISSUER.public(), "D" * 22)]:
        with pytest.raises(BadSignature):
            ADA.verify(issuer, cluster_id)


@pytest.mark.parametrize(
    "change",
    [{"rights": ("admin",)}, {"name": "eve"}, {"expires": 5}, {"key": KeyPair.generate().public}, {"id": "E" * 22}],
)
def test_a_changed_grant_is_not_signed(change):
    changed = msgspec.structs.replace(ADA, **change)
    with pytest.raises(BadSignature):
        changed.verify(ISSUER.public(), CLUSTER_ID)
    forged = msgspec.structs.replace(GOOD, grants=(changed,)).signed(ISSUER)
    with pytest.raises(RegistryError):
        parse(forged)


def test_rights_belong_to_roles():
    pairs = [("client", ("join",)), ("engine", ("task",)), ("client", ("root",)), ("client", ("task", "task"))]
    for role, rights in pairs:
        with pytest.raises(ValueError, match="rights of"):
            grant(role=role, rights=rights)


def test_s10_the_registrys_own_signature_binds_the_set():
    less = msgspec.structs.replace(GOOD, grants=(ADA,))
    newer = msgspec.structs.replace(GOOD, version=2)
    for forged in (less, newer, msgspec.structs.replace(GOOD, signature="")):
        with pytest.raises(RegistryError):
            parse(forged)
    assert parse(less.signed(ISSUER)).grants == (ADA,)


def test_s10_another_issuer_or_cluster_is_refused():
    other = IssuerKey.generate()
    foreign = first_registry(other, "lab", CLUSTER_ID, ())
    elsewhere = first_registry(ISSUER, "lab", "D" * 22, ())
    for registry in (foreign, elsewhere):
        with pytest.raises(RegistryError, match="cannot be relied on"):
            parse(registry)
    with pytest.raises(BadSignature):
        GOOD.signed(other)


def test_s10_an_older_one_than_was_seen_is_refused():
    second = GOOD.with_grant(BOB).signed(ISSUER)
    assert parse(second, at_least=2).version == 2
    with pytest.raises(RegistryError, match="version 2 was seen before"):
        parse(GOOD, at_least=2)


def test_s12_a_key_that_was_ever_held_never_comes_back():
    without = GOOD.without_grant(ADA.id)
    assert (without.version, without.grants, without.retired) == (2, (ENGINES,), (ADA.key,))
    for key in (ADA.key, ENGINES.key):
        for role, rights in (("client", ("task",)), ("engine", ("join",))):
            with pytest.raises(RegistryError) as caught:
                without.with_grant(grant("new", key=key, role=role, rights=rights))
            assert caught.value.code == "key-reused"


def test_names_and_ids_are_unique():
    with pytest.raises(UsageError):
        GOOD.with_grant(grant("ada"))
    with pytest.raises(UsageError):
        GOOD.with_grant(grant("new", id=ADA.id))
    with pytest.raises(UsageError):
        GOOD.without_grant(BOB.id)


@pytest.mark.parametrize(
    "grants",
    [(ADA, ADA), (ADA, grant("other", key=ADA.key)), (ADA, grant("ada")), (ADA, grant("other", id=ADA.id))],
)
def test_a_signed_contradiction_is_refused_all_the_same(grants):
    with pytest.raises(RegistryError):
        parse(msgspec.structs.replace(GOOD, grants=grants).signed(ISSUER))


def test_a_live_key_that_is_retired_is_refused():
    with pytest.raises(RegistryError):
        parse(msgspec.structs.replace(GOOD, retired=(ADA.key,)).signed(ISSUER))


TEXT = fields.to_file(GOOD)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", TEXT[:-5], TEXT + b"{}", TEXT.replace(b'"version": 1', b'"version": 1, "version": 1'),
     TEXT.replace(b'"version": 1', b'"version": 0'), TEXT.replace(b'"version": 1', b'"version": 1.0'), b"[" * 100_000,
     TEXT.replace(b'"retired": []', b'"retired": [], "more": 1')],
)
def test_bytes_are_read_strictly(data):
    with pytest.raises(RegistryError) as caught:
        parse(data)
    assert caught.value.advice


@settings(max_examples=200)
@given(st.integers(0, len(TEXT) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_bytes_are_refused_or_the_same(at, put, cut):
    try:
        assert parse(TEXT[:at] + put + TEXT[at + cut :]) == GOOD
    except RegistryError:
        pass


@given(st.binary(max_size=200))
def test_any_bytes_raise_registry_errors_only(data):
    with pytest.raises(RegistryError):
        parse(data)


def test_changes_are_written_signed_and_newer(place):
    init_cluster(place)
    issuer, before = load_issuer(place), Registry.load(place)
    new = grant("carol", issuer, before.cluster_id)
    assert change_registry(place, issuer, lambda registry: registry.with_grant(new)).version == 2
    assert Registry.load(place, at_least=2).named("carol") == new
    change_registry(place, issuer, lambda registry: registry.without_grant(new.id))
    assert Registry.load(place).retired == (new.key,)
    assert Registry.load(place).version == 3


def test_a_change_that_is_none_or_fails_writes_nothing(place):
    init_cluster(place)
    issuer, before = load_issuer(place), place.registry.read_bytes()

    def fails(registry):
        raise UsageError("no")

    for change in (fails, lambda registry: registry, lambda registry: registry.with_grant(ADA)):
        with pytest.raises(SecureIppError):
            change_registry(place, issuer, change)
        assert place.registry.read_bytes() == before
    with pytest.raises(BadSignature):
        change_registry(place, ISSUER, lambda r: r.with_grant(grant("x", issuer, r.cluster_id)))
    assert place.registry.read_bytes() == before


def test_two_changes_at_once_both_count(place):
    init_cluster(place)
    issuer, cluster_id = load_issuer(place), Registry.load(place).cluster_id
    new = [grant(f"user{number}", issuer, cluster_id) for number in range(8)]

    def add(one):
        change_registry(place, issuer, lambda registry: registry.with_grant(one))

    threads = [threading.Thread(target=add, args=(one,)) for one in new]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = Registry.load(place)
    assert after.version == 9
    assert set(after.grants) >= set(new)


def test_a_change_waits_for_the_lock(place, monkeypatch):
    from secure_ipp import limits

    monkeypatch.setattr(limits, "REGISTRY_LOCK_SECONDS", 0.05)
    init_cluster(place)
    with Lock(place.registry_lock), pytest.raises(LockHeld):
        change_registry(place, load_issuer(place), lambda registry: registry)


def test_s10_a_missing_or_swapped_registry_denies(place, tmp_path):
    init_cluster(place)
    data = place.registry.read_bytes()
    place.registry.unlink()
    with pytest.raises(RegistryError, match="is not there"):
        Registry.load(place)
    plain = json.loads(data)
    plain["grants"] = plain["grants"][:1]
    place.registry.write_bytes(json.dumps(plain).encode())
    place.registry.chmod(0o600)
    with pytest.raises(RegistryError, match="cannot be relied on"):
        Registry.load(place)


def test_a_grant_shows_no_more_than_is_public():
    assert ADA.key.fingerprint in repr(ADA)
    assert isinstance(ADA, Grant)
