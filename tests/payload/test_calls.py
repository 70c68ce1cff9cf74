"""The bodies of tasks, and what reads them."""

from __future__ import annotations

from typing import Any

import pytest

from secure_ipp.errors import ProtocolError, UsageError
from secure_ipp.payload import calls
from secure_ipp.payload.context import LoadContext
from secure_ipp.payload.markers import Reference
from secure_ipp.payload.objects import dumps, loads


def context(**names: Any) -> LoadContext:
    return LoadContext(names, lambda name: eval(name, names))


def test_apply() -> None:
    call = calls.pack_call(len, ([1, 2],), {})
    assert calls.read_call(call.buffers, context(), with_function=True) == (b"", ([1, 2],), {})
    assert calls.pack_call(len, (), {}).buffers is calls.pack_call(len, (), {}).buffers


def test_references_resolve_at_the_engine_at_any_depth() -> None:
    call = calls.pack_call(len, (Reference("a"), [Reference("a.real"), {"k": (Reference("b[0]"),)}]), {})
    _, args, _ = calls.read_call(call.buffers, context(a=5, b=[7]), with_function=True)
    assert args == (5, [5, {"k": (7,)}])
    assert isinstance(loads(dumps(Reference("a")), trust="any"), Reference)
    with pytest.raises(TypeError):
        Reference(5)  # type: ignore[arg-type]


def test_execute_push_pull() -> None:
    code, flags = calls.read_execute(calls.pack_execute("ä = 1", silent=True).buffers)
    assert (code, flags.silent, flags.store_history) == ("ä = 1", True, True)
    assert calls.read_push(calls.pack_push({"a": 1}).buffers, context()) == {"a": 1}
    assert calls.read_pull(calls.pack_pull("a").buffers) == "a"
    assert calls.read_pull(calls.pack_pull(("a", "b")).buffers) == ["a", "b"]
    with pytest.raises(UsageError):
        calls.pack_push({1: 2})  # type: ignore[dict-item]
    with pytest.raises(UsageError):
        calls.pack_execute("\ud800")


@pytest.mark.parametrize("buffers", [[], [b"x"], [b"\xff", b"{}"], [b"x", b"{]"], [b"x", b'{"more": 1}'], [b"1"] * 3])
def test_bad_bodies_are_protocol_errors(buffers: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        calls.read_execute(buffers)
    with pytest.raises(ProtocolError):
        calls.read_pull(buffers)


def test_bad_pickled_bodies_are_protocol_errors() -> None:
    for with_function in (True, False):
        with pytest.raises(ProtocolError):
            calls.read_call([], context(), with_function=with_function)
        with pytest.raises(ProtocolError):
            calls.read_call(dumps([1, 2, 3, 4]), context(), with_function=with_function)
    with pytest.raises(ProtocolError):
        calls.read_push(dumps([1]), context())
