"""What tasks may do on a real engine, and what comes back."""

from __future__ import annotations

import builtins
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from secure_ipp.payload import calls
from secure_ipp.payload.markers import Reference, depend, require
from secure_ipp.wire import messages
from tests.engine.stage import RemoteFailure, Stage
from tests.running import wait_until

pytestmark = pytest.mark.live
Engine = tuple[Stage, str]


def define(code: str, name: str = "f") -> Any:
    """A function of somebody's `__main__`."""
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    exec(compile(code, "<cell>", "exec", dont_inherit=True), namespace)
    return namespace[name]


def test_apply_returns_values(engine: Engine) -> None:
    stage, uuid = engine
    assert stage.apply(uuid, define("def f(a, b=2): return a + b"), 1) == 3
    assert stage.apply(uuid, os.getpid) != os.getpid()
    assert stage.apply(uuid, define("def f(): return None")) is None


def test_push_pull_and_the_namespace(engine: Engine) -> None:
    stage, uuid = engine
    number = stage.assign(uuid, calls.pack_push({"a": 99, "n": 1}))
    assert stage.value(uuid, number) is None
    assert stage.apply(uuid, define("a = 5\ndef f(): return a")) == 99
    assert stage.value(uuid, stage.assign(uuid, calls.pack_pull("a"))) == 99
    assert stage.value(uuid, stage.assign(uuid, calls.pack_pull(["a", "n"]))) == [99, 1]
    stage.apply(uuid, define("def f():\n    global n\n    n = 7"))
    assert stage.value(uuid, stage.assign(uuid, calls.pack_pull("n"))) == 7
    assert stage.apply(uuid, define("def f(x): return x"), [Reference("n"), {"k": Reference("a")}]) == [7, {"k": 99}]
    with pytest.raises(RemoteFailure, match="NameError"):
        stage.value(uuid, stage.assign(uuid, calls.pack_pull("nothing")))
    assert stage.execute(uuid, "b = a + 1").status == "ok"
    assert stage.value(uuid, stage.assign(uuid, calls.pack_pull("b"))) == 100
    stage.value(uuid, stage.assign(uuid, calls.pack_clear()))
    with pytest.raises(RemoteFailure, match="NameError"):
        stage.value(uuid, stage.assign(uuid, calls.pack_pull("a")))


def test_carried_names_do_not_stay(engine: Engine) -> None:
    stage, uuid = engine
    f = define("k = 3\ndef g(x): return x * k\ndef f(xs): return [g(x) for x in xs]")
    assert stage.apply(uuid, f, [1, 2]) == [3, 6]
    assert stage.apply(uuid, define("def f(): return [n for n in ('g', 'k') if n in globals()]")) == []
    with pytest.raises(RemoteFailure, match="NameError"):
        stage.apply(uuid, define("def f(): return g(1)"))


def test_pushed_functions_keep_what_they_carried(engine: Engine) -> None:
    stage, uuid = engine
    f = define("k = 3\ndef g(x): return x * k\ndef f(xs): return [g(x) for x in xs], list(g(x) for x in xs)")
    stage.value(uuid, stage.assign(uuid, calls.pack_push({"kept": f})))
    assert stage.apply(uuid, define("def f(): return kept([1, 2])")) == ([3, 6], [3, 6])
    assert stage.apply(uuid, define("j = 1\ndef f(): return kept([j])")) == ([3], [3])
    assert stage.execute(uuid, "assert kept([2]) == ([6], [6])").status == "ok"
    stage.execute(uuid, "k = 10")
    assert stage.apply(uuid, define("def f(): return kept([1])")) == ([10], [10])
    stage.value(uuid, stage.assign(uuid, calls.pack_clear()))
    with pytest.raises(RemoteFailure, match="NameError"):
        stage.apply(uuid, define("def f(): return g(1)"))


