"""The chain of the journal's lines: numbers, links, and what the evolving keys sign.

Pure.  A line is one JSON object in printable ASCII that begins with its number and the hash of the line before it;
so whatever is changed, removed or moved breaks the link behind it.  Laws: a line that was made counts only when
`Chain.commit` says that it is written; a signature ends its line and covers all that stands before it.  The format is
docs/journal.md's; `verify` reads it without this module.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from secure_ipp import limits
from secure_ipp.audit.record import AuditRecord, line
from secure_ipp.keys import base64url
from secure_ipp.keys.journal_key import JournalKey, signed_line

CHECKPOINT_PURPOSE = "journal-checkpoint/1"
END_PURPOSE = "journal-end/1"
HEAD_FORMAT = "secure-ipp-head/1"
_BOUND = b"secure-ipp-journal/1\0"


class NotALine(ValueError):
    """The bytes are no line of a journal."""


def hash_of(text: bytes) -> str:
    """The hash that the next line names: of a line without its newline."""
    return base64url.encode(hashlib.sha256(_BOUND + text).digest())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chain stands: the number of its last line, and that line's hash."""

    number: int
    hash: str


def linked(records: Iterable[AuditRecord], after: Place) -> tuple[bytes, Place]:
    """The lines of these records, newlines included, and where the chain then stands."""
    lines, number, before = [], after.number, after.hash
    for record in records:
        number += 1
        text = b'{"n":%d,"prev":"%s",' % (number, before.encode()) + line(record)[1:-1]
        if len(text) >= limits.JOURNAL_LINE_BYTES:
            raise NotALine("a record is longer than a line may be")
        before = hash_of(text)
        lines.append(text)
    lines.append(b"")
    return b"\n".join(lines), Place(number, before)


def checkpoint_line(key: JournalKey, after: Place, now: float, registry: int) -> tuple[bytes, Place]:
    """The checkpoint that follows, without a newline, signed by a key that is then to be forgotten."""
    text = signed_line(key.checkpoint, CHECKPOINT_PURPOSE, {
        "n": after.number + 1, "prev": after.hash, "event": "checkpoint", "at": now, "index": key.index,
        "key": key.checkpoint.public().text, "next": key.checkpoint_next.public().text, "registry": registry,
    })
    return text, Place(after.number + 1, hash_of(text))


def end_line(key: JournalKey, after: Place, now: float, registry: int) -> tuple[bytes, Place]:
    """The last line of a segment, without a newline; it carries both chains of keys over to the next one."""
    text = signed_line(key.segment_key, END_PURPOSE, {
        "n": after.number + 1, "prev": after.hash, "event": "end", "at": now, "segment": key.segment,
        "key": key.segment_key.public().text, "next": key.segment_next.public().text, "index": key.index,
        "checkpoint_key": key.checkpoint.public().text, "registry": registry,
    })
    return text, Place(after.number + 1, hash_of(text))


def parse_line(text: bytes) -> dict[str, Any]:
    """The fields of a line, unverified but for their form.

    Raises:
        NotALine: it is not one JSON object in printable ASCII with a number and a link.
    """
    if not text.isascii() or not text.decode("ascii").isprintable() or len(text) > limits.JOURNAL_LINE_BYTES:
        raise NotALine("it is not printable ASCII, or too long")
    try:
        fields = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise NotALine("it is not JSON") from None
    if not isinstance(fields, dict) or type(fields.get("n")) is not int or not isinstance(fields.get("event"), str):
        raise NotALine("it has no number or no event")
    if not text.startswith(b'{"n":%d,"prev":"' % fields["n"]) or not isinstance(fields.get("prev"), str):
        raise NotALine("it does not begin with its number and link")
    return fields


def head_of(cluster_id: str, text: bytes) -> dict[str, Any]:
    """What a client remembers of a checkpoint's line, as plain data; see docs/journal.md."""
    fields = parse_line(text)
    return {
        "format": HEAD_FORMAT, "cluster_id": cluster_id, "number": fields["n"], "hash": hash_of(text),
        "index": fields.get("index"), "key": fields.get("key"), "at": fields.get("at"),
        "signature": fields.get("signature"), "line": text.decode("ascii"),
    }


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise NotALine("a field stands in it twice")
    return fields
