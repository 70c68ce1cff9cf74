"""What a pickle consists of, seen without running it (S19).

`read` cuts a stream into its operations; it builds nothing.  The operations are those of protocol 5 (Python's
`pickletools` describes them), and only those that a pickler of that protocol writes.

Laws.
- Nothing is announced that is not there: each length lies within the stream, which ends with its one STOP.
- No operation lies in two frames: Python's unpickler would lose its place there, and read what was never looked at.
- So what a loader allocates is bounded by a constant times the bytes that came.  The operations by which a few bytes
  could ask for much (memo indices, sizes), and those that reach outside (persistent ids, extension codes), are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from secure_ipp.payload.untrusted import unnamed

# Runs of operations of fixed length, by what matters about them; matched at C speed.
_RUNS = re.compile(
    rb"(?P<plain>(?:[N\x88\x89\]}\x8f)ae(\x94\x97\x980]|K.|M..|J.{4}|G.{8})++)"
    rb"|(?P<tuples>[t\x85-\x871]++)"
    rb"|(?P<keyed>[su\x90\x91]++)"
    rb"|(?P<gets>(?:h.|j.{4})++)"
    rb"|(?P<calls>[\x93R\x81\x92b]++)",
    re.DOTALL,
)
# Operations that are followed by so many bytes of a length, and then so much data.
SIZED = {
    0x8C: 1, 0x58: 4, 0x8D: 8,  # text: SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
    0x43: 1, 0x42: 4, 0x8E: 8,  # bytes: SHORT_BINBYTES, BINBYTES, BINBYTES8
    0x96: 8,  # BYTEARRAY8
    0x8A: 1, 0x8B: 4,  # whole numbers: LONG1, LONG4
}  # fmt: skip
FRAME, STOP, PROTO = 0x95, 0x2E, 0x80
_HEAD = bytes([PROTO, 5])
_TEXTS = (0x8C, 0x58, 0x8D)
_MOST_LOOKED_AT = 200_000  # operations that are searched for names, for an error's text


@dataclass(frozen=True, slots=True)
class Contents:
    """What a stream does.

    Attributes:
        calls: it names or calls something.
        shares: it may hold one object twice, or a tuple within what is hashed: its making needs care.
    """

    calls: bool
    shares: bool


def read(stream: bytes) -> Contents:
    """Look through a whole stream (unverified bytes).

    Raises:
        UntrustedResult: it is not what a pickler of protocol 5 writes.
    """
    if stream[:2] != _HEAD:
        raise unnamed("is not a pickle of protocol 5")
    kinds: set[str | None] = set()
    at, end, framed = 2, len(stream), 0
    match = _RUNS.match
    while True:
        run = match(stream, at, framed if at < framed else end)
        if run is not None:
            kinds.add(run.lastgroup)
            at = run.end()
        if at >= end:
            raise unnamed("ends in the middle of a pickle")
        code = stream[at]
        if code in SIZED:
            at = _past(stream, at, framed if at < framed else end)
        elif code == FRAME:
            if at < framed or (framed := at + 9 + int.from_bytes(stream[at + 1 : at + 9], "little")) > end:
                raise unnamed("holds frames that do not fit")
            at += 9
        elif code == STOP:
            if at + 1 != end:
                raise unnamed("goes on after its end")
            return Contents("calls" in kinds, "gets" in kinds or {"tuples", "keyed"} <= kinds)
        elif run is None:
            raise unnamed(f"holds the pickle operation 0x{code:02x}, which is not admitted")


def _past(stream: bytes, at: int, end: int) -> int:
    """Where the next operation begins, after one with a size."""
    width = SIZED[stream[at]]
    after = at + 1 + width + int.from_bytes(stream[at + 1 : at + 1 + width], "little")
    if after > end:
        raise unnamed("announces more bytes than came")
    return after


def names(stream: bytes) -> list[tuple[str, str]]:
    """(module, name) of what a stream that `read` has passed asks for, as far as can be told without running it."""
    found: dict[tuple[str, str], None] = {}
    memo: list[str] = []
    last = before = ""
    at, end = 2, len(stream)
    for _ in range(_MOST_LOOKED_AT):
        if at >= end:
            break
        code = stream[at]
        if code in SIZED:
            after = _past(stream, at, end)
            text = ""
            if code in _TEXTS:
                text = stream[at + 1 + SIZED[code] : min(after, at + 512)].decode("utf-8", "replace")
            before, last, at = last, text, after
            continue
        if code == 0x94:  # MEMOIZE
            memo.append(last)
        elif code == 0x68 or code == 0x6A:  # BINGET, LONG_BINGET
            index = int.from_bytes(stream[at + 1 : at + (2 if code == 0x68 else 5)], "little")
            before, last = last, memo[index] if index < len(memo) else ""
        elif code == 0x93:  # STACK_GLOBAL
            found[before, last] = None
            last = ""
        else:
            before, last = last, ""
        at += _FIXED.get(code, 1)
    return list(found)


_FIXED = {0x4B: 2, 0x4D: 3, 0x4A: 5, 0x47: 9, 0x68: 2, 0x6A: 5, FRAME: 9}
