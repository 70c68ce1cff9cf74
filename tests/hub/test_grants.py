"""Grants in force: unknown, expired, wrong role and unreadable all mean no rights (S10, S14)."""

from __future__ import annotations

import math

import msgspec
import pytest

from secure_ipp import limits
from secure_ipp.errors import Refused
from secure_ipp.hub.grants import LiveGrants, from_registry, live_grants_of
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.fields import new_id
from secure_ipp.keys.grants import sign_grant
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.registry import first_registry
from secure_ipp.wire.codec import encode_message
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
    (message,) = live(client("alice", "task"), join_key(), version=7).messages(3)
    assert (message.version, message.edition, message.part, message.more) == (7, 3, 0, False)
    assert [grant.role for grant in message.grants] == ["client", "agent"]


@pytest.mark.parametrize(("grants", "retired", "parts"), [(0, 0, 1), (1024, 16_384, 1), (1025, 0, 2), (3, 40_000, 3)])
def test_the_parts_together_say_all_and_each_fits(grants: int, retired: int, parts: int) -> None:
    everybody = {
        f"u{n}": msgspec.structs.replace(client(f"u{n}", "task"), networks=["f" * 64] * 32) for n in range(grants)
    }
    keys = tuple(n.to_bytes(32, "big") for n in range(retired))
    messages = LiveGrants(7, everybody, keys).messages(1)
    assert len(messages) == parts
    assert [grant for message in messages for grant in message.grants] == list(everybody.values())
    assert [key for message in messages for key in message.retired] == list(keys)
    assert [message.more for message in messages] == [True] * (parts - 1) + [False]
    assert all(len(encode_message(message)) < 3 * limits.MIB for message in messages)


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
