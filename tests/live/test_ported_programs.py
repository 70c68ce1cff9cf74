"""What programs written for ipyparallel do besides the main path, against a real cluster of two engines."""

from __future__ import annotations

import inspect
import itertools
import threading
from concurrent.futures import Future

import pytest

import secure_ipp as ipp
from secure_ipp.client.errors import UnknownTask
from secure_ipp.payload import markers
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


def test_views_have_as_many_elements_as_engines(rc, dv, lv):
    assert [len(view) for view in (dv, lv, rc.broadcast_view(), rc.direct_view())] == [2, 2, 2, 2]
    assert [len(view) for view in (rc[0], rc[:1], rc.load_balanced_view(1), rc.broadcast_view(0))] == [1, 1, 1, 1]
    assert rc.broadcast_view().targets == [0, 1]
    assert dv.map_sync(lambda x: x, range(len(dv))) == [0, 1]


def test_a_function_that_only_the_engines_have(rc, dv, lv):
    dv.scatter("n", [10, 20], flatten=True, block=True)
    dv.execute("def f(x, y=0): return n * x + y", block=True)
    f = ipp.Reference("f")
    assert dv.apply_sync(f, 2, y=1) == [21, 41]
    assert rc.broadcast_view().apply_sync(f, 1) == [10, 20]
    assert dv.map_sync(f, [1, 1]) == [10, 20]
    dv["n"] = 3
    assert lv.apply_sync(f, 5) == 15
    assert lv.map_sync(f, [1, 2, 3]) == [3, 6, 9]
    dv.execute("f = abs", block=True)
    assert lv.apply_sync(f, -1) == 1
    assert dv.map_sync(lambda x: x + 1, [ipp.Reference("n")] * 2) == [4, 4]
    with pytest.raises(ipp.RemoteError, match="NameError"):
        rc[0].apply_sync(ipp.Reference("nobody"))


def test_what_is_pushed_may_be_part_of_something(dv):
    dv.execute("class A: pass\na = A(); items = [1, 2]; table = {}", block=True)
    dv["a.b"] = 5
    dv["items[0]"] = 9
    dv.push({"table['k']": "v", "x, y": (1, 2)}, block=True)
    assert dv.pull(["a.b", "items", "table", "x", "y"], block=True) == [[5, [9, 2], {"k": "v"}, 1, 2]] * 2
    with pytest.raises(ipp.CompositeError, match="SyntaxError"):
        dv["no name"] = 1
    assert dv.apply_sync(ipp.interactive(lambda: "__pushed__" in globals())) == [False, False]


def test_dependencies_set_as_attributes(lv):
    first = lv.apply_async(abs, -1)
    lv.after, lv.follow = first, [first.msg_ids[0]]
    second = lv.apply_async(abs, -2)
    assert second.get(10) == 2
    assert second.after == second.follow == first.msg_ids
    lv.after, lv.follow = None, None


def test_a_function_that_requires_runs_here_too():
    @ipp.require("colorsys")
    def name():
        return "called"

    @ipp.depend(lambda: False)
    def never():
        return "called"

    assert name() == "called"
    with pytest.raises(markers.UnmetDependency):
        never()


def test_replies_of_cells(cluster, rc):
    result = rc[0].execute("print('said'); 6 * 7", silent=False)
    reply = result.get(10)
    assert reply.execute_result["data"]["text/plain"] == "42"
    assert (reply.stdout, reply.engine_id, reply.status) == ("said\n", 0, "ok")
    assert result.execute_result["data"] == reply.data
    rich = rc[0].execute("from IPython.display import HTML\nHTML('<b>x</b>')", silent=False).get(10)
    assert rich._repr_html_() == "<b>x</b>"
    with cluster.client() as other:
        again = other.get_result(result.msg_ids[0]).get(10)
        assert again.execution_count == reply.execution_count


def test_an_error_is_part_of_the_metadata(dv):
    result = dv.apply_async(lambda: 1 / 0)
    result.wait(10)
    assert [error.ename for error in result.error] == ["ZeroDivisionError"] * 2
    assert "ZeroDivisionError" in result.metadata[0].error.traceback


def test_a_map_over_an_iterable_without_end(lv):
    values = lv.imap(lambda x: x * 2, itertools.count())
    assert list(itertools.islice(values, 100)) == list(range(0, 200, 2))
    values.cancel()
    assert list(values) == list(range(200, 2 * len(lv.history), 2))
    with lv.executor as executor:
        assert next(executor.map(abs, itertools.count(), max_outstanding=2)) == 0
        assert executor._max_workers == 2


def test_waiting_for_whatever_is_a_future(rc, dv):
    own: Future[str] = Future()
    threading.Timer(0.1, own.set_result, ["done"]).start()
    assert rc.wait([own, dv.apply_async(abs, -1), rc.send_signal(0)], timeout=10)
    assert rc.wait(rc.abort(), timeout=10)
    assert not rc.wait(Future(), timeout=0.01)
    assert own.result() == "done"


def test_a_result_that_nobody_knows(rc):
    with pytest.raises(UnknownTask):
        rc.get_result("nobody", block=True)
    with pytest.raises(KeyError):
        rc.get_result("nobody").get(10)


def test_scattering_gives_nothing_when_it_waits(dv):
    assert dv.scatter("s", [1, 2], block=True) is None
    assert isinstance(dv.scatter("s", [1, 2]), ipp.AsyncResult)


def test_coroutines_have_the_signatures_of_their_twins():
    for name in ("start_cluster", "start_and_connect", "start_engines", "signal_engine", "stop_cluster"):
        method, twin = getattr(ipp.Cluster, name), getattr(ipp.Cluster, f"{name}_sync")
        assert inspect.iscoroutinefunction(method)
        assert inspect.signature(method) == inspect.signature(twin)


def test_a_client_knows_its_cluster(home):
    client = ipp.Cluster(n=1).start_and_connect_sync()
    try:
        assert client.cluster.n == 1
        client.wait_for_engines(timeout=10)
        assert client[:].apply_sync(abs, -1) == [1]
    finally:
        client.cluster.stop_cluster_sync()
    running.wait_until(lambda: not running.our_processes(home))
