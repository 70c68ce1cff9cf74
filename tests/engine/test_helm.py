"""The helm: one thread turns the loop at a time, and somebody always does."""

import threading
import time

import pytest

from secure_ipp.engine.helm import Helm
from secure_ipp.wire.loop import Loop


class Stage:
    """This thread is the one that runs tasks; it is at the helm."""

    def __init__(self):
        self.loop = Loop()
        self.helm = Helm(self.loop)
        self.helm.take()
        self.mate = threading.Thread(target=self._watch, daemon=True)
        self.mate.start()

    def _watch(self):
        with pytest.raises(SystemExit):
            self.helm.watch()

    def turned_by(self):
        """Who turns the loop; only while this thread does not."""
        told = threading.Event()
        turner = []

        def tell():
            turner.append(threading.current_thread())
            told.set()

        self.loop.call_threadsafe(tell)
        assert told.wait(10)
        return turner[0]

    def close(self):
        self.helm.leave()
        self.loop.call_threadsafe(exit)
        self.mate.join(10)
        assert not self.mate.is_alive()
        self.loop.close()


@pytest.fixture
def stage():
    stage = Stage()
    yield stage
    stage.close()


def test_during_a_long_task_the_mate_turns_the_loop_and_afterwards_gives_it_back(stage):
    for _ in range(3):
        stage.helm.leave()
        assert stage.turned_by() is stage.mate
        stage.helm.take()
        ran = []
        stage.loop.call_threadsafe(lambda ran=ran: ran.append(threading.current_thread()))
        stage.loop.turn(0)
        assert ran == [threading.current_thread()]


def test_what_the_loop_has_to_say_during_a_task_does_not_wait_for_its_end(stage):
    ended = threading.Event()
    stage.loop.at_turn_end(ended.set)  # queued by the thread that runs tasks, right before one
    stage.helm.leave()
    assert ended.wait(10)
    stage.helm.take()


def test_short_tasks_in_a_row_never_have_two_threads_at_the_helm(stage):
    problems = []
    depth = []

    def guarded():
        depth.append(1)
        if len(depth) != 1:
            problems.append("two at once")
        time.sleep(0.0005)
        depth.pop()
        stage.loop.call_later(0, guarded)

    stage.loop.call_later(0, guarded)
    end = time.monotonic() + 1
    turn = 0
    while time.monotonic() < end:
        stage.helm.leave()
        time.sleep(0.001 * (turn % 5))
        stage.helm.take()
        stage.loop.turn(0)
        turn += 1
    assert not problems


def test_a_mate_that_has_gone_to_sleep_is_there_for_the_next_long_task(stage):
    until = time.monotonic() + 10
    while not stage.helm._asleep and time.monotonic() < until:
        time.sleep(0.01)
    assert stage.helm._asleep
    stage.helm.leave()
    assert stage.turned_by() is stage.mate
    stage.helm.take()
