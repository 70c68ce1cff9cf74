"""The client's whole surface against a real cluster of two engines."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import os
import threading
import time

import numpy as np
import pytest

import secure_ipp as ipp
from secure_ipp.client.errors import ClientClosed, UnknownTask
from secure_ipp.errors import UsageError
from tests import running

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def rc(cluster):
    client = cluster.client()
    client.wait_for_engines(2, timeout=30)
    yield client
    client.close()


@pytest.fixture
def dv(rc):
    view = rc[:]
    yield view
    view.clear(block=True)


@pytest.fixture
def lv(rc):
    return rc.load_balanced_view()


def fail_on_odd(x):
    if x % 2:
        raise ValueError(x)
    return x


def nap(seconds, value=None):
    import time

    time.sleep(seconds)
    return value


class TestClient:
    def test_engines_are_numbered_and_indexed_like_a_list(self, rc):
        assert rc.ids == [0, 1]
        assert len(rc) == 2
        assert [view.targets for view in rc] == [0, 1]
        assert rc[-1].targets == 1
        assert rc[:1].targets == [0]
        assert rc[[1, 0]].targets == [1, 0]
        assert rc.direct_view().targets == "all"
        with pytest.raises(IndexError):
            rc[7]
        with pytest.raises(TypeError):
            rc["a"]

    def test_waiting_for_engines(self, rc):
        rc.wait_for_engines(2, timeout=5)
        assert rc.wait_for_engines(2, block=False).result(5) is None
        with pytest.raises(ipp.TimeoutError, match="3 engines not ready"):
            rc.wait_for_engines(3, timeout=0.1)
        with pytest.raises(ipp.TimeoutError):
            rc.wait_for_engines(3, timeout=0.1, block=False).result(5)
        rc.wait_for_engines(2, interactive=True, widget=False)

    def test_queue_status_names_each_engine(self, rc):
        status = rc.queue_status()
        assert set(status) == {"unassigned", 0, 1}
        assert set(status[0]) == {"queue", "completed", "tasks"}
        assert set(rc[:1].queue_status(verbose=True)) == {"unassigned", 0}
        assert set(rc.queue_status(-1)) == set(rc[0].queue_status()) == {"queue", "completed", "tasks"}

    def test_wait_and_outstanding(self, rc, dv):
        result = dv.apply_async(nap, 0.3)
        assert set(result.msg_ids) <= rc.outstanding
        assert rc.wait(result, timeout=0) is False
        assert rc.wait(timeout=10) is True
        assert not rc.outstanding

    def test_results_are_found_by_id_while_they_are_held(self, rc, dv):
        result = dv.apply_async(abs, -3)
        result.wait()
        [first, second] = result.msg_ids
        assert rc.results[first] == 3
        assert rc.metadata[second].engine_id == 1
        assert rc.history[-2:] == [first, second]
        assert rc.get_result([-2, -1]).get() == [3, 3]
        rc.purge_local_results(result)
        assert first not in rc.results

    def test_result_status(self, rc, dv):
        result = dv.apply_async(nap, 0.2, 1)
        assert rc.result_status(result.msg_ids)["pending"] == result.msg_ids
        result.wait()
        status = rc.result_status(result, status_only=False)
        assert [status[i] for i in status["completed"]] == [1, 1]
        with pytest.raises(UnknownTask):
            rc.result_status("nobody")

    def test_signals_end_what_runs(self, rc, dv):
        result = dv.apply_async(nap, 60)
        running.wait_until(lambda: rc.queue_status()[0]["tasks"] >= 1)
        time.sleep(0.2)  # until it is in user code: an interrupt before that finds nothing to interrupt
        rc.send_signal("SIGINT", block=True)
        with pytest.raises(ipp.CompositeError, match="KeyboardInterrupt"):
            result.get(10)
        with pytest.raises(UsageError):
            rc.send_signal("SIGNOTHING")
        rc.send_signal(0, block=True)

    def test_a_closed_client_says_so(self, cluster):
        with cluster.client() as client:
            view = client[:]
        with pytest.raises(ClientClosed):
            view.apply_async(abs, 1)
        client.close()

    def test_what_is_unfinished_when_a_client_closes_ends_there_and_goes_on_elsewhere(self, cluster, rc):
        client = cluster.client()
        result = client[0].apply_async(nap, 0.5, "late")
        running.wait_until(lambda: result.sent)
        client.close()
        with pytest.raises(ClientClosed):
            result.get(5)
        assert rc.get_result(result.msg_ids[0]).get(10) == "late"

    def test_large_arguments_reach_their_engine_before_the_client_is_gone(self, cluster, rc, dv):
        with cluster.client() as client:
            client[0].push({"large": np.ones(1_000_000)})
        assert rc[0].apply_sync(ipp.interactive(lambda: large.sum())) == 1_000_000  # noqa: F821  at the engine

    def test_another_session_gets_the_results_of_its_identity(self, cluster, rc, lv):
        pending = lv.apply_async(nap, 0.4, "soon")
        done = lv.apply_async(abs, -5)
        done.wait()
        running.wait_until(lambda: done.msg_ids[0] in rc.hub_history())
        with cluster.client() as other:
            assert other.get_result(pending.msg_ids[0]).get(10) == "soon"
            result = other.get_result(done.msg_ids)
            assert isinstance(result, ipp.AsyncHubResult)
            assert result.get(10) == [5]
            with pytest.raises(UnknownTask):
                other.get_result("nobody").get(10)

    def test_a_forked_child_is_refused_rather_than_left_waiting(self, dv):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                dv.apply_sync(abs, 1)
            except ClientClosed as error:
                os.write(write, str(error).encode())
            os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        with os.fdopen(read) as said:
            assert "fork" in said.read()
        assert dv.apply_sync(abs, -1) == [1, 1]

    def test_a_client_that_nobody_holds_goes_away(self, cluster):
        client = ipp.Client(str(cluster.place.client_file))
        thread = client.session._thread
        assert client[0].apply_sync(abs, -1) == 1
        del client
        running.wait_until(lambda: not thread.is_alive(), 10)


class TestDirectView:
    def test_calls(self, rc, dv):
        assert dv.apply_sync(max, 1, 2) == [2, 2]
        assert rc[1].apply_sync(max, 1, 2) == 2
        assert rc[[1]].apply_sync(max, 1, 2) == [2]
        assert dv.apply_async(dict, a=1).get(10) == [{"a": 1}] * 2
        with dv.temp_flags(block=True):
            assert dv.apply(max, 1, 2) == [2, 2]
        assert isinstance(dv.apply(max, 1, 2), ipp.AsyncResult)

    def test_names_of_main_are_the_engines(self, rc, dv):
        dv["a"] = 99
        f = ipp.interactive(lambda: a)  # noqa: F821  at the engine
        assert dv.apply_sync(f) == [99, 99]
        assert dv.apply_sync(max, ipp.Reference("a"), 5) == [99, 99]

    def test_push_and_pull(self, rc, dv):
        assert dv.push({"a": 1, "b": 2}, block=True) == [None, None]
        assert dv.pull("a", block=True) == dv["a"] == dv.get("a") == [1, 1]
        assert dv.pull(("a", "b"), block=True) == [[1, 2]] * 2
        assert rc[0].pull(["a", "b"], block=True) == [1, 2]
        dv.update({"a": 5}).get(10)
        assert rc[1]["a"] == 5
        assert dv.push({"a": 7}, targets=0, block=True) is None
        assert dv["a"] == [7, 5]
        with pytest.raises(ipp.CompositeError, match="NameError"):
            dv["nothing"]
        with pytest.raises(ipp.RemoteError, match="NameError"):
            rc[0]["nothing"]
        with pytest.raises(TypeError):
            dv.push(5)

    def test_clearing(self, rc, dv):
        dv["a"] = 1
        rc.clear(block=True)
        with pytest.raises(ipp.RemoteError):
            dv["a"]

    def test_execute(self, rc, dv, tmp_path):
        result = dv.execute("x = 6; print('said'); x + 1", silent=False, block=True)
        assert isinstance(result, ipp.AsyncResult)
        assert [reply.data["text/plain"] for reply in result.get()] == ["7", "7"]
        assert result.stdout == ["said\n", "said\n"]
        assert dv["x"] == [6, 6]
        with pytest.raises(ipp.RemoteError, match=r"\[0:execute\] ZeroDivisionError"):
            rc[0].execute("1/0", block=True)
        script = tmp_path / "script.py"
        script.write_text("y = x * 2")
        dv.run(script, block=True)
        assert dv["y"] == [12, 12]

    def test_scatter_and_gather(self, rc, dv):
        dv.scatter("s", range(5), block=True)
        assert dv["s"] == [range(3), range(3, 5)]
        assert dv.gather("s", block=True) == [0, 1, 2, 3, 4]
        dv.scatter("rank", rc.ids, flatten=True, block=True)
        assert dv["rank"] == [0, 1]
        dv.scatter("r", list(range(5)), dist="r", block=True)
        assert dv.gather("r", dist="r", block=True) == [0, 1, 2, 3, 4]
        array = np.arange(11.0)
        dv.scatter("n", array, block=True)
        assert (dv.gather("n", block=True) == array).all()

    def test_map(self, dv):
        assert dv.map_sync(lambda x: x * 2, range(5)) == [0, 2, 4, 6, 8]
        assert dv.map_sync(lambda x, y: x + y, [1, 2, 3], [10, 20]) == [11, 22]
        assert dv.map_sync(abs, (i for i in range(3))) == [0, 1, 2]
        assert dv.map_sync(abs, []) == []
        assert dv.map_sync(abs, [-1]) == [1]
        result = dv.map(abs, range(-3, 0))
        assert isinstance(result, ipp.AsyncMapResult)
        assert list(result) == [3, 2, 1]
        with pytest.raises(ipp.CompositeError):
            dv.map_sync(fail_on_odd, range(4))
        with pytest.raises(UsageError):
            dv.map_sync(abs)

    def test_decorators(self, dv):
        @dv.parallel(block=True)
        def double(x):
            return x * 2

        assert double([1, 2, 3]) == [1, 2, 1, 2, 3, 3]
        assert double.map([1, 2, 3]) == [2, 4, 6]
        assert double.__name__ == "double"

        @ipp.remote(dv, block=True)
        def one():
            return 1

        assert one() == [1, 1]

        @ipp.parallel(dv)
        def same(x):
            return x

        assert same([1, 2, 3]).get(10) == [1, 2, 3]

    def test_imports_on_both_sides(self, dv, capsys):
        with dv.sync_imports():
            import colorsys
            from fractions import Fraction
        assert "importing colorsys on engine(s)" in capsys.readouterr().out
        assert dv.apply_sync(ipp.interactive(lambda: (colorsys.__name__, Fraction(1, 2)))) == [
            ("colorsys", Fraction(1, 2))
        ] * 2

    def test_errors(self, rc, dv):
        with pytest.raises(ipp.CompositeError) as caught:
            dv.apply_sync(fail_on_odd, 1)
        errors = [(ename, evalue, info["engine_id"]) for ename, evalue, _, info in caught.value.elist]
        assert errors == [("ValueError", "1", 0), ("ValueError", "1", 1)]
        with pytest.raises(ipp.RemoteError) as single:
            rc[1].apply_sync(fail_on_odd, 1)
        error = single.value
        assert (error.ename, error.evalue, error.engine_info["engine_id"]) == ("ValueError", "1", 1)
        assert "fail_on_odd" in error.traceback

    def test_large_arrays_there_and_back(self, rc, dv):
        array = np.random.default_rng(1).random(1_000_000)
        result = dv.push({"a": array})
        assert result.wait_for_send(30)
        result.get(30)
        for back in dv["a"]:
            assert (back == array).all()
            assert back.flags.writeable

    def test_broadcast(self, rc):
        view = rc.broadcast_view()
        assert view.apply_sync(max, 1, 2) == [2, 2]
        assert rc.broadcast_view(0).apply_sync(max, 1, 2) == [2]
        assert view.map_sync(abs, [-1, -2, -3]) == [1, 2, 3]
        assert view.apply_async(abs, -1).is_broadcast == [True, True]
        view.label = "word"
        assert view.apply_async(abs, -1).label == ["word", "word"]

    def test_direct_tasks_run_in_the_order_sent(self, rc, dv):
        for number in range(200):
            dv.push({"n": number})
        assert dv["n"] == [199, 199]

    def test_abort_what_has_not_started(self, rc):
        view = rc[0]
        first = view.apply_async(nap, 0.5)
        later = [view.apply_async(nap, 0.5) for _ in range(3)]
        later[0].abort()
        with pytest.raises(ipp.TaskAborted):
            later[0].get(5)
        view.abort(later[1:], block=True)
        assert [one.exception(5).__class__ for one in later[1:]] == [ipp.TaskAborted] * 2
        assert first.get(10) is None
        with pytest.raises(RuntimeError):
            first.abort()


class TestLoadBalancedView:
    def test_calls(self, lv):
        assert lv.apply_sync(max, 1, 2) == 2
        with pytest.raises(ipp.RemoteError, match="ValueError"):
            lv.apply_sync(fail_on_odd, 1)

    @pytest.mark.parametrize("chunksize", [1, 3, 100])
    def test_map(self, lv, chunksize):
        assert lv.map_sync(lambda x, y: x + y, range(10), range(10), chunksize=chunksize) == list(range(0, 20, 2))
        assert lv.map_sync(abs, [], chunksize=chunksize) == []
        assert list(lv.map_async(abs, range(-5, 0), chunksize=chunksize)) == [5, 4, 3, 2, 1]

    def test_many_tasks(self, lv):
        assert lv.map_sync(abs, range(5000)) == list(range(5000))

    def test_unordered(self, lv):
        result = lv.map_async(lambda t: nap(t, t), [0.4, 0.0, 0.1], ordered=False)
        assert list(result)[-1] == 0.4
        assert result.get() == [0.4, 0.0, 0.1]

    def test_exceptions_among_values(self, lv):
        values = lv.map_async(fail_on_odd, range(4), return_exceptions=True).get(10)
        assert values[::2] == [0, 2]
        assert all(isinstance(value, ipp.RemoteError) for value in values[1::2])

    def test_imap_takes_no_more_than_it_may(self, lv):
        taken = []

        def numbers():
            for number in range(10):
                taken.append(number)
                yield number

        values = lv.imap(lambda x: nap(0.2, x), numbers(), max_outstanding=3)
        assert taken == [0, 1, 2]
        assert next(values) == 0
        assert 3 <= len(taken) <= 6
        assert list(values) == list(range(1, 10))
        assert sorted(lv.imap(abs, range(10), ordered=False, max_outstanding=0)) == list(range(10))
        with pytest.raises(ipp.RemoteError):
            list(lv.imap(fail_on_odd, range(3)))

    def test_targets(self, rc):
        view = rc.load_balanced_view(1)
        assert {view.apply_async(os.getpid).engine_id for _ in range(1)} <= {None, 1}
        results = [view.apply_async(abs, -1) for _ in range(5)]
        rc.wait(results)
        assert {result.engine_id for result in results} == {1}

    def test_dependencies(self, lv):
        before = lv.apply_async(nap, 0.3)
        with lv.temp_flags(after=before):
            later = lv.apply_async(abs, -1)
        assert later.get(10) == 1
        assert later.started >= before.completed
        with lv.temp_flags(follow=before):
            assert lv.map_async(abs, range(4)).engine_id is not None
            same = [lv.apply_async(abs, -1) for _ in range(4)]
        for one in same:
            one.get(10)
        assert {one.engine_id for one in same} == {before.engine_id}

    def test_dependencies_that_cannot_be(self, lv):
        bad = lv.apply_async(fail_on_odd, 1)
        with lv.temp_flags(after=bad), pytest.raises(ipp.ImpossibleDependency):
            lv.apply_sync(abs, 1)
        bad.wait()
        with lv.temp_flags(after=bad), pytest.raises(ipp.ImpossibleDependency):
            lv.apply_sync(abs, 1)
        with lv.temp_flags(after=ipp.Dependency(bad, failure=True)):
            assert lv.apply_sync(abs, -1) == 1
        with lv.temp_flags(after="nobody"), pytest.raises(ipp.InvalidDependency):
            lv.apply_sync(abs, 1)
        with pytest.raises(ValueError, match="invalid dependency"):
            lv.set_flags(after=5)
        with pytest.raises(KeyError):
            lv.set_flags(nonsense=5)

    def test_retries(self, lv, tmp_path):
        def third_time(path):
            with open(path, "a") as file:
                file.write("x")
            with open(path) as file:
                if len(file.read()) < 3:
                    raise OSError("not yet")
            return "done"

        with lv.temp_flags(retries=5):
            assert lv.apply_sync(third_time, str(tmp_path / "tries")) == "done"

    def test_executor(self, rc, lv):
        with rc.executor() as executor:
            futures = [executor.submit(abs, -i) for i in range(5)]
            assert list(executor.map(abs, range(-3, 0))) == [3, 2, 1]
            assert [future.result(10) for future in cf.as_completed(futures)]
        with pytest.raises(RuntimeError):
            executor.submit(abs, 1)
        assert lv.executor.view is lv


class TestAsyncResult:
    def test_it_works_with_asyncio(self, lv):
        async def all_of_them():
            return await asyncio.gather(*(asyncio.wrap_future(lv.apply_async(abs, -i)) for i in range(5)))

        assert asyncio.run(all_of_them()) == [0, 1, 2, 3, 4]

    def test_callbacks_run_in_their_own_thread(self, lv):
        called = threading.Event()
        threads = []

        def callback(future):
            threads.append((threading.current_thread().name, future.result()))
            called.set()

        lv.apply_async(nap, 0.1, 3).add_done_callback(callback)
        assert called.wait(10)
        assert threads == [("secure-ipp-callbacks", 3)]

    def test_output_is_there_while_the_task_runs(self, rc):
        def talk():
            import time

            print("first", flush=True)
            time.sleep(1.0)
            print("second")

        result = rc[0].apply_async(talk)
        running.wait_until(lambda: result.stdout == "first\n", 5)
        assert not result.done()
        result.get(10)
        assert result.stdout == "first\nsecond\n"

    def test_outputs_are_displayed(self, rc, dv, capsys):
        result = dv.apply_async(print, "hello")
        result.display_outputs()
        assert capsys.readouterr().out == "[stdout:0]\nhello\n[stdout:1]\nhello\n"
        result = dv.execute("6 * 7", silent=False)
        result.display_outputs(result_only=True)
        assert [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines()] == ["42", "42"]

    def test_streamed_output(self, rc, capsys):
        result = rc[0].apply_async(print, "streamed")
        with result.stream_output():
            result.get(10)
        assert capsys.readouterr().out == "streamed\n"
        result = rc[:].execute("import time; time.sleep(0.3); display(5)")
        with result.stream_output():
            result.get(10)
        shown = capsys.readouterr().out.splitlines()
        assert sorted(shown) == ["5", "5", "[output:0]", "[output:1]"]

    def test_progress(self, dv, capsys):
        result = dv.map_async(nap, [0.1] * 4)
        result.wait_interactive(interval=0.05)
        assert result.progress == len(result) == 4
        assert "4/4" in capsys.readouterr().err

    def test_times(self, dv):
        result = dv.apply_async(nap, 0.2)
        result.wait()
        assert 0.35 < result.serial_time < 2
        assert 0.15 < result.wall_time < 2


def test_an_engine_that_dies_takes_its_task_and_no_other(home):
    one = running.RunningCluster(engines=2, home=home)
    one.start()
    try:
        with one.client() as client:
            client.wait_for_engines(2, timeout=30)
            survivor = client[0].apply_async(nap, 2.0, "here")
            dead = client[1].apply_async(os._exit, 3)
            with pytest.raises(ipp.EngineError):
                dead.get(20)
            assert survivor.get(20) == "here"
            running.wait_until(lambda: client.ids == [0])
            with pytest.raises(IndexError):
                client[1]
    finally:
        one.stop()


def test_engines_are_replaced_and_ended(home):
    one = running.RunningCluster(engines=2, home=home)
    one.start()
    try:
        with one.client() as client:
            client.wait_for_engines(2, timeout=30)
            before = client[:].apply_sync(os.getpid)
            client.shutdown(targets=1, restart=True, block=True)
            after = client[:].apply_sync(os.getpid)
            assert len(after) == 2
            assert len(set(before) & set(after)) == 1
            client.shutdown(targets=client.ids[0], block=True)
            assert len(client) == 1
            client.shutdown(block=True)
            with pytest.raises(ipp.NoEnginesRegistered):
                client[:].apply_sync(abs, 1)
            with pytest.raises(ipp.NoEnginesRegistered):
                client.load_balanced_view().apply_sync(abs, 1)
            client.shutdown(hub=True, block=True)
            with pytest.raises(ClientClosed):
                client.queue_status()
    finally:
        one.stop()


def test_work_goes_on_when_the_scheduler_dies(home):
    import signal

    one = running.RunningCluster(engines=2, home=home)
    one.start()
    try:
        with one.client() as client:
            client.wait_for_engines(2, timeout=30)
            array = np.ones(500_000)
            view = client.load_balanced_view()
            many = view.map_async(lambda x: nap(0.01, x), range(150))
            direct = client[:].apply_async(nap, 1.0, "direct")
            large = view.map_async(len, [array] * 4)
            running.wait_until(lambda: many.progress > 10)
            os.kill(one.pids()["scheduler"], signal.SIGKILL)
            assert many.get(60) == list(range(150))
            assert direct.get(60) == ["direct"] * 2
            assert large.get(60) == [500_000] * 4
            assert client[:].apply_sync(abs, -1) == [1, 1]
    finally:
        one.stop()
