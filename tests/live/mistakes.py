"""What the tests of bad input share: files that are not as they should be, and what every error must be like."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import secure_ipp as ipp
from secure_ipp.keys.capability import Capability, dump_capability, sign_capability
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.private_files import write_private
from tests.running import short_directory


def check_undisturbed(bystander: Any, pids: list[int]) -> None:
    assert bystander[:].apply_async(os.getpid).get(timeout=10) == pids
    squares = bystander.load_balanced_view().map_async(lambda x: x * x, range(10))
    assert squares.get(timeout=10) == [x * x for x in range(10)]


def remake(file: Capability, issuer: IssuerKey, **other: Any) -> Path:
    """A file like this one, but for some values, signed by somebody."""
    names = ("keys", "cluster", "cluster_id", "role", "name", "rights", "expires", "server_keys", "door")
    made = sign_capability(issuer, **{**{name: getattr(file, name) for name in names}, **other})
    path = short_directory() / "file.json"
    write_private(path, dump_capability(made))
    return path


def is_clear(error: BaseException, *words: str) -> None:
    """It says what happened, in these words, and what to do; and it gives nothing away."""
    assert isinstance(error, ipp.SecureIppError) and error.message and error.advice, repr(error)
    text = str(error)
    for word in words:
        assert word in text, text
    assert not re.search(r"[A-Za-z0-9_-]{43}", text) and "Traceback" not in text
