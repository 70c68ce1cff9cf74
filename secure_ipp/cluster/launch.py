"""Starting supervisors and agents as children, each in a session of its own, and hearing what becomes of them.

A session of its own keeps a terminal's Ctrl-C and hang-up away from them: whoever started them decides what those
mean. Laws: what a child is told goes through its stdin (S11); `wait_for` ends in the event, in the child's own error,
or in an error when its time is over, never in silence; `stop` leaves no process behind.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from secure_ipp import hardening, limits
from secure_ipp.cluster import state
from secure_ipp.cluster.bootstrap import (
    SupervisorBootstrap,
    child_environment,
    failure_of,
    module_command,
    parse_event,
)
from secure_ipp.cluster.children import Lines
from secure_ipp.cluster.doors import check_curve
from secure_ipp.cluster.restarts import describe
from secure_ipp.engine.bootstrap import WayWanted
from secure_ipp.errors import EnvironmentProblem, UsageError
from secure_ipp.keys.capability import Capability, load_capability
from secure_ipp.keys.config import load_config
from secure_ipp.keys.places import ClusterPlace, NoKeys
from secure_ipp.keys.private_files import make_private_dir

_log = logging.getLogger(__name__)
STOP_MARGIN_SECONDS = 2.0  # above what a supervisor or an agent takes to stop its own children


class Started:
    """A supervisor or an agent that this process has started.

    Args:
        what: "the controller" or "the engines' agent", for messages.
        process: the child; its stdin may be open as a tether.
        events: the reading end of its event pipe.
    """

    def __init__(self, what: str, process: subprocess.Popen[bytes], events: IO[bytes]) -> None:
        self.what = what
        self.process = process
        self._pipe = events
        self._lines = Lines(events)
        self._ended = False
        self._listener: threading.Thread | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def fileno(self) -> int:
        """The event pipe's descriptor, for a selector."""
        return self._pipe.fileno()

    def take_events(self) -> list[dict[str, Any]]:
        """Events that have come; never waits."""
        found: list[dict[str, Any]] = []
        while not self._ended:
            lines, self._ended = self._lines.read()
            if not lines and not self._ended:
                break
            found += [parse_event(line, self.what) for line in lines]
        return found

    def ended(self) -> bool:
        """Whether it has said all it will ever say: its process is gone."""
        return self._ended or self.process.poll() is not None

    def wait_for(
        self, wanted: str, seconds: float, count: int = 1, each: Callable[[dict[str, Any]], None] | None = None
    ) -> list[dict[str, Any]]:
        """The next `count` events of this name.

        Args:
            wanted: the events' name.
            seconds: for all of them together.
            count: how many.
            each: called with every event that comes meanwhile.

        Raises:
            SecureIppError: the child said that it failed, ended, or took too long.
        """
        end = time.monotonic() + seconds
        found: list[dict[str, Any]] = []
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while len(found) < count:
                for event in self.take_events():
                    if each is not None:
                        each(event)
                    if event["event"] == "failed":
                        raise failure_of(event, self.what)
                    if event["event"] == wanted:
                        found.append(event)
                if len(found) >= count:
                    break
                if self._ended:
                    raise self._died()
                left = end - time.monotonic()
                if left <= 0:
                    raise EnvironmentProblem(
                        f"{self.what} was not ready after {seconds:.0f} s ({len(found)} of {count} {wanted})",
                        "the machine may be busy; see the log files, or allow more time", code="slow-start",
                    )
                selector.select(left)
        return found

    def listen(self, each: Callable[[dict[str, Any]], None]) -> None:
        """From now on hear its events on a thread of their own, until it ends; `wait_for` must not be used then."""

        def hear() -> None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._pipe, selectors.EVENT_READ)
                while not self._ended:
                    selector.select()
                    for event in self.take_events():
                        each(event)

        self._listener = threading.Thread(target=hear, name=f"events of {self.what}", daemon=True)
        self._listener.start()

    def _died(self) -> EnvironmentProblem:
        status = self.process.wait()
        return EnvironmentProblem(
            f"{self.what} ended unexpectedly ({describe(status)})", "see its log file", code="ended"
        )

    def cut_tether(self) -> None:
        """Close its stdin; a tethered child stops."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()

    def stop(self, seconds: float = limits.SUPERVISOR_STOP_SECONDS + STOP_MARGIN_SECONDS) -> int:
        """Ask it to stop, kill it when it does not, and give its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            _log.warning("%s did not stop within %.0f s; killed", self.what, seconds)
            self.process.kill()
            status = self.process.wait()
        self.cut_tether()
        if self._listener is not None:
            self._listener.join(STOP_MARGIN_SECONDS)  # it ends with the pipe's last writer, which is gone
        self._pipe.close()
        self._ended = True
        return status

    def let_go(self) -> None:
        """Leave it running, and hear nothing of it any more."""
        self.cut_tether()
        self._pipe.close()
        self._ended = True
        self.process.returncode = 0  # so that no destructor warns of a child that is meant to run on


