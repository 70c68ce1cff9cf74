"""Attacks on the machine that builds untrusted results: crashes of the interpreter, swelling, lost places (S19)."""

from __future__ import annotations

import collections
import pickle
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from secure_ipp.payload.objects import dumps, loads
from tests.attacks.test_results import five, inner, little_memory, named, refused, text

# --- what Python itself does not survive ------------------------------------------------------------------------

DEEP = 200_000
CHAINS = {
    "deque": named("collections", "deque") + b"\x94" + b")R" + b"h\x00)R" * DEEP + b"a" * DEEP,
    "defaultdict": named("collections", "defaultdict") + b"\x94" + b")R" + b"K\x01h\x00)R" * DEEP + b"s" * DEEP,
    "OrderedDict": named("collections", "OrderedDict") + b"\x94" + b")R" + b"K\x01h\x00)R" * DEEP + b"s" * DEEP,
    "dropped": named("collections", "deque") + b"\x94" + b")R" + b"h\x00)R" * DEEP + b"a" * DEEP + b"0N",
    "unfinished": named("collections", "deque") + b"\x94" + b")R" + b"h\x00)R" * DEEP + b"a" * DEEP + b"NR",
    "OSError": named("builtins", "OSError") + b"\x940" + (b"h\x00(K\x01" + text("x")) * DEEP + b"N" + b"tR" * DEEP,
    "frozenset": b"(" * DEEP + b"N" + b"\x91" * DEEP,
}


@pytest.mark.parametrize("chain", CHAINS)
def test_s19_what_comes_does_not_end_the_interpreter(chain: str) -> None:
    """Deques in deques are freed by calls within calls: in a process of its own, which must end well."""
    program = (
        "import sys; from secure_ipp.payload.objects import UntrustedResult, loads\n"
        "try: value = loads([sys.stdin.buffer.read()], trust='data')\n"
        "except UntrustedResult: pass\n"
        "value = None; print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", program], input=five(CHAINS[chain]), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"alive\n"), done.stderr[-500:]


def test_chains_and_circles_that_people_make_come_through() -> None:
    nested: Any = collections.deque([1])
    for _ in range(20):
        nested = collections.deque([nested])
    table: Any = collections.defaultdict(dict)
    table.update({number: collections.defaultdict(int, a=number) for number in range(5000)})
    assert loads(dumps([nested, table]), trust="data") == [nested, table]
    circle: Any = collections.deque()
    circle.append(circle)
    back = loads(dumps(circle), trust="data")
    assert back[0] is back


@pytest.mark.parametrize("where", [(-(2**40), 1 - 2**40), (1, 2), (1, 0), (0, 2**40), (-1, 0)])
def test_s19_an_error_of_a_codec_lies_within_its_text(where: tuple[int, int]) -> None:
    """Python reads at the position that such an error tells, when it is printed."""
    for error in (UnicodeDecodeError("u", b"x", *where, "r"), UnicodeEncodeError("u", "x", *where, "r"),
                  UnicodeTranslateError("x", *where, "r")):  # fmt: skip
        refused(pickle.dumps(error, 5))


def test_s19_an_exception_keeps_the_fields_it_was_made_with() -> None:
    good = UnicodeDecodeError("u", b"x", 0, 1, "r")
    for name, value in (("object", 5), ("start", -(2**40)), ("end", 5), ("args", ())):
        refused(five(inner(good) + inner({name: value}) + b"b"))
    for error in (StopIteration(1), OSError(2, "x"), SyntaxError("x"), ImportError("x"), AttributeError("x")):
        for name in ("value", "filename", "text", "with_traceback", "add_note", "msg", "obj", "path"):
            if hasattr(type(error), name):
                refused(five(inner(error) + inner({name: [1]}) + b"b"))


