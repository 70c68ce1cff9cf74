"""Results that are not there yet."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import threading
import time

import pytest

from secure_ipp.client.asyncresult import AsyncResult
from secure_ipp.client.errors import CompositeError, RemoteError, TaskAborted, TimeoutError
from secure_ipp.client.mapresult import AsyncMapResult
from secure_ipp.client.partition import partition

from .fake import Desk, failed


@pytest.fixture
def desk():
    made = Desk()
    yield made
    made.receiver.callbacks.end()


def test_a_single_value_and_a_list_of_values(desk):
    one, two = desk.tasks(), desk.tasks(2)
    single, several = desk.result(one, single=True), desk.result(two)
    for index, task in enumerate(one + two):
        desk.end(task.id, index)
    assert single.get() == single.r == single.result() == 0
    assert several.get() == list(several) == several[:] == [1, 2]
    assert several[1] == 2
    with pytest.raises(TypeError):
        iter(single).__next__()


def test_not_ready_is_a_timeout_and_nothing_else(desk):
    result = desk.result(desk.tasks())
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        result.get(0.05)
    assert time.monotonic() - started < 2
    assert result.wait(0) is False
    assert not result.ready()
    with pytest.raises(RuntimeError):
        result.successful()
    with pytest.raises(cf.TimeoutError):
        result.exception(0)
    with pytest.raises(TimeoutError):
        result[0]


def test_the_error_of_one_task_is_raised_as_it_is_and_of_several_composed(desk):
    tasks = desk.tasks(3)
    result = desk.result(tasks)
    desk.say(failed(tasks[0].id))
    desk.end(tasks[1].id, 5)
    desk.say(failed(tasks[2].id, engine=2))
    with pytest.raises(CompositeError, match="one or more exceptions raised in: f") as caught:
        result.get()
    assert [e[:2] for e in caught.value.elist] == [("ValueError", "no")] * 2
    assert not result.successful()
    mixed = result.get(return_exceptions=True)
    assert mixed[1] == 5 and isinstance(mixed[0], RemoteError)
    assert str(mixed[2]) == "[2:apply] ValueError: no"


def test_an_exception_that_was_returned_is_a_value(desk):
    one, two = desk.tasks(), desk.tasks(2)
    single, several = desk.result(one, single=True), desk.result(two)
    for task in one + two:
        desk.end(task.id, KeyError("a value"))
    assert isinstance(single.get(), KeyError)
    assert single.successful()
    assert [type(value) for value in several] == [KeyError] * 2


def test_first_exception_is_raised_before_the_others_end(desk):
    tasks = desk.tasks(2)
    result = desk.result(tasks)
    threading.Timer(0.05, lambda: (desk.say(failed(tasks[0].id)), desk.loop.turn())).start()
    with pytest.raises(CompositeError):
        result.get(5, return_when=cf.FIRST_EXCEPTION)
    assert not result.done()


def test_waiting_in_a_thread_ends_when_the_last_task_does(desk):
    tasks = desk.tasks(2)
    result = desk.result(tasks)
    desk.end(tasks[0].id, 1)
    threading.Timer(0.05, lambda: desk.end(tasks[1].id, 2)).start()
    assert result.get(5) == [1, 2]


def test_values_come_one_by_one_when_iterated(desk):
    tasks = desk.tasks(3)
    result = desk.result(tasks)
    values = iter(result)
    desk.end(tasks[0].id, "a")
    assert next(values) == "a"
    threading.Timer(0.05, lambda: desk.end(tasks[1].id, "b")).start()
    assert next(values) == "b"
    assert not result.done()


def test_it_is_a_future_to_concurrent_futures_and_asyncio(desk):
    tasks = desk.tasks(3)
    good, bad, pending = (desk.result([task], single=True) for task in tasks)
    desk.end(tasks[0].id, 1)
    desk.say(failed(tasks[1].id))
    done, waiting = cf.wait([good, bad, pending], timeout=0)
    assert (done, waiting) == ({good, bad}, {pending})
    assert cf.wait([bad, pending], timeout=5, return_when=cf.FIRST_EXCEPTION).done == {bad}
    assert next(cf.as_completed([good])) is good

    async def both():
        value = await asyncio.wrap_future(good)
        with pytest.raises(RemoteError):
            await asyncio.wrap_future(bad)
        return value

    assert asyncio.run(both()) == 1


def test_asyncio_can_wait_for_what_has_not_ended(desk):
    [task] = desk.tasks()
    result = desk.result([task], single=True)

    async def wait():
        asyncio.get_running_loop().call_later(0.02, desk.end, task.id, 3)
        return await asyncio.wait_for(asyncio.wrap_future(result), 5)

    assert asyncio.run(wait()) == 3


def test_split_and_join(desk):
    tasks = desk.tasks(2)
    result = desk.result(tasks)
    parts = result.split()
    desk.end(tasks[0].id, 1)
    done, pending = result.wait(0, return_when=cf.FIRST_COMPLETED)
    assert (done, pending) == ({parts[0]}, {parts[1]})
    desk.end(tasks[1].id, 2)
    assert AsyncResult.join(*parts).get(0) == [1, 2]
    assert [part.get(0) for part in parts] == [1, 2]
    assert parts[0].split() == (parts[0],)


def test_abort_and_cancel(desk):
    tasks = desk.tasks(2)
    result = desk.result(tasks)
    desk.end(tasks[0].id, 1)
    result.abort()
    assert desk.aborted == [[tasks[1].id]]
    assert isinstance(result.get(return_exceptions=True)[1], TaskAborted)
    with pytest.raises(RuntimeError):
        result.abort()
    assert result.cancel() is False
    other = desk.result(desk.tasks(), single=True)
    assert other.cancel() is True
    assert other.cancelled()


def test_metadata_is_there_as_attributes_and_items(desk):
    tasks = desk.tasks(2)
    result = desk.result(tasks)
    assert result.status == result["status"] == [None, None]
    assert result.started == [None, None]
    desk.end(tasks[0].id, 1, engine=3)
    desk.say(failed(tasks[1].id))
    assert result.status == ["ok", "error"]
    assert result.engine_id == [3, 0]
    assert result.msg_ids == result.msg_id == [task.id for task in tasks]
    assert result.error[0] is None
    assert isinstance(result.error[1], RemoteError) and result.error[1].ename == "ValueError"
    assert {"stdout", "engine_id", "get"} <= set(dir(result))
    assert result.completed[0].timestamp() == 1002.0
    with pytest.raises(AttributeError):
        _ = result.nothing_like_it


def test_parts_of_a_map_are_lists_of_chunks_whatever_their_size(desk):
    single, chunked = desk.tasks(2), desk.tasks(2)
    elements = AsyncMapResult(desk.client, single, "f")
    chunks = AsyncMapResult(desk.client, chunked, "f", partition=partition("b"), sizes=[2, 1])
    desk.submit(single + chunked)
    for task, value in zip(single + chunked, [1, 2, [3, 4], [5]], strict=True):
        desk.end(task.id, value)
    assert [part.get(0) for part in elements.split()] == [[[1]], [[2]]]
    assert [part.get(0) for part in chunks.split()] == [[[3, 4]], [[5]]]
    assert list(elements.split()[0]) == [[1]]
    assert AsyncResult.join(*elements.split()).get(0) == [[1], [2]]
    assert elements.get(0) == [1, 2]


def test_times_of_a_task_that_another_session_sent(desk):
    [task] = desk.tasks()
    task.submitted = 0.0  # nothing is known until it has ended
    result = desk.result([task])
    assert result.elapsed == 0.0 and result.submitted == [None]
    desk.end(task.id, submitted=1000.0)
    assert result.wall_time == result.elapsed == 2.0
    assert result.submitted[0].timestamp() == 1000.0


def test_times(desk):
    tasks = desk.tasks(2)
    result = desk.result(tasks)
    assert result.elapsed > 0
    with pytest.raises(TimeoutError):
        _ = result.serial_time
    for task in tasks:
        desk.end(task.id, 1)
    assert result.serial_time == 2.0
    assert result.wall_time == result.elapsed
    assert result.timedelta(result.submitted, result.completed) == 2.0


def test_a_dict_by_engine_needs_one_task_for_each(desk):
    tasks = desk.tasks(2)
    result = desk.result(tasks)
    desk.end(tasks[0].id, "a", engine=0)
    desk.end(tasks[1].id, "b", engine=1)
    assert result.get_dict() == result.result_dict == {0: "a", 1: "b"}
    tasks = desk.tasks(2)
    result = desk.result(tasks)
    for task in tasks:
        desk.end(task.id, 1, engine=0)
    with pytest.raises(ValueError, match="more than one"):
        result.get_dict()


def test_sent_means_that_the_arguments_have_left(desk):
    [task] = desk.tasks()
    result = AsyncResult(desk.client, [task], "f", single=True)
    assert not result.sent
    [request] = desk.submit([task])
    assert not result.sent
    with pytest.raises(TimeoutError):
        result.wait_for_send(0)
    desk.receiver.on_acknowledged([request])
    assert result.sent
    assert result.wait_for_send(0)


def test_a_result_that_cannot_be_trusted_is_an_error_and_runs_nothing(desk):
    class Evil:
        def __reduce__(self):
            return (Desk, ())

    desk.session.trust = "data"
    [task] = desk.tasks()
    result = desk.result([task], single=True)
    desk.end(task.id, Evil())
    assert result.exception(0).code == "untrusted-result"


def test_outputs_are_shown_without_anything_that_drives_a_terminal(desk, capsys):
    from secure_ipp.wire import messages

    tasks = desk.tasks(2)
    result = desk.result(tasks)
    for engine, task in enumerate(tasks):
        desk.say(messages.Output(task.id, engine, "stdout", f"\x1b]0;owned\x07\x1b[31mred{engine}\x1b[2J\n"))
        desk.end(task.id, 1, engine=engine)
    for groupby in ("type", "engine", "order"):
        result.display_outputs(groupby)
        assert capsys.readouterr().out == "[stdout:0]\n\x1b[31mred0\x1b[0m\n[stdout:1]\n\x1b[31mred1\x1b[0m\n"
    with pytest.raises(ValueError, match="groupby"):
        result.display_outputs("nothing")


def test_output_is_streamed_while_inside(desk, capsys):
    from secure_ipp.wire import messages

    [task] = desk.tasks()
    result = desk.result([task], single=True)
    desk.say(messages.Output(task.id, 0, "stdout", "before\n"))
    shown = threading.Event()
    with result.stream_output():
        desk.say(messages.Output(task.id, 0, "stdout", "during\n"))
        desk.receiver.callbacks.call(shown.set)
        assert shown.wait(5)
    desk.say(messages.Output(task.id, 0, "stdout", "after\n"))
    assert capsys.readouterr().out == "before\nduring\n"


def test_progress_is_shown(desk, capsys):
    tasks = desk.tasks(2)
    result = desk.result(tasks)
    desk.end(tasks[0].id, 1)
    assert (result.progress, len(result)) == (1, 2)
    with pytest.raises(TimeoutError):
        result.wait_interactive(0.01, 0.03)
    desk.end(tasks[1].id, 1)
    result.wait_interactive()
    assert "2/2" in capsys.readouterr().err


class TestMaps:
    def map(self, desk, sizes, dist="b", **options):
        tasks = desk.tasks(len(sizes))
        result = AsyncMapResult(desk.client, tasks, "f", partition=partition(dist), sizes=sizes, **options)
        desk.submit(tasks)
        return tasks, result

    def test_chunks_become_elements(self, desk):
        tasks, result = self.map(desk, [2, 1])
        desk.end(tasks[0].id, ["a", "b"])
        assert (result.progress, len(result)) == (2, 3)
        desk.end(tasks[1].id, ["c"])
        assert result.get() == list(result) == ["a", "b", "c"]
        assert result[0:2] == ["a", "b"]
        assert AsyncMapResult.join(result, result).get() == ["a", "b", "c"] * 2

    def test_round_robin_is_interleaved(self, desk):
        tasks, result = self.map(desk, [2, 1], dist="r")
        desk.end(tasks[0].id, [0, 2])
        desk.end(tasks[1].id, [1])
        assert result.get() == list(result) == [0, 1, 2]

    def test_unordered_elements_come_as_they_arrive_each_once(self, desk):
        tasks, result = self.map(desk, [1, 1, 1], ordered=False)
        desk.end(tasks[2].id, [2])
        values = iter(result)
        assert next(values) == 2
        threading.Timer(0.05, lambda: desk.end(tasks[0].id, [0])).start()
        assert next(values) == 0
        desk.end(tasks[1].id, [1])
        assert list(values) == [1]
        assert sorted(result) == [0, 1, 2]

    def test_errors_stand_among_the_values_if_asked_for(self, desk):
        tasks, result = self.map(desk, [2, 1], return_exceptions=True)
        desk.say(failed(tasks[0].id))
        desk.end(tasks[1].id, [3])
        value = result.get()
        assert isinstance(value[0], RemoteError) and value[1] == 3
        assert len(list(result)) == 2