# --- the controller ------------------------------------------------------------------------------------


def start_controller(
    place: ClusterPlace,
    *,
    client_port: int = 0,
    engine_port: int = 0,
    bind: str = "",
    ssh_door: bool = False,
    curve: bool = True,
    scheme: str = "leastload",
    log_level: str = "INFO",
    journal_keep: str = "all",
    journal_sync: str = "batch",
    tether: bool = True,
    throwaway: bool = False,
    quiet: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Started:
    """Start a cluster's supervisor; `wait_for("ready", ...)` tells when its doors are open.

    Args:
        place: the cluster; its keys must be there.
        client_port: instead of the cluster's own; 0 keeps that.
        engine_port: the same for the engines' door.
        bind: address to listen on, instead of the cluster's own.
        ssh_door: open the doors that are Unix sockets even if the cluster's files do not say so (S25).
        curve: false: it is known that this cluster has no Curve.
        scheme: how balanced tasks are placed: "leastload" or "plainrandom".
        log_level: of its log files.
        journal_keep: what the journal's retention leaves: "all", a number of segments, or of days ("90d").
        journal_sync: when its records must last: "batch" or "each"; see docs/journal.md.
        tether: whether it stops when this process ends.
        throwaway: whether it removes its home directory, keys and all, when it ends.
        quiet: send its stderr nowhere (a controller in the background has only its log files).
        environment: additional variables.

    Raises:
        NoKeys: the cluster has none here.
        UsageError: it has Curve, or has none, other than was said.
    """
    require_keys(place)
    check_curve(place, load_config(place), curve)
    told = SupervisorBootstrap(
        cluster=place.name, client_port=client_port, engine_port=engine_port, bind=bind, ssh_door=ssh_door,
        curve=curve, scheme=scheme, log_level=log_level, journal_keep=journal_keep, journal_sync=journal_sync,
        tether=tether, throwaway=throwaway,
    )

    def bootstrap(ready_fd: int) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(told, ready_fd=ready_fd))

    started = _start(
        "the controller", "secure_ipp.cluster.supervisor", bootstrap,
        quiet=quiet, directory="/", environment={**child_environment(place.home), **(environment or {})},
    )
    if not tether:
        started.cut_tether()
    return started


def require_keys(place: ClusterPlace) -> None:
    """Say how to make keys when there are none.

    Raises:
        NoKeys: the cluster has no keys.
    """
    if not place.config.exists():
        which = "" if place.name == "default" else f" --cluster {place.name}"
        raise NoKeys(
            f"cluster {place.name!r} has no keys in {place.dir}", f"make them once: secure-ipp keys init{which}"
        )


# --- agents ---------------------------------------------------------------------------------------------


