"""Builds what a pickle describes, calling nothing but what it was given (S19).

A machine for the operations that `opcodes.read` passes; Python's own would call whatever it finds.

Laws.
- A name is looked up in the tables and nowhere else; only what a table says can be called is called.
- Only what this machine has made is filled or given a state: never a type, a function or a value of a table.
- A key is hashed, and compared, only if that takes a bounded number of steps: a tuple of tuples of one tuple, or a
  frozenset of frozensets of one frozenset, has no end.
- What comes out can be let go of: Python frees a deque in a deque, or a defaultdict in one, by a call within a call,
  so chains of those are short.
"""

from __future__ import annotations

import collections
import struct
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from secure_ipp import limits
from secure_ipp.payload import plain
from secure_ipp.payload.allowed import OBJECTS, Allowed, forbidden
from secure_ipp.payload.opcodes import FRAME, SIZED, STOP, names
from secure_ipp.payload.untrusted import UntrustedResult, unnamed, wanting

_KEY_NODES = 1000  # tuples and their elements in one key
_KEY_DEPTH = 32
_CHAIN = 32  # deques and defaultdicts that directly hold each other
_GROWTH = 64  # bytes that calls may copy for each byte of the stream
_MARK: Any = object()
_LISTS = (list, collections.deque)
_FRAIL = (collections.deque, collections.defaultdict)
_DICTS = (dict, collections.OrderedDict, collections.defaultdict)


