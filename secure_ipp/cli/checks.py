"""The answers of ``secure-ipp doctor``, and how its questions are asked.

Laws: a check never changes anything and asks nobody for a passphrase; one that cannot be made is a finding, not an
exception; no finding shows a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from secure_ipp.errors import SecureIppError

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "error")
FORMAT = "secure-ipp-doctor/1"


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer.

    Attributes:
        check: which question, a short stable word.
        level: how bad.
        text: what was found.
        advice: what to do; empty when nothing need be done.
    """

    check: str
    level: Level
    text: str
    advice: str = ""


Check = tuple[str, Callable[[], Iterator[Finding]]]


def ask_all(checks: Iterable[Check]) -> list[Finding]:
    """Every check, in order."""
    found: list[Finding] = []
    for name, check in checks:
        try:
            for finding in check():
                found.append(finding)
        except SecureIppError as error:
            found.append(Finding(name, "error", error.message, error.advice))
        except Exception as error:  # noqa: BLE001  a check that breaks is itself something to tell
            found.append(Finding(name, "warning", f"could not be checked: {type(error).__name__}: {error}"))
    return found


def worst(found: Iterable[Finding]) -> Level:
    """The level of the worst of them."""
    return max((finding.level for finding in found), key=LEVELS.index, default="ok")
