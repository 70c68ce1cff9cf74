"""The rights table (S14): complete for every message that exists, and closed for everything else."""

from itertools import combinations, product
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.access.rights import RIGHTS_OF_MESSAGE, check
from secure_ipp.errors import Refused
from secure_ipp.keys.fields import CLIENT_RIGHTS, JOIN_RIGHTS
from secure_ipp.wire import messages
from tests.scheduler.world import HOST, World, grant

SENT_BY = {
    "client": {*get_args(messages.FromClient), *get_args(messages.HubQuestion)},
    "agent": set(get_args(messages.FromAgent)),
    "engine": set(get_args(messages.FromEngine)),
    "scheduler": set(get_args(messages.FromScheduler)),
}


@pytest.mark.parametrize("role", SENT_BY)
def test_the_table_names_exactly_the_messages_of_each_role(role):
    names = {name for of, name in RIGHTS_OF_MESSAGE if of == role} - {"PurgeEveryone"}
    assert names == {kind.__name__ for kind in SENT_BY[role]}


def test_every_right_in_the_table_can_be_granted():
    assert {right for right in RIGHTS_OF_MESSAGE.values() if right} <= {*CLIENT_RIGHTS, *JOIN_RIGHTS}


@pytest.mark.parametrize(
    ("role", "right", "message"),
    [
        ("client", "task", "Submit"),
        ("client", "direct", "Direct"),
        ("client", "control", "Signal"),
        ("client", "control", "Shutdown"),
        ("client", "control", "PurgeEveryone"),
        ("agent", "join", "Join"),
        ("agent", "join", "Announce"),
    ],
)
def test_a_right_is_needed_and_enough(role, right, message):
    check(role, [right], message)
    for others in ([], [other for other in CLIENT_RIGHTS if other != right]):
        with pytest.raises(Refused) as caught:
            check(role, others, message)
        assert caught.value.code == "no-right"
        assert right in caught.value.message


def test_a_probe_may_say_nothing():
    for _, message in RIGHTS_OF_MESSAGE:
        with pytest.raises(Refused):
            check("probe", [*CLIENT_RIGHTS, *JOIN_RIGHTS], message)


@given(st.text(max_size=20), st.lists(st.text(max_size=10)), st.text(max_size=30))
def test_deny_by_default(role, rights, message):
    if (role, message) in RIGHTS_OF_MESSAGE:
        return
    with pytest.raises(Refused):
        check(role, [*rights, *CLIENT_RIGHTS, *JOIN_RIGHTS], message)


# --- the whole product ---------------------------------------------------------------------------------------------

ALL_RIGHTS = (*CLIENT_RIGHTS, *JOIN_RIGHTS)
EVERY_SET = [frozenset(some) for size in range(len(ALL_RIGHTS) + 1) for some in combinations(ALL_RIGHTS, size)]
EVERY_MESSAGE = sorted(
    {kind.__name__ for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, messages.Message)}
    | {"PurgeEveryone", "", "submit", "Message"}
)
# said once more, by hand and in other words than the table's: which right each role needs for what needs one
NEEDS = {
    "client": {
        "task": {"Submit"}, "direct": {"Direct"}, "control": {"Signal", "Shutdown", "PurgeEveryone"},
        "observe": set(), "admin": set(), "join": set(),
    },
    "agent": {"join": {"Join", "Announce", "EngineStarted", "EngineDied"}},
    "engine": {}, "scheduler": {}, "probe": {}, "issuer": {}, "": {},
}


def allowed(role, rights, message):
    """By this test's own words."""
    needed = [right for right, needing in NEEDS[role].items() if message in needing]
    if needed:
        return set(needed) <= rights
    return message in {kind.__name__ for kind in SENT_BY.get(role, ())}


@pytest.mark.parametrize("role", NEEDS)
def test_s14_every_role_every_message_every_set_of_rights(role):
    """The whole product: what is not allowed is refused, what is refused names what is missing, and nothing else."""
    for message in EVERY_MESSAGE:
        for rights in EVERY_SET:
            if allowed(role, rights, message):
                check(role, rights, message)
                continue
            with pytest.raises(Refused) as caught:
                check(role, rights, message)
            assert caught.value.code in ("no-right", "not-allowed"), (role, message, rights)


def test_s14_a_right_more_never_takes_one_away():
    for role, message in product(NEEDS, EVERY_MESSAGE):
        for rights in EVERY_SET:
            if allowed(role, rights, message):
                for more in ALL_RIGHTS:
                    check(role, rights | {more}, message)


# --- the same, at the scheduler: what is refused there has no effect -------------------------------------------------

RISKY = {
    "task": [messages.Submit("t", "apply", b"", [b"x"], [], 1.0)],
    "direct": [messages.Direct(["t"], [0], "apply", b"", [b"x"], [], 1.0)],
    "control": [
        messages.Signal(1, [], 2), messages.Shutdown(1, [0]), messages.Shutdown(1, [], controller=True),
        messages.Shutdown(1, [], restart=True),
    ],
}


@pytest.mark.parametrize("state", ["live", "narrowed", "revoked", "expired"])
@pytest.mark.parametrize("rights", [rights for rights in EVERY_SET if "join" not in rights], ids=",".join)
def test_s14_at_the_scheduler_a_right_that_is_not_there_now_has_no_effect(rights, state):
    held = frozenset() if state in ("revoked", "expired", "narrowed") else rights
    for right, said in RISKY.items():
        for message in said:
            others = [grant("alice"), grant(HOST)]
            world = World(grants=[*others, msgspec.structs.replace(grant("mallory", sorted(rights)), expires=5000.0)])
            (engine,) = world.engines(1)
            mallory = world.client("mallory")
            if state == "revoked":
                world.core.hub_message(messages.Grants(2, others, []), world.now)
            elif state == "expired":
                world.core.expire(5000.0, world.now)
            elif state == "narrowed":
                world.core.hub_message(messages.Grants(2, [*others, grant("mallory", [])], []), world.now)
            world.to_hub.clear()
            engine.agent.sink.got.clear()
            engine.sink.got.clear()
            mallory.say(message)
            effects = [
                *engine.agent.sink.got, *engine.sink.got,
                *(told for told in world.to_hub if type(told) is not messages.AuditEvent),
            ]
            assert bool(effects) is (right in held), (message, effects)
