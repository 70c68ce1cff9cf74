"""Attacks on a client by what engines return: pickles that call, reach outside, swell or never end (S19).

A client that trusts its engines with data only runs none of their code, whatever the bytes are; what it takes besides
is what its user named.
"""

from __future__ import annotations

import builtins
import collections
import copyreg
import dataclasses
import datetime
import decimal
import enum
import fractions
import os
import pathlib
import pickle
import pickletools
import sys
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import secure_ipp as ipp
from secure_ipp.client.asyncresult import AsyncResult
from secure_ipp.client.trust import said
from secure_ipp.errors import UsageError
from secure_ipp.payload import arrays, plain
from secure_ipp.payload.allowed import _FORBIDDEN, Allowed, forbidden
from secure_ipp.payload.objects import UntrustedResult, dumps, loads
from secure_ipp.payload.restricted import loads_data
from tests.client.fake import Desk

RAN: list[Any] = []


class Calls:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.reduced = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


@dataclasses.dataclass
class Point:
    """What a user may allow."""

    x: object
    y: object = None


class Colour(enum.Enum):
    RED = 1


class Rows(list):  # type: ignore[type-arg]
    pass


class Loud:
    def __init__(self) -> None:
        RAN.append("init")

    def __setstate__(self, state: object) -> None:
        RAN.append(state)


def tell(*args: object) -> str:
    RAN.append(args)
    return "told"


def refused(stream: bytes, buffers: list[Any] | None = None, allowed: Allowed | None = None) -> UntrustedResult:
    with pytest.raises(UntrustedResult) as caught:
        loads([stream, *(buffers or [])], trust=allowed or "data")
    assert str(caught.value).isprintable() or "\n  -> " in str(caught.value)
    return caught.value


def text(value: str) -> bytes:
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def five(body: bytes) -> bytes:
    return b"\x80\x05" + body + b"."


