"""Attacks on what is carried: pickles made by hostile engines, functions swapped on the way, bodies that overrun.

S15: a digest is recomputed by whoever receives the function.  S19: a client that trusts an engine with data only
runs none of its code.
"""

from __future__ import annotations

import builtins
import collections
import copyreg
import os
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_ipp.errors import ProtocolError
from secure_ipp.payload import arrays, restricted
from secure_ipp.payload.body import Assembly
from secure_ipp.payload.functions import pack_function
from secure_ipp.payload.objects import UntrustedResult, dumps, loads
from secure_ipp.payload.restricted import _PLAIN, Maker
from secure_ipp.wire import messages
from tests.engine.conftest import stage as stage  # the fixture
from tests.engine.stage import Stage


class Calls:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.reduced = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


def refused(stream: bytes, buffers: list[bytes] | None = None) -> None:
    with pytest.raises(UntrustedResult):
        loads([stream, *(buffers or [])], trust="data")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "function",
    [os.system, eval, exec, getattr, setattr, __import__, open, os.posix_spawn, copyreg._reconstructor, type, input,
     pickle.loads, np.load, np.dtype, np.ndarray, collections.namedtuple, map, filter, memoryview, breakpoint],
)  # fmt: skip
def test_s19_no_function_runs(function: Callable[..., Any], protocol: int) -> None:
    refused(pickle.dumps([Calls(function, "1")], protocol))


def test_s19_nothing_was_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    refused(pickle.dumps(Calls(os.system, f"touch {mark}")))
    refused(f"cos\nsystem\n(S'touch {mark}'\ntR.".encode())
    refused(f"(S'touch {mark}'\nios\nsystem\n.".encode())
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    ["arrays.sys.modules", "rebuild_array.__globals__", "rebuild_array.__call__", "__builtins__", "_maker", "Maker",
     "RestrictedUnpickler"],
)  # fmt: skip
@pytest.mark.parametrize("module", ["secure_ipp.payload.arrays", "secure_ipp.payload.restricted", "builtins"])
def test_s19_dotted_and_inner_names_are_not_found(module: str, name: str) -> None:
    head = b"\x80\x05" + b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, name))
    refused(head + b"\x93.")


def test_s19_extension_codes_and_persistent_ids_are_refused() -> None:
    refused(b"\x80\x02\x82\x01.")
    refused(b"Pthing\n.")
    refused(b"\x80\x05\x8c\x01aQ.")


@pytest.mark.parametrize("target", sorted(_PLAIN))
def test_s19_nothing_that_a_pickle_can_name_can_be_changed(target: tuple[str, str]) -> None:
    """BUILD with a state, or with attributes to set, on every global that is found."""
    found = _PLAIN[target]
    if not isinstance(found, Maker | type):
        return
    before = {name: getattr(found, name) for name in dir(found)} if isinstance(found, type) else dict(_PLAIN)
    head = b"\x80\x05" + b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in target) + b"\x93"
    state = pickle.dumps({"__call__": 1, "evil": 2}, 5)[2:-1]
    for build in (state + b"b.", b"N" + state + b"\x86b."):
        refused(head + build)
    if isinstance(found, type):
        assert not found.__flags__ & (1 << 9) or found.__flags__ & (1 << 8), "a type in the table must be immutable"
        assert all(getattr(found, name) == value for name, value in before.items() if name != "__dict__")
    with pytest.raises((UntrustedResult, TypeError)):
        found.evil = 1


def test_s19_object_arrays_do_not_come_in_by_any_way() -> None:
    objects = np.array([Calls(os.system, "true")], dtype=object)
    refused(pickle.dumps(objects))
    refused(pickle.dumps(np.array([1, None], dtype=object), 5))
    rebuild = arrays.rebuild_array
    for description in ("O", "|O", "|O8", [("a", "O")], [("a", "<i4"), ("b", "|O")], "T", 5, None, ["<f8"], "<f8,O"):
        refused(pickle.dumps(Calls(rebuild, description, (1,), "C", b"12345678")))
        refused(pickle.dumps(Calls(arrays.rebuild_scalar, description, b"12345678")))


@pytest.mark.parametrize(
    ("shape", "data"),
    [((2,), b"12345678"), ((-1,), b"12345678"), ((1,) * 65, b"12345678"), ("ab", b"12345678"), ((1.0,), b"12345678"),
     ((2**62, 2**62), b"12345678"), ((True,), b"12345678"), ((1,), b""), ((0,), b"1"), ((1,), "12345678"), (1, b"1")],
)  # fmt: skip
def test_s19_array_is_exactly_its_bytes(shape: object, data: object) -> None:
    refused(pickle.dumps(Calls(arrays.rebuild_array, "<f8", shape, "C", data)))
    refused(pickle.dumps(Calls(arrays.rebuild_array, "<f8", (1,), "K", b"12345678")))


def test_s19_arrays_setstate_gets_no_dtype() -> None:
    """`ndarray.__setstate__` would write where its arguments say; it needs a dtype object, and there is none."""
    array = pickle.dumps(Calls(arrays.rebuild_array, "<f8", (1,), "C", b"12345678"), 5)[:-1]
    for dtype in ("<f8", "O", 1, None):
        state = pickle.dumps((1, (10**6,), dtype, False, b"x"), 5)[2:-1]
        refused(array + state + b"b.")


