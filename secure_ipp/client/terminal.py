"""Text from engines, made harmless for a terminal (S31).

Laws: what comes out holds no control sequence but colour (SGR), no bell, no C1 control; tabs, line ends and
carriage returns stay; text without controls comes back as it is.
"""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SEQUENCE = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]*m)"
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC: a string, ended by BEL or ST
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"  # any other CSI
    r"|\x1b[ -/]*[0-~]?"  # any other escape
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)


def harmless(text: str) -> str:
    """The text without anything that could drive a terminal, but with its colours."""
    if _CONTROL.search(text) is None:
        return text
    return _SEQUENCE.sub(lambda found: found["colour"] or "", text)
