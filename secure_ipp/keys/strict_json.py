"""JSON from outside, read strictly: UTF-8, one object, no duplicate keys, no NaN, bounded.  Nothing here is a secret's
friend: errors name fields, never values."""

from __future__ import annotations

import json
from typing import Any, NoReturn


class NotJson(ValueError):
    """The bytes are not one strict JSON object."""


def parse_object(data: bytes, max_bytes: int) -> dict[str, Any]:
    """The object that these unverified bytes spell.

    Raises:
        NotJson: anything else, in words that may be shown.
    """
    if len(data) > max_bytes:
        raise NotJson(f"it is longer than {max_bytes} bytes")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except NotJson:
        raise
    except UnicodeDecodeError:
        raise NotJson("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"it is not JSON (line {error.lineno}, column {error.colno})") from None
    except (RecursionError, ValueError):
        raise NotJson("it is not JSON that can be read") from None
    if not isinstance(value, dict):
        raise NotJson("it is not a JSON object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise NotJson("a field stands in it twice")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise NotJson("a number in it is not finite")


def shown(text: str, limit: int = 200) -> str:
    """Text from outside as it may stand in an error: printable, on one line, not long."""
    short = text if len(text) <= limit else text[:limit] + "…"
    return "".join(c if c.isprintable() else "?" for c in short)
