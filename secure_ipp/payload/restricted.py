"""The restricted loader: pickles from engines that may hold plain data and nothing else (S19).

Laws.
- A name is found only if it stands in the table below; what it finds is a builtin type that cannot be
  changed, or a `Maker`: BUILD on a Python class or function would let a pickle rewrite it.
- No NumPy dtype ever stands on the pickle's stack: with one, an array's `__setstate__` writes where it is told.
- Whatever goes wrong comes out as `UntrustedResult`.
- Not promised: that a hostile engine cannot make its client spend memory and time.
"""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any

from secure_ipp.errors import PolicyError
from secure_ipp.payload import arrays


class UntrustedResult(PolicyError):
    """A result holds more than plain data, and its cluster is not trusted with more."""

    code = "untrusted-result"


_ADVICE = (
    "return plain types, NumPy arrays without object dtype or exceptions; or, if you trust whoever can run code on "
    'these engines with your account, say results="any"'
)


_IMMUTABLE_TYPE, _HEAP_TYPE = 1 << 8, 1 << 9  # Py_TPFLAGS_IMMUTABLETYPE, Py_TPFLAGS_HEAPTYPE (CPython, object.h)


class Maker:
    """A function that a pickle may call and cannot alter."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise UntrustedResult("a pickle tried to change a function of its receiver", _ADVICE)

    def __setattr__(self, name: str, value: object) -> None:
        raise UntrustedResult("a pickle tried to change a function of its receiver", _ADVICE)


def _maker(function: Callable[..., Any]) -> Maker:
    """A Maker of its own type that calls `function`."""

    def call(self: Maker, *arguments: Any) -> Any:
        return function(*arguments)

    kind = type(f"Maker_{function.__name__}", (Maker,), {"__slots__": (), "__call__": call})
    made: Maker = kind()
    return made


def _counter(counts: dict[Any, int] | None = None) -> collections.Counter[Any]:
    if counts is None or type(counts) is dict:
        return collections.Counter(counts)
    raise TypeError("a Counter is made from a dict")


def _fraction(numerator: int, denominator: int) -> object:
    from fractions import Fraction

    if type(numerator) is not int or type(denominator) is not int:
        raise TypeError("a Fraction is made from two whole numbers")
    return Fraction(numerator, denominator)


def _path(*parts: str) -> object:
    from pathlib import PurePosixPath

    if not all(type(part) is str for part in parts):
        raise TypeError("a path is made from text")
    return PurePosixPath(*parts)


def _immutable(kinds: Iterable[type]) -> dict[tuple[str, str], Any]:
    """Those of them that nobody can set an attribute of; a class made in Python (ExceptionGroup) is left out."""
    return {
        (kind.__module__, kind.__qualname__): kind
        for kind in kinds
        if not kind.__flags__ & _HEAP_TYPE or kind.__flags__ & _IMMUTABLE_TYPE
    }


_PLAIN: dict[tuple[str, str], Any] = {
    **_immutable([complex, set, frozenset, bytearray, range, slice, list, dict, tuple, int, float, str, bytes, bool]),
    **_immutable([collections.OrderedDict, collections.deque, collections.defaultdict]),
    **_immutable([datetime.date, datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone]),
    **_immutable([decimal.Decimal]),
    **_immutable(
        kind for kind in vars(builtins).values() if isinstance(kind, type) and issubclass(kind, Exception)
    ),
    ("builtins", "Ellipsis"): ...,
    ("builtins", "NotImplemented"): NotImplemented,
    ("collections", "Counter"): _maker(_counter),
    ("fractions", "Fraction"): _maker(_fraction),
    ("pathlib", "PosixPath"): _maker(_path),
    ("pathlib", "PurePosixPath"): _maker(_path),
    (arrays.__name__, "rebuild_array"): _maker(arrays.rebuild_array),
    (arrays.__name__, "rebuild_scalar"): _maker(arrays.rebuild_scalar),
}


class RestrictedUnpickler(pickle.Unpickler):
    """Finds plain types only."""

    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return _PLAIN[module, name]
        except KeyError:
            raise UntrustedResult(f"a result holds {module[:200]}.{name[:200]}", _ADVICE) from None


def loads_data(stream: Any, buffers: Iterable[Any]) -> Any:
    """Rebuild plain data from bytes that an untrusted engine made.

    Raises:
        UntrustedResult: the bytes are no pickle, or one of more than plain data.
    """
    try:
        return RestrictedUnpickler(io.BytesIO(stream), buffers=buffers).load()
    except UntrustedResult:
        raise
    except Exception as error:  # hostile bytes fail in every way there is
        raise UntrustedResult(f"a result could not be read ({type(error).__name__})", _ADVICE) from error
