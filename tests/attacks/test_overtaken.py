"""Many ask the hub at once for what is bounded, while its journal makes it wait: one is judged after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from secure_ipp.keys import fields
from secure_ipp.keys.cluster_keys import load_issuer
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.derived import DerivedGrants
from secure_ipp.keys.grants import Grant, sign_derived, sign_grant
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.registry import change_registry
from secure_ipp.wire import messages
from secure_ipp.wire.codec import encode_message
from tests.hub.live_hub import LiveHub, SchedulerEnd

pytestmark = pytest.mark.live
ADA = KeyPair.generate()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LiveHub]:
    live = LiveHub(tmp_path / "home")
    yield live
    live.stop()


def granted(hub: LiveHub, keys: KeyPair, **values: Any) -> Grant:
    issuer, cluster_id = load_issuer(hub.place), hub.registry().cluster_id
    grant = sign_grant(issuer, cluster_id, key=keys.public, now=time.time(), **values)
    change_registry(hub.place, issuer, lambda registry: registry.with_grant(grant))
    return grant


def at_once(end: SchedulerEnd, *said: messages.Message) -> None:
    """Behind something that the hub must put on record first, all in one packet."""
    end.send(messages.AuditEvent("something", time.time(), {}))
    first = messages.AuditEvent("something else", time.time(), {})
    end._loop.call_threadsafe(lambda: [end._connection.send(one) for one in (first, *said)])


def test_s12_hosts_that_ask_at_the_same_moment_do_not_share_one_join(hub: LiveHub) -> None:
    grant = granted(hub, KeyPair.generate(), name="once", role="engine", rights=("join",), engines=4, joins=1)
    assert hub.start()["event"] == "ready"
    end = SchedulerEnd(hub)
    try:
        sessions = [bytes([number]) * 16 for number in range(5)]
        at_once(end, *(messages.JoinAsked(grant.id, session, session) for session in sessions))
        answers = [end.wait_for(messages.JoinAnswered, lambda one, s=s: one.session == s) for s in sessions]
    finally:
        end.close()
    assert sorted(answer.code for answer in answers) == ["", "joins", "joins", "joins", "joins"]


def test_s32_what_was_granted_at_the_same_moment_is_all_kept(hub: LiveHub) -> None:
    parent = granted(
        hub, ADA, name="ada", role="client", rights=("task",), signing_key=HolderKey.of(ADA.secret).public()
    )
    cluster_id = hub.registry().cluster_id
    children = []
    for number in range(5):
        keys = KeyPair.generate()
        children.append(sign_derived(
            HolderKey.of(ADA.secret), cluster_id, parent, name=f"n{number}", key=keys.public, rights=("task",),
            now=time.time(), expires=0, signing_key=HolderKey.of(keys.secret).public(),
        ))
    bodies = [encode_message(messages.Attenuate(msgspec.json.encode(fields.to_plain(child)))) for child in children]
    assert hub.start()["event"] == "ready"
    end = SchedulerEnd(hub)
    try:
        at_once(end, *(messages.Forward(parent.id, b"s" * 16, number, body) for number, body in enumerate(bodies)))
        for number in range(5):
            answer = end.wait_for(messages.Forwarded, lambda one, n=number: one.answer.request == n).answer
            assert isinstance(answer, messages.Answer), answer
    finally:
        end.close()
    assert set(DerivedGrants.load(hub.place, cluster_id).grants) == set(children)