@pytest.mark.parametrize(
    ("code", "ename"),
    [
        ("def f(): 1 / 0", "ZeroDivisionError"),
        ("def f():\n    import sys\n    sys.exit(3)", "SystemExit"),
        ("def f(): raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(): return f()", "RecursionError"),
        ("def f(): raise BaseException('b')", "BaseException"),
        ("def f(): raise MemoryError", "MemoryError"),
        ("def f():\n    import threading\n    return threading.Lock()", "Unpicklable"),
        ("class Odd(Exception):\n    def __str__(self): 1 / 0\ndef f(): raise Odd", "Odd"),
        ("def f(): return input()", "StdinNotImplementedError"),
        ("def f(): raise ValueError('\\ud800' + 'x' * 10_000_000)", "ValueError"),
        ("def f(): import no_such_module_here", "ModuleNotFoundError"),
    ],
)
def test_whatever_fails_is_a_result_and_the_engine_goes_on(engine: Engine, code: str, ename: str) -> None:
    stage, uuid = engine
    with pytest.raises(RemoteFailure) as caught:
        stage.apply(uuid, define(code))
    assert caught.value.ename == ename
    assert stage.apply(uuid, define("def f(): return 1")) == 1


def test_traceback_shows_the_users_frames_only(engine: Engine) -> None:
    stage, uuid = engine
    with pytest.raises(RemoteFailure) as caught:
        stage.apply(uuid, define("def g(): 1 / 0\ndef f(): g()"))
    assert "in g" in caught.value.traceback
    assert "executor.py" not in caught.value.traceback