@pytest.mark.parametrize("error", [
    ImportError("a", name="b", path="c"), AttributeError("a", name="b"), NameError("a", name="b"), KeyError((1, [2])),
    FileNotFoundError(2, "no", "file"), SyntaxError("a", ("f", 1, 2, "text")), StopIteration([1]), ValueError(),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_exceptions_come_as_from_pickle(error: Exception) -> None:
    error.__dict__["mine"] = [1]
    back, by_pickle = loads(dumps(error), trust="data"), pickle.loads(pickle.dumps(error))
    assert type(back) is type(by_pickle) and back.args == by_pickle.args and vars(back) == vars(by_pickle)
    assert [getattr(back, name, 0) for name in ("name", "filename")] == [
        getattr(by_pickle, name, 0) for name in ("name", "filename")
    ]


# --- what swells ------------------------------------------------------------------------------------------------

_BIG = b"\x8b" + struct.pack("<I", 100_000) + b"\x01" * 100_000 + b"\x94"
_BYTES = b"\x96" + struct.pack("<Q", 100_000) + b"\x01" * 100_000 + b"\x94"
_GROUP = named("builtins", "ValueError") + b")R\x94](" + b"h\x01" * 10_000 + b"e\x94"
SHARED = {
    "range": (named("builtins", "range"), _BIG, b"h\x00h\x01\x85R"),
    "Fraction": (named("fractions", "Fraction"), _BIG, b"h\x00h\x01K\x01\x86R"),
    "decoding": (named("builtins", "UnicodeDecodeError"), _BYTES, b"h\x00(\x8c\x01ah\x01K\x00K\x01\x8c\x01rtR"),
    "group": (named("builtins", "ExceptionGroup"), _GROUP, b"h\x00\x8c\x01mh\x02\x86R"),
}


@pytest.mark.parametrize("kind", SHARED)
def test_s19_a_shared_argument_does_not_swell(kind: str) -> None:
    """One large argument, named by ten thousand calls of which each makes a copy: a gigabyte from 0.2 MB."""
    name, large, call = SHARED[kind]
    with little_memory(60_000_000):
        refused(five(name + b"\x94" + large + b"(" + call * 10_000 + b"t"))


def test_s19_sets_that_take_for_ever_to_compare_are_refused() -> None:
    """Two equal ones, of 2**40 sets to whoever compares them."""
    stream = b"(K\x01\x91\x940" * 2
    for level in range(40):
        for one in (2 * level, 2 * level + 1):
            stream += b"(h" + bytes([one, 0x68, one]) + b"\x85\x91\x940"
    refused(five(stream + b"\x8f(h\x50h\x51\x90"))
    edges = frozenset((number, number + 1) for number in range(20_000))
    assert loads(dumps([{edges: 1}, {frozenset([edges]): 2}]), trust="data") == [{edges: 1}, {frozenset([edges]): 2}]


# --- what is read twice -------------------------------------------------------------------------------------------


def _framed(content: bytes, size: int | None = None) -> bytes:
    return b"\x95" + struct.pack("<Q", len(content) if size is None else size) + content


@pytest.mark.parametrize("body", [
    _framed(b"C\x08ab") + b"cdefghN0", _framed(b"K") + b"\x01", _framed(_framed(b"N")), _framed(b"N", 3),
    _framed(b"J\x01\x02") + b"\x03\x04",
])  # fmt: skip
def test_s19_an_operation_lies_in_one_frame(body: bytes) -> None:
    """Python's unpickler drops the rest of a frame in which an operation does not end, and goes on elsewhere."""
    refused(five(body))


def test_frames_as_picklers_write_them_come_through() -> None:
    for value in ([b"x" * 100_000, 1, "y" * 70_000], list(range(100_000)), b"x" * 65_536, ["z" * 65_530, 1, 2], [
        f"name {number}" for number in range(50_000)
    ]):
        assert loads(dumps(value), trust="data") == value
        assert loads([pickle._dumps(value, 5)], trust="data") == value  # type: ignore[attr-defined]


# --- what is the same ---------------------------------------------------------------------------------------------

_TYPES = arrays_of.scalar_dtypes() | arrays_of.array_dtypes(max_size=3)
_SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_arrays_come_as_they_went(data: Any) -> None:
    dtype = data.draw(_TYPES)
    array = np.zeros(data.draw(_SHAPES), dtype)
    if array.nbytes:
        array = np.resize(np.frombuffer(data.draw(st.binary(min_size=dtype.itemsize)), np.uint8), array.nbytes).view(
            dtype
        ).reshape(array.shape)
    for one in (array, array.T, array[..., ::-1] if array.ndim else array, np.asfortranarray(array)):
        back, again = loads(dumps([one, one]), trust="data")
        assert back is again and back.shape == one.shape and back.dtype == one.dtype
        assert back.tobytes() == one.tobytes() and (back.flags.writeable or not one.size)
