"""The plain types: which names a pickle of plain data may use, and what it may make by them (S19).

Laws.
- A name stands for a value: a builtin type or a type of the standard library.  What calling it makes is decided by a
  function here, which looks at each argument; a type without one can be held and not called.
- No function here makes more memory than its arguments have: none repeats, multiplies or counts up.
"""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import fractions
import pathlib
import re
import uuid
from collections.abc import Callable
from typing import Any

from secure_ipp.payload import arrays

Maker = Callable[..., Any]

_RATIO = re.compile(r"-?[0-9]+(/[0-9]+)?")


def _only(kind: type, *kinds: type) -> Maker:
    """Calls the type with arguments of exactly these kinds."""
    admitted = frozenset(kinds)

    def make(*arguments: Any) -> Any:
        if not all(type(argument) in admitted for argument in arguments):
            raise TypeError(f"these are no arguments of a {kind.__name__}")
        return kind(*arguments)

    return make


def _empty(kind: type) -> Maker:
    def make(*arguments: Any) -> Any:
        if any(type(argument) not in (tuple, list) or argument for argument in arguments):
            raise TypeError(f"a {kind.__name__} is made empty, and then filled")
        return kind()

    return make


def _deque(content: Any = (), most: Any = None) -> object:
    if type(content) not in (tuple, list) or content or not (most is None or type(most) is int):
        raise TypeError("a deque is made empty, and then filled")
    return collections.deque(maxlen=most)


_FACTORIES = (
    list, dict, set, int, float, str, bool, bytes, bytearray, complex, tuple, frozenset, collections.OrderedDict,
    collections.deque, collections.Counter,
)


def _defaultdict(factory: Any = None) -> object:
    if factory is not None and not any(factory is one for one in _FACTORIES):
        raise TypeError("the factory of a defaultdict is a plain type")
    return collections.defaultdict(factory)


def _counter(counts: Any = None) -> object:
    if counts is None or type(counts) is dict:
        return collections.Counter(counts)
    raise TypeError("a Counter is made from a dict")


def _fraction(*parts: Any) -> object:
    if len(parts) == 1 and type(parts[0]) is str and _RATIO.fullmatch(parts[0]):
        return fractions.Fraction(parts[0])
    if len(parts) == 2 and all(type(part) is int for part in parts):
        return fractions.Fraction(*parts)
    raise TypeError("a Fraction is made from two whole numbers")


def _slice(*bounds: Any) -> object:
    if len(bounds) != 3 or not all(type(bound) in (int, float, str, bytes, type(None)) for bound in bounds):
        raise TypeError("a slice is made from three numbers or texts")
    return slice(*bounds)


def _paths(kind: type[pathlib.PurePath]) -> Maker:
    def make(*parts: Any) -> pathlib.PurePath:
        if not all(type(part) is str for part in parts):
            raise TypeError("a path is made from text")
        return kind(*parts)

    return make


def _timezone(offset: Any, *name: Any) -> object:
    if type(offset) is not datetime.timedelta or not all(type(one) is str for one in name):
        raise TypeError("a time zone is made from an offset and a name")
    return datetime.timezone(offset, *name)


def _is_span(start: Any, end: Any, text: Any) -> bool:
    return type(start) is int and type(end) is int and 0 <= start <= end <= len(text)


def _codec_error(kind: Callable[..., Exception], content: type) -> Maker:
    """Python believes the positions in such an error when it is printed, and looks there."""

    def make(encoding: Any, text: Any, start: Any, end: Any, reason: Any) -> Exception:
        if type(encoding) is not str or type(text) is not content or type(reason) is not str:
            raise TypeError("these are no arguments of an error of a codec")
        if not _is_span(start, end, text):
            raise ValueError("an error of a codec beyond its text")
        return kind(encoding, text, start, end, reason)

    return make


def _translate_error(text: Any, start: Any, end: Any, reason: Any) -> Exception:
    if type(text) is not str or type(reason) is not str or not _is_span(start, end, text):
        raise TypeError("these are no arguments of a UnicodeTranslateError")
    return UnicodeTranslateError(text, start, end, reason)


def _group(message: Any, errors: Any) -> object:
    if type(message) is not str or type(errors) not in (list, tuple):
        raise TypeError("an ExceptionGroup is made from a text and exceptions")
    return ExceptionGroup(message, list(errors))


