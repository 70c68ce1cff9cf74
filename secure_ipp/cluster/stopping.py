"""Ending a running cluster from outside: by its state file and its agents' pid files.

Engines first, so that what they finish still finds a scheduler, then the controller.  Laws: each is asked, then killed;
afterwards no process, state file, pid file or socket file of the cluster is left on this machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass

from secure_ipp import limits
from secure_ipp.cluster import state
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.places import ClusterPlace

POLL_SECONDS = 0.02  # processes that are not our children can only be looked at


@dataclass(frozen=True, slots=True)
class Stopped:
    """What was ended.

    Attributes:
        controller: pid of the supervisor, 0 if none ran.
        agents: pids.
        killed: those that did not stop when asked.
    """

    controller: int
    agents: tuple[int, ...]
    killed: tuple[int, ...]


def stop_engines(place: ClusterPlace, seconds: float = limits.SUPERVISOR_STOP_SECONDS) -> Stopped:
    """End all engines of the cluster that were started on this machine."""
    agents = state.read_agents(place)
    killed = _end([(agent.pid, agent.created) for agent in agents], seconds)
    for agent in agents:
        state.remove_agent(place, agent.pid)
    return Stopped(0, tuple(agent.pid for agent in agents), killed)


def stop_cluster(place: ClusterPlace, seconds: float = limits.SUPERVISOR_STOP_SECONDS) -> Stopped:
    """End engines and controller.

    Raises:
        EnvironmentProblem: the controller runs on another host.
    """
    controller = state.read_state(place)
    if controller is not None and controller.host != socket.gethostname():
        raise EnvironmentProblem(
            f"the controller of cluster {place.name!r} runs on {controller.host}",
            f"stop it there: ipcluster stop --cluster {place.name}", code="other-host",
        )
    engines = stop_engines(place, seconds)
    killed: tuple[int, ...] = ()
    if controller is not None:
        # a supervisor takes up to the limit for its own children
        killed = _end([(controller.pid, controller.created)], seconds + limits.SUPERVISOR_STOP_SECONDS)
    _wait_until_unlocked(place)
    if not state.is_locked(place):
        state.remove_state(place)
        for path in (place.hub_socket(), place.control_socket()):
            path.unlink(missing_ok=True)
    return Stopped(controller.pid if controller is not None else 0, engines.agents, engines.killed + killed)


def _end(processes: list[tuple[int, float]], seconds: float) -> tuple[int, ...]:
    """Ask, wait, kill, wait; gives the pids that had to be killed."""
    _signal(processes, signal.SIGTERM)
    left = _wait(processes, seconds)
    _signal(left, signal.SIGKILL)
    _wait(left, seconds)
    return tuple(pid for pid, _ in left)


def _signal(processes: list[tuple[int, float]], signum: int) -> None:
    for pid, created in processes:
        if state.runs(pid, created):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)


def _wait(processes: list[tuple[int, float]], seconds: float) -> list[tuple[int, float]]:
    end = time.monotonic() + seconds
    left = [process for process in processes if state.runs(*process)]
    while left and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        left = [process for process in left if state.runs(*process)]
    return left


def _wait_until_unlocked(place: ClusterPlace) -> None:
    """A killed supervisor's children end on their own, within two seconds; a start in progress is not ours to end."""
    end = time.monotonic() + 2.0
    while state.is_locked(place) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
