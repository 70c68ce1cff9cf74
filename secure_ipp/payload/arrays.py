"""NumPy arrays and scalars as plain data: a type description, a shape and bytes.

NumPy's own pickles hand the receiver a `dtype` and an array to be filled through `__setstate__`, which
trusts its arguments.  This form can be checked whole before an array is made, so untrusted results use
no other.  NumPy is imported only by those whose data are arrays.

Laws.
- No object dtypes, in either direction; but an array of texts and numbers as Python objects has a form of its own
  (`rebuild_objects`), which a receiver may admit.
- The bytes are exactly shape times item size, or nothing is made.
- An array is writable if its bytes arrived in writable memory.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_KINDS = frozenset("biufcSUVmM")
_DIMENSIONS = 64
_DESCRIPTION_ITEMS = 4096
_DESCRIPTION_DEPTH = 16
_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})

Reduced = tuple[Any, ...] | str


def reducers() -> dict[type, Callable[[Any], Reduced]]:
    """How to pickle NumPy's types; empty as long as nobody in this process has imported NumPy."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "sctypeDict"):
        return {}
    table: dict[type, Callable[[Any], Reduced]] = {
        kind: _reduce_scalar for kind in set(numpy.sctypeDict.values()) if kind is not numpy.object_
    }
    table[numpy.ndarray] = _reduce_array
    return table


def _describe(dtype: np.dtype[Any]) -> object | None:
    """The dtype in plain types, or None if that would lose something."""
    import numpy

    if dtype.hasobject or dtype.kind not in _KINDS or dtype.itemsize == 0 or dtype.metadata:
        return None
    description: object = dtype.str if dtype.names is None else numpy.lib.format.dtype_to_descr(dtype)
    try:
        same = _dtype(description) == dtype
    except (TypeError, ValueError):
        return None
    return description if same else None


def _dtype(description: object) -> np.dtype[Any]:
    """The dtype of a description (unverified data).

    Raises:
        ValueError, TypeError: it does not describe a dtype of plain data.
    """
    import numpy

    if isinstance(description, str):
        if len(description) > 64:
            raise ValueError("the name of an array's type is too long")
        dtype: np.dtype[Any] = numpy.dtype(description)
    elif isinstance(description, list) and _is_small(description):
        dtype = numpy.lib.format.descr_to_dtype(description)
    else:
        raise TypeError("not the description of an array's type")
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError("only arrays of plain data can be carried")
    return dtype


def _is_small(description: list[Any]) -> bool:
    """Has it a bounded number of parts, counting shared ones as often as they occur?"""
    left = _DESCRIPTION_ITEMS
    level: list[Any] = [description]
    for _ in range(_DESCRIPTION_DEPTH):
        inner = []
        for one in level:
            left -= len(one)
            if left < 0:
                return False
            inner += [part for part in one if isinstance(part, list | tuple)]
        level = inner
    return not level


def _reduce_array(array: np.ndarray[Any, Any]) -> Reduced:
    import numpy

    description = _describe(array.dtype)
    if description is None:
        if array.dtype.kind == "O" and not array.dtype.metadata:
            items = array.ravel().tolist()
            if _ATOMS.issuperset(map(type, items)):
                return rebuild_objects, (array.shape, items)
        return array.__reduce_ex__(5)
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    if array.nbytes == 0:
        return rebuild_array, (description, array.shape, order, b"")
    if order == "C" and not array.flags.c_contiguous:
        array = numpy.ascontiguousarray(array)
    memory: Any = array.reshape(-1, order="F" if order == "F" else "C").view(numpy.uint8)
    return rebuild_array, (description, array.shape, order, PickleBuffer(memory))


def rebuild_array(description: object, shape: object, order: object, data: Any) -> np.ndarray[Any, Any]:
    """An array over `data`, without a copy.

    Args:
        description: a type string such as "<f8", or NumPy's description of a structured type.
        shape: tuple of lengths.
        order: "C" or "F".
        data: bytes-like, one dimension (all arguments are unverified).

    Raises:
        ValueError, TypeError: the arguments do not fit together.
    """
    import numpy

    dtype = _dtype(description)
    if not isinstance(shape, tuple) or len(shape) > _DIMENSIONS or order not in ("C", "F"):
        raise ValueError("not the shape of an array")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("not the shape of an array")
    size = memoryview(data).nbytes
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError("an array's bytes do not fit its shape")
    if size == 0:
        return numpy.zeros(shape, dtype)
    flat: np.ndarray[Any, Any] = numpy.frombuffer(data, dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def rebuild_objects(shape: object, items: object) -> np.ndarray[Any, Any]:
    """An array of texts, numbers and the like as Python objects (arguments unverified).

    Raises:
        ValueError, TypeError: the arguments do not fit together, or an item is something else.
    """
    import numpy

    if not isinstance(shape, tuple) or len(shape) > _DIMENSIONS or type(items) is not list:
        raise ValueError("not the shape of an array")
    if not all(type(length) is int and length >= 0 for length in shape) or math.prod(shape) != len(items):
        raise ValueError("an array's items do not fit its shape")
    if not _ATOMS.issuperset(map(type, items)):
        raise TypeError("an array of objects may hold texts and numbers only")
    flat = numpy.empty(len(items), dtype=object)
    flat[:] = items
    return flat.reshape(shape)


def _reduce_scalar(scalar: np.generic) -> Reduced:
    description = _describe(scalar.dtype)
    if description is None:
        return scalar.__reduce__()
    return rebuild_scalar, (description, scalar.tobytes())


def rebuild_scalar(description: object, data: object) -> object:
    """A NumPy scalar (arguments unverified).

    Raises:
        ValueError, TypeError: the arguments do not fit together.
    """
    import numpy

    dtype = _dtype(description)
    if not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise ValueError("a scalar's bytes do not fit its type")
    return numpy.frombuffer(data, dtype)[0]