_MOMENT = (bytes, int, datetime.timezone, type(None))
_HELD = (int, float, str, bytes, bytearray, bool, list, dict, tuple, set, frozenset)
_EXCEPTIONS = [
    kind for kind in vars(builtins).values()
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, BaseExceptionGroup)
    and not (issubclass(kind, UnicodeError) and kind is not UnicodeError)
]
# What a builtin exception keeps outside its dict and yet pickles.
_SLOTS: tuple[tuple[type[Exception], str, tuple[type, ...]], ...] = (
    (ImportError, "name", (str, type(None))), (ImportError, "path", (str, type(None))),
    (ImportError, "name_from", (str, type(None))), (AttributeError, "name", (str, type(None))),
    (AttributeError, "args", (tuple,)), (NameError, "name", (str, type(None))),
)

MAKERS: list[tuple[Any, Maker]] = [
    (complex, _only(complex, float)),
    (range, _only(range, int)),
    (slice, _slice),
    (collections.OrderedDict, _empty(collections.OrderedDict)),
    (collections.deque, _deque),
    (collections.defaultdict, _defaultdict),
    (collections.Counter, _counter),
    (datetime.date, _only(datetime.date, bytes, int)),
    (datetime.time, _only(datetime.time, *_MOMENT)),
    (datetime.datetime, _only(datetime.datetime, *_MOMENT)),
    (datetime.timedelta, _only(datetime.timedelta, int)),
    (datetime.timezone, _timezone),
    (decimal.Decimal, _only(decimal.Decimal, str)),
    (fractions.Fraction, _fraction),
    (ExceptionGroup, _group),
    (arrays.rebuild_array, arrays.rebuild_array),
    (arrays.rebuild_scalar, arrays.rebuild_scalar),
    (UnicodeDecodeError, _codec_error(UnicodeDecodeError, bytes)),
    (UnicodeEncodeError, _codec_error(UnicodeEncodeError, str)),
    (UnicodeTranslateError, _translate_error),
    *((kind, kind) for kind in _EXCEPTIONS),
]

# What a name stands for; paths become pure ones: a path from an engine is no path of this machine.
VALUES: dict[tuple[str, str], Any] = {
    **{(kind.__module__, kind.__qualname__): kind for kind in (*_HELD, *(made for made, _ in MAKERS), uuid.UUID)},
    ("builtins", "Ellipsis"): ...,
    ("builtins", "NotImplemented"): NotImplemented,
}
for _module in ("pathlib", "pathlib._local"):
    VALUES[_module, "PosixPath"] = VALUES[_module, "PurePosixPath"] = pathlib.PurePosixPath
    VALUES[_module, "WindowsPath"] = VALUES[_module, "PureWindowsPath"] = pathlib.PureWindowsPath
MAKERS += [(kind, _paths(kind)) for kind in (pathlib.PurePosixPath, pathlib.PureWindowsPath)]

CALLS: dict[int, Maker] = {id(value): maker for value, maker in MAKERS}  # all of them live as long as this module
# Whose arguments are copied by what they make: how many of them, None for all.
COPYING: dict[int, int | None] = {
    **{
        id(value): None for value in (
            range, collections.Counter, decimal.Decimal, fractions.Fraction, ExceptionGroup,
            pathlib.PurePosixPath, pathlib.PureWindowsPath, arrays.rebuild_scalar, arrays.rebuild_objects,
        )
    },
    id(arrays.rebuild_array): 1,  # the array lies where its bytes are
}


def give_state(target: Any, state: Any) -> None:
    """What BUILD does to a plain object: an exception's attributes and notes, a UUID's number.

    Raises:
        TypeError: nothing else has a state.
    """
    if type(state) is not dict or not all(type(name) is str for name in state):
        raise TypeError("a plain object's state is a dict of names")
    if type(target) is uuid.UUID:
        number = state.get("int")
        if set(state) - {"int", "is_safe"} or type(number) is not int or not 0 <= number < 1 << 128:
            raise TypeError("not the state of a UUID")
        object.__setattr__(target, "int", number)
        return
    if not isinstance(target, Exception) or id(type(target)) not in CALLS:
        raise TypeError("only exceptions have a state")
    for name, value in state.items():
        notes = name == "__notes__" and type(value) is list and all(type(note) is str for note in value)
        slot = not notes and hasattr(type(target), name)
        fits = any(isinstance(target, kind) and name == known and type(value) in types for kind, known, types in _SLOTS)
        if (name.startswith("_") and not notes) or (slot and not fits):
            raise TypeError("not an attribute of a plain exception")
        setattr(target, name, value)