def test_missing_module_is_named_with_advice(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, uuid = engine
    module = ModuleType("only_at_the_client")
    exec("def f(): return 1", vars(module))
    monkeypatch.setitem(sys.modules, "only_at_the_client", module)
    with pytest.raises(RemoteFailure) as caught:
        stage.apply(uuid, module.f)
    assert caught.value.ename == "ModuleNotFoundError"
    assert "only_at_the_client" in caught.value.evalue and "install it" in caught.value.evalue


def test_data_left_behind_is_named_with_advice(engine: Engine) -> None:
    stage, uuid = engine
    with pytest.raises(RemoteFailure, match="push it") as caught:
        stage.apply(uuid, define("big = bytes(1_000_000)\ndef f(): return big"))
    assert caught.value.ename == "NameError"


def test_dependencies(engine: Engine) -> None:
    stage, uuid = engine
    assert stage.apply(uuid, require("math", extra=5)(define("def f(x): return math.sqrt(x) + extra")), 4) == 7
    with pytest.raises(RemoteFailure) as caught:
        stage.apply(uuid, require("no_such_module")(define("def f(): return 1")))
    assert caught.value.ename == "UnmetDependency"
    for code, met in (("return None", True), ("return 1", True), ("return False", False)):
        task = depend(define(f"def d(): {code}", "d"))(define("def f(): return 'ran'"))
        if met:
            assert stage.apply(uuid, task) == "ran"
        else:
            with pytest.raises(RemoteFailure, match="UnmetDependency"):
                stage.apply(uuid, task)


def test_execute_shows_and_fails_as_ipython_does(engine: Engine) -> None:
    stage, uuid = engine
    stage.drop_seen()
    result = stage.execute(uuid, "x = 20\nprint('hello')\nx + 1")
    assert result.status == "ok" and result.execution_count >= 1
    assert stage.output(result.number) == "hello\n"
    shown, _ = stage.wait_for(messages.EngineDisplay, uuid)
    assert shown.kind == "execute_result" and '"text/plain":"21"' in shown.content
    failed = stage.execute(uuid, "def g():\n    return 1 / 0\ng()")
    assert failed.status == "error" and failed.error is not None
    assert failed.error.ename == "ZeroDivisionError"
    assert "return 1 / 0" in "".join(failed.error.traceback)
    assert "\x1b" not in "".join(failed.error.traceback)
    broken = stage.execute(uuid, "1 +")
    assert broken.error is not None and broken.error.ename == "SyntaxError"
    ended = stage.execute(uuid, "raise SystemExit(1)")
    assert ended.error is not None and ended.error.ename == "SystemExit"
    silent = stage.execute(uuid, "x", silent=True)
    assert silent.execution_count == 0
    assert stage.execute(uuid, "import asyncio\nawait asyncio.sleep(0)").status == "ok"


def test_rich_display_from_apply(engine: Engine) -> None:
    stage, uuid = engine
    stage.drop_seen()
    stage.apply(uuid, define("def f():\n    from IPython.display import HTML, display\n    display(HTML('<b>x</b>'))"))
    shown, _ = stage.wait_for(messages.EngineDisplay, uuid)
    assert shown.kind == "display_data" and "<b>x</b>" in shown.content


def test_output_counts_to_its_task_in_order(engine: Engine) -> None:
    stage, uuid = engine
    stage.drop_seen()
    f = define(
        "import os, sys, subprocess\n"
        "def f(i):\n"
        "    print('a', i)\n    os.write(1, b'b%d\\n' % i)\n    subprocess.run(['echo', f'c{i}'])\n"
        "    print('d', i, file=sys.stderr)\n    sys.stdout.buffer.write(b'e\\n')\n    print('f')"
    )
    numbers = [stage.assign(uuid, calls.pack_call(f, (i,), {})) for i in range(5)]
    for i, number in enumerate(numbers):
        stage.result(uuid, number)
        assert stage.output(number) == f"a {i}\nb{i}\nc{i}\nd {i}\ne\nf\n"


def test_output_is_bounded_and_live(engine: Engine) -> None:
    stage, uuid = engine
    stage.drop_seen()
    number = stage.assign(uuid, calls.pack_call(define("def f():\n    print('x' * 6_000_000)"), (), {}))
    stage.result(uuid, number)
    text = stage.output(number)
    assert "output cut" in text and len(text) < 5_000_000
    code = "import time, os\ndef f():\n    os.write(1, b'early')\n    time.sleep(1.5)"
    number = stage.assign(uuid, calls.pack_call(define(code), (), {}))
    before = time.monotonic()
    stage.wait_for(messages.EngineOutput, uuid)
    assert time.monotonic() - before < 1.0, "what a long task writes is shown while it runs"
    stage.wait_for(messages.Started, uuid)
    stage.result(uuid, number)


def test_much_output_past_python_does_not_block(engine: Engine) -> None:
    stage, uuid = engine
    f = define("import subprocess\ndef f(): return subprocess.run('yes | head -c 9000000', shell=True).returncode")
    assert stage.apply(uuid, f) == 0


def test_large_arguments_and_results(engine: Engine) -> None:
    stage, uuid = engine
    array = np.random.default_rng(0).random(1_500_000)
    back = stage.apply(uuid, define("def f(x):\n    x[0] = 5\n    return x * 2"), array.copy())
    assert back[0] == 10 and np.array_equal(back[1:], array[1:] * 2)
    stage.value(uuid, stage.assign(uuid, calls.pack_push({"big": array})))
    number = stage.assign(uuid, calls.pack_pull("big"))
    stage.apply(uuid, define("def f(): big[:] = 0"))
    assert np.array_equal(stage.value(uuid, number), array), "a result is what it was when its task ended"


def test_large_functions_travel_with_their_task(engine: Engine) -> None:
    stage, uuid = engine
    body = "\n".join(f"    x{i} = {i} + len('{i:080d}')" for i in range(3000))
    call = calls.pack_call(define(f"def f():\n{body}\n    return x2999"), (), {})
    assert call.digest == b""
    assert stage.value(uuid, stage.assign(uuid, call)) == 2999 + 80


def test_function_is_asked_for_and_tasks_wait_in_order(engine: Engine) -> None:
    stage, uuid = engine
    stage.drop_seen()
    call = calls.pack_call(define("def f(): return 'late'"), (), {})
    first = stage.assign(uuid, call, send_function=False)
    second = stage.assign(uuid, calls.pack_execute("1"))
    asked, _ = stage.wait_for(messages.EngineNeedsFunction, uuid)
    assert asked.digest == call.digest
    stage.say(uuid, messages.EngineFunction("owner", call.digest, call.code))
    assert stage.value(uuid, first) == "late"
    assert stage.result(uuid, second).status == "ok"


def _asleep_again(pid: int) -> bool:
    """Whether a process's main thread sleeps, with no signal on its way to it."""
    status = Path(f"/proc/{pid}/task/{pid}/status").read_text().splitlines()
    told = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    return told["State"].startswith("S") and int(told["ShdPnd"], 16) == 0 and int(told["SigPnd"], 16) == 0


def test_interrupt_reaches_running_user_code_only(engine: Engine) -> None:
    stage, uuid = engine
    stage.drop_seen()
    pid = stage.apply(uuid, os.getpid)
    for _ in range(5):
        os.kill(pid, signal.SIGINT)  # it is idle
    wait_until(lambda: _asleep_again(pid), 10)
    assert stage.apply(uuid, os.getpid) == pid
    number = stage.assign(uuid, calls.pack_call(define("import time\ndef f(): time.sleep(60)"), (), {}))
    stage.wait_for(lambda m: isinstance(m, messages.Started) and m.number == number, uuid)
    stage.tell_agent(messages.SignalEngine(uuid, signal.SIGINT))
    result = stage.result(uuid, number)
    assert result.error is not None and result.error.ename == "KeyboardInterrupt"
    number = stage.assign(uuid, calls.pack_execute("import time\ntime.sleep(60)"))
    stage.wait_for(lambda m: isinstance(m, messages.Started) and m.number == number, uuid)
    stage.tell_agent(messages.SignalEngine(uuid, signal.SIGINT))
    result = stage.result(uuid, number)
    assert result.error is not None and result.error.ename == "KeyboardInterrupt"
    assert stage.apply(uuid, define("def f(): return 2")) == 2


def test_cancel_gives_back_what_has_not_started(engine: Engine) -> None:
    stage, uuid = engine
    stage.drop_seen()
    slow = stage.assign(uuid, calls.pack_call(define("import time\ndef f(): time.sleep(0.5)"), (), {}))
    queued = [stage.assign(uuid, calls.pack_call(define("def f(): return 1"), (), {})) for _ in range(3)]
    stage.wait_for(messages.Started, uuid)
    stage.say(uuid, messages.Cancel([slow, *queued[:2]]))
    cancelled, _ = stage.wait_for(messages.Cancelled, uuid)
    assert cancelled.numbers == queued[:2]
    assert stage.result(uuid, slow).status == "ok"
    assert stage.value(uuid, queued[2]) == 1


def test_forked_children_of_user_code_print_to_their_task(engine: Engine) -> None:
    stage, uuid = engine
    stage.drop_seen()
    code = (
        "import multiprocessing\ndef g(x):\n    print('child', flush=True)\n    return x * 2\n"
        "def f():\n    context = multiprocessing.get_context('fork')\n"
        "    with context.Pool(1) as pool:\n        return pool.map(int, ['1', '2'])"
    )
    assert stage.apply(uuid, define(code)) == [1, 2]
    fork = "import os\npid = os.fork()\nif pid == 0:\n    print('child')\n    os._exit(0)\n_ = os.waitpid(pid, 0)"
    number = stage.assign(uuid, calls.pack_execute(fork))
    stage.result(uuid, number)
    assert "child" in stage.output(number)


def test_forked_child_that_returns_is_no_second_engine(engine: Engine) -> None:
    stage, uuid = engine
    code = (
        "import os, sys\ndef f():\n    pid = os.fork()\n    if pid == 0:\n        sys.exit(1)\n"
        "    return os.waitpid(pid, 0)[1]"
    )
    assert stage.apply(uuid, define(code)) == 0
    assert stage.apply(uuid, define("def f(): return 1")) == 1
