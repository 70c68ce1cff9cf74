"""Functions of `__main__` by value: rebuilt with the receiver's namespace as their globals.

cloudpickle carries what has no importable name; functions of `__main__` are reduced here instead, because
their globals are to be those of the engine (see `context`), not a copy of the client's.

Laws.
- What a function refers to at its origin is carried along and serves only for names absent at the engine.
- Data larger than `CARRIED_BYTES`, and what cannot be pickled, is left out and said so in the function:
  programs push their data, and a function that names them must not drag them along each time.
- Closure cells that two functions share are shared again after the journey.
- Code of another Python version is refused before it is run.
"""

from __future__ import annotations

import dis
import io
import sys
from collections import ChainMap
from importlib.util import MAGIC_NUMBER
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import cloudpickle

from secure_ipp import limits
from secure_ipp.errors import EngineSideError
from secure_ipp.payload.context import LoadContext, current_context

CARRIED_BYTES = 64 * 1024  # data referred to by a function and small enough to go with it
_GLOBAL_NAMES = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME"})
_ATOMS = (type(None), bool, int, float, complex, str, bytes)
_named: WeakKeyDictionary[CodeType, tuple[str, ...]] = WeakKeyDictionary()


class OtherPython(EngineSideError):
    """A function was compiled by a Python whose byte code this one does not run."""

    code = "python-version"


def is_of_main(function: FunctionType) -> bool:
    """Was it defined in `__main__` (or declared `@interactive`)?"""
    return function.__module__ == "__main__"


def global_names(code: CodeType) -> tuple[str, ...]:
    """Names that this code, or code nested in it, looks up in its globals."""
    known = _named.get(code)
    if known is None:
        found: dict[str, None] = {}
        for instruction in dis.get_instructions(code):
            if instruction.opname in _GLOBAL_NAMES:
                found[instruction.argval] = None
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                found.update(dict.fromkeys(global_names(constant)))
        known = _named[code] = tuple(found)
    return known


class _Full(Exception):
    """The trial writer has seen enough."""


