"""Functions under the hash of their bytes.

A packed function is one flag byte and one pickle.  The flag says whether the engine must rebuild the
function for each task: closure cells, mutable defaults and carried data would else live on from task to task.

Laws.
- The digest is the SHA-256 of all packed bytes; whoever receives them computes it anew.
- A function object is packed once as long as nothing that went into its bytes has changed: its code, its
  defaults, and what its global names stand for at its origin.  Whatever could change unseen is packed anew.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary, ref

from secure_ipp.errors import ProtocolError, UsageError
from secure_ipp.payload.context import LoadContext
from secure_ipp.payload.markers import Reference
from secure_ipp.payload.objects import dumps_in_band, loads

_KEEP, _REBUILD = b"\x00", b"\x01"
_ATOMS = (type(None), bool, int, float, complex, str, bytes, ModuleType)
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class PackedFunction:
    """A function, ready to travel.

    Attributes:
        digest: SHA-256 of `code`.
        code: flag byte and pickle.
        cacheable: these bytes stand for the function object until something it refers to changes.
        rebuild_each_time: the engine makes a fresh one for each task.
    """

    digest: bytes
    code: bytes
    cacheable: bool
    rebuild_each_time: bool


@dataclass(frozen=True, slots=True)
class LoadedFunction:
    """A function rebuilt at an engine, and the names it brought along."""

    call: Callable[..., Any]
    context: LoadContext
    rebuild_each_time: bool


class _Watch:
    """What must be as it was for packed bytes to be still those of their function.

    Functions are held weakly: a cache entry must not keep its own key alive.
    """

    __slots__ = ("_functions", "_names")

    def __init__(self) -> None:
        self._names: list[tuple[dict[str, Any], str, object]] = []
        self._functions: list[tuple[ref[FunctionType], CodeType, object]] = []

    def add(self, function: FunctionType) -> bool:
        """Watch a function of `__main__` and all it refers to; False if something could change unseen."""
        from secure_ipp.payload.byvalue import global_names

        if any(known() is function for known, _, _ in self._functions):
            return True
        if function.__closure__ or function.__dict__ or function.__kwdefaults__:
            return False
        if not all(isinstance(value, _ATOMS) for value in function.__defaults__ or ()):
            return False
        origin = function.__globals__
        if origin is not vars(sys.modules["__main__"]):
            return False
        self._functions.append((ref(function), function.__code__, function.__defaults__))
        for name in global_names(function.__code__):
            value = origin.get(name, _ABSENT)
            if isinstance(value, FunctionType) and function.__module__ == "__main__" == value.__module__:
                self._names.append((origin, name, ref(value)))
                if not self.add(value):
                    return False
            elif value is _ABSENT or type(value) in _ATOMS or _is_importable(value):
                self._names.append((origin, name, value))
            else:
                return False
        return True

    def holds(self) -> bool:
        for known, code, defaults in self._functions:
            function = known()
            if function is None or function.__code__ is not code or function.__defaults__ is not defaults:
                return False
            if function.__dict__ or function.__kwdefaults__:
                return False
        for origin, name, value in self._names:
            now = origin.get(name, _ABSENT)
            if now is not value and not (type(value) is ref and value() is now):
                return False
        return True


def _is_importable(value: object) -> bool:
    """Is it found under its own name in a module other than `__main__`, so that its pickle is that name?"""
    if not isinstance(value, FunctionType | BuiltinFunctionType | type):
        return False
    module = sys.modules.get(value.__module__ or "")
    return value.__module__ != "__main__" and getattr(module, value.__qualname__, None) is value


_packed: WeakKeyDictionary[Any, tuple[PackedFunction, _Watch]] = WeakKeyDictionary()


def pack_function(function: Callable[..., Any]) -> PackedFunction:
    """Turn a callable, or a reference to one that the engine has, into bytes.

    Raises:
        UsageError: it is not callable, or cannot be pickled.
    """
    kind = type(function)
    by_identity = kind is FunctionType or kind is BuiltinFunctionType
    if by_identity:
        entry = _packed.get(function)
        if entry is not None and entry[1].holds():
            return entry[0]
    elif not callable(function) and not isinstance(function, Reference):
        raise UsageError(f"{kind.__name__!r} object is not callable", "pass a function")
    stream, stateful = dumps_in_band(function)
    rebuild = stateful or not by_identity
    watch = _Watch()
    cacheable = by_identity and (
        _is_importable(function) or (kind is FunctionType and not stateful and watch.add(_as_function(function)))
    )
    code = (_REBUILD if rebuild else _KEEP) + stream
    packed = PackedFunction(hashlib.sha256(code).digest(), code, cacheable, rebuild)
    if cacheable:
        _packed[function] = (packed, watch)
    return packed


def _as_function(function: Callable[..., Any]) -> FunctionType:
    assert isinstance(function, FunctionType)
    return function


def verify_digest(code: bytes, digest: bytes) -> None:
    """See whether these bytes are the function of this name.

    Raises:
        ProtocolError: they are not.
    """
    if not hmac.compare_digest(hashlib.sha256(code).digest(), digest):
        raise ProtocolError(
            "a function arrived whose bytes are not what its task named",
            "something between client and engine altered it; look at the controller's log and its host",
        )


def load_function(code: bytes | memoryview, context: LoadContext) -> LoadedFunction:
    """Rebuild a packed function (trusted like a program) in the context's namespace.

    Raises:
        ProtocolError: these are not the bytes of a packed function.
        Exception: whatever its pickle raises, such as ImportError.
    """
    view = memoryview(code)
    flag = bytes(view[:1])
    if flag not in (_KEEP, _REBUILD):
        raise ProtocolError("these are not the bytes of a packed function")
    function = loads([view[1:]], trust="any", context=context)
    if not callable(function):
        raise ProtocolError("the bytes of a packed function hold something that cannot be called")
    return LoadedFunction(function, context, flag == _REBUILD)


def unpack_function(code: bytes, namespace: dict[str, Any]) -> Callable[..., Any]:
    """Rebuild a packed function with `namespace` as the globals of what came from `__main__`."""
    return load_function(code, LoadContext(namespace)).call
