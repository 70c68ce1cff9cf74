"""What a journal's newest lines say at a start: where the chain stands, under which keys, and what the last run left.

Pure.  Takes the newest segments' bytes and the key file's state, and decides how to go on.  Laws:
- a last line without its end was under way when the process died: it is cut off, and the cut goes on record;
- any other fault in the lines, or keys that do not fit them, is `JournalBroken`: nothing is written behind lines that
  somebody changed, and the owner decides (`secure-ipp audit renew`);
- a key that has signed is stepped over, never used again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from secure_ipp.audit.chain import NotALine, Place, hash_of, parse_line
from secure_ipp.errors import PolicyError
from secure_ipp.keys.journal_key import JournalKey

_ANCHORS = frozenset({"genesis", "checkpoint", "renewed"})


class JournalBroken(PolicyError):
    """The journal is not what this hub wrote; nothing goes on record, so nothing goes on at all."""

    code = "journal-broken"


@dataclass(slots=True)
class Tail:
    """What was found.

    Attributes:
        at: where the chain stands.
        good: bytes of the last segment that are whole lines.
        torn: bytes behind them.
        sealed: number of the newest line that a checkpoint covers (its own).
        checkpoints: number and hash of those that were read.
        newest: the newest checkpoint's line; empty: none was read.
        registry: highest version of the registry on record.
        closed: the last run ended in order.
        ended: the last segment is complete; the next line begins another one.
    """

    at: Place
    good: int = 0
    torn: int = 0
    sealed: int = -1
    checkpoints: dict[int, str] = field(default_factory=dict)
    newest: bytes = b""
    registry: int = 0
    closed: bool = False
    ended: bool = False
    _next_checkpoint: tuple[int, str] | None = None
    _next_segment: tuple[int, str] | None = None

    def take(self, text: bytes, fields: dict[str, Any]) -> None:
        """One more line, which fits."""
        event = fields["event"]
        self.at = Place(fields["n"], hash_of(text))
        self.ended = event == "end"
        self.closed = event == "hub_stopped" or (self.closed and event in ("checkpoint", "end"))
        if isinstance(fields.get("registry" if event != "registry_loaded" else "version"), int):
            self.registry = max(self.registry, fields["registry" if event != "registry_loaded" else "version"])
        if event in _ANCHORS:
            self.sealed = fields["n"]
        if event == "checkpoint":
            self.checkpoints[fields["n"]] = self.at.hash
            self.newest = text
            self._next_checkpoint = fields["index"] + 1, fields["next"]
        elif event == "end":
            self._next_checkpoint = fields["index"], fields["checkpoint_key"]
            self._next_segment = fields["segment"] + 1, fields["next"]
        elif event in ("genesis", "renewed"):
            self._next_checkpoint = fields["index"], fields["checkpoint_key"]
            self._next_segment = fields["segment"], fields["segment_key"]

    def fitting(self, key: JournalKey) -> JournalKey:
        """The keys to go on with.

        Raises:
            JournalBroken: these are not the keys that the journal names.
        """
        found = key
        if self._next_checkpoint == (key.index + 1, key.checkpoint_next.public().text):
            found = found.after_checkpoint(self.at.number)  # it died between the line and the key file
        if self._next_segment == (key.segment + 1, key.segment_next.public().text):
            found = found.after_end(self.at.number)
        expected = found.index, found.checkpoint.public().text
        segment = found.segment, found.segment_key.public().text
        if self._next_checkpoint != expected or self._next_segment not in (None, segment):
            there = self._next_checkpoint[0] if self._next_checkpoint else 0
            behind = "is older than its key: lines are missing at its end" if there < key.index else "has another key"
            raise broken(f"the journal {behind} (checkpoint {there} is next in it, {key.index} by the key)")
        return found


def broken(reason: str) -> JournalBroken:
    """The error, with the owner's way on."""
    return JournalBroken(
        reason,
        "look at it: secure-ipp audit verify; put the newest copy back, or go on with the gap on record: "
        "secure-ipp audit renew",
    )


def read_tail(pieces: list[tuple[int, bytes]]) -> Tail:
    """Go through the newest segments.

    Args:
        pieces: number of the first line and bytes of each, oldest first; the first one holds a line that signs.

    Raises:
        JournalBroken: a line is damaged, or does not fit the one before.
    """
    tail = Tail(Place(-1, ""))
    for index, (first, data) in enumerate(pieces):
        last = index == len(pieces) - 1
        end = data.rfind(b"\n") + 1
        if end != len(data) and not last:
            raise broken(f"the segment that begins at line {first} ends in the middle of a line")
        if last:
            tail.good, tail.torn = end, len(data) - end
        _take_lines(tail, first, data[:end], known=index > 0)
    return tail


def signs(data: bytes) -> bool:
    """Whether a segment holds a whole line from which `read_tail` may start."""
    data = data[: data.rfind(b"\n") + 1]
    return any(b'","event":"%s","at":' % event.encode() in data for event in _ANCHORS)


def _take_lines(tail: Tail, first: int, data: bytes, *, known: bool) -> None:
    expected = first
    for text in data.splitlines():
        try:
            fields = parse_line(text)
        except NotALine as error:
            raise broken(f"line {expected} of the journal is damaged: {error}") from None
        number = fields["n"]
        moved = number != expected and not (fields["event"] == "renewed" and number > expected)
        unlinked = (known or expected > first) and fields["prev"] != tail.at.hash
        if moved or unlinked:
            raise broken(f"line {expected} of the journal is not the one that was written behind line {expected - 1}")
        try:
            tail.take(text, fields)
        except (KeyError, TypeError):
            raise broken(f"line {number} of the journal is damaged: a field is missing") from None
        expected = number + 1
