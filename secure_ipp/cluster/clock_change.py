"""Accepting this host's clock after a jump, with the controller running or not (S17)."""

from __future__ import annotations

import time
from typing import Any

from secure_ipp.cluster.control import ask
from secure_ipp.cluster.state import is_locked
from secure_ipp.hub.clock import Clock
from secure_ipp.keys.places import ClusterPlace


def look(place: ClusterPlace) -> dict[str, Any]:
    """`trusted` and `wall` time, seconds since the epoch; `jump` and `behind` in seconds; whether it `runs`."""
    if is_locked(place):
        return {**ask(place, "status")["clock"], "runs": True}
    return {**told(Clock(place)), "runs": False}


def accept(place: ClusterPlace) -> dict[str, Any]:
    """Follow the wall clock over its jump; as `look`, afterwards.

    Raises:
        EnvironmentProblem: the controller does not answer, or the mark cannot be written.
    """
    if is_locked(place):
        return {**ask(place, "accept-clock"), "runs": True}
    clock = Clock(place)
    clock.accept()
    return {**told(clock), "runs": False}


def told(clock: Clock) -> dict[str, Any]:
    """What commands show of a clock."""
    trusted = clock.now()
    return {"trusted": trusted, "wall": time.time(), "jump": clock.jump, "behind": clock.behind}
