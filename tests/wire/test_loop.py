"""The loop: one thread, in order, and nothing lost on the way in."""

import os
import threading
import time

import pytest
import zmq

from secure_ipp.wire.loop import Loop


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.close()


class Clock:
    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


def test_timers_run_in_the_order_they_are_due_and_not_before(loop):
    clock = loop.now = Clock()
    ran = []
    for due in (3, 1, 2):
        loop.call_later(due, lambda due=due: ran.append(due))
    loop.turn(0)
    assert ran == []
    clock.time += 2.5
    loop.turn(0)
    assert ran == [1, 2]
    clock.time += 1
    loop.turn(0)
    assert ran == [1, 2, 3]


def test_timers_due_together_run_in_the_order_they_were_set(loop):
    clock = loop.now = Clock()
    ran = []
    for name in "abc":
        loop.call_later(1, lambda name=name: ran.append(name))
    clock.time += 1
    loop.turn(0)
    assert ran == ["a", "b", "c"]


def test_a_cancelled_timer_does_not_run_even_by_one_due_at_the_same_time(loop):
    clock = loop.now = Clock()
    ran = []
    loop.call_later(1, lambda: second.cancel())
    second = loop.call_later(1, lambda: ran.append("second"))
    second.cancel()
    clock.time += 1
    loop.turn(0)
    assert ran == []


def test_a_timer_that_sets_itself_anew_does_not_hold_the_turn_up(loop):
    ran = []

    def again():
        ran.append(1)
        loop.call_later(0, again)

    loop.call_later(0, again)
    loop.turn(0)
    assert 0 < len(ran) < 1000


def test_turn_end_callbacks_come_after_readers_calls_and_timers_and_those_they_add_too(loop):
    ran = []
    read, write = os.pipe()
    try:
        os.write(write, b"x")
        loop.add_reader(read, lambda: (ran.append("reader"), os.read(read, 1)))
        loop.call_threadsafe(lambda: ran.append("call"))
        loop.call_later(0, lambda: ran.append("timer"))
        loop.at_turn_end(lambda: (ran.append("end"), loop.at_turn_end(lambda: ran.append("end of end"))))
        loop.turn(0)
    finally:
        loop.remove_reader(read)
        os.close(read)
        os.close(write)
    assert sorted(ran[:3]) == ["call", "reader", "timer"]
    assert ran[3:] == ["end", "end of end"]


def test_a_reader_removed_in_the_same_turn_is_not_called(loop):
    pipes = [os.pipe() for _ in range(2)]
    called = []

    def take(mine, other):
        called.append(mine)
        loop.remove_reader(other)

    (first, write_first), (second, write_second) = pipes
    loop.add_reader(first, lambda: take(first, second))
    loop.add_reader(second, lambda: take(second, first))
    os.write(write_first, b"x")
    os.write(write_second, b"x")
    loop.turn(1)
    assert len(called) == 1
    loop.remove_reader(called[0])
    for pair in pipes:
        for descriptor in pair:
            os.close(descriptor)


def test_calls_from_many_threads_all_run_in_the_loops_thread_each_threads_in_order(loop):
    ran = []

    def submit(number):
        for step in range(500):
            loop.call_threadsafe(lambda step=step: ran.append((number, step, threading.get_ident())))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 10
    while len(ran) < 4000 and time.monotonic() < end:
        loop.turn(0.1)
    for thread in threads:
        thread.join()
    assert {ident for _, _, ident in ran} == {threading.get_ident()}
    for number in range(8):
        assert [step for by, step, _ in ran if by == number] == list(range(500))


def test_calls_that_never_cease_do_not_hold_the_turn_up(loop):
    def again():
        loop.call_threadsafe(again)

    again()
    ended = []
    loop.at_turn_end(lambda: ended.append(True))
    loop.turn(0)
    assert ended


def test_a_call_from_another_thread_wakes_a_loop_that_waits(loop):
    threading.Timer(0.05, lambda: loop.call_threadsafe(loop.stop)).start()
    began = time.monotonic()
    loop.run()
    assert time.monotonic() - began < 5


def test_an_exception_in_a_callback_ends_the_loop_and_is_raised(loop):
    def fail():
        raise LookupError("lost")

    loop.call_later(0, fail)
    with pytest.raises(LookupError):
        loop.run()


def test_after_close_calls_and_stop_from_other_threads_are_harmless():
    loop = Loop()
    loop.close()
    loop.call_threadsafe(lambda: None)
    loop.stop()
    loop.close()


@pytest.fixture
def dealers(loop):
    ends = [loop.context.socket(zmq.DEALER) for _ in range(2)]
    ends[0].bind("inproc://ends")
    ends[1].connect("inproc://ends")
    yield ends
    loop.remove_reader(ends[0])
    for end in ends:
        end.close(0)


def test_a_message_that_another_use_of_the_socket_took_notice_of_is_read_all_the_same(loop, dealers):
    here, there = dealers
    read = []
    loop.add_reader(here, lambda: read.append(here.recv(zmq.NOBLOCK)))
    loop.turn(0)
    there.send(b"x")
    assert here.getsockopt(zmq.EVENTS) & zmq.POLLIN  # its descriptor will say nothing more
    loop.turn(1)
    assert read == [b"x"]


def test_a_reader_that_leaves_messages_unread_is_called_again(loop, dealers):
    here, there = dealers
    read = []
    loop.add_reader(here, lambda: read.append(here.recv(zmq.NOBLOCK)))
    for number in range(3):
        there.send(bytes([number]))
    for _ in range(3):
        loop.turn(1)
    assert read == [b"\0", b"\1", b"\2"]


def test_what_a_socket_that_is_only_received_from_held_before_is_read(loop):
    ends = [loop.context.socket(zmq.PAIR) for _ in range(2)]
    ends[0].bind("inproc://pair")
    ends[1].connect("inproc://pair")
    read = []
    try:
        ends[1].send(b"before")
        assert ends[0].getsockopt(zmq.EVENTS) & zmq.POLLIN
        loop.add_reader(ends[0], lambda: read.append(ends[0].recv(zmq.NOBLOCK)))
        loop.turn(1)
        loop.turn(0)
        ends[1].send(b"after")
        loop.turn(1)
        assert read == [b"before", b"after"]
    finally:
        loop.remove_reader(ends[0])
        for end in ends:
            end.close(0)
