"""Grants in force: unknown, expired, wrong role and unreadable all mean no rights (S10, S14)."""

from __future__ import annotations

import math

import pytest

from secure_ipp.errors import Refused
from secure_ipp.hub.grants import from_registry, live_grants_of
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.fields import new_id
from secure_ipp.keys.grants import sign_grant
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.registry import first_registry
from tests.hub.engines import client, join_key, live

NOW = 100.0


def test_a_live_grant_is_found_with_its_rights() -> None:
    assert live(client("alice", "task")).client("alice", NOW).rights == ["task"]
    assert live(client("alice", "task", expires=NOW + 1)).client("alice", NOW).id == "alice"


@pytest.mark.parametrize("grants", [
    live(), live(client("bob", "task")), live(client("alice", "task", expires=NOW)),
    live(client("alice", "task", expires=-1.0)),
    live(client("alice", "task", expires=math.nan)), live(join_key("alice")),
])
def test_unknown_expired_and_wrong_role_are_refused_alike(grants: object) -> None:
    with pytest.raises(Refused) as caught:
        grants.client("alice", NOW)  # type: ignore[attr-defined]
    with pytest.raises(Refused) as unknown:
        live().client("nobody", NOW)
    assert str(caught.value) == str(unknown.value)


def test_an_unreadable_registry_gives_nobody_a_right() -> None:
    with pytest.raises(Refused) as caught:
        live_grants_of(None)
    assert caught.value.code == "registry"
    assert live_grants_of(live()).version == 1


def test_the_message_says_all_of_it() -> None:
    message = live(client("alice", "task"), join_key(), version=7).message()
    assert message.version == 7
    assert [grant.role for grant in message.grants] == ["client", "agent"]


def test_a_verified_registry_becomes_grants() -> None:
    issuer, cluster_id = IssuerKey.generate(), new_id()
    alice, retired, host = (KeyPair.generate().public for _ in range(3))
    grants = tuple(
        sign_grant(issuer, cluster_id, name=name, role=role, key=key, rights=rights, now=NOW, engines=engines)
        for name, role, key, rights, engines in (
            ("alice", "client", alice, ("task", "control"), 0),
            ("retired", "client", retired, ("task",), 0),
            ("hosts", "engine", host, ("join",), 8),
        )
    )
    registry = first_registry(issuer, "work", cluster_id, grants)
    live = from_registry(registry.without_grant(grants[1].id))
    assert live.version == 2
    assert live.retired == (retired.raw,)
    assert {grant.name: (grant.role, grant.key, grant.engines) for grant in live.by_id.values()} == {
        "alice": ("client", alice.raw, 0), "hosts": ("agent", host.raw, 8),
    }
    assert live.client(grants[0].id, NOW).rights == ["task", "control"]
