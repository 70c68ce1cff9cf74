"""What holders do together, or with all that they handed on: taking others' ids, names and room (S4, S15, S18, S32)."""

from __future__ import annotations

import msgspec
import pytest

from secure_ipp import limits
from secure_ipp.audit import record as audit
from secure_ipp.hub.actions import Action, Send, Write
from secure_ipp.hub.core import Hub
from secure_ipp.hub.grants import from_registry
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.derived import DerivedGrants, check_new, live_derived, no_derived
from secure_ipp.keys.grants import Grant
from secure_ipp.keys.revoking import known_identities
from secure_ipp.store.memory import MemoryStore
from secure_ipp.wire import messages
from secure_ipp.wire.codec import encode_message
from tests.attacks.test_attenuate import (
    ADA,
    ADAS,
    BOB,
    BOBS,
    CLUSTER_ID,
    EVE,
    NOW,
    REGISTRY,
    Desk,
    handed,
    refused,
    root,
    tampered,
)


def test_s4_nobody_hands_on_under_the_id_of_one_that_is_gone() -> None:
    """Its records, its tasks that still run, and its name in the journal would be the newcomer's."""
    gone = root("gone", EVE, "task")
    desk = Desk(REGISTRY.with_grant(gone).without_grant(gone.id))
    child, _ = handed()
    refused(desk.attenuate(ADAS.id, tampered(child, ADA, id=gone.id)))
    assert gone.id not in desk.told
    short, _ = handed(BOBS, BOB, expires=NOW + 1)
    assert desk.attenuate(BOBS.id, short) == {"granted": True}
    desk.now = NOW + 2
    refused(desk.attenuate(ADAS.id, tampered(child, ADA, id=short.id)))
    assert desk.attenuate(ADAS.id, child) == {"granted": True}


def test_s4_one_key_handed_on_by_one_holder_is_one_identity() -> None:
    first, to = handed()
    again, _ = handed(to=to, expires=NOW + 700)
    others, _ = handed(BOBS, BOB, to=to)
    assert first.id == again.id != others.id


def grown(parent: Grant, by: KeyPair, count: int) -> DerivedGrants:
    """As many as there may be, and more: children, then theirs."""
    grants: list[Grant] = []
    givers = [(parent, by)]
    while len(grants) < count:
        giver, keys = givers.pop(0)
        for _ in range(min(limits.DERIVED_PER_PARENT, count - len(grants))):
            child, theirs = handed(giver, keys, name="n")
            grants.append(child)
            givers.append((child, theirs))
    return no_derived(CLUSTER_ID).having(grants)


def test_s18_a_family_takes_no_room_of_others() -> None:
    """Each of 64 may hand on to 64: without a bound for all of them one holder fills the file for everybody."""
    file = grown(ADAS, ADA, limits.DERIVED_PER_FAMILY + 10)
    found = live_derived(REGISTRY, file, NOW)
    assert len(found) == limits.DERIVED_PER_FAMILY
    desk = Desk()
    desk.hub.handing_on.loaded(file.having(found))
    desk.load(REGISTRY)
    giver = found[-1]
    assert giver.parent != ADAS.id
    refused(desk.attenuate(ADAS.id, handed()[0]))
    assert desk.attenuate(BOBS.id, handed(BOBS, BOB)[0]) == {"granted": True}
    listed = known_identities(REGISTRY, file)
    assert len(listed) == len(REGISTRY.grants) + len(file.grants), "and the owner can still find, and revoke, each"


def test_s18_the_file_of_all_that_may_be_handed_on_can_be_read_again() -> None:
    from secure_ipp.keys import derived, fields

    longest = msgspec.structs.replace(
        handed(name="n" * 64, rights=("task", "direct"))[0], expires=2**40, made=2**40
    )
    one = len(fields.to_file(no_derived(CLUSTER_ID).having([longest] * 2))) - len(
        fields.to_file(no_derived(CLUSTER_ID).having([longest]))
    )
    assert (one + 100) * derived.MOST_DERIVED < limits.REGISTRY_BYTES


