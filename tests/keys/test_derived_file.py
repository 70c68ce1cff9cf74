"""Which of the grants that holders handed on are in force: by the chain alone, anew at each look (S32)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.keys import fields
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.derived import (
    DerivedError,
    DerivedGrants,
    chain_of,
    check_new,
    live_derived,
    no_derived,
    parse_derived,
)
from secure_ipp.keys.grants import Grant, sign_derived, sign_grant
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.registry import Registry, first_registry

NOW = 1_800_000_000
ISSUER, CLUSTER_ID = IssuerKey.generate(), "C" * 22
PEOPLE = [KeyPair.generate() for _ in range(8)]


def root(person: int = 0, **changes: Any) -> Grant:
    values: dict[str, Any] = {"rights": ("task", "direct"), "expires": NOW + 1000, **changes}
    keys = PEOPLE[person]
    return sign_grant(
        ISSUER, CLUSTER_ID, name=f"person{person}", role="client", key=keys.public, now=NOW,
        signing_key=HolderKey.of(keys.secret).public(), **values,
    )


def child(parent: Grant, by: int, to: int, **changes: Any) -> Grant:
    values: dict[str, Any] = {"name": f"person{to}", "rights": ("task",), "expires": NOW + 500, **changes}
    keys = values.pop("keys", PEOPLE[to])
    return sign_derived(
        HolderKey.of(PEOPLE[by].secret), CLUSTER_ID, parent, key=keys.public, now=NOW,
        signing_key=HolderKey.of(keys.secret).public(), **values,
    )


ADA = root()
BEN = child(ADA, 0, 1)
CAY = child(BEN, 1, 2)
REGISTRY = first_registry(ISSUER, "lab", CLUSTER_ID, (ADA,))


def of(*grants: Grant) -> DerivedGrants:
    return no_derived(CLUSTER_ID).having(grants)


def live(*grants: Grant, registry: Registry = REGISTRY, now: float = NOW) -> list[Grant]:
    return live_derived(registry, of(*grants), now)


def test_what_the_chain_proves_is_in_force_in_any_order() -> None:
    assert live(BEN, CAY) == [BEN, CAY]
    assert live(CAY, BEN) == [CAY, BEN]
    assert chain_of(REGISTRY, [BEN, CAY], CAY) == (ADA, BEN)
    assert chain_of(REGISTRY, [BEN, CAY], ADA) == ()
    with pytest.raises(DerivedError):
        chain_of(REGISTRY, [CAY], CAY)


def test_the_end_of_an_ancestor_is_the_end_of_all_below() -> None:
    assert live(CAY) == []
    assert live(BEN, CAY, registry=REGISTRY.without_grant(ADA.id)) == []
    retired = msgspec.structs.replace(REGISTRY, retired=(BEN.key,))
    assert live(BEN, CAY, registry=retired) == []
    assert live(BEN, CAY, now=NOW + 500) == []


def test_another_key_of_the_parent_ends_what_it_handed_on() -> None:
    rekeyed = first_registry(ISSUER, "lab", CLUSTER_ID, (msgspec.structs.replace(root(3), id=ADA.id),))
    assert live(BEN, CAY, registry=rekeyed) == []


def test_of_one_key_or_one_id_the_first_counts() -> None:
    again = child(ADA, 0, 1, name="other")
    assert live(BEN, again) == [BEN]
    same_id = msgspec.structs.replace(child(ADA, 0, 4), id=BEN.id)
    assert live(BEN, same_id) == [BEN]
    taken = child(ADA, 0, 1, keys=PEOPLE[0])
    assert live(taken) == []


def test_a_chain_has_a_greatest_length() -> None:
    grants = [ADA]
    for depth in range(limits.DERIVED_DEPTH + 1):
        grants.append(child(grants[-1], depth, depth + 1))
    assert live(*grants[1:]) == grants[1 : limits.DERIVED_DEPTH + 1]


def test_a_parent_has_a_greatest_number_of_children() -> None:
    many = [child(ADA, 0, 1, keys=KeyPair.generate()) for _ in range(limits.DERIVED_PER_PARENT + 1)]
    assert live(*many) == many[:-1]
    with pytest.raises(DerivedError):
        check_new(REGISTRY, of(*many[:-1]), many[-1], NOW)


def test_a_new_one_must_stand_and_loses_nobody() -> None:
    one = check_new(REGISTRY, no_derived(CLUSTER_ID), BEN, NOW)
    two = check_new(REGISTRY, one, CAY, NOW)
    assert (one.version, two.version, two.grants) == (1, 2, (BEN, CAY))
    for bad in (CAY, BEN, msgspec.structs.replace(child(ADA, 0, 5), rights=("control",)), ADA, child(CAY, 2, 0)):
        with pytest.raises(DerivedError):
            check_new(REGISTRY, two if bad is not CAY else no_derived(CLUSTER_ID), bad, NOW)


def test_grants_that_ended_leave_with_the_next_change() -> None:
    short = child(ADA, 0, 3, expires=NOW + 10)
    assert check_new(REGISTRY, of(short), BEN, NOW + 20).grants == (BEN,)


@given(st.lists(st.sampled_from([BEN, CAY, ADA, child(ADA, 0, 3), child(CAY, 2, 4)]), max_size=8),
       st.integers(NOW - 1, NOW + 1200))
def test_nothing_lives_that_its_chain_does_not_prove(grants: list[Grant], now: int) -> None:
    found = live(*grants, now=now)
    for grant in found:
        parent = chain_of(REGISTRY, found, grant)[-1]
        grant.verify_derived(parent, CLUSTER_ID)
        assert now < grant.expires
    assert len({grant.key for grant in found} | {ADA.key}) == len(found) + 1


def test_the_file_goes_round(place: ClusterPlace) -> None:
    place.dir.mkdir(parents=True, mode=0o700)
    assert DerivedGrants.load(place, CLUSTER_ID) == no_derived(CLUSTER_ID)
    of(BEN, CAY).save(place)
    assert DerivedGrants.load(place, CLUSTER_ID) == of(BEN, CAY)
    assert Path(place.derived).stat().st_mode & 0o777 == 0o600
    with pytest.raises(DerivedError):
        DerivedGrants.load(place, "D" * 22)


TEXT = fields.to_file(of(BEN))


@given(st.one_of(st.binary(max_size=200), st.builds(
    lambda at, put, cut: TEXT[:at] + put + TEXT[at + cut :], st.integers(0, len(TEXT)), st.binary(max_size=3),
    st.integers(0, 3),
)))
def test_any_bytes_are_grants_or_a_documented_error(data: bytes) -> None:
    try:
        derived = parse_derived(data, CLUSTER_ID)
    except DerivedError:
        return
    assert live_derived(REGISTRY, derived, NOW) in ([], [BEN])


@pytest.mark.parametrize("grants", [(ADA,), (msgspec.structs.replace(BEN, parent=""),)])
def test_a_grant_without_a_parent_is_none_of_these(grants: tuple[Grant, ...]) -> None:
    with pytest.raises(DerivedError):
        parse_derived(fields.to_file(of(*grants)), CLUSTER_ID)
