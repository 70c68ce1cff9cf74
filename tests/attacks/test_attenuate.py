"""What a holder tries to hand on that it may not, and what becomes of what it handed on (S32)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secure_ipp as ipp
from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, Refused, Revoked, SecureIppError, UsageError
from secure_ipp.hub.actions import Keep, Send
from secure_ipp.hub.core import Hub
from secure_ipp.hub.grants import from_registry
from secure_ipp.keys import fields
from secure_ipp.keys.capability import Capability, dump_capability, load_capability, parse_capability, sign_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.derived import DerivedGrants, no_derived
from secure_ipp.keys.grants import DERIVED_PURPOSE, Grant, Quotas, sign_derived, sign_grant
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.registry import Registry, first_registry
from secure_ipp.store.memory import MemoryStore
from secure_ipp.wire import messages
from secure_ipp.wire.codec import encode_message
from tests.attacks.rogue import Rogue, Rogues, issue, revoke
from tests.hub.engines import engine
from tests.running import RunningCluster

NOW = 1_800_000_000.0
ISSUER, CLUSTER_ID = IssuerKey.generate(), fields.new_id()
ADA, BOB, EVE = (KeyPair.generate() for _ in range(3))


def root(name: str, keys: KeyPair, *rights: str, expires: float = 0) -> Grant:
    return sign_grant(
        ISSUER, CLUSTER_ID, name=name, role="client", key=keys.public, rights=rights, now=NOW, expires=int(expires),
        signing_key=HolderKey.of(keys.secret).public(),
    )


ADAS = root("ada", ADA, "task", "direct", "admin", expires=NOW + 1000)
BOBS = root("bob", BOB, "task")
REGISTRY = first_registry(ISSUER, "lab", CLUSTER_ID, (ADAS, BOBS))


def handed(
    parent: Grant = ADAS, by: KeyPair = ADA, to: KeyPair | None = None, name: str = "cay",
    rights: tuple[str, ...] = ("task",), expires: float = NOW + 500,
) -> tuple[Grant, KeyPair]:
    to = to or KeyPair.generate()
    return sign_derived(
        HolderKey.of(by.secret), CLUSTER_ID, parent, name=name, key=to.public, rights=rights, now=NOW,
        expires=int(expires), signing_key=HolderKey.of(to.secret).public(),
    ), to


def tampered(grant: Grant, by: KeyPair, **changes: Any) -> Grant:
    """Signed again, by whoever likes, over whatever it likes."""
    draft = msgspec.structs.replace(grant, **changes)
    message = fields.canonical(draft, without=frozenset({"signature"}), cluster_id=CLUSTER_ID)
    return msgspec.structs.replace(
        draft, signature=fields.sign(HolderKey.of(by.secret), DERIVED_PURPOSE, message)
    )


class Desk:
    """A hub, a disk, and the scheduler's end of what it says."""

    def __init__(self, registry: Registry = REGISTRY) -> None:
        self.now = NOW
        self.disk = no_derived(CLUSTER_ID)
        self.full = False
        self.start(registry)

    def start(self, registry: Registry) -> None:
        self.hub = Hub(cluster="lab", pid=1, store=MemoryStore(started=NOW), started=NOW, before={})
        self.hub.handing_on.loaded(self.disk)
        self.load(registry)
        self.hub.scheduler_joined(2, self.now)

    def load(self, registry: Registry) -> None:
        self.told = self._told(self.hub.registry_loaded(from_registry(registry), self.now))

    def ask(self, user: str, question: messages.Message) -> Any:
        """The answer's body, or the failure."""
        actions = self.hub.handle(messages.Forward(user, b"s" * 16, 1, encode_message(question)), self.now)
        done = []
        for action in actions:
            if isinstance(action, Keep):
                if self.full:
                    done += self.hub.not_kept(action, EnvironmentProblem("full", code="disk"))
                else:
                    self.disk = action.file
                    done += self.hub.kept(action, self.now)
            else:
                done.append(action)
        self.told = self._told(done) or self.told
        sent = [action.message for action in done if isinstance(action, Send)]
        (answer,) = [message.answer for message in sent if isinstance(message, messages.Forwarded)]
        return msgspec.msgpack.decode(answer.body) if isinstance(answer, messages.Answer) else answer

    def attenuate(self, user: str, grant: Grant) -> Any:
        return self.ask(user, messages.Attenuate(msgspec.json.encode(fields.to_plain(grant))))

    @staticmethod
    def _told(actions: list[Any]) -> dict[str, messages.GrantInfo]:
        parts = [a.message for a in actions if isinstance(a, Send) and isinstance(a.message, messages.Grants)]
        return {grant.id: grant for part in parts for grant in part.grants}