def test_s18_children_do_not_multiply_how_often_a_holder_may_ask() -> None:
    desk = Desk()
    child, keys = handed(BOBS, BOB)
    assert desk.attenuate(BOBS.id, child) == {"granted": True}
    for _ in range(limits.DERIVED_PER_MINUTE - 1):
        assert isinstance(desk.attenuate(BOBS.id, handed(BOBS, BOB, expires=NOW - 1)[0]), messages.Failure)
    refused(desk.attenuate(child.id, handed(child, keys, expires=NOW + 400)[0]), "quota")
    assert desk.attenuate(ADAS.id, handed()[0]) == {"granted": True}


def test_s22_a_label_names_the_root_however_long_the_names_below_are() -> None:
    """Else a holder of long names shows whom it likes as the giver: `x…xowner/…` cut at the front."""
    desk = Desk()
    parent, keys = BOBS, BOB
    for depth in range(limits.DERIVED_DEPTH):
        name = ("x" * 59 + "owner") if depth == 0 else "y" * 64
        child, theirs = handed(parent, keys, name=name, expires=NOW + 500 - depth)
        assert desk.attenuate(parent.id, child) == {"granted": True}
        parent, keys = child, theirs
    label = desk.told[parent.id].name
    assert label.startswith("bob/") and len(label) <= 255


@pytest.mark.parametrize("expires", [NOW, NOW - 1])
def test_s32_what_has_ended_is_not_handed_on(expires: float) -> None:
    with pytest.raises(Exception, match="cannot be handed on"):
        check_new(REGISTRY, no_derived(CLUSTER_ID), handed(expires=expires)[0], NOW)


# --- on record -----------------------------------------------------------------------------------------------


def told(actions: list[Action]) -> list[tuple[str, str]]:
    records = [record for action in actions if isinstance(action, Write) for record in action.records]
    kinds = audit.GrantIssued | audit.GrantChanged | audit.KeyRotated | audit.GrantRevoked
    return [(type(record).__name__, record.name) for record in records if isinstance(record, kinds)]


def test_s20_the_end_of_what_was_handed_on_is_on_record_once_with_and_without_a_controller() -> None:
    desk = Desk()
    child, keys = handed()
    grandchild, _ = handed(child, keys, name="dan", expires=NOW + 100)
    desk.attenuate(ADAS.id, child)
    desk.attenuate(child.id, grandchild)
    retired = msgspec.structs.replace(REGISTRY, version=2, retired=(child.key,))
    gone = [("GrantRevoked", "ada/cay"), ("GrantRevoked", "ada/cay/dan")]

    stopped = Hub(cluster="lab", pid=1, store=MemoryStore(started=NOW), started=NOW, before={})
    stopped.handing_on.loaded(desk.disk)
    stopped.remember(from_registry(REGISTRY), NOW)
    assert told(stopped.registry_loaded(from_registry(retired), NOW)) == gone

    assert told(desk.hub.registry_loaded(from_registry(retired), NOW)) == gone
    assert told(desk.hub.registry_loaded(from_registry(msgspec.structs.replace(retired, version=3)), NOW)) == []


def test_what_was_handed_on_and_has_expired_leaves_without_a_record() -> None:
    desk = Desk()
    desk.attenuate(ADAS.id, handed(expires=NOW + 10)[0])
    later = from_registry(msgspec.structs.replace(REGISTRY, version=2))
    assert told(desk.hub.registry_loaded(later, NOW + 10)) == []


def test_s18_refused_questions_without_end_are_few_lines_that_leave_none_out() -> None:
    hub = Desk().hub
    lines = []
    for number in range(5000):
        purge = messages.PurgeRecords([], everyone=True)
        user = (BOBS.id, ADAS.id)[number % 2]
        now = NOW + number / 1000
        lines += hub.handle(messages.Forward(user, b"s" * 16, number, encode_message(purge)), now)
    lines += hub.beat(NOW + 100)
    records = [record for action in lines if isinstance(action, Write) for record in action.records]
    assert sum(record.count for record in records) == 5000
    assert len(records) <= 2 * 12
    answers = [one for one in lines if isinstance(one, Send) and isinstance(one.message, messages.Forwarded)]
    assert len(answers) == 5000
    assert not [one for one in hub.beat(NOW + 200) if isinstance(one, Write)]
