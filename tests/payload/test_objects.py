"""Objects to buffers and back."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import pathlib
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from secure_ipp import limits
from secure_ipp.payload.objects import OUT_OF_BAND_BYTES, Trust, Unpicklable, UntrustedResult, dumps, loads

PLAIN = [
    None, True, 7, 2**200, 1.5, 1j, "text", b"bytes", bytearray(b"x"), (1, [2, {"a": {3}}]), frozenset({1}), range(3),
    slice(1, 2), collections.OrderedDict(a=1), collections.deque([1], 3), collections.Counter("aab"),
    collections.defaultdict(list, a=[1]), datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc),  # noqa: UP017
    datetime.timedelta(3), decimal.Decimal("1.5"), fractions.Fraction(1, 3), pathlib.PurePosixPath("/a/b"), ...,
    NotImplemented,
]  # fmt: skip


@pytest.mark.parametrize("trust", ["any", "data"])
@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values_return(value: object, trust: Trust) -> None:
    back = loads(dumps(value), trust=trust)
    assert back == value
    assert type(back) is type(value) or isinstance(value, pathlib.PurePath)


ARRAYS = [
    np.arange(10), np.zeros((0, 3)), np.float64(2.5), np.array(3.0), np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.arange(100)[::3], np.array(["a", "bcd"]), np.array([b"x"]), np.array(["2020-01-01"], "M8[D]"),
    np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]), np.arange(5, dtype=">i4"), np.bool_(True),
    np.ones((300, 300)), np.asfortranarray(np.ones((200, 300))), np.timedelta64(5, "s"), np.complex64(1j),
]  # fmt: skip


@pytest.mark.parametrize("trust", ["any", "data"])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}-{a.shape}")
def test_arrays_return_writable(array: Any, trust: Trust) -> None:
    back = loads(dumps({"a": array})[:], trust=trust)["a"]
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype
    if isinstance(array, np.ndarray):
        assert type(back) is np.ndarray
        assert back.flags.writeable or array.size == 0
        assert back.flags.f_contiguous == (array.flags.f_contiguous or array.ndim == 1)


def test_large_arrays_are_not_copied() -> None:
    array = np.zeros(OUT_OF_BAND_BYTES)
    stream, memory = dumps([array, 1])
    assert isinstance(memory, memoryview)
    assert len(stream) < 300
    array[0] = 5
    back = loads([stream, memoryview(bytearray(memory))], trust="data")[0]
    assert back[0] == 5 and back.flags.writeable


def test_number_of_buffers_is_bounded() -> None:
    arrays = [np.full(OUT_OF_BAND_BYTES // 8, i, dtype="f8") for i in range(limits.BUFFERS + 50)]
    buffers = dumps(arrays)
    assert len(buffers) == limits.BUFFERS
    assert loads(buffers, trust="data")[-1][0] == limits.BUFFERS + 49


def test_inline_buffers_come_out_writable() -> None:
    buffers = [bytes(b) for b in dumps(np.ones(OUT_OF_BAND_BYTES // 8))]
    assert len(buffers) == 2
    assert loads(buffers, trust="data").flags.writeable


def test_object_arrays_only_for_the_trusted() -> None:
    array = np.array([1, "a", None], dtype=object)
    assert loads(dumps(array), trust="any").tolist() == [1, "a", None]
    with pytest.raises(UntrustedResult):
        loads(dumps(array), trust="data")


def test_exceptions_are_plain() -> None:
    back = loads(dumps([ValueError("a", 1), FileNotFoundError(2, "no", "f")]), trust="data")
    assert back[0].args == ("a", 1)
    assert back[1].filename == "f"


def test_instances_of_main_go_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec("class P:\n    def __init__(self, x): self.x = x\n    def twice(self): return self.x * 2", vars(main))
    buffers = dumps([main.P(4)])
    kind = main.P
    del main.P
    (back,) = loads(buffers, trust="any")
    assert back.twice() == 8
    assert type(back) is kind, "a class that returns home is the same class"
    with pytest.raises(UntrustedResult):
        loads(buffers, trust="data")


def test_unpicklable_says_what_to_do() -> None:
    with pytest.raises(Unpicklable, match="lock") as caught:
        dumps({"a": threading.Lock()})
    assert caught.value.advice
    import pickle

    assert isinstance(caught.value, pickle.PicklingError)


def test_lambdas_go_by_value() -> None:
    assert loads(dumps([lambda x: x + 1]), trust="any")[0](2) == 3
