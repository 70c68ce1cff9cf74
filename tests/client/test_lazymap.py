"""Maps over iterables without end."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future

import pytest

from secure_ipp.client.lazymap import LazyMap


class Part(Future):
    """The result of one task, as far as a lazy map looks at it."""

    def get(self, return_exceptions=False):
        error = self.exception()
        if error is None:
            return self.result()
        if return_exceptions:
            return error
        raise error


class Engines:
    """Keeps what was sent until the test ends it."""

    def __init__(self):
        self.sent = []

    def submit(self, arguments):
        part = Part()
        self.sent.append((arguments, part))
        return part

    def end(self, index, error=None):
        arguments, part = self.sent[index]
        if error is None:
            part.set_result(arguments[0])
        else:
            part.set_exception(error)

    def lazily(self, iterable, most=3, ordered=True, return_exceptions=False):
        return LazyMap(
            self.submit, zip(iterable), ordered=ordered, most=most, return_exceptions=return_exceptions
        )


@pytest.fixture
def engines():
    return Engines()


def test_it_takes_no_more_than_may_be_under_way(engines):
    values = engines.lazily(itertools.count())
    assert len(engines.sent) == 3
    engines.end(0)
    assert next(values) == 0
    assert len(engines.sent) == 4


def test_a_slow_task_does_not_keep_the_others_from_being_sent(engines):
    values = engines.lazily(itertools.count())
    engines.end(1)
    engines.end(2)
    later = threading.Timer(0.2, lambda: engines.end(0))
    later.start()
    assert next(values) == 0
    later.join()
    assert len(engines.sent) >= 5
    assert next(values) == 1


def test_results_that_wait_for_an_earlier_one_are_bounded(engines):
    values = engines.lazily(itertools.count(), most=1)
    engines.sent[0][1].add_done_callback(lambda _: None)
    for index in range(40):
        if index < len(engines.sent):
            engines.end(index)
            values._fill()
    assert len(engines.sent) <= 17


def test_as_they_arrive(engines):
    values = engines.lazily(range(5), ordered=False)
    engines.end(2)
    assert next(values) == 2
    assert len(engines.sent) == 3  # the place of what was taken is filled when the next one is wanted
    for index in (1, 0):
        engines.end(index)
    assert [next(values), next(values)] == [1, 0]
    engines.end(3)
    engines.end(4)
    assert sorted(values) == [3, 4]


def test_cancelled_it_gives_what_was_sent(engines):
    values = engines.lazily(itertools.count())
    values.cancel()
    for index in range(3):
        engines.end(index)
    assert list(values) == [0, 1, 2]
    assert len(engines.sent) == 3


def test_errors_of_tasks_are_raised_or_among_the_values(engines):
    values = engines.lazily(range(2))
    engines.end(0, ValueError("first"))
    engines.end(1)
    with pytest.raises(ValueError, match="first"):
        next(values)
    assert list(values) == [1]
    kept = engines.lazily(range(1), return_exceptions=True)
    engines.end(2, ValueError("kept"))
    assert [str(value) for value in kept] == ["kept"]


def test_what_an_iterable_raises_comes_after_the_values_before_it(engines):
    def two():
        yield 1
        yield 2
        raise OSError("no more")

    values = engines.lazily(two())
    engines.end(0)
    engines.end(1)
    assert [next(values), next(values)] == [1, 2]
    with pytest.raises(OSError, match="no more"):
        next(values)
    assert list(values) == []


def test_nothing_to_map(engines):
    assert list(engines.lazily([])) == []