def refused(answer: Any, code: str = "not-derived") -> None:
    assert isinstance(answer, messages.Failure), answer
    assert answer.code == code, answer


def test_what_is_narrower_is_in_force_with_the_answer_and_named_after_its_giver() -> None:
    desk = Desk()
    child, _ = handed()
    assert desk.attenuate(ADAS.id, child) == {"granted": True}
    info = desk.told[child.id]
    assert (info.name, info.rights, info.parent, info.key) == ("ada/cay", ["task"], ADAS.id, child.key.raw)
    assert info.expires == child.expires
    chain = msgspec.json.decode(desk.ask(child.id, messages.OwnGrant())["chain"])
    assert [one["id"] for one in chain] == [ADAS.id, child.id]


@pytest.mark.parametrize("changes", [
    {"rights": ("task", "control")}, {"rights": ("admin",)}, {"rights": ("observe",)},
    {"expires": int(NOW) + 1001}, {"expires": 0},
    {"role": "engine", "rights": ("join",), "engines": 5},
    {"quotas": {"tasks": 10**9}}, {"tenancy": "own"},
], ids=str)
def test_s32_wider_or_longer_than_the_parent_is_refused(changes: dict[str, Any]) -> None:
    if "quotas" in changes:
        changes = {"quotas": Quotas(**changes["quotas"])}
    desk = Desk()
    refused(desk.attenuate(ADAS.id, tampered(handed()[0], ADA, **changes)))
    assert desk.disk.grants == ()


def test_s32_what_its_holder_did_not_sign_is_refused() -> None:
    desk = Desk()
    child, to = handed()
    refused(desk.attenuate(ADAS.id, tampered(child, BOB)))
    refused(desk.attenuate(ADAS.id, tampered(child, to)))
    refused(desk.attenuate(ADAS.id, msgspec.structs.replace(child, name="other")))
    refused(desk.attenuate(ADAS.id, msgspec.structs.replace(child, signature="A" * 86)))


def test_s32_nobody_hands_on_anothers_grant() -> None:
    """Bob sends what Ada signed, or names Ada as the parent of what he signed."""
    desk = Desk()
    adas, _ = handed()
    refused(desk.attenuate(BOBS.id, adas))
    refused(desk.attenuate(BOBS.id, tampered(adas, BOB)))
    bobs, _ = handed(BOBS, BOB)
    refused(desk.attenuate(ADAS.id, bobs))
    refused(desk.attenuate("nobody", adas), "no-grant")


def test_s32_no_deeper_than_the_bound_and_no_more_than_the_bound() -> None:
    desk = Desk()
    parent, keys = ADAS, ADA
    for depth in range(limits.DERIVED_DEPTH):
        child, theirs = handed(parent, keys, name=f"d{depth}", expires=NOW + 500 - depth)
        assert desk.attenuate(parent.id, child) == {"granted": True}
        parent, keys = child, theirs
    refused(desk.attenuate(parent.id, handed(parent, keys, expires=NOW + 10)[0]))
    for number in range(limits.DERIVED_PER_PARENT):
        desk.now += 2
        assert desk.attenuate(BOBS.id, handed(BOBS, BOB, name=f"n{number}")[0]) == {"granted": True}
    desk.now += 2
    refused(desk.attenuate(BOBS.id, handed(BOBS, BOB)[0]))


def test_s32_no_faster_than_the_bound() -> None:
    desk = Desk()
    for _ in range(limits.DERIVED_PER_MINUTE):
        desk.attenuate(BOBS.id, handed(BOBS, BOB, expires=NOW + 1)[0])
    refused(desk.attenuate(BOBS.id, handed(BOBS, BOB)[0]), "quota")
    assert desk.attenuate(ADAS.id, handed()[0]) == {"granted": True}, "others are not held up"


def test_s32_a_key_that_anybody_holds_or_held_is_nobodys_new_one() -> None:
    gone = root("gone", EVE, "task")
    desk = Desk(REGISTRY.with_grant(gone).without_grant(gone.id))
    refused(desk.attenuate(ADAS.id, handed(to=BOB)[0]))
    refused(desk.attenuate(ADAS.id, handed(to=EVE)[0]))
    child, to = handed()
    assert desk.attenuate(ADAS.id, child) == {"granted": True}
    refused(desk.attenuate(ADAS.id, handed(to=to, name="again")[0]))
    refused(desk.attenuate(BOBS.id, handed(BOBS, BOB, to=to)[0]))
    here = engine(7)
    desk.hub.handle(messages.EngineJoined(here), NOW)
    session_key, _ = handed()
    refused(desk.attenuate(ADAS.id, tampered(session_key, ADA, key=type(session_key.key)(here.key))))