class _Measure(io.RawIOBase):
    """A file that holds nothing and refuses to grow beyond a bound."""

    def __init__(self, bound: int) -> None:
        self._left = bound

    def write(self, data: Any) -> int:
        self._left -= memoryview(data).nbytes
        if self._left < 0:
            raise _Full
        return len(data)


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, with functions of `__main__` bound to the receiver's namespace.

    `stateful` tells afterwards whether anything was carried that a call could change, so that the receiver
    must rebuild it for each task.
    """

    extra_reducers: dict[type, Any] = {}  # noqa: RUF012  NumPy's, once it is imported

    def __init__(self, file: Any, *, buffer_callback: Any = None, verdicts: dict[int, str] | None = None) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self._verdicts: dict[int, str] = {} if verdicts is None else verdicts  # by id, of values named by globals
        self.stateful = False

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is FunctionType and is_of_main(obj):
            return self._reduce_function(obj)
        reduced = super().reducer_override(obj)
        if reduced is not NotImplemented:  # a function or class that cloudpickle carries, with all its state
            self.stateful = True
        return reduced

    def _reduce_function(self, function: FunctionType) -> tuple[Any, ...]:
        carried, left_out = self._carried(function)
        if function.__closure__ or not _frozen(function.__defaults__) or not _frozen(function.__kwdefaults__):
            self.stateful = True
        code = function.__code__
        modules = _submodules(code, carried)
        state = {
            "__defaults__": function.__defaults__,
            "__kwdefaults__": function.__kwdefaults__,
            "__annotations__": function.__annotations__ or None,
            "__qualname__": None if function.__qualname__ == function.__name__ else function.__qualname__,
            "__doc__": function.__doc__,
            "__dict__": function.__dict__ or None,
            "carried": carried or None,
            "left_out": left_out or None,
            "modules": modules or None,
        }
        state = {name: value for name, value in state.items() if value is not None}
        arguments = (code, function.__name__, function.__closure__, bool(carried))
        return new_function, arguments, state or None, None, None, (fill_function if state else None)

    def _carried(self, function: FunctionType) -> tuple[dict[str, Any], dict[str, str]]:
        carried: dict[str, Any] = {}
        left_out: dict[str, str] = {}
        origin = function.__globals__
        for name in global_names(function.__code__):
            if name not in origin or name == "__builtins__":
                continue
            value = origin[name]
            if type(value) in _ATOMS and (not isinstance(value, str | bytes) or len(value) < CARRIED_BYTES):
                carried[name] = value
                continue
            if not isinstance(value, FunctionType | ModuleType | type):
                self.stateful = True
            reason = self._try(value)
            if reason:
                left_out[name] = reason
            else:
                carried[name] = value
        return carried, left_out

    def _try(self, value: Any) -> str:
        """Why this value cannot go along; empty if it can."""
        if isinstance(value, ModuleType):
            return ""
        verdict = self._verdicts.get(id(value))
        if verdict is None:
            self._verdicts[id(value)] = ""  # while it is tried, a reference back to it is no obstacle
            verdict = self._verdicts[id(value)] = self._tried(value)
        return verdict

    def _tried(self, value: Any) -> str:
        size = getattr(value, "nbytes", 0)
        if isinstance(size, int) and size > CARRIED_BYTES:
            return "too large to be carried with the function"
        bound = limits.BODY_BYTES if isinstance(value, FunctionType | type) else CARRIED_BYTES
        trial = type(self)(_Measure(bound), verdicts=self._verdicts)
        try:
            trial.dump(value)
        except _Full:
            return "too large to be carried with the function"
        except Exception as error:  # noqa: BLE001  any object may fail to pickle in any way
            return f"cannot be pickled ({type(error).__name__})"
        return ""


def _frozen(value: object) -> bool:
    """Is it, all through, of types that a call cannot change?"""
    if value is None or type(value) in _ATOMS:
        return True
    if type(value) is tuple:
        return all(_frozen(item) for item in value)
    if type(value) is dict:  # only ever __kwdefaults__, which the function itself does not touch
        return all(_frozen(item) for item in value.values())
    return False


def _submodules(code: CodeType, carried: dict[str, Any]) -> list[ModuleType]:
    """Submodules that the code reaches as attributes of a package it names (`import a.b` binds only `a`)."""
    found: list[ModuleType] = []
    for value in carried.values():
        if not isinstance(value, ModuleType) or not hasattr(value, "__path__"):
            continue
        packages = [value]
        while packages:
            package = packages.pop()
            for attribute in _attribute_names(code):
                module = sys.modules.get(f"{package.__name__}.{attribute}")
                if module is not None and module not in found:
                    found.append(module)
                    packages.append(module)
    return found


def _attribute_names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _attribute_names(constant)
    return names


def new_function(
    code: CodeType, name: str, closure: tuple[CellType, ...] | None, carries: bool
) -> FunctionType:
    """A function of `__main__`, at the receiver; its state follows."""
    context = current_context() or LoadContext()
    namespace = context.namespace
    if not carries:
        function = FunctionType(code, namespace, name, None, closure)
    else:
        missing = object()
        before = namespace.get("__builtins__", missing)
        namespace["__builtins__"] = context.builtins_layer()
        try:
            function = FunctionType(code, namespace, name, None, closure)
        finally:
            if before is missing:
                del namespace["__builtins__"]
            else:
                namespace["__builtins__"] = before
    function.__module__ = "__main__"
    return function


def fill_function(function: FunctionType, state: dict[str, Any]) -> None:
    """Give a rebuilt function what belongs to it."""
    state.pop("modules", None)  # importing them was all
    carried = state.pop("carried", None)
    left_out = state.pop("left_out", None)
    context = current_context()
    if context is not None and left_out:
        context.left_out.update(left_out)
    if carried:
        if context is not None:
            context.carry(carried)
        else:
            LoadContext.layer_of(function).update(carried)
    function.__dict__.update(state.pop("__dict__", {}))
    for name, value in state.items():
        setattr(function, name, value)


def _reduce_cell(cell: CellType) -> tuple[Any, ...]:
    try:
        contents = cell.cell_contents
    except ValueError:
        return new_cell, ()
    return new_cell, (), contents, None, None, fill_cell


def new_cell() -> CellType:
    """An empty closure cell."""
    return CellType()


def fill_cell(cell: CellType, contents: object) -> None:
    """Give a rebuilt cell its contents."""
    cell.cell_contents = contents


_reduce_plain_code = cloudpickle.Pickler.dispatch_table[CodeType]


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    return rebuild_code, (MAGIC_NUMBER, *_reduce_plain_code(code)[1])


def rebuild_code(magic: bytes, *parts: Any) -> CodeType:
    """Code, if it was compiled for this Python.

    Raises:
        OtherPython: it was not.
    """
    if magic != MAGIC_NUMBER:
        raise OtherPython(
            f"a function was compiled by another version of Python than {sys.version.split()[0]}, which runs here",
            "run clients and engines with the same version, or define the function in a module both can import",
        )
    return CodeType(*parts)


ByValuePickler.dispatch_table = ChainMap(
    {CellType: _reduce_cell, CodeType: _reduce_code}, ByValuePickler.extra_reducers, cloudpickle.Pickler.dispatch_table
)
