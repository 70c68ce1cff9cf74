"""What a user allows results to be made of, by name, beyond plain data (S19).

A name is "module:Class" or "module:function", exact; what it names is imported here when it is allowed, and is then
called with arguments that an engine chooses.  So the names of what runs, imports, opens or looks up whatever it is
told are refused: to allow one of those is to allow anything, and that has a word of its own (`results="any"`).
That list is a seat belt and no wall: the user answers for what the allowed ones do.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Literal

from secure_ipp.errors import UsageError
from secure_ipp.payload import arrays

NAMES = 256  # of one `allow`
_ANY = 'results="any" says that these engines are trusted like your own programs'
# Whose functions and classes run, import, open, start or look up what they are told; by the first parts of a module.
_FORBIDDEN = (
    "builtins", "os", "posix", "nt", "ntpath", "posixpath", "subprocess", "_posixsubprocess", "sys", "importlib", "imp",
    "_frozen_importlib", "_frozen_importlib_external", "_imp", "zipimport", "pkgutil", "runpy", "pickle", "_pickle",
    "pickletools", "cloudpickle", "dill", "marshal", "shelve", "copyreg", "copy", "types", "functools", "_functools",
    "operator", "_operator", "itertools", "ctypes", "_ctypes", "cffi", "shutil", "pty", "tty", "code", "codeop", "pdb",
    "bdb", "timeit", "trace", "cProfile", "profile", "doctest", "unittest", "inspect", "gc", "io", "_io", "socket",
    "_socket", "ssl", "multiprocessing", "concurrent", "threading", "_thread", "asyncio", "signal", "resource", "mmap",
    "webbrowser", "tempfile", "glob", "logging", "site", "sysconfig", "pydoc", "platform", "sqlite3", "urllib", "http",
    "ftplib", "smtplib", "xmlrpc", "IPython", "ipykernel", "ipyparallel", "joblib", "secure_ipp", "test", "__main__",
    "antigravity", "this", "idlelib", "tkinter", "turtle", "weakref", "contextlib", "typing", "traceback", "linecache",
    "codecs", "encodings", "zipfile", "tarfile", "gzip", "bz2", "lzma", "yaml", "jsonpickle", "torch.storage",
    "torch.serialization", "pandas.io", "sympy.parsing", "sympy.core.sympify",
)
# NumPy's own way to make arrays writes where a pickle tells it; arrays come in by ours (see `arrays`).
_UNSAFE_ARRAYS = ("numpy", "numpy.core", "numpy._core", "numpy.lib", "numpy.ctypeslib", "numpy.f2py", "numpy.testing")


OBJECTS = (arrays.__name__, arrays.rebuild_objects.__name__)  # allowed under the name "numpy:object_"


def forbidden(module: str, name: str) -> str:
    """Why this name can never be allowed; empty: it can (unverified texts)."""
    if (module, name) == OBJECTS:
        return ""
    if module == "__main__":
        return "what was defined in an interactive program cannot be allowed by name"
    root = module.partition(".")[0]
    if root == "numpy" and (module, name) != ("numpy", "object_"):
        inner = module == "numpy" or any(module.startswith(f"{part}.") or module == part for part in _UNSAFE_ARRAYS[1:])
        if inner:
            return 'arrays come by themselves; those of Python objects if you allow "numpy:object_"'
    inside = next((part for part in _FORBIDDEN if module == part or module.startswith(f"{part}.")), "")
    if inside or root.startswith("_"):
        return f"{inside or root} can be made to run anything, and is never allowed by name"
    return ""


class _NotAllowed(UsageError, TypeError):
    """A name was given that cannot be allowed."""

    code = "not-allowed"


class Allowed:
    """Names that results may use besides plain data.

    Attributes:
        names: as "module:name", for people.
        values: what each name (as pickles say it) stands for.
        calls: what may be called, by its id.
    """

    __slots__ = ("calls", "names", "values")

    def __init__(self, values: dict[tuple[str, str], Any], names: Iterable[str] = ()) -> None:
        self.values = values
        self.names = tuple(dict.fromkeys(names))
        self.calls: dict[int, Callable[..., Any]] = {id(value): value for value in values.values()}

    @classmethod
    def of(cls, given: object) -> Allowed:
        """What a user gave: one name, class or function, or several.

        Raises:
            UsageError: one of them is not a name, names nothing here, or cannot be allowed.
        """
        several = list(given) if isinstance(given, Iterable) and not isinstance(given, str | type) else [given]
        if len(several) > NAMES:
            raise _NotAllowed(f"{len(several)} names are more than may be allowed at once", _ANY)
        values: dict[tuple[str, str], Any] = {}
        names = []
        for one in several:
            module, name, value = _named(one) if isinstance(one, str) else _itself(one)
            if (module, name) == ("numpy", "object_"):
                (module, name), value = OBJECTS, arrays.rebuild_objects
                names.append("numpy:object_")
            else:
                names.append(f"{module}:{name}")
                values[value.__module__, value.__qualname__] = value
            values[module, name] = value
        return cls(values, names)

    def __or__(self, other: Allowed) -> Allowed:
        return Allowed({**self.values, **other.values}, (*self.names, *other.names))

    def __repr__(self) -> str:
        return f"<Allowed: {', '.join(self.names) or 'plain data only'}>"

    def made(self, target: object) -> bool:
        """Is this an instance of a class that was allowed (and no class itself)?"""
        return id(type(target)) in self.calls and not isinstance(target, type)

    @staticmethod
    def give_state(target: Any, state: Any) -> None:
        """What BUILD does to an instance, as the pickle module has it; names with two underscores are left alone.

        Raises:
            TypeError: this is no state.
        """
        own = getattr(target, "__setstate__", None)
        if own is not None:
            own(state)
            return
        slots: Any = None
        if type(state) is tuple and len(state) == 2:
            state, slots = state
        for part in (state, slots):
            if part is not None and (type(part) is not dict or not all(_is_plain_name(name) for name in part)):
                raise TypeError("not the state of an object")
        if state:
            target.__dict__.update(state)
        for name, value in (slots or {}).items():
            setattr(target, name, value)


NOTHING = Allowed({})
Trust = Literal["any", "data"] | Allowed


def _is_plain_name(name: object) -> bool:
    return type(name) is str and not name.startswith("__")


def _named(text: str) -> tuple[str, str, Any]:
    module, colon, name = text.partition(":")
    parts = [*module.split("."), *name.split(".")]
    if not colon or not all(part.isascii() and part.isidentifier() for part in parts):
        raise _NotAllowed(
            f"{text[:200]!r} is not the name of a class or function", 'write "module:Class", as in "fractions:Fraction"'
        )
    _refuse_forbidden(module, name)
    try:
        value: Any = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError) as error:
        raise _NotAllowed(
            f"{text} cannot be allowed: {error}", "what is allowed must be importable here; see where it is defined"
        ) from error
    _refuse_unfit(text, value)
    return module, name, value


def _itself(value: Any) -> tuple[str, str, Any]:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not callable(value):
        raise _NotAllowed(
            f"a {type(value).__name__} is not a class or function", 'give classes, or names such as "module:Class"'
        )
    if value is not _object_scalar():
        _refuse_forbidden(module, name)
    _refuse_unfit(f"{module}:{name}", value)
    return module, name, value


def _refuse_forbidden(module: str, name: str) -> None:
    why = forbidden(module, name)
    if why:
        raise _NotAllowed(f"{module}:{name} cannot be allowed: {why}", _ANY)


def _refuse_unfit(text: str, value: Any) -> None:
    """What a name leads to must be a class or function of a module that is not forbidden itself."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(value, ModuleType) or not callable(value) or not isinstance(name, str):
        raise _NotAllowed(f"{text} is no class or function", "name one")
    if "<locals>" in name:
        raise _NotAllowed(f"{text} was defined inside a function", "define it in a module")
    if value is not _object_scalar():
        _refuse_forbidden(module if isinstance(module, str) else "builtins", name)


def _object_scalar() -> Any:
    import sys

    return getattr(sys.modules.get("numpy"), "object_", None)
