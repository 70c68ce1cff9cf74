"""Which address of a door is tried when, with which of its keys, and when a refusal is the last word."""

from itertools import product

import pytest

from secure_ipp import limits
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.known_doors import KnownDoors
from secure_ipp.wire.tries import LAST_SECONDS, Tries

KEYS = [KeyPair.generate().public for _ in range(2)]
DOORS = ["ipc:///a", "ipc:///b"]


def tries(doors=1, keys=1):
    return Tries(DOORS[:doors], KnownDoors(KEYS[:keys]))


def test_each_address_is_tried_with_each_key_before_one_is_tried_again():
    some = tries(2, 2)
    found = [some.next() for _ in range(4)]
    assert some.all_tried and sorted(found, key=str) == sorted(product(DOORS, KEYS), key=str)
    assert found[0][1] == KEYS[0], "the older key first"
    assert some.next() == found[0]


def test_rounds_grow_longer_and_rarer_within_bounds():
    some = tries()
    waits = []
    for _ in range(20):
        waits.append(some.wait(100.0))
        some.next()
    assert waits[0] == 0.0 and 0 < waits[1] < waits[-1] <= 1.3 * limits.RECONNECT_MAX_SECONDS
    assert some.seconds == limits.HANDSHAKE_SECONDS
    assert some.wait(0.3) <= 0.3 - LAST_SECONDS


def test_the_only_key_is_refused_once():
    some = tries(doors=2)
    some.next()
    assert some.refused()


def test_s33_a_key_that_was_changed_between_two_tries_is_found():
    """The next key is refused before the switch, the current one behind it."""
    some = tries(keys=2)
    some.next()  # the current one: nobody was there
    some.next()
    assert not some.refused()
    some.next()
    assert not some.refused()
    assert some.next()[1] == KEYS[1]


@pytest.mark.parametrize("doors", [1, 2])
def test_when_all_were_refused_in_a_row_and_the_first_again_it_is_over(doors):
    some = tries(doors, 2)
    answers = []
    for _ in range(2 * doors + 1):
        some.next()
        answers.append(some.refused())
    assert answers == [False] * (2 * doors) + [True]


def test_a_try_that_ends_otherwise_or_a_welcome_begins_the_count_anew():
    some = tries(keys=2)
    for _ in range(2):
        some.next()
        assert not some.refused()
    some.next()  # not refused
    some.next()
    assert not some.refused()
    some.begin_again(lasted=False)
    for _ in range(2):
        some.next()
        assert not some.refused()
