"""What a holder hands on: what the chain of holders proves, and every way to say more than one's parent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.errors import CapabilityError
from secure_ipp.keys import fields
from secure_ipp.keys.capability import Capability, dump_capability, parse_capability, sign_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.grants import Grant, Quotas, narrower, sign_derived, sign_grant
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.signing import BadSignature

NOW = 1_800_000_000
ISSUER, CLUSTER_ID = IssuerKey.generate(), "C" * 22
SERVER, ADA, BEN, CAY = (KeyPair.generate() for _ in range(4))
ROOT = sign_grant(
    ISSUER, CLUSTER_ID, name="ada", role="client", key=ADA.public, rights=("task", "direct", "admin"), now=NOW,
    expires=NOW + 1000, signing_key=HolderKey.of(ADA.secret).public(),
)


def derived(parent: Grant = ROOT, by: KeyPair = ADA, to: KeyPair = BEN, **changes: Any) -> Grant:
    values: dict[str, Any] = {"name": "ben", "rights": ("task",), "expires": NOW + 500, **changes}
    signing_key = HolderKey.of(to.secret).public()
    return sign_derived(
        HolderKey.of(by.secret), CLUSTER_ID, parent, key=to.public, now=NOW, signing_key=signing_key, **values
    )


def capability(parents: tuple[Grant, ...], by: KeyPair, to: KeyPair, **changes: Any) -> Capability:
    values: dict[str, Any] = {"rights": ("task",), "expires": NOW + 500, **changes}
    return sign_capability(
        HolderKey.of(by.secret), keys=to, cluster="lab", cluster_id=CLUSTER_ID, role="client", name="ben",
        server_keys=(SERVER.public,), door=("tcp://127.0.0.1:20001",), issuer_key=ISSUER.public(), parents=parents,
        **values,
    )


def test_a_chain_of_holders_is_followed_to_the_issuer() -> None:
    child = derived()
    child.verify_derived(ROOT, CLUSTER_ID)
    grandchild = derived(child, BEN, CAY, name="cay", expires=NOW + 400)
    grandchild.verify_derived(child, CLUSTER_ID)
    file = capability((ROOT, child), BEN, CAY, expires=NOW + 400)
    assert parse_capability(dump_capability(file), now=NOW) == file


@pytest.mark.parametrize("changes", [
    {"rights": ("task", "control")}, {"rights": ("admin",)}, {"expires": 0}, {"expires": NOW + 1001},
])
def test_a_holder_hands_on_no_more_than_it_has(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        derived(**changes)
    with pytest.raises(CapabilityError):
        capability((ROOT,), ADA, BEN, **changes)


def test_a_signature_of_anybody_else_counts_for_nothing() -> None:
    with pytest.raises(BadSignature):
        derived(by=BEN)
    child = derived()
    with pytest.raises(BadSignature):
        child.verify(ISSUER.public(), CLUSTER_ID)
    with pytest.raises(BadSignature):
        child.verify_derived(ROOT, "D" * 22)
    with pytest.raises(BadSignature):
        ROOT.verify_derived(child, CLUSTER_ID)
    with pytest.raises(CapabilityError):
        capability((child,), BEN, CAY, expires=NOW + 400)  # the first of a chain is the issuer's
    with pytest.raises(CapabilityError):
        capability((ROOT, ROOT), ADA, BEN)


def test_a_holder_without_a_signing_key_hands_nothing_on() -> None:
    mute = sign_grant(
        ISSUER, CLUSTER_ID, name="ada", role="client", key=ADA.public, rights=("task",), now=NOW, expires=NOW + 1000
    )
    with pytest.raises(BadSignature):
        derived(mute)


@given(
    rights=st.sets(st.sampled_from(fields.CLIENT_RIGHTS)), expires=st.integers(0, NOW + 2000),
    more=st.sampled_from([{}, {"tenancy": "own"}, {"quotas": Quotas(tasks=1)}, {"role": "engine"}]),
)
def test_narrower_is_never_wider(rights: set[str], expires: int, more: dict[str, Any]) -> None:
    child = msgspec.structs.replace(derived(), rights=tuple(rights), expires=expires, **more)
    if narrower(child, ROOT):
        assert rights <= set(ROOT.rights) and "admin" not in rights and 0 < expires <= ROOT.expires and not more


def test_a_signing_key_follows_from_its_secret_alone() -> None:
    assert HolderKey.of(ADA.secret) == HolderKey.of(ADA.secret) != HolderKey.of(BEN.secret)
    assert HolderKey.of(ADA.secret).raw != ADA.secret.raw
