"""The rights table (S14): complete for every message that exists, and closed for everything else."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.access.rights import RIGHTS_OF_MESSAGE, check
from secure_ipp.errors import Refused
from secure_ipp.keys.fields import CLIENT_RIGHTS, JOIN_RIGHTS
from secure_ipp.wire import messages

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
