"""The bounds on floods: answers to unknown keys, and records of decisions."""

from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.access.flood import Aggregator, DecisionEvent, UnknownKeyBudget


def event(at=0.0, user="", status="400", address="a"):
    return DecisionEvent(at, "client", status, "why", address, user)


def test_the_budget_is_a_rate_with_a_burst_of_one_second():
    budget = UnknownKeyBudget(10)
    assert [budget.take(0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [budget.take(0.1), budget.take(0.1)] == [True, False]
    assert sum(budget.take(100.0) for _ in range(50)) == 10


def test_a_clock_that_stands_or_goes_back_gives_nothing():
    budget = UnknownKeyBudget(1)
    assert budget.take(10.0)
    assert not any(budget.take(now) for now in (10.0, 9.0, 9.1, 9.5))


def test_the_first_of_a_kind_passes_the_rest_is_summed_up():
    log = Aggregator(1.0)
    assert log.add(event(0.0, address="x"), 0.0) == event(0.0, address="x")
    assert log.add(event(0.1, address="y"), 0.1) is None
    assert log.add(event(0.2, address="z"), 0.2) is None
    assert log.due(0.9) == []
    (summary,) = log.due(1.0)
    assert (summary.count, summary.at, summary.address) == (2, 0.1, "y")
    assert log.due(1.5) == []
    assert log.due(2.0) == []
    assert log.add(event(3.0), 3.0) is not None


def test_kinds_are_apart():
    log = Aggregator(1.0)
    assert log.add(event(user="a", status="200"), 0.0)
    assert log.add(event(user="b", status="200"), 0.0)
    assert log.add(event(), 0.0)


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.floats(0, 0.7)), max_size=60))
def test_no_decision_is_lost_and_a_flood_makes_few_events(arrivals):
    log, now, told = Aggregator(1.0), 0.0, []
    for user, step in arrivals:
        now += step
        told += log.due(now)
        first = log.add(event(now, user), now)
        told += [first] if first else []
    told += log.rest()
    for user in ("", "a", "b"):
        mine = [one for one in told if one.user_id == user]
        assert sum(one.count for one in mine) == sum(1 for who, _ in arrivals if who == user)
        assert len(mine) <= 2 * now + 2
    assert log.rest() == []
