"""Text from engines, made harmless for a terminal (S31).

Laws, of `harmless`:
- No control sequence comes out but colour (SGR, without "conceal"), and colours end where the text ends.
- No other control character comes out but tabs and line ends; backspaces and carriage returns change nothing that was
  printed before: of a line that was written over, the last writing stays, as a terminal would leave it.
- Characters that reorder what stands around them (bidirectional overrides, embeddings, isolates), other line ends, and
  halves of characters come out as visible escapes.
- Text without any of these comes back as it is; harmless text stays what it is.
`line` gives one line without colour: for names, hosts, labels, reasons.
"""

from __future__ import annotations

import re
import sys
from typing import Any

_REORDERING = "\u202a-\u202e\u2066-\u2069"
_SUSPICIOUS = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{_REORDERING}\ud800-\udfff]")
_SEQUENCE = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]*m)"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC: strings
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # any other CSI
    r"|\x1b[ -/]*[0-~]?"  # any other escape
    r"|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]"
    rf"|(?P<visible>[\u2028\u2029{_REORDERING}\ud800-\udfff])"
)
_RESET = "\x1b[0m"
_COLOUR = re.compile(r"\x1b\[([0-9;:]*)m")


def harmless(text: str) -> str:
    """The text without anything that could drive a terminal, but with its colours."""
    if _SUSPICIOUS.search(text) is None:
        return text
    if "\r" in text or "\b" in text:
        text = _overwritten(text)
    text = _SEQUENCE.sub(_kept, text)
    colours = list(_COLOUR.finditer(text))
    if colours and colours[-1][1].strip("0;"):
        at = len(text.rstrip("\n"))
        text = text[:at] + _RESET + text[at:]
    return text


def line(text: str) -> str:
    """The text as one line of printable characters; what is none of them, escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def show_text(text: str, stream: Any = None) -> None:
    """Print harmless text; characters that the stream has no code for are escaped, and are no error."""
    stream = sys.stdout if stream is None else stream
    try:
        print(text, file=stream, flush=True)
    except UnicodeEncodeError:
        print(text.encode("ascii", "backslashreplace").decode(), file=stream, flush=True)


def _kept(found: re.Match[str]) -> str:
    if found["colour"]:
        return "" if _conceals(found["colour"][2:-1]) else found["colour"]
    return line(found["visible"]) if found["visible"] else ""


def _conceals(parameters: str) -> bool:
    """Is one of them "conceal", and not part of a colour (38, 48, 58; then 5 and a number, or 2 and three)?"""
    several = iter(parameters.split(";"))
    for one in several:
        code = one.partition(":")[0].lstrip("0")
        if code == "8":
            return True
        if code in ("38", "48", "58") and ":" not in one:
            kind = next(several, "").lstrip("0")
            if kind not in ("2", "5"):
                return True  # no colour that all terminals read in the same way
            for _ in range(3 if kind == "2" else 1):
                next(several, "")
    return False


def _overwritten(text: str) -> str:
    """What is left of lines that were written over."""
    lines = []
    for one in text.replace("\r\n", "\n").split("\n"):
        if "\r" in one:
            one = next((part for part in reversed(one.split("\r")) if part), "")
        lines.append(_backspaced(one) if "\b" in one else one)
    return "\n".join(lines)


def _backspaced(one: str) -> str:
    kept: list[str] = []
    for character in one:
        if character != "\b":
            kept.append(character)
        elif kept:
            kept.pop()
    return "".join(kept)
