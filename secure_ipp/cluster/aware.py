"""Waiting until the peers of a running controller know the server's next key (S33)."""

from __future__ import annotations

import time
from typing import Any

from secure_ipp import limits
from secure_ipp.cluster.control import ask
from secure_ipp.cluster.state import is_locked
from secure_ipp.errors import EnvironmentProblem, SecureIppError
from secure_ipp.keys.places import ClusterPlace

_POLL_SECONDS = 0.25


class Unaware(EnvironmentProblem):
    """Somebody who is connected has not confirmed the next key, and would have to get a new file after the switch."""

    code = "unaware"


def unaware_now(place: ClusterPlace, number: int) -> int | None:
    """How many are connected and have not confirmed this statement; None: no controller runs, or it cannot tell yet."""
    if not is_locked(place):
        return None
    try:
        known: dict[str, Any] = ask(place, "status", limits.CONTROL_SECONDS)["scheduler"].get("server_keys", {})
    except (SecureIppError, KeyError):
        return None
    return int(known["unaware"]) if known.get("number", -1) >= number else None


def wait_until_aware(place: ClusterPlace, number: int, seconds: float = limits.AWARE_SECONDS) -> None:
    """Return when all who are connected know the statement of this number; at once if no controller runs.

    Raises:
        Unaware: some do not, after this time.
    """
    until = time.monotonic() + seconds
    while is_locked(place):
        unaware = unaware_now(place, number)
        if unaware == 0:
            return
        if time.monotonic() >= until:
            who = "the controller does not say who" if unaware is None else f"{unaware} of those connected do not"
            raise Unaware(
                f"not everybody knows the server's next key ({who}); nothing was switched",
                "wait and say it again; with --anyway the switch is made, and whoever does not know the next key "
                "needs a new file as soon as the connection is lost",
            )
        time.sleep(_POLL_SECONDS)