def test_s32_the_parents_revocation_is_the_childs() -> None:
    desk = Desk()
    child, keys = handed()
    grandchild, _ = handed(child, keys, name="dan", expires=NOW + 100)
    desk.attenuate(ADAS.id, child)
    desk.attenuate(child.id, grandchild)
    assert {child.id, grandchild.id} <= desk.told.keys()
    desk.load(REGISTRY.without_grant(ADAS.id))
    assert desk.told.keys() == {BOBS.id}
    refused(desk.ask(child.id, messages.Whois()), "no-grant")


def test_s32_s17_what_was_revoked_does_not_come_back_by_being_said_again() -> None:
    """The child's own key was retired by the owner; its giver, or a recording, says the same once more."""
    desk = Desk()
    child, _ = handed()
    desk.attenuate(ADAS.id, child)
    retired = msgspec.structs.replace(REGISTRY, version=REGISTRY.version + 1, retired=(child.key,))
    desk.load(retired)
    assert child.id not in desk.told
    refused(desk.attenuate(ADAS.id, child))
    desk.start(retired)
    assert child.id not in desk.told, "nor after a restart, from the disk"
    refused(desk.attenuate(ADAS.id, child))


def test_s32_what_has_expired_does_not_come_back() -> None:
    desk = Desk()
    child, _ = handed(expires=NOW + 10)
    desk.attenuate(ADAS.id, child)
    desk.now = NOW + 10
    refused(desk.attenuate(ADAS.id, handed(expires=NOW + 10)[0]))
    refused(desk.ask(child.id, messages.Whois()), "no-grant")


def test_the_same_request_again_is_granted_again() -> None:
    """An answer may be lost with a connection."""
    desk = Desk()
    child, _ = handed()
    assert desk.attenuate(ADAS.id, child) == {"granted": True}
    before = desk.disk
    assert desk.attenuate(ADAS.id, child) == {"granted": True}
    assert desk.disk is before


def test_what_cannot_be_kept_is_not_in_force() -> None:
    desk = Desk()
    desk.full = True
    child, _ = handed()
    refused(desk.attenuate(ADAS.id, child), "disk")
    assert child.id not in desk.told
    desk.full = False
    assert desk.attenuate(ADAS.id, child) == {"granted": True}
    desk.start(REGISTRY)
    assert child.id in desk.told, "from the disk"


