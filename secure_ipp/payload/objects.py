"""Python objects to lists of buffers and back.

A list is one pickle stream (protocol 5) and its out-of-band buffers, which are not copied.

Laws.
- Plain pickle first; cloudpickle only for what plain pickle cannot do and for what lives in `__main__`,
  because the receiver's `__main__` is another one.
- A buffer goes out of band from `OUT_OF_BAND_BYTES` on; smaller ones, and those beyond the bound on their
  number, travel in the stream.
- `loads(trust="data")` runs no code that the bytes could choose (see `restricted`).
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections.abc import Callable, Sequence
from typing import Any

from secure_ipp import limits
from secure_ipp.errors import UsageError
from secure_ipp.payload import arrays
from secure_ipp.payload.allowed import NOTHING, Allowed, Trust
from secure_ipp.payload.context import LoadContext
from secure_ipp.payload.memory import copied
from secure_ipp.payload.restricted import UntrustedResult, loads_data

__all__ = ["Allowed", "Buffer", "Trust", "Unpicklable", "UntrustedResult", "dumps", "dumps_in_band", "loads"]

Buffer = bytes | bytearray | memoryview
OUT_OF_BAND_BYTES = 64 * limits.KIB  # below, a copy is cheaper than a buffer of its own
_MOST_BUFFERS = limits.BUFFERS - 1
_ATOMS = frozenset({type(None), bool, int, float})
_MAIN = b"__main__"


class Unpicklable(UsageError, pickle.PicklingError):
    """An object cannot be turned into bytes."""

    code = "unpicklable"


class _PlainPickler(pickle.Pickler):
    """The C pickler, with NumPy's types as plain data."""

    dispatch_table: dict[type, Callable[[Any], Any]] = {}  # noqa: RUF012  replaced as a whole by _table


_table_of = (0, False)


def _has_numpy() -> bool:
    """Are NumPy's types to be expected?  Keeps the picklers' table of reducers up to date."""
    global _table_of
    now = (len(copyreg.dispatch_table), "numpy" in sys.modules)
    if now != _table_of:
        extra = arrays.reducers()
        _PlainPickler.dispatch_table = {**copyreg.dispatch_table, **extra}
        _table_of = (now[0], bool(extra))
    return now[1]


def _by_value_asked() -> bool:
    """Has somebody told cloudpickle to carry a module by value?"""
    cloudpickle = sys.modules.get("cloudpickle")
    return bool(cloudpickle is not None and cloudpickle.list_registry_pickle_by_value())


def dumps(obj: object) -> list[Buffer]:
    """Pickle an object.

    Returns:
        The pickle stream, then its out-of-band buffers: views of the object's own memory.

    Raises:
        Unpicklable: it cannot be pickled.
    """
    if type(obj) in _ATOMS:
        return [pickle.dumps(obj, 5)]
    buffers: list[Buffer] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        memory = buffer.raw()
        if memory.nbytes < OUT_OF_BAND_BYTES or len(buffers) >= _MOST_BUFFERS:
            return True
        buffers.append(memory)
        return False

    stream = _dump(obj, in_band)
    if stream is None:
        buffers.clear()
        stream = _dump_by_value(obj, in_band)[0]
    return [stream, *buffers]


def dumps_in_band(obj: object) -> tuple[bytes, bool]:
    """Pickle an object into one piece of bytes; and: may a call change what it carries?

    Raises:
        Unpicklable: it cannot be pickled.
    """
    stream = _dump(obj, None)
    return (stream, False) if stream is not None else _dump_by_value(obj, None)


def _dump(obj: object, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None) -> bytes | None:
    """The plain pickle, or None if that will not do."""
    if _by_value_asked():
        return None
    try:
        if _has_numpy():
            file = io.BytesIO()
            _PlainPickler(file, 5, buffer_callback=buffer_callback).dump(obj)
            stream = file.getvalue()
        else:
            stream = pickle.dumps(obj, 5, buffer_callback=buffer_callback)
    except Exception:  # noqa: BLE001  cloudpickle may know better, and says it better if not
        return None
    return None if _MAIN in stream else stream


def _dump_by_value(
    obj: object, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None
) -> tuple[bytes, bool]:
    from secure_ipp.payload.byvalue import ByValuePickler

    if _has_numpy() and not ByValuePickler.extra_reducers:
        ByValuePickler.extra_reducers.update(arrays.reducers())
    file = io.BytesIO()
    try:
        pickler = ByValuePickler(file, buffer_callback=buffer_callback)
        pickler.dump(obj)
    except Exception as error:
        raise Unpicklable(
            f"cannot pickle {type(obj).__name__!r}: {type(error).__name__}: {error}",
            "send data that can be pickled: no open files, locks, sockets or clients; make such things where they "
            "are used",
        ) from error
    return file.getvalue(), pickler.stateful


def loads(buffers: Sequence[Buffer], *, trust: Trust, context: LoadContext | None = None) -> Any:
    """Rebuild an object.

    Args:
        buffers: as made by `dumps`.  Out-of-band buffers in immutable bytes (small ones, which travelled
            inside a message) are copied, so that arrays come out writable; others are used where they lie.
        trust: "any" runs whatever the pickle says, so its maker must be trusted like a program; "data"
            admits plain data only; names that were `Allowed`, those besides.
        context: the namespace to rebuild in, at an engine.

    Raises:
        UntrustedResult: the pickle holds more than trust admits.
        Exception: anything, if trust is "any".
    """
    stream = buffers[0]
    rest = [bytearray(buffer) if type(buffer) is bytes else buffer for buffer in buffers[1:]]
    if trust != "any":
        return loads_data(stream, rest, trust if isinstance(trust, Allowed) else NOTHING)
    if context is None:
        return pickle.loads(stream, buffers=rest)  # noqa: S301  the caller vouches for the maker
    with context:
        return pickle.loads(stream, buffers=rest)  # noqa: S301  an engine runs its clients' code


def unshared(buffers: list[Buffer]) -> list[Buffer]:
    """The same buffers, with memory that somebody else may still write to copied.

    A result may wait long to be fetched; until then it must be what it was when its task ended.  An array that
    nobody but the buffer refers to any more is not copied.
    """
    for index, buffer in enumerate(buffers):
        if type(buffer) is memoryview and not _is_exclusive(buffer):
            buffers[index] = copied(buffer)
    return buffers


def _is_exclusive(view: memoryview) -> bool:
    numpy = sys.modules.get("numpy")
    flat: Any = view.obj
    if numpy is None or type(flat) is not numpy.ndarray:
        return False
    owner = flat.base
    if type(owner) is not numpy.ndarray or owner.base is not None or not owner.flags.owndata:
        return False
    return sys.getrefcount(owner) <= 3  # `flat.base`, `owner` and the argument
