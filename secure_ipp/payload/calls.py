"""The bodies of each kind of task, made at the client and read at the engine.

- apply: pickle of (args, kwargs), the function going apart under its digest; a function too large for that
  goes in the body: pickle of (function bytes, args, kwargs).
- execute: [code as UTF-8, flags as JSON].  push: pickle of a dict.  pull: [JSON: a name or
  a list of names].  clear: [].
- a result: pickle of the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from secure_ipp import limits
from secure_ipp.errors import ProtocolError, UsageError
from secure_ipp.payload.context import LoadContext
from secure_ipp.payload.functions import pack_function
from secure_ipp.payload.objects import Buffer, dumps, loads

Kind = Literal["apply", "execute", "push", "pull", "clear"]


@dataclass(frozen=True, slots=True)
class PackedCall:
    """A task's work, ready for `as_body`.

    Attributes:
        kind: what the engine is to do.
        digest: SHA-256 of the function that goes apart; empty if none does.
        code: that function's bytes.
        buffers: the body.
    """

    kind: Kind
    digest: bytes
    code: bytes
    buffers: list[Buffer]


class ExecuteFlags(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to execute a cell."""

    silent: bool = False
    store_history: bool = True


_NO_ARGUMENTS = dumps(((), {}))
_decode_flags = msgspec.json.Decoder(ExecuteFlags).decode
_decode_names = msgspec.json.Decoder(str | list[str]).decode


def pack_call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> PackedCall:
    """A function call.

    Raises:
        UsageError: something in it cannot be pickled.
    """
    packed = pack_function(function)
    if len(packed.code) > limits.FUNCTION_BYTES:
        return PackedCall("apply", b"", b"", dumps((packed.code, tuple(args), dict(kwargs))))
    body = dumps((tuple(args), dict(kwargs))) if args or kwargs else _NO_ARGUMENTS
    return PackedCall("apply", packed.digest, packed.code, body)


def pack_execute(code: str, *, silent: bool = False, store_history: bool = True) -> PackedCall:
    """A cell of code.

    Raises:
        UsageError: it is not text that UTF-8 can write.
    """
    try:
        text = code.encode()
    except UnicodeEncodeError as error:
        raise UsageError("code to execute holds half a surrogate pair", "remove it") from error
    flags = msgspec.json.encode(ExecuteFlags(silent=silent, store_history=store_history))
    return PackedCall("execute", b"", b"", [text, flags])


def pack_push(names: Mapping[str, Any]) -> PackedCall:
    """Values for names of the engine's namespace.

    Raises:
        UsageError: a value cannot be pickled, or a name is no text.
    """
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"names to push must be text, not {type(name).__name__}", "push a dict of names")
    return PackedCall("push", b"", b"", dumps(dict(names)))


def pack_pull(names: str | Sequence[str]) -> PackedCall:
    """Ask for the value of a name, or a list of values for a list of names."""
    return PackedCall("pull", b"", b"", [msgspec.json.encode(names if isinstance(names, str) else list(names))])


def pack_clear() -> PackedCall:
    """Empty the engine's namespace."""
    return PackedCall("clear", b"", b"", [])


def read_call(
    buffers: Sequence[Buffer], context: LoadContext, *, with_function: bool
) -> tuple[bytes, tuple[Any, ...], dict[str, Any]]:
    """The body of an apply: (function bytes or b"", args, kwargs).

    Raises:
        ProtocolError: it is no such body.
        Exception: whatever rebuilding the arguments raises.
    """
    if not buffers:
        raise ProtocolError("the body of a call is empty")
    parts = loads(buffers, trust="any", context=context)
    if with_function:
        parts = (b"", *parts)
    try:
        code, args, kwargs = parts
    except (TypeError, ValueError):
        raise ProtocolError("the body of a call is not one") from None
    return code, args, kwargs


def read_execute(buffers: Sequence[Buffer]) -> tuple[str, ExecuteFlags]:
    """The body of an execute.

    Raises:
        ProtocolError: it is no such body.
    """
    try:
        code, flags = buffers
        return str(code, "utf-8"), _decode_flags(flags)
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise ProtocolError("the body of an execute is not one") from error


def read_push(buffers: Sequence[Buffer], context: LoadContext) -> dict[str, Any]:
    """The body of a push.

    Raises:
        ProtocolError: it is no such body.
        Exception: whatever rebuilding the values raises.
    """
    names = loads(buffers, trust="any", context=context) if buffers else None
    if not isinstance(names, dict):
        raise ProtocolError("the body of a push is not one")
    return names


def read_pull(buffers: Sequence[Buffer]) -> str | list[str]:
    """The body of a pull.

    Raises:
        ProtocolError: it is no such body.
    """
    try:
        (names,) = buffers
        asked: str | list[str] = _decode_names(names)
        return asked
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise ProtocolError("the body of a pull is not one") from error