def start_agent(
    engine_file: Path,
    engines: int,
    *,
    place: ClusterPlace | None = None,
    log_level: str = "INFO",
    work_dir: str = "",
    preload: list[str] | None = None,
    end_with_us: bool = False,
    quiet: bool = False,
    environment: Mapping[str, str] | None = None,
    capability: Capability | None = None,
    way: WayWanted | None = None,
) -> Started:
    """Start this host's agent, which joins with the engine file and forks the engines.

    Args:
        engine_file: the connection file of role "engine".
        engines: how many.
        place: the cluster, if its directory is on this machine; the agent is then on record there, and logs there.
        log_level: of its log file.
        work_dir: working directory of the engines; empty for this process's.
        preload: modules that the template imports before it forks.
        end_with_us: have the kernel stop it when the calling thread ends (for a command in the foreground).
        quiet: send its stderr nowhere.
        environment: additional variables.
        capability: what stands in the engine file, if it was read already; else it is read, and unsealed.
        way: how to get to the door; by default straight on if the cluster is on this machine, else whatever there is.

    Raises:
        UsageError: the number of engines makes no sense.
        CapabilityError, PrivateFileError: the engine file is not good.
        SealError: it is sealed, and was not opened.
    """
    if not 1 <= engines <= limits.ENGINES_PER_JOIN_KEY:
        raise UsageError(f"cannot start {engines} engines", f"give a number from 1 to {limits.ENGINES_PER_JOIN_KEY}")
    capability = (capability or load_capability(engine_file)).require_role("engine")
    log_file = _agent_log(place)

    def bootstrap(ready_fd: int) -> bytes:
        return msgspec.json.encode(
            {
                "capability": capability.as_dict(), "engines": engines, "log_file": log_file, "log_level": log_level,
                "preload": preload or [], "work_dir": work_dir or os.getcwd(),
                "cluster_dir": str(place.dir) if place is not None else "", "join_file": str(engine_file.absolute()),
                "ready_fd": ready_fd,
                "way": way or WayWanted(transport="" if place is None else "direct"),
            }
        )

    started = _start(
        "the engines' agent", "secure_ipp.engine.agent", bootstrap, quiet=quiet, directory=work_dir or os.getcwd(),
        environment={**child_environment(place.home if place is not None else None), **(environment or {})},
        end_with_us=end_with_us,
    )
    started.cut_tether()
    if place is not None:
        state.write_agent(
            place,
            state.AgentState(
                pid=started.pid, created=state.created_at(started.pid), engines=engines, log_file=log_file or "",
                started=time.time(),
            ),
        )
    return started


def _agent_log(place: ClusterPlace | None) -> str | None:
    """The first of agent.log, agent-2.log, ... that no running agent writes."""
    if place is None:
        return None
    make_private_dir(place.log_dir)
    taken = {agent.log_file for agent in state.read_agents(place)}
    names = ["agent.log", *(f"agent-{number}.log" for number in range(2, len(taken) + 3))]
    return next(path for name in names if (path := str(place.log_dir / name)) not in taken)


# --- both -----------------------------------------------------------------------------------------------


def _start(
    what: str,
    module: str,
    bootstrap: Callable[[int], bytes],
    *,
    quiet: bool,
    directory: str,
    environment: Mapping[str, str],
    end_with_us: bool = False,
) -> Started:
    reading, writing = os.pipe()
    starter = os.getpid()

    def before_exec() -> None:
        hardening.end_with_parent(starter, signal.SIGTERM)

    try:
        process = subprocess.Popen(
            module_command(module),
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL if quiet else None,
            cwd=directory, env=dict(environment), start_new_session=True, pass_fds=(writing,),
            preexec_fn=before_exec if end_with_us else None,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    started = Started(what, process, os.fdopen(reading, "rb", buffering=0))
    assert process.stdin is not None
    try:
        process.stdin.write(bootstrap(writing) + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        _log.debug("%s ended before it was told what to do", what)  # its death is what the caller hears of
    return started