def inner(value: object) -> bytes:
    """A pickle's body, to be put in another."""
    return pickletools.optimize(pickle.dumps(value, 5))[2:-1]


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    """What runs inside never holds more than so many bytes at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


# --- calls ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "function",
    [os.system, eval, exec, getattr, setattr, __import__, open, os.posix_spawn, copyreg._reconstructor, type, input,
     pickle.loads, np.load, np.dtype, np.ndarray, collections.namedtuple, map, filter, memoryview, breakpoint],
)  # fmt: skip
def test_s19_no_function_runs(function: Callable[..., Any], protocol: int) -> None:
    refused(pickle.dumps([Calls(function, "1")], protocol))
    refused(pickle.dumps({(1, (Calls(function, "1"),)): [Calls(function, "1")]}, protocol))


def test_s19_nothing_was_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    refused(pickle.dumps(Calls(os.system, f"touch {mark}"), 5))
    refused(f"cos\nsystem\n(S'touch {mark}'\ntR.".encode())
    refused(f"(S'touch {mark}'\nios\nsystem\n.".encode())
    refused(f"(cos\nsystem\nS'touch {mark}'\no.".encode())
    for head in (named("os", "system"), named("posix", "system"), named("os.path", "os.system")):
        refused(five(head + text(f"touch {mark}") + b"\x85R"))
    assert not mark.exists()


def test_s19_the_error_names_what_was_wanted_and_is_exported() -> None:
    error = refused(pickle.dumps([Point(1), Colour.RED], 5))
    assert f"{__name__}.Point" in error.message
    assert error.names == (f"{__name__}:Point", f"{__name__}:Colour")
    assert f'allow=["{__name__}:Point", "{__name__}:Colour"]' in error.advice and 'results="any"' in error.advice
    error = refused(pickle.dumps(Calls(os.system, "true"), 5))
    assert "posix.system" in error.message
    assert error.names == () and "allow=[" not in error.advice
    assert ipp.UntrustedResult is UntrustedResult and issubclass(UntrustedResult, ipp.PolicyError)


def test_s31_the_error_is_harmless_for_a_terminal() -> None:
    for name in ("\x1b]0;owned\x07", "a\nb", "\u202egnp", "x" * 250):
        error = refused(five(named(name, name)))
        assert error.message.isprintable() and error.advice.isprintable() and len(error.message) < 2500


@pytest.mark.parametrize(
    "name",
    ["arrays.sys.modules", "rebuild_array.__globals__", "rebuild_array.__call__", "__builtins__", "rebuild_objects",
     "loads_data.__globals__", "Builder", "VALUES", "dict.fromkeys", "str.join", "object", "type"],
)  # fmt: skip
@pytest.mark.parametrize("module", ["secure_ipp.payload.arrays", "secure_ipp.payload.builder", "builtins"])
def test_s19_dotted_and_inner_names_are_not_found(module: str, name: str) -> None:
    refused(five(named(module, name)))


def test_s19_extension_codes_and_persistent_ids_are_refused() -> None:
    copyreg.add_extension("os", "system", 241)
    try:
        for stream in (five(b"\x82\xf1"), five(b"\x83\xf1\x00"), five(b"\x84\xf1\x00\x00\x00"), b"\x80\x02\x82\xf1."):
            refused(stream)
    finally:
        copyreg.remove_extension("os", "system", 241)
    refused(b"Pthing\n.")
    refused(five(b"Pthing\n"))
    refused(five(text("a") + b"Q"))


# --- names that are there, put to other use ---------------------------------------------------------------------


@pytest.mark.parametrize("target", sorted(plain.VALUES))
def test_s19_nothing_that_a_pickle_can_name_can_be_changed(target: tuple[str, str]) -> None:
    """BUILD with a state, or with attributes to set, and filling, on every name that is found."""
    found = plain.VALUES[target]
    before = dict(vars(found)) if isinstance(found, type) else {}
    head = named(*target)
    state = inner({"__call__": 1, "evil": 2})
    for body in (state + b"b", b"N" + state + b"\x86b", text("a") + b"a", text("a") + b"Ns", b"(Ne", b"(Nu", b"(N\x90"):
        refused(five(head + body))
    if isinstance(found, type):
        assert dict(vars(found)) == before


@pytest.mark.parametrize("target", sorted(plain.VALUES))
def test_s19_no_call_of_a_plain_type_swells(target: tuple[str, str]) -> None:
    """`bytes(10**12)`, `list(range(10**12))`, `Fraction("1e999999999")` and the like: refused, or nothing much."""
    for argument in (
        range(10**12), 10**12, "9" * 5000, "1e999999999", b"x" * 300, [1] * 300, {"a": 1}, (), None, ([],) * 3, int
    ):
        try:
            with little_memory(2_000_000):
                loads([five(named(*target) + inner(argument) + b"\x85R")], trust="data")
        except UntrustedResult:
            pass
        for new in (b"\x85\x81", b"\x85}\x92"):
            refused(five(named(*target) + inner(argument) + new))


def test_s19_what_a_call_copies_cannot_be_copied_without_end() -> None:
    """One text of a megabyte, made into a Decimal a hundred thousand times."""
    long = b"X" + (10**6).to_bytes(4, "little") + b"1" * 10**6 + b"\x94"
    for module, name in (("decimal", "Decimal"), ("fractions", "Fraction"), ("pathlib", "PurePosixPath")):
        again = b"h\x01h\x00\x85R"
        with little_memory(150_000_000):
            refused(five(b"](" + long + named(module, name) + b"\x94" + again * 100_000 + b"e"))
    counted = inner({f"key{number}": number for number in range(10_000)})
    with little_memory(40_000_000):
        refused(five(b"](" + counted + b"\x94" + named("collections", "Counter") + b"\x94" + b"h\x01h\x00\x85R" * 10_000
                     + b"e"))


def test_s19_only_what_was_named_is_called() -> None:
    for function in (b"K\x01", text("a"), b"]", inner(ValueError("a")), inner(datetime.timedelta(1)), b"\x97"):
        refused(five(function + b")R"), [b"a"])
        refused(five(function + b")\x81"), [b"a"])
    deep = b")" + b"\x85" * 200_000  # hashing it would overflow the C stack
    refused(five(deep + b")R"))
    refused(five(deep + b")\x81"))
    refused(five(named("builtins", "ValueError") + b"]R"))


def test_s19_a_factory_is_a_plain_type() -> None:
    assert loads(dumps(collections.defaultdict(list, a=[1])), trust="data")["b"] == []
    for factory in (named("secure_ipp.payload.arrays", "rebuild_array"), named("uuid", "UUID"), b"K\x01", b"]",
                    named("builtins", "ValueError")):  # fmt: skip
        refused(five(named("collections", "defaultdict") + factory + b"\x85R"))


def test_s19_an_exception_gets_no_hooks() -> None:
    """State that IPython, traceback or pickle would look for on an instance."""
    for name in ("_render_traceback_", "__class__", "__traceback__", "__reduce__", "__cause__", "_repr_html_"):
        refused(five(inner(ValueError("a")) + inner({name: 1}) + b"b"))
        refused(five(inner(ValueError("a")) + b"N" + inner({name: 1}) + b"\x86b"))
    noted = ValueError("a")
    noted.add_note("b")
    assert loads(dumps(noted), trust="data").__notes__ == ["b"]


# --- sizes, sharing and depth -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"Nr\xff\xff\xff\x7f", b"Nr\xff\xff\xff\xff", b"Nq\xff", b"Np999999999999\n", b"j\xff\xff\xff\xff",
     b"B\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\x7f", b"\x8d" + (10**13).to_bytes(8, "little"),
     b"\x96" + (10**11).to_bytes(8, "little"), b"\x8b\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\xff",
     b"X\xff\xff\xff\xff", b"\x95" + b"\xff" * 8, b"\x95\xff\xff\xff\xff\x00\x00\x00\x00N"],
)  # fmt: skip
def test_s19_nothing_is_announced_that_is_not_there(body: bytes) -> None:
    with little_memory(1_000_000):
        try:
            assert loads([five(body)], trust="data") is None  # the size of a frame is but a hint
        except UntrustedResult:
            pass


def test_s19_laughs_without_end_stay_small() -> None:
    """Lists of lists of one list: 2**64 elements to whoever walks them, one list each in memory."""
    body = b"](]\x94K\x01a" + b"".join(
        b"]\x94(" + b"h" + bytes([index]) + b"h" + bytes([index]) + b"e" for index in range(64)
    )
    with little_memory(1_000_000):
        value = loads([five(body + b"e")], trust="data")[-1]
    for _ in range(64):
        assert len(value) == 2 and value[0] is value[1]
        value = value[0]


@pytest.mark.parametrize("end", [b"K\x01s", b"K\x01\x86\x85\x91", b"\x90"], ids=["dict", "frozenset", "set"])
@pytest.mark.parametrize("kind", ["shared", "deep"])
def test_s19_a_key_that_takes_for_ever_to_hash_is_refused(kind: str, end: bytes) -> None:
    """Tuples of tuples of one tuple: hashing takes 2**100 steps.  Tuples in a tuple in a tuple: the C stack ends."""
    key = b")\x94"
    for index in range(100):
        key += b"h" + bytes([index]) + b"h" + bytes([index]) + b"\x86\x94"
    if kind == "deep":
        key = b")" + b"\x85" * 300_000
    start = {b"K\x01s": b"}", b"\x90": b"\x8f("}.get(end, b"(")
    refused(five(start + key + (b"\x91" if end.endswith(b"\x91") else end)))


def test_s19_depth_is_no_danger() -> None:
    value = loads([five(b"]" * 300_000 + b"a" * 299_999)], trust="data")
    while value:
        (value,) = value
    with pytest.raises(RecursionError):
        repr(loads([five(b"]" * 300_000 + b"a" * 299_999)], trust="data"))


def test_s19_what_holds_itself_comes_as_it_is() -> None:
    me: list[Any] = [1]
    me += [me, {"me": me}, (me,)]
    back = loads(dumps(me), trust="data")
    assert back[1] is back and back[2]["me"] is back and back[3][0] is back


# --- arrays ---------------------------------------------------------------------------------------------------


def test_s19_object_arrays_do_not_come_in_by_any_way() -> None:
    objects = np.array([Calls(os.system, "true")], dtype=object)
    refused(pickle.dumps(objects))
    refused(pickle.dumps(np.array([1, None], dtype=object), 5))
    for rebuild in (arrays.rebuild_array, arrays.rebuild_scalar):
        for description in (
            "O", "|O", "|O8", [("a", "O")], [("a", "<i4"), ("b", "|O")], "T", 5, None, ["<f8"], "<f8,O"
        ):
            arguments = (description, (1,), "C", b"12345678") if rebuild is arrays.rebuild_array else (
                description, b"12345678"
            )
            refused(pickle.dumps(Calls(rebuild, *arguments), 5))
    assert refused(bytes(dumps(np.array(["a", 1], dtype=object))[0])).names == ("numpy:object_",)


def test_s19_object_arrays_of_plain_things_come_by_name() -> None:
    array = np.array([["a", 1], [None, 2.5]], dtype=object)
    allowed = Allowed.of("numpy:object_")
    back = loads(dumps(array), trust=allowed)
    assert back.dtype == object and back.tolist() == array.tolist()
    for items in ([[]], [Point], [ValueError()], [np.zeros(1)], "ab", ("a",), ["a", "b"]):
        refused(pickle.dumps(Calls(arrays.rebuild_objects, (1,), items), 5), allowed=allowed)
    refused(pickle.dumps(objects := np.array([{}], dtype=object), 5), allowed=allowed)
    refused(bytes(dumps(objects)[0]), allowed=allowed)


@pytest.mark.parametrize(
    ("shape", "data"),
    [((2,), b"12345678"), ((-1,), b"12345678"), ((1,) * 65, b"12345678"), ("ab", b"12345678"), ((1.0,), b"12345678"),
     ((2**62, 2**62), b"12345678"), ((True,), b"12345678"), ((1,), b""), ((0,), b"1"), ((1,), "12345678"), (1, b"1")],
)  # fmt: skip
def test_s19_array_is_exactly_its_bytes(shape: object, data: object) -> None:
    refused(pickle.dumps(Calls(arrays.rebuild_array, "<f8", shape, "C", data), 5))
    refused(pickle.dumps(Calls(arrays.rebuild_array, "<f8", (1,), "K", b"12345678"), 5))


def test_s19_a_description_of_descriptions_without_end() -> None:
    description: list[Any] = [("a", "<i4")]
    for _ in range(60):
        description = [("a", description), ("b", description)]
    refused(pickle.dumps(Calls(arrays.rebuild_array, description, (1,), "C", b"12345678"), 5))
    loop: list[Any] = []
    loop.append(("a", loop))
    refused(pickle.dumps(Calls(arrays.rebuild_array, loop, (1,), "C", b"12345678"), 5))


def test_s19_arrays_setstate_gets_no_dtype() -> None:
    """`ndarray.__setstate__` would write where its arguments say."""
    array = inner(Calls(arrays.rebuild_array, "<f8", (1,), "C", b"12345678"))
    for dtype in ("<f8", "O", 1, None):
        refused(five(array + inner((1, (10**6,), dtype, False, b"x")) + b"b"))
    for name in ("dtype", "ndarray", "_core.multiarray:_reconstruct"):
        module, _, function = name.rpartition(":")
        with pytest.raises(UsageError, match="arrays come by themselves"):
            Allowed.of(f"numpy.{module}:{function}" if module else f"numpy:{name}")


def test_s19_plain_pickles_of_numpy_are_refused() -> None:
    refused(pickle.dumps(np.zeros(3), 5))
    refused(pickle.dumps(np.dtype("f8"), 5))


def test_s19_instances_of_classes_are_refused() -> None:
    class Thing:
        pass

    for value in (Thing(), lambda: 1, Point(1), Colour.RED, SimpleNamespace(a=1)):
        with pytest.raises(UntrustedResult):
            loads(dumps(value), trust="data")


def test_s19_exceptions_that_end_programs_are_refused() -> None:
    for error in (SystemExit(1), KeyboardInterrupt(), GeneratorExit(), BaseExceptionGroup("a", [SystemExit()])):
        refused(pickle.dumps(error, 5))


def test_s19_missing_and_spare_buffers() -> None:
    stream, memory = dumps(np.zeros(100_000))
    refused(bytes(stream))
    refused(bytes(stream), [bytes(memory)[:-8]])
    assert loads([stream, bytes(memory), b"spare"], trust="data").size == 100_000


# --- bytes at random --------------------------------------------------------------------------------------------

_OPCODES = [code.code.encode("latin1") for code in pickletools.opcodes]
_PIECES = [
    *(named(*target) for target in plain.VALUES), named("builtins", "eval"), named("os", "system"),
    named(__name__, "Loud"), named(__name__, "Point"), named(__name__, "tell"), text("x"), b"K\x01", b")", b"R",
    b"\x85R",
    b"\x85\x81", b"}\x92", b"}b", b"\x94", b"h\x00", b"h\x01", b"](", b"e", b"}(", b"u", b"\x8f(", b"\x90", b"(\x91",
    inner({"x": 1}), inner(np.zeros(2)), inner(ValueError("a")), inner(uuid.UUID(int=3)), b"\x97", b"\x98",
]  # fmt: skip
_ANY_STREAM = st.lists(
    st.one_of(st.sampled_from(_OPCODES), st.sampled_from(_PIECES), st.binary(max_size=3)), max_size=40
).map(lambda parts: five(b"".join(parts)))


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(_ANY_STREAM)
def test_s19_hostile_bytes_are_untrusted_results_or_plain(stream: bytes) -> None:
    before, modules = set(vars(builtins)), set(sys.modules)
    RAN.clear()
    try:
        value = loads_data(stream, [b"a", b"b"])
    except UntrustedResult:
        pass
    else:
        pickle.dumps(value, 5)
    assert set(vars(builtins)) == before and RAN == [] and set(sys.modules) == modules


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(_ANY_STREAM)
def test_s19_hostile_bytes_call_what_was_named_and_nothing_else(stream: bytes) -> None:
    before = {kind: dict(vars(kind)) for kind in (Loud, Point)}
    RAN.clear()
    try:
        loads_data(stream, [b"a", b"b"], Allowed.of([Point]))
    except UntrustedResult:
        pass
    assert RAN == [] and {kind: dict(vars(kind)) for kind in before} == before


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_s19_any_bytes_at_all(data: bytes) -> None:
    for stream in (data, five(data), b"\x80\x05" + data):
        try:
            loads_data(stream, [])
        except UntrustedResult:
            pass


_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False) | st.datetimes() | st.dates() | st.timedeltas() | st.uuids()
    | st.fractions() | st.decimals(allow_nan=False) | st.times()
)  # fmt: skip
_KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.text()) | st.dates()


@settings(deadline=None)
@given(st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner) | st.tuples(inner, inner) | st.frozensets(_KEYS)
    | st.sets(_KEYS) | st.dictionaries(st.text(), inner).map(collections.OrderedDict),
))  # fmt: skip
def test_s19_plain_data_always_comes_through(value: object) -> None:
    back = loads(dumps(value), trust="data")
    assert back == value and type(back) is type(value)


@pytest.mark.parametrize("value", [
    datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2), "X")), decimal.Decimal("NaN"),
    fractions.Fraction(1, 3), uuid.uuid4(), range(3, 9, 2), slice(1, None, 2), collections.deque([1, 2], 2),
    collections.Counter("aab"), pathlib.PureWindowsPath("c:\\a"), int, ValueError, collections.OrderedDict, ...,
    bytearray(b""), ExceptionGroup("a", [ValueError(1)]), UnicodeDecodeError("utf8", b"a", 0, 1, "x"), np.float32(1),
    ImportError("a", name="b"),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_s19_common_types_come_through(value: Any) -> None:
    back = loads(dumps([value, value]), trust="data")
    assert back[0] is back[1] and repr(back[0]) == repr(value)


# --- what a user names ------------------------------------------------------------------------------------------


def test_s19_what_was_allowed_by_name_comes_through_and_nothing_else() -> None:
    values = [Point(1, [2]), Point(1), Colour.RED, Rows([1, 2])]
    allowed = Allowed.of([f"{__name__}:Point", Colour, f"{__name__}:Rows"])
    assert loads(dumps(values), trust=allowed) == values
    assert type(loads(dumps(values), trust=allowed)[3]) is Rows
    error = refused(pickle.dumps([Point(1), Loud()], 5), allowed=allowed)
    assert error.names == (f"{__name__}:Loud",)
    refused(pickle.dumps([Calls(os.system, "true")], 5), allowed=allowed)


def test_s19_an_allowed_class_is_made_and_never_changed() -> None:
    allowed = Allowed.of([Point, Rows, tell])
    before = {kind: dict(vars(kind)) for kind in (Point, Rows)}
    for name in ("Point", "Rows", "tell"):
        for body in (inner({"x": 1}) + b"b", b"N" + inner({"__init__": 1}) + b"\x86b", b"K\x01a", text("a") + b"Ns"):
            refused(five(named(__name__, name) + body), allowed=allowed)
    made = named(__name__, "Point") + b")\x81"
    refused(five(made + b"N" + inner({"__class__": 1}) + b"\x86b"), allowed=allowed)
    refused(five(made + inner({"__class__": 1}) + b"b"), allowed=allowed)
    assert {kind: dict(vars(kind)) for kind in before} == before
    assert loads([five(named(__name__, "tell") + b"K\x01\x85R")], trust=allowed) == "told"
    assert RAN.pop() == (1,)


def test_s19_no_name_stands_for_more_than_it_says() -> None:
    """No wildcards, no prefixes, no inner names of what was allowed."""
    allowed = Allowed.of([Point])
    for name in ("Point.__init__", "Point.__class__", "tell", "os", "os.system"):
        refused(five(named(__name__, name)), allowed=allowed)
    for bad in ("*", "pathlib:*", "pathlib", "pathlib:", ":Path", "a b:c", "os;x:y", "no.such.module:X",
                "fractions:NoSuch", f"{__name__}:RAN", "fractions:math", 5, b"x", [None], ["x"] * 300):  # fmt: skip
        with pytest.raises(UsageError):
            Allowed.of(bad)


@pytest.mark.parametrize("name", [
    "os:system", "posix:system", "subprocess:Popen", "builtins:eval", "builtins:getattr", "builtins:type",
    "importlib:import_module", "functools:partial", "operator:attrgetter", "pickle:loads", "types:FunctionType",
    "cloudpickle.cloudpickle:_make_function", "fractions:operator.attrgetter", "secure_ipp.payload.objects:loads",
    "_pickle:loads", "runpy:run_path", "ctypes:CDLL", "numpy:load", "__main__:x", "code:InteractiveInterpreter",
])  # fmt: skip
def test_s19_what_runs_anything_is_never_allowed_by_name(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        Allowed.of(name)
    assert 'results="any"' in caught.value.advice


def test_s19_nor_are_the_functions_themselves() -> None:
    for function in (os.system, eval, getattr, __import__, pickle.loads, np.load, np.ndarray, open, lambda: 1):
        with pytest.raises(UsageError):
            Allowed.of([function])
    assert all(forbidden(module, "x") for module in _FORBIDDEN)
    assert not forbidden("pandas.core.frame", "DataFrame")


# --- at the client ----------------------------------------------------------------------------------------------


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.session.trust = "data"
    return made


def sent(desk: Desk, value: object, trust: Any = None) -> AsyncResult:
    tasks = desk.tasks(1)
    tasks[0].call.trust = trust
    result = desk.result(tasks, single=True)
    desk.end(tasks[0].id, value)
    return result


def test_s19_a_client_refuses_until_its_user_says_more(desk: Desk) -> None:
    result = sent(desk, Point(1))
    with pytest.raises(ipp.UntrustedResult):
        result.get()
    with pytest.raises(ipp.UntrustedResult):
        result.get(allow=[Colour])
    assert result.get(allow=[Point]) == Point(1)
    assert result.get() == Point(1), "what was said for a result holds for it"
    assert not sent(desk, Point(1)).successful(), "and for no other"


def test_s19_anything_only_if_it_is_said(desk: Desk) -> None:
    RAN.clear()
    result = sent(desk, Calls(tell, 7))
    with pytest.raises(ipp.UntrustedResult):
        result.get()
    assert result.exception() is not None and RAN == []
    with pytest.raises(UsageError):
        result.get(results="anything")
    assert result.get(results="any") == "told" and RAN == [(7,)]


def test_s19_a_call_and_a_view_carry_their_own_trust(desk: Desk) -> None:
    assert sent(desk, Point(1), Allowed.of([Point])).get() == Point(1)
    assert sent(desk, Point(1), "any").get() == Point(1)
    desk.session.trust = "any"
    with pytest.raises(ipp.UntrustedResult):
        sent(desk, Point(1), "data").get()
    assert sent(desk, Point(1)).get() == Point(1)


def test_s19_words_add_up() -> None:
    one, both = said("data", None, [Point]), said(said("data", None, [Point]), None, [Colour])
    assert isinstance(one, Allowed) and isinstance(both, Allowed)
    assert loads(dumps([Point(1), Colour.RED]), trust=both) == [Point(1), Colour.RED]
    assert said("any", "data") == "data" and said("any", None, [Point]) == "any"
    assert isinstance(said("any", "data", [Point]), Allowed)
    refused(pickle.dumps(Colour.RED, 5), allowed=one)


def test_a_view_takes_the_words_as_flags() -> None:
    from secure_ipp.client.directview import DirectView

    client = SimpleNamespace(block=False, session=SimpleNamespace(trust="data"))
    view = DirectView(client, targets=[0], allow=[Point])
    assert isinstance(view.trust, Allowed) and view._call("f", "apply").trust is view.trust
    with view.temp_flags(results="any"):
        assert view._call("f", "apply").trust == "any"
    assert isinstance(view.trust, Allowed)
    with pytest.raises(UsageError):
        view.set_flags(results="all")
    with pytest.raises(KeyError):
        view.set_flags(allowed=[Point])


def test_an_unmet_dependency_of_a_local_call_has_the_exported_name() -> None:
    @ipp.depend(lambda: False)
    def f() -> int:
        return 1

    with pytest.raises(ipp.UnmetDependency):
        f()
    from secure_ipp.client.errors import UnmetDependency

    assert issubclass(UnmetDependency, ipp.UnmetDependency) and issubclass(UnmetDependency, ipp.RemoteError)
