"""Whether a process is started again: the deciding part, with time as data."""

from __future__ import annotations

from secure_ipp import limits
from secure_ipp.cluster.restarts import Course, GiveUp, Life, Restart, StopAll


def running() -> Course:
    course = Course("hub")
    course.ready()
    return course


def test_death_while_starting_is_final() -> None:
    assert isinstance(Course("hub").died(1, 0.0), GiveUp)
    assert isinstance(Course("hub").died(0, 0.0), GiveUp)


def test_death_of_a_running_process_is_mended() -> None:
    course = running()
    assert isinstance(course.died(-9, 0.0), Restart)
    assert course.life is Life.RESTARTING


def test_an_orderly_end_is_a_wish() -> None:
    assert isinstance(running().died(0, 0.0), StopAll)


def test_a_death_while_it_is_restarted_counts_and_is_no_wish() -> None:
    course = running()
    course.died(-9, 0.0)
    assert isinstance(course.died(0, 0.1), Restart)


def test_deaths_within_a_minute_are_bounded_and_older_ones_forgotten() -> None:
    course = running()
    for number in range(limits.RESTARTS_PER_MINUTE):
        assert isinstance(course.died(1, float(number)), Restart)
        course.ready()
    assert isinstance(course.died(1, 61.5), Restart)  # two of them are more than a minute ago
    course.ready()
    assert isinstance(course.died(1, 61.6), Restart)
    course.ready()
    decision = course.died(-11, 61.7)
    assert isinstance(decision, GiveUp) and "signal 11" in decision.reason
