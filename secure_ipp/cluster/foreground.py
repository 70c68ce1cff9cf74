"""A cluster, or engines, that live as long as a command in the foreground; and their start in the background.

Plain sequential code around `launch`.  Laws: Ctrl-C, SIGTERM and a hang-up of the terminal stop what was started, in
order, whenever they come; a second Ctrl-C does not cut the stopping short (it is bounded anyway); whatever goes wrong
while starting, nothing stays running.
"""

from __future__ import annotations

import selectors
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from secure_ipp import limits
from secure_ipp.cluster import launch, state
from secure_ipp.cluster.bootstrap import failure_of
from secure_ipp.cluster.restarts import describe
from secure_ipp.errors import EnvironmentProblem, SecureIppError
from secure_ipp.keys.places import ClusterPlace

# an agent that finds no controller gives up and says why; that must come before our own patience ends
JOIN_SECONDS = limits.AGENT_PATIENCE_SECONDS + limits.ENGINES_START_SECONDS

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command was asked to start.

    Attributes:
        engines: how many; 0: none.
        background: leave it running and return when all is ready.
        The others are those of `launch.start_controller` and `launch.start_agent`.
    """

    engines: int = 0
    background: bool = False
    log_level: str = "INFO"
    client_port: int = 0
    engine_port: int = 0
    bind: str = ""
    scheme: str = "leastload"
    work_dir: str = ""
    preload: tuple[str, ...] = ()


def run_cluster(place: ClusterPlace, wanted: Wanted, say: Say) -> None:
    """Start a controller and engines; in the foreground, stay until told to stop or until the controller ends.

    Raises:
        SecureIppError: it could not be started, or the controller ended with an error.
    """
    started: list[launch.Started] = []
    with _stopping(place, started, say):
        controller = launch.start_controller(
            place, client_port=wanted.client_port, engine_port=wanted.engine_port, bind=wanted.bind,
            scheme=wanted.scheme, log_level=wanted.log_level, tether=not wanted.background, quiet=wanted.background,
        )
        started.append(controller)
        controller.wait_for("ready", limits.CONTROLLER_START_SECONDS)
        say(f"controller of cluster {place.name!r} is ready, process {controller.pid}; logs in {place.log_dir}")
        if wanted.engines:
            started.append(_engines(place.engine_file, place, wanted, say))
        if wanted.background:
            _let_go(started)
        else:
            say("Ctrl-C stops it")
            _stay(started, place, say)


def run_engines(engine_file: Path, place: ClusterPlace | None, wanted: Wanted, say: Say) -> None:
    """Start an agent with engines; in the foreground, stay until told to stop or until it ends.

    Args:
        engine_file: the connection file.
        place: the cluster, if its directory is on this machine.

    Raises:
        SecureIppError: it could not be started, or ended with an error.
    """
    started: list[launch.Started] = []
    with _stopping(place, started, say):
        started.append(_engines(engine_file, place, wanted, say))
        if wanted.background:
            _let_go(started)
        else:
            say("Ctrl-C stops them")
            _stay(started, place, say)


# --- steps -------------------------------------------------------------------------------------------------


@contextmanager
def _stopping(place: ClusterPlace | None, started: list[launch.Started], say: Say) -> Iterator[None]:
    """Stop all that is in `started` at the end, last first; Ctrl-C is one such end."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    usual = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        for number in usual:
            signal.signal(number, signal.SIG_IGN)
        if started:
            say("stopping ...")
        for one in reversed(started):
            one.stop()
            if place is not None:
                state.remove_agent(place, one.pid)
        for number, handler in usual.items():
            signal.signal(number, handler)


def _engines(engine_file: Path, place: ClusterPlace | None, wanted: Wanted, say: Say) -> launch.Started:
    agent = launch.start_agent(
        engine_file, wanted.engines, place=place, log_level=wanted.log_level, work_dir=wanted.work_dir,
        preload=list(wanted.preload), end_with_us=not wanted.background, quiet=wanted.background,
    )
    try:
        agent.wait_for("engine", JOIN_SECONDS, count=wanted.engines)
    except BaseException:
        agent.stop()
        if place is not None:
            state.remove_agent(place, agent.pid)
        raise
    say(f"{wanted.engines} engines are ready; their agent is process {agent.pid}")
    return agent


def _let_go(started: list[launch.Started]) -> None:
    for one in started:
        one.let_go()
    started.clear()


def _stay(started: list[launch.Started], place: ClusterPlace | None, say: Say) -> None:
    """Hear events until the first of `started` ends; the end of others is told, and borne."""
    first = started[0]
    with selectors.DefaultSelector() as selector:
        for one in started:
            selector.register(one, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                child: launch.Started = key.data
                for event in child.take_events():
                    _tell(child, event, say)
                if not child.ended():
                    continue
                selector.unregister(child)
                status = child.stop()
                started.remove(child)
                if place is not None:
                    state.remove_agent(place, child.pid)
                if child is not first:
                    say(f"{child.what} has ended ({describe(status)}); more engines: ipcluster engines")
                elif status != 0:
                    raise EnvironmentProblem(f"{child.what} ended with {describe(status)}", "see its log file")
                else:
                    say(f"{child.what} has ended")
                    return


def _tell(one: launch.Started, event: dict[str, Any], say: Say) -> None:
    if event["event"] == "failed":
        error: SecureIppError = failure_of(event, one.what)
        if one.what == "the controller":
            raise error
        say(str(error))
    elif event["event"] == "restarted":
        say(f"the {event.get('process', 'controller')} had died and is running again")