def test_s32_a_damaged_file_puts_nothing_in_force_and_is_not_written_over() -> None:
    desk = Desk()
    child, _ = handed()
    desk.attenuate(ADAS.id, child)
    desk.hub.handing_on.damaged("not JSON")
    desk.load(msgspec.structs.replace(REGISTRY, version=2))
    assert child.id not in desk.told
    refused(desk.attenuate(ADAS.id, handed()[0]))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_s32_hostile_bytes_are_refused_and_nothing_else(body: bytes) -> None:
    desk = Desk()
    refused(desk.ask(ADAS.id, messages.Attenuate(body)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_s32_whatever_is_handed_on_nobody_has_more_than_its_root(data: st.DataObject) -> None:
    """Random trees, honest and not, under random revocations: what is in force is within each ancestor's bounds."""
    desk = Desk()
    holders: dict[str, tuple[Grant, KeyPair]] = {ADAS.id: (ADAS, ADA), BOBS.id: (BOBS, BOB)}
    registry = REGISTRY
    for number in range(data.draw(st.integers(1, 8))):
        parent, keys = holders[data.draw(st.sampled_from(list(holders)))]
        asker = data.draw(st.sampled_from(list(holders)))
        theirs = KeyPair.generate()
        draft = Grant(
            id=fields.new_id(), name=f"n{number}", role="client", key=theirs.public, engines=0, made=int(NOW),
            rights=tuple(data.draw(st.sets(st.sampled_from(("task", "direct", "observe", "control", "admin"))))),
            expires=int(NOW) + data.draw(st.integers(1, 2000)) if data.draw(st.booleans()) else 0,
            signing_key=HolderKey.of(theirs.secret).public(), parent=parent.id, signature="",
        )
        grant = tampered(draft, data.draw(st.sampled_from([keys, BOB])))
        if desk.attenuate(asker, grant) == {"granted": True}:
            holders[grant.id] = (grant, theirs)
        if data.draw(st.integers(0, 9)) == 0 and registry.grant(ADAS.id):
            registry = registry.without_grant(ADAS.id)
            desk.load(registry)
    for info in desk.told.values():
        while info.parent:
            above = desk.told[info.parent]
            assert set(info.rights) <= set(above.rights) - {"admin"}
            assert not above.expires or 0 < info.expires <= above.expires
            info = above


# --- a real cluster -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def town() -> Iterator[RunningCluster]:
    cluster = RunningCluster(engines=2)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def rogues(town: RunningCluster) -> Iterator[Rogues]:
    made = Rogues(town)
    yield made
    made.close()


def client_of(capability: Capability) -> Any:
    return ipp.Client(capability.as_dict(), timeout=20)


@pytest.mark.live
def test_a_child_works_within_its_rights_and_ends_with_its_parent(town: RunningCluster) -> None:
    parent = issue(town.place, ("task", "direct"))
    with client_of(parent) as giver:
        giver.wait_for_engines(2, timeout=30)
        child = giver.attenuate("ben", rights="task", expires=timedelta(hours=1), out=town.place.dir / "ben.json")
        assert child == load_capability(town.place.dir / "ben.json")
        with client_of(child) as taker:
            taker.wait_for_engines(2, timeout=30)
            assert taker.load_balanced_view().apply_sync(abs, -3) == 3
            with pytest.raises(Exception, match="direct"):
                taker[:].apply_sync(abs, -3)
            with pytest.raises(UsageError):
                taker.attenuate("cay", rights="direct")
            grandchild = taker.attenuate("cay", expires="30m")
            assert 1700 < grandchild.expires - time.time() < 1900
            with client_of(grandchild) as last:
                assert last.load_balanced_view().apply_sync(abs, -4) == 4
                begun = time.monotonic()
                revoke(town.place, parent)
                for client in (giver, taker, last):
                    with pytest.raises((Revoked, Refused)):
                        while time.monotonic() - begun < 5:
                            client.load_balanced_view().apply_sync(abs, 1)
                assert time.monotonic() - begun < 1.5
    with pytest.raises(SecureIppError):
        client_of(child)


@pytest.mark.live
def test_s32_over_the_wire_nobody_widens(town: RunningCluster, rogues: Rogues) -> None:
    capability = issue(town.place, ("task",))
    rogue: Rogue = rogues.of(capability).come_in()
    rogue.say(messages.Ask(1, encode_message(messages.OwnGrant())))
    answer = rogue.hear(messages.Answer, lambda m: m.request == 1)
    own = msgspec.convert(
        msgspec.json.decode(msgspec.msgpack.decode(answer.body)["chain"])[-1], Grant, dec_hook=fields.decode_key
    )
    keys = KeyPair.generate()
    draft = Grant(
        id=fields.new_id(), name="wide", role="client", key=keys.public, rights=("task", "control"), expires=0,
        engines=0, made=int(time.time()), signing_key=HolderKey.of(keys.secret).public(), parent=own.id, signature="",
    )
    message = fields.canonical(draft, without=frozenset({"signature"}), cluster_id=capability.cluster_id)
    signed = msgspec.structs.replace(
        draft, signature=fields.sign(HolderKey.of(capability.secret_key), DERIVED_PURPOSE, message)
    )
    rogue.say(messages.Ask(2, encode_message(messages.Attenuate(msgspec.json.encode(fields.to_plain(signed))))))
    assert rogue.hear(messages.Failure, lambda m: m.request == 2).code == "not-derived"
    thief = rogues.of(msgspec.structs.replace(capability, public_key=keys.public, secret_key=keys.secret))
    assert thief.refused().code == "key-refused"


@pytest.mark.live
def test_what_was_handed_on_outlives_the_hub(town: RunningCluster) -> None:
    with client_of(issue(town.place, ("task",))) as giver:
        child = giver.attenuate("dee")
    os.kill(town.pids()["hub"], signal.SIGKILL)
    with client_of(child) as taker:
        taker.wait_for_engines(2, timeout=30)
        assert taker.load_balanced_view().apply_sync(abs, -3) == 3


def test_the_file_keeps_no_more_than_it_must(tmp_path: Any) -> None:
    """Dead ones leave with the next change."""
    desk = Desk()
    desk.attenuate(ADAS.id, handed(expires=NOW + 5)[0])
    desk.now = NOW + 6
    later, _ = handed(name="later")
    desk.attenuate(ADAS.id, later)
    assert isinstance(desk.disk, DerivedGrants)
    assert desk.disk.grants == (later,)


def test_a_dumped_child_is_whole() -> None:
    child, keys = handed()
    file = sign_capability(
        HolderKey.of(ADA.secret), keys=keys, cluster="lab", cluster_id=CLUSTER_ID, role="client", name="cay",
        rights=("task",), expires=child.expires, server_keys=(EVE.public,), door=("tcp://127.0.0.1:20001",),
        issuer_key=ISSUER.public(), parents=(ADAS,),
    )
    assert parse_capability(dump_capability(file), now=NOW) == file
