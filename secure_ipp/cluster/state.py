"""What runs here for a cluster: the controller's state file, the agents' pid files, the lock.

The state file lies in the cluster's directory and is written by the supervisor alone; agents started on this machine
have a file each in the private runtime directory. Laws: a process counts as running only if its pid and its start
time are those on file (pids are used again); a stale file is no obstacle; files are 0600.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.locks import Lock, LockHeld
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import read_private, remove_private, write_private

STATE_BYTES = 64 * 1024
LOOK_SECONDS = 0.5  # whoever only looks at a lock holds it for a moment
START_TIME_SLACK = 1.0  # seconds; the kernel's clock ticks and the boot time are rounded


class ControllerState(msgspec.Struct, frozen=True):
    """The controller's state file.

    Attributes:
        pid: the supervisor's.
        created: its start time, seconds since the epoch, as the kernel tells it.
        started: when both processes were ready first, seconds since the epoch.
        hub, scheduler: process ids, as of the last restart.
        restarts: of either, since the start.
        client_port, engine_port, bind: where the doors listen with Curve; 0: nowhere.
        client_socket, engine_socket: the doors that are Unix sockets; "": there are none.
    """

    cluster: str
    host: str
    pid: int
    created: float
    client_port: int
    engine_port: int
    bind: str
    started: float
    hub: int
    scheduler: int
    restarts: int
    version: str
    client_socket: str = ""
    engine_socket: str = ""


class AgentState(msgspec.Struct, frozen=True):
    """The pid file of an agent on this machine."""

    pid: int
    created: float
    engines: int
    log_file: str
    started: float


def created_at(pid: int) -> float:
    """Start time of a process, seconds since the epoch; 0 when there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return 0.0


def runs(pid: int, created: float) -> bool:
    """Whether this very process, not another of the same number, is running here."""
    found = created_at(pid)
    return found > 0 and abs(found - created) <= START_TIME_SLACK


def write_state(place: ClusterPlace, state: ControllerState) -> None:
    write_private(place.state_file, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n", exclusive=False)


def read_state(place: ClusterPlace) -> ControllerState | None:
    """The controller that runs on this machine, or None.

    Raises:
        EnvironmentProblem: the file is damaged, or says that the controller runs on another host.
        PrivateFileError: others could have written it.
    """
    state = _on_file(place)
    if state is None:
        return None
    if state.host != socket.gethostname():
        return state if is_locked(place) else None
    return state if runs(state.pid, state.created) else None


def _on_file(place: ClusterPlace) -> ControllerState | None:
    try:
        data = read_private(place.state_file, STATE_BYTES)
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=ControllerState)
    except msgspec.DecodeError as error:
        advice = "remove it when no controller of this cluster runs"
        raise EnvironmentProblem(f"{place.state_file} is damaged: {error}", advice) from error


def host_on_file(place: ClusterPlace) -> str:
    """The other host on which a controller runs by the state file's word; empty: none.

    Raises:
        EnvironmentProblem, PrivateFileError: as `read_state`.
    """
    state = _on_file(place)
    return "" if state is None or state.host == socket.gethostname() or is_locked(place) else state.host


def remove_state(place: ClusterPlace) -> None:
    remove_private(place.state_file)


# --- agents --------------------------------------------------------------------------------------------


def agent_file(place: ClusterPlace, pid: int) -> Path:
    return place.runtime_dir() / f"agent-{pid}.json"


def write_agent(place: ClusterPlace, state: AgentState) -> None:
    write_private(agent_file(place, state.pid), msgspec.json.encode(state) + b"\n", exclusive=False)


def read_agents(place: ClusterPlace) -> list[AgentState]:
    """Agents of this cluster that run on this machine; pid files of others are removed."""
    return list(_live_agents(place))


def _live_agents(place: ClusterPlace) -> Iterator[AgentState]:
    for path in sorted(place.runtime_dir().glob("agent-*.json")):
        try:
            agent = msgspec.json.decode(read_private(path, STATE_BYTES), type=AgentState)
        except FileNotFoundError:
            continue
        except msgspec.DecodeError:
            remove_private(path)
            continue
        if runs(agent.pid, agent.created):
            yield agent
        else:
            remove_private(path)


def remove_agent(place: ClusterPlace, pid: int) -> None:
    remove_private(agent_file(place, pid))


# --- the lock -----------------------------------------------------------------------------------------


def take_lock(place: ClusterPlace) -> Lock:
    """One controller per cluster: a lock that the kernel lets go when its holder ends, however it ends.

    Raises:
        EnvironmentProblem: a controller of this cluster is running.
    """
    lock = Lock(place.lock_file, wait=LOOK_SECONDS)
    try:
        lock.acquire()
    except LockHeld as error:
        raise EnvironmentProblem(
            f"a controller of cluster {place.name!r} is running already",
            f"use it, or end it first: ipcluster stop --cluster {place.name}",
            code="already-running",
        ) from error
    return lock


def is_locked(place: ClusterPlace) -> bool:
    """Whether a controller of this cluster runs, or is being started."""
    lock = Lock(place.lock_file)
    try:
        lock.acquire()
    except LockHeld:
        return True
    lock.release()
    return False
