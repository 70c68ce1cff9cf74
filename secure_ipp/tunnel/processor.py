"""Whether this processor has instructions for AES."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

_KNOWN = Path("/proc/cpuinfo")
_AES = re.compile(r"^(?:flags|Features)\s*:.*\baes\b", re.MULTILINE)


@functools.cache
def has_aes() -> bool:
    """False also where the system does not tell."""
    if sys.platform == "darwin":
        return True
    try:
        return _AES.search(_KNOWN.read_text(errors="replace")) is not None
    except OSError:
        return False