def test_s19_plain_pickles_of_numpy_are_refused() -> None:
    refused(pickle.dumps(np.zeros(3), 5))
    refused(pickle.dumps(np.dtype("f8"), 5))


def test_s19_instances_of_classes_are_refused() -> None:
    class Thing:
        pass

    with pytest.raises(UntrustedResult):
        loads(dumps(Thing()), trust="data")
    with pytest.raises(UntrustedResult):
        loads(dumps(lambda: 1), trust="data")


def test_s19_exceptions_that_end_programs_are_refused() -> None:
    for error in (SystemExit(1), KeyboardInterrupt(), GeneratorExit()):
        refused(pickle.dumps(error))


def test_s19_missing_and_spare_buffers() -> None:
    stream, memory = dumps(np.zeros(100_000))
    refused(bytes(stream))
    refused(bytes(stream), [bytes(memory)[:-8]])
    assert loads([stream, bytes(memory), b"spare"], trust="data").size == 100_000


_OPCODES = [code.code.encode("latin1") for code in pickletools.opcodes]
_NO_MEMO = [code for code in _OPCODES if code not in (b"r", b"p", b"j", b"q")]  # huge memo indices only waste memory


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.one_of(
            st.sampled_from(_NO_MEMO),
            st.sampled_from([b"\x8c\x08builtins", b"\x8c\x04eval", b"\x8c\x03set", b"\x93", b"K\x01", b")", b"R"]),
            st.binary(max_size=3).filter(lambda data: not set(data) & set(b"rpjq")),
        ),
        max_size=30,
    )
)
def test_s19_hostile_bytes_are_untrusted_results_or_plain(parts: list[bytes]) -> None:
    before = set(vars(builtins))
    try:
        value = restricted.loads_data(b"\x80\x05" + b"".join(parts) + b".", [b"a", b"b"])
    except UntrustedResult:
        pass
    else:
        repr(value)
    assert set(vars(builtins)) == before


@given(st.recursive(st.none() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)))
def test_s19_plain_data_always_comes_through(value: object) -> None:
    assert loads(dumps(value), trust="data") == value


# --- bodies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces",
    [[(1, b"a")], [(0, b"abcdef"), (6, b"g")], [(0, b"abc"), (2, b"c")], [(0, b"ab"), (4, b"ef")], [(0, b"abcdefg")],
     [(-1, b"a")], [(0, b"abc"), (0, b"abc")]],
)  # fmt: skip
def test_gaps_overlaps_and_overruns_are_protocol_errors(pieces: list[tuple[int, bytes]]) -> None:
    assembly = Assembly([2, 0, 4])
    with pytest.raises(ProtocolError):
        for offset, piece in pieces:
            assembly.add(offset, piece)


@given(st.lists(st.tuples(st.integers(-2, 12), st.binary(max_size=6)), max_size=8))
def test_assembly_never_holds_more_than_was_announced(pieces: list[tuple[int, bytes]]) -> None:
    assembly = Assembly([3, 5])
    taken = b""
    for offset, piece in pieces:
        try:
            assembly.add(offset, piece)
        except ProtocolError:
            assert offset != len(taken) or len(taken) + len(piece) > 8
        else:
            taken += piece
    assert assembly.received == len(taken) <= 8
    if assembly.complete:
        assert b"".join(bytes(buffer) for buffer in assembly.buffers()) == taken


# --- functions ------------------------------------------------------------------------------------------------


@pytest.mark.live
def test_s15_poisoned_function_is_refused_at_the_engine(stage: Stage) -> None:
    """A scheduler (or whoever sits in it) swaps a function's bytes: nothing runs, the task says so, others go on."""
    (uuid,) = stage.up(1)
    good, evil = pack_function(os.getpid), pack_function(os.getcwd)
    stage.say(uuid, messages.Assign(1, "owner", "t1", 1, b"", "apply", good.digest, dumps(((), {})), []))  # type: ignore[arg-type]
    stage.wait_for(messages.EngineNeedsFunction, uuid)
    stage.say(uuid, messages.EngineFunction("owner", good.digest, evil.code))
    result = stage.result(uuid, 1)
    assert result.error is not None and result.error.ename == "ProtocolError"
    stage.say(uuid, messages.Assign(2, "somebody-else", "t2", 1, b"", "apply", evil.digest, dumps(((), {})), []))  # type: ignore[arg-type]
    asked, _ = stage.wait_for(messages.EngineNeedsFunction, uuid)
    assert asked.owner == "somebody-else", "one owner's functions never serve another's tasks"
    stage.say(uuid, messages.EngineFunction("somebody-else", evil.digest, evil.code))
    assert stage.value(uuid, 2) == str(stage.tmp_path)


@pytest.mark.live
def test_s15_body_that_overruns_ends_its_task_only(stage: Stage) -> None:
    (uuid,) = stage.up(1)
    next(stage.numbers[uuid])
    packed = pack_function(os.getpid)
    stage.say(uuid, messages.EngineFunction("owner", packed.digest, packed.code))
    stage.say(uuid, messages.Assign(1, "owner", "t1", 1, b"", "apply", packed.digest, [], [200_000]))
    stage.say(uuid, messages.EngineChunk(1, 0), bytes(200_001))
    result = stage.result(uuid, 1)
    assert result.error is not None and result.error.ename == "ProtocolError"
    assert stage.apply(uuid, os.getpid) > 0
