"""Grants in force: unknown, expired, wrong role and unreadable all mean no rights (S10, S14)."""

from __future__ import annotations

import math

import pytest

from secure_ipp.errors import Refused
from secure_ipp.hub.grants import live_grants_of
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
