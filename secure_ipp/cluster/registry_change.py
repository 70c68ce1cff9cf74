"""Changing the registry of keys while its cluster runs, is stopped, or is being restarted (S10).

The command that holds the issuer's key writes the new version; the hub of a running controller adopts it when told so,
and answers only after the scheduler has it in force: the gate's table replaced, connections of lost grants cut.  Laws:
the registry's lock is held to the end, so that versions are adopted in their order; a change counts as in force only by
the controller's word for this very version; without a controller it is in force at the next start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from secure_ipp import limits
from secure_ipp.cluster.control import ask
from secure_ipp.cluster.state import host_on_file, is_locked
from secure_ipp.errors import EnvironmentProblem, SecureIppError
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.registry import Registry, change_registry

_RETRY_SECONDS = 0.05
Controller = Literal["running", "stopped"]


class NotInForce(EnvironmentProblem):
    """The registry was changed, but the running controller has not put the change in force."""

    code = "not-in-force"


@dataclass(frozen=True, slots=True)
class Applied:
    """A change that stands in the registry.

    Attributes:
        registry: its new version.
        in_force: whether a running controller has confirmed it.
        controller: "stopped": it is in force at the next start.
        problem: why it is not in force although the controller runs; else empty.
    """

    registry: Registry
    in_force: bool
    controller: Controller
    problem: str = ""


def apply(
    place: ClusterPlace, issuer: IssuerKey, change: Callable[[Registry], Registry], *, demand: bool = True,
    seconds: float = limits.IN_FORCE_SECONDS,
) -> Applied:
    """Change the registry and have the controller adopt it.

    Args:
        place: the cluster's.
        issuer: its issuer's key.
        change: makes the next version from the one on disk.
        demand: whether a running controller must confirm; if not, `Applied.problem` says why it did not.
        seconds: waited for it, over restarts of its processes.

    Raises:
        NotInForce: a controller runs and did not confirm; the change stands in the registry all the same.
        RegistryError, LockHeld: nothing was changed.
    """
    adopted: list[Applied] = []
    change_registry(place, issuer, change, written=lambda new: adopted.append(_adopt(place, new, seconds)))
    (applied,) = adopted
    if demand and applied.problem:
        raise NotInForce(
            f"version {applied.registry.version} of the registry is written but not in force: {applied.problem}",
            f"see `secure-ipp status --cluster {place.name}` and {place.log_dir / 'hub.log'}; if the keys must be kept "
            f"out now, stop the controller: ipcluster stop --cluster {place.name}",
        )
    return applied


def _adopt(place: ClusterPlace, registry: Registry, seconds: float) -> Applied:
    """Ask until the controller says yes, is seen not to run, or the time is over."""
    try:
        elsewhere = host_on_file(place)
    except SecureIppError as error:
        return Applied(registry, False, "running", error.message)
    if elsewhere:
        problem = f"by {place.state_file}, the controller runs on {elsewhere}; do this there"
        return Applied(registry, False, "running", problem)
    until = time.monotonic() + seconds
    problem = "the controller is being started or restarted"
    while is_locked(place):
        left = until - time.monotonic()
        if left <= 0:
            return Applied(registry, False, "running", problem)
        try:
            answer = ask(place, "adopt", max(left, _RETRY_SECONDS), version=registry.version)
        except SecureIppError as error:
            problem = error.message
            time.sleep(_RETRY_SECONDS)
            continue
        if answer.get("in_force") is True and answer.get("version", 0) >= registry.version:
            return Applied(registry, True, "running")
        problem = "the hub's answer is not the one to this question"
        time.sleep(_RETRY_SECONDS)
    return Applied(registry, False, "stopped")