class Builder:
    """One pickle being built.

    Args:
        stream: that `opcodes.read` has passed.
        buffers: out-of-band ones.
        allowed: what may be called besides the plain types.
    """

    def __init__(self, stream: bytes, buffers: Iterator[Any], allowed: Allowed) -> None:
        self._stream = stream
        self._buffers = buffers
        self._allowed = allowed
        self._stack: list[Any] = []
        self._memo: list[Any] = []
        self._at = 2
        self._frail: list[Any] = []  # every deque and defaultdict, held until it is known that it can be let go of
        self._weights: dict[int, tuple[frozenset[Any], int]] = {}  # of those frozensets that hold tuples or others
        self._room = _GROWTH * (len(stream) + limits.KIB)

    def build(self) -> Any:
        """The object.

        Raises:
            UntrustedResult: it holds more than is admitted.
            Exception: of the many that malformed bytes can raise.
        """
        try:
            value = self._run()
            if _longest_chain(self._frail) > _CHAIN:
                raise unnamed("holds deques in deques without end")
            return value
        except BaseException:
            for one in self._frail:  # each is held here too, so none takes others along
                one.clear()
            raise

    def _run(self) -> Any:
        stream, stack, fixed = self._stream, self._stack, _FIXED
        while True:
            code = stream[self._at]
            self._at += 1
            if code in SIZED:
                stack.append(self._sized(code))
            elif code == STOP:
                break
            elif code == FRAME:
                self._at += 8
            else:
                fixed[code](self)
        (value,) = stack
        if value is _MARK:
            raise unnamed("is no value")
        return value

    # --- values --------------------------------------------------------------------------------------------------

    def _take(self, count: int) -> bytes:
        data = self._stream[self._at : self._at + count]
        self._at += count
        return data

    def _sized(self, code: int) -> Any:
        data = self._take(int.from_bytes(self._take(SIZED[code]), "little"))
        if code in (0x8C, 0x58, 0x8D):
            return data.decode("utf-8", "surrogatepass")
        if code in (0x8A, 0x8B):
            return int.from_bytes(data, "little", signed=True)
        return bytearray(data) if code == 0x96 else data

    def _float(self) -> None:
        self._stack.append(struct.unpack(">d", self._take(8))[0])

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise unnamed("is built from nothing")
        return value

    def _marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        stack = self._stack
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise unnamed("is built from nothing")
        values = stack[at + 1 :]
        del stack[at:]
        return values

    def _tuple(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._stack.append(tuple(reversed(values)))

    def _memoize(self) -> None:
        value = self._stack[-1]
        if value is _MARK:
            raise unnamed("is built from nothing")
        self._memo.append(value)

    def _get(self, width: int) -> None:
        self._stack.append(self._memo[int.from_bytes(self._take(width), "little")])

    def _readonly(self) -> None:
        view = memoryview(self._pop())
        self._stack.append(view.toreadonly())

    # --- containers ----------------------------------------------------------------------------------------------

    def _target(self, kinds: tuple[type, ...]) -> Any:
        """The object on top of the stack, which is to be filled."""
        target = self._stack[-1]
        if not any(type(target) is kind for kind in kinds) and not self._allowed.made(target):
            raise unnamed("fills what is no container")
        return target

    def _append(self, values: list[Any]) -> None:
        target = self._target(_LISTS)
        if type(target) is list:
            target += values
        else:
            for value in values:
                target.append(value)

    def _set_items(self, values: list[Any]) -> None:
        if len(values) % 2:
            raise unnamed("has a key without a value")
        target = self._target(_DICTS)
        for key, value in zip(values[::2], values[1::2], strict=True):
            self._check_key(key)
            target[key] = value

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _add(self, values: list[Any]) -> None:
        target = self._target((set,))
        for value in values:
            self._check_key(value)
            target.add(value)

    def _frozenset(self) -> None:
        values = self._marked()
        for value in values:
            self._check_key(value)
        made = frozenset(values)
        weight = sum(self._weight(value) for value in made if isinstance(value, tuple | frozenset))
        if weight:
            self._weights[id(made)] = made, weight
        self._stack.append(made)

    def _weight(self, key: Any) -> int:
        """Tuples and frozensets that comparing this (whose tuples are few) walks over, each as often as it is met."""
        weight, rest = 0, [key]
        while rest:
            one = rest.pop()
            if isinstance(one, tuple):
                weight += 1
                rest += [element for element in one if isinstance(element, tuple | frozenset)]
            elif isinstance(one, frozenset):
                weight += 1 + self._weights.get(id(one), (one, 0))[1]
        return weight

    def _check_key(self, key: Any) -> None:
        """See that hashing this, and comparing it with its like, ends soon.

        Raises:
            UntrustedResult: it may not.
        """
        if type(key) is not tuple and type(key) is not frozenset:
            return
        if not _is_shallow(key) or self._weight(key) > len(self._stream):  # unless it repeats itself, it weighs less
            raise UntrustedResult("a result has a key of more tuples or sets than are admitted", "use simpler keys")

    # --- names and calls -----------------------------------------------------------------------------------------

    def _global(self) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise unnamed("asks for what has no name")
        found = self._find(module, name)
        self._stack.append(found)

    def _find(self, module: str, name: str) -> Any:
        if (module, name) in plain.VALUES:
            return plain.VALUES[module, name]
        if (module, name) in self._allowed.values:
            return self._allowed.values[module, name]
        others = [
            _shown(*wanted) for wanted in [(module, name), *names(self._stream)]
            if wanted not in plain.VALUES and wanted not in self._allowed.values and not forbidden(*wanted)
        ]
        raise wanting(_shown(module, name), others, forbidden=forbidden(module, name))

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        call = plain.CALLS.get(id(function)) or self._allowed.calls.get(id(function))
        if call is None or type(arguments) is not tuple:
            raise unnamed("calls what is not to be called")
        if id(function) in plain.COPYING:
            self._pay(arguments[: plain.COPYING[id(function)]])
        made = call(*arguments)
        if type(made) in _FRAIL:
            self._frail.append(made)
        self._stack.append(made)

    def _pay(self, arguments: tuple[Any, ...]) -> None:
        """Account for what a call copies: one argument could be copied as often as it is named.

        Raises:
            UntrustedResult: much more would be made than has come.
        """
        rest: list[Any] = [arguments]
        while rest and self._room >= 0:
            value = rest.pop()
            if type(value) in (str, bytes, bytearray):
                self._room -= len(value)
            elif type(value) is int:
                self._room -= value.bit_length() // 8
            elif type(value) in (list, tuple):
                self._room -= 8 * len(value)
                if self._room >= 0:
                    rest += value
            elif type(value) is dict:
                self._room -= 64 * len(value)
        if self._room < 0:
            raise unnamed("repeats itself too often")

    def _new(self) -> None:
        arguments, kind = self._pop(), self._pop()
        self._make(kind, arguments, {})

    def _new_with_keywords(self) -> None:
        keywords, arguments, kind = self._pop(), self._pop(), self._pop()
        self._make(kind, arguments, keywords)

    def _make(self, kind: Any, arguments: Any, keywords: Any) -> None:
        if type(arguments) is not tuple or type(keywords) is not dict:
            raise unnamed("calls what is not to be called")
        if kind is uuid.UUID and not arguments and not keywords:
            self._stack.append(uuid.UUID(int=0))
        elif id(kind) in self._allowed.calls and isinstance(kind, type):
            self._stack.append(kind.__new__(kind, *arguments, **keywords))
        else:
            raise unnamed("makes an instance of what is not to be made")

    def _build(self) -> None:
        state = self._pop()
        target = self._stack[-1]
        if self._allowed.made(target):
            self._allowed.give_state(target, state)
        else:
            plain.give_state(target, state)


def _shown(module: str, name: str) -> str:
    """A name from outside as "module:name", harmless in a message."""
    if (module, name) == OBJECTS:
        return "numpy:object_"
    return ":".join(
        part if all(word.isascii() and word.isidentifier() for word in part.split(".")) else ascii(part)
        for part in (module[:200], name[:200])
    )


def _is_shallow(key: Any) -> bool:
    """Are the tuples in this few?"""
    if type(key) is not tuple:
        return True
    left = _KEY_NODES
    level = [key]
    for _ in range(_KEY_DEPTH):
        inner: list[Any] = []
        for one in level:
            left -= len(one)
            if left < 0:
                break
            inner += [element for element in one if isinstance(element, tuple)]
        if left < 0 or not inner:
            return left >= 0
        level = inner
    return False


def _longest_chain(frail: list[Any]) -> int:
    """How many of these hold each other directly, one in another, at most; of circles, all."""
    inner = {id(one): [held for held in _held(one) if type(held) in _FRAIL] for one in frail}
    holders = dict.fromkeys(inner, 0)
    for several in inner.values():
        for held in several:
            holders[id(held)] = holders.get(id(held), 0) + 1
    level, length, left = [key for key, count in holders.items() if not count], 0, len(holders)
    while level:
        length += 1
        left -= len(level)
        below = []
        for key in level:
            for held in inner.get(key, ()):
                holders[id(held)] -= 1
                if not holders[id(held)]:
                    below.append(id(held))
        level = below
    return length + left  # those left are in circles, or below


def _held(one: Any) -> Any:
    return one.values() if isinstance(one, dict) else one


def _pushing(value: Any) -> Callable[[Builder], None]:
    return lambda builder: builder._stack.append(value)


def _whole(width: int, *, signed: bool = False) -> Callable[[Builder], None]:
    return lambda builder: builder._stack.append(int.from_bytes(builder._take(width), "little", signed=signed))


_FIXED: dict[int, Callable[[Builder], None]] = {
    ord("N"): _pushing(None),
    0x88: _pushing(True),
    0x89: _pushing(False),
    ord("("): _pushing(_MARK),
    ord(")"): _pushing(()),
    ord("]"): lambda b: b._stack.append([]),
    ord("}"): lambda b: b._stack.append({}),
    0x8F: lambda b: b._stack.append(set()),
    ord("K"): _whole(1),
    ord("M"): _whole(2),
    ord("J"): _whole(4, signed=True),
    ord("G"): Builder._float,
    ord("0"): lambda b: b._stack.pop(),
    ord("1"): lambda b: b._marked(),  # type: ignore[dict-item]
    ord("t"): lambda b: b._stack.append(tuple(b._marked())),
    0x85: lambda b: b._tuple(1),
    0x86: lambda b: b._tuple(2),
    0x87: lambda b: b._tuple(3),
    0x94: Builder._memoize,
    ord("h"): lambda b: b._get(1),
    ord("j"): lambda b: b._get(4),
    ord("a"): lambda b: b._append([b._pop()]),
    ord("e"): lambda b: b._append(b._marked()),
    ord("s"): Builder._set_item,
    ord("u"): lambda b: b._set_items(b._marked()),
    0x90: lambda b: b._add(b._marked()),
    0x91: Builder._frozenset,
    0x93: Builder._global,
    ord("R"): Builder._reduce,
    0x81: Builder._new,
    0x92: Builder._new_with_keywords,
    ord("b"): Builder._build,
    0x97: lambda b: b._stack.append(next(b._buffers)),
    0x98: Builder._readonly,
}
