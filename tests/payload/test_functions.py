"""Functions by name and by value, and what their globals are where they run."""

from __future__ import annotations

import os
import sys
from types import FunctionType, ModuleType
from typing import Any

import pytest

from secure_ipp import limits
from secure_ipp.errors import ProtocolError, UsageError
from secure_ipp.payload import byvalue
from secure_ipp.payload.context import LoadContext, layered
from secure_ipp.payload.functions import load_function, pack_function, unpack_function, verify_digest
from secure_ipp.payload.markers import interactive


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A `__main__` of our own, as an interactive session has it."""
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    return vars(module)


def define(main: dict[str, Any], code: str) -> Any:
    exec(code, main)
    return main["f"]


def run(function: Any, namespace: dict[str, Any], *args: Any) -> Any:
    """As the engine does it."""
    packed = pack_function(function)
    verify_digest(packed.code, packed.digest)
    loaded = load_function(packed.code, LoadContext(namespace))
    if loaded.context.layer is None:
        return loaded.call(*args)
    with layered(namespace, loaded.context.layer):
        return loaded.call(*args)


def test_engine_namespace_wins_over_the_clients(main: dict[str, Any]) -> None:
    f = define(main, "a = 5\ndef f(): return a")
    assert run(f, {"a": 99}) == 99


def test_carried_names_serve_when_absent_and_leave_no_trace(main: dict[str, Any]) -> None:
    f = define(main, "a = 5\ndef g(x): return x + a\ndef f(): return [g(i) for i in range(3)]")
    namespace: dict[str, Any] = {}
    assert run(f, namespace) == [5, 6, 7]
    assert set(namespace) <= {"__builtins__"}


def test_changed_client_global_is_seen_next_time(main: dict[str, Any]) -> None:
    f = define(main, "a = 5\ndef f(): return a")
    namespace: dict[str, Any] = {}
    assert run(f, namespace) == 5
    main["a"] = 6
    assert run(f, namespace) == 6
    del main["a"]
    with pytest.raises(NameError):
        run(f, namespace)


def test_global_statement_writes_to_the_engine(main: dict[str, Any]) -> None:
    f = define(main, "n = 1\ndef f():\n    global n\n    n = 7")
    namespace: dict[str, Any] = {}
    run(f, namespace)
    assert namespace["n"] == 7
    assert main["n"] == 1


def test_recursive_and_mutually_recursive_functions(main: dict[str, Any]) -> None:
    f = define(
        main,
        "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and even(n - 1)\n"
        "def f(n): return 1 if n < 2 else n * f(n - 1)",
    )
    assert run(f, {}, 5) == 120
    assert run(main["even"], {}, 10) is True


def test_shared_cells_stay_shared(main: dict[str, Any]) -> None:
    f = define(
        main,
        "def pair():\n    n = 0\n    def add():\n        nonlocal n\n        n += 1\n"
        "    def get(): return n\n    return add, get\n"
        "def both(add, get):\n    def f():\n        add(); add()\n        return get()\n    return f\n"
        "f = both(*pair())",
    )
    packed = pack_function(f)
    assert packed.rebuild_each_time and not packed.cacheable
    assert run(f, {}) == 2
    assert run(f, {}) == 2


def test_self_referring_closure(main: dict[str, Any]) -> None:
    f = define(main, "def make():\n    def f(n): return 1 if n < 2 else n * f(n - 1)\n    return f\nf = make()")
    assert run(f, {}, 6) == 720


def test_closures_of_modules_are_rebuilt_each_time(main: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("makes_counters")
    count_code = "    def count():\n        nonlocal n\n        n += 1\n        return n\n"
    exec(f"def make():\n    n = 0\n{count_code}    return count", vars(module))
    monkeypatch.setitem(sys.modules, "makes_counters", module)
    count = module.make()
    packed = pack_function(count)
    assert packed.rebuild_each_time and not packed.cacheable
    count()
    assert pack_function(count).digest != packed.digest
    assert run(count, {}) == 2
    assert pack_function(define(main, "class C:\n    n = 0\ndef f():\n    return C.n")).rebuild_each_time


def test_mutable_defaults_are_rebuilt_each_time(main: dict[str, Any]) -> None:
    f = define(main, "def f(x, seen=[]):\n    seen.append(x)\n    return len(seen)")
    packed = pack_function(f)
    assert packed.rebuild_each_time and not packed.cacheable
    assert not pack_function(define(main, "def f(x, y=(1, 'a')): return y")).rebuild_each_time


def test_unpicklable_and_large_globals_stay_behind(main: dict[str, Any]) -> None:
    f = define(main, "import threading\nlock = threading.Lock()\nbig = b'x' * 1_000_000\ndef f(): return lock, big")
    packed = pack_function(f)
    assert len(packed.code) < 10_000
    loaded = load_function(packed.code, LoadContext({}))
    assert set(loaded.context.left_out) == {"lock", "big"}
    assert loaded.call.__globals__ is loaded.context.namespace
    assert unpack_function(packed.code, {"lock": 1, "big": 2})() == (1, 2)


def test_packed_once_until_something_changes(main: dict[str, Any]) -> None:
    f = define(main, "import math\ndef g(x): return math.sqrt(x)\ndef f(x, y=2): return g(x) + y")
    first = pack_function(f)
    assert first.cacheable
    assert pack_function(f) is first
    f.__defaults__ = (3,)
    second = pack_function(f)
    assert second is not first
    assert run(f, {}, 4) == 5
    exec("def g(x): return 0", main)
    assert run(f, {}, 4) == 3
    main["g"].__code__ = (lambda x: 10).__code__
    assert run(f, {}, 4) == 13


def test_cache_does_not_keep_functions_alive(main: dict[str, Any]) -> None:
    import gc
    import weakref

    f = define(main, "def f(n): return f(n - 1) if n else 0")
    assert pack_function(f).cacheable
    gone = weakref.ref(f)
    del f, main["f"]
    gc.collect()
    assert gone() is None


def test_functions_of_modules_go_by_name() -> None:
    packed = pack_function(os.getcwd)
    assert len(packed.code) < 64
    assert unpack_function(packed.code, {}) is os.getcwd
    assert pack_function(os.getcwd) is packed
    import json

    assert unpack_function(pack_function(json.dumps).code, {}) is json.dumps


def test_missing_module_names_itself(main: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("only_at_the_client")
    exec("def f(): return 1", vars(module))
    monkeypatch.setitem(sys.modules, "only_at_the_client", module)
    packed = pack_function(module.f)
    monkeypatch.delitem(sys.modules, "only_at_the_client")
    with pytest.raises(ImportError, match="only_at_the_client"):
        unpack_function(packed.code, {})


def test_interactive_function_uses_the_engines_namespace(main: dict[str, Any]) -> None:
    limits_here = limits

    @interactive
    def f() -> Any:
        return a  # noqa: F821

    assert limits_here is limits
    assert unpack_function(pack_function(f).code, {"a": 3})() == 3


def test_classes_of_main_bring_methods_bound_to_the_engine(main: dict[str, Any]) -> None:
    f = define(
        main,
        "a = 1\nclass Base:\n    def who(self): return a\n"
        "class Child(Base):\n    def who(self): return super().who() + 1\n"
        "def f(): return Child().who()",
    )
    assert run(f, {"a": 10}) == 11


def test_imported_submodules_come_along(main: dict[str, Any]) -> None:
    f = define(main, "import xml.dom.minidom\ndef f(): return xml.dom.minidom.parseString('<a/>').firstChild.tagName")
    assert run(f, {}) == "a"


def test_nested_functions_find_carried_names(main: dict[str, Any]) -> None:
    f = define(main, "k = 3\ndef f(xs): return sorted(xs, key=lambda x: x * -k), list(k + x for x in xs)")
    assert run(f, {}, [1, 2]) == ([2, 1], [4, 5])


def test_long_chains_of_helpers_do_not_explode(main: dict[str, Any]) -> None:
    lines = ["def g0(x): return x"] + [f"def g{i}(x): return g{i - 1}(x) + 1" for i in range(1, 40)] + ["f = g39"]
    assert run(define(main, "\n".join(lines)), {}, 0) == 39


def test_code_of_another_python_is_refused(main: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    f = define(main, "def f(): return 1")
    monkeypatch.setattr(byvalue, "MAGIC_NUMBER", b"old\n")
    packed = pack_function(f)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    with pytest.raises(byvalue.OtherPython, match="another version of Python"):
        unpack_function(packed.code, {})


def test_wrong_digest_and_wrong_bytes_are_refused(main: dict[str, Any]) -> None:
    packed = pack_function(define(main, "def f(): return 1"))
    with pytest.raises(ProtocolError):
        verify_digest(packed.code + b" ", packed.digest)
    with pytest.raises(ProtocolError):
        unpack_function(b"\x07" + packed.code[1:], {})
    with pytest.raises(UsageError):
        pack_function(7)  # type: ignore[arg-type]


def test_function_attributes_travel(main: dict[str, Any]) -> None:
    f = define(main, "def f(x: int, *, y=4) -> int:\n    'doc'\n    return x + y\nf.note = 'n'")
    g = unpack_function(pack_function(f).code, {})
    assert isinstance(g, FunctionType)
    assert (g(1), g.__doc__, g.note, g.__module__) == (5, "doc", "n", "__main__")
    assert g.__annotations__ == f.__annotations__
