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
from secure_ipp.cluster.doors import check_curve
from secure_ipp.cluster.restarts import describe
from secure_ipp.engine.bootstrap import WayWanted
from secure_ipp.errors import EnvironmentProblem, SecureIppError
from secure_ipp.keys.capability import Capability, load_capability
from secure_ipp.keys.config import load_config
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.tunnel.first_use import Confirm
from secure_ipp.tunnel.reach import reach
from secure_ipp.tunnel.reached import Wishes

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
    ssh_door: bool = False
    curve: bool = True
    scheme: str = "leastload"
    journal_keep: str = "all"
    journal_sync: str = "batch"
    work_dir: str = ""
    preload: tuple[str, ...] = ()
    way: WayWanted | None = None


class Interruptions:
    """Ctrl-C and its like, as KeyboardInterrupt; held back where they would lose sight of what was just started."""

    def __init__(self) -> None:
        self._held = False
        self._came = False

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler. Once it has raised, later signals change nothing: the stopping is under way."""
        if self._held:
            self._came = True
            return
        self._held = True
        raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, a signal waits for the end of the block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._came:
            self._held = True
            raise KeyboardInterrupt


class Run:
    """What one command has started, and how it all ends."""

    def __init__(self, place: ClusterPlace | None, wanted: Wanted, say: Say) -> None:
        self._place = place
        self._wanted = wanted
        self._say = say
        self._interruptions = Interruptions()
        self._started: list[launch.Started] = []

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Stop at the end all that was started and not let go, last first; Ctrl-C is one such end."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        usual = {number: signal.signal(number, self._interruptions.handle) for number in numbers}
        try:
            with suppress(KeyboardInterrupt):
                yield
        finally:
            for number in usual:
                signal.signal(number, signal.SIG_IGN)
            try:
                if self._started:
                    self._say("stopping ...")
                while self._started:
                    self._stop(self._started[-1])
            finally:
                for number, handler in usual.items():
                    signal.signal(number, handler)

    def controller(self) -> None:
        """Start one; returns when its doors are open."""
        assert self._place is not None
        wanted, place = self._wanted, self._place
        with self._interruptions.held():
            controller = launch.start_controller(
                place, client_port=wanted.client_port, engine_port=wanted.engine_port, bind=wanted.bind,
                ssh_door=wanted.ssh_door, curve=wanted.curve, scheme=wanted.scheme, log_level=wanted.log_level,
                journal_keep=wanted.journal_keep, journal_sync=wanted.journal_sync, tether=not wanted.background,
                quiet=wanted.background,
            )
            self._started.append(controller)
        controller.wait_for("ready", limits.CONTROLLER_START_SECONDS)
        self._say(
            f"controller of cluster {place.name!r} is ready, process {controller.pid}; logs in {place.log_dir}"
        )

    def engines(self, engine_file: Path, capability: Capability) -> None:
        """Start an agent with what stands in its file; returns when its engines have their places."""
        wanted = self._wanted
        with self._interruptions.held():
            agent = launch.start_agent(
                engine_file, wanted.engines, place=self._place, log_level=wanted.log_level, work_dir=wanted.work_dir,
                preload=list(wanted.preload), end_with_us=not wanted.background, quiet=wanted.background,
                capability=capability, way=wanted.way,
            )
            self._started.append(agent)
        agent.wait_for("engine", JOIN_SECONDS, count=wanted.engines)
        self._say(f"{wanted.engines} engines are ready; their agent is process {agent.pid}")

    def let_go(self) -> None:
        """Leave all of it running."""
        with self._interruptions.held():
            while self._started:
                self._started.pop().let_go()

    def stay(self) -> None:
        """Hear events until the first that was started ends; the end of others is told, and borne."""
        first = self._started[0]
        with selectors.DefaultSelector() as selector:
            for one in self._started:
                selector.register(one, selectors.EVENT_READ, one)
            while True:
                for key, _ in selector.select():
                    child: launch.Started = key.data
                    for event in child.take_events():
                        _tell(child, event, self._say)
                    if not child.ended():
                        continue
                    selector.unregister(child)
                    status = self._stop(child)
                    if child is not first:
                        self._say(f"{child.what} has ended ({describe(status)}); more engines: ipcluster engines")
                    elif status != 0:
                        raise EnvironmentProblem(f"{child.what} ended with {describe(status)}", "see its log file")
                    else:
                        self._say(f"{child.what} has ended")
                        return

    def _stop(self, child: launch.Started) -> int:
        status = child.stop()
        if self._place is not None:
            state.remove_agent(self._place, child.pid)
        self._started.remove(child)
        return status


def run_cluster(place: ClusterPlace, wanted: Wanted, say: Say) -> None:
    """Start a controller and engines; in the foreground, stay until told to stop or until the controller ends.

    Raises:
        SecureIppError: it could not be started, or the controller ended with an error.
    """
    launch.require_keys(place)
    check_curve(place, load_config(place), wanted.curve)
    run = Run(place, wanted, say)
    joining = load_capability(place.engine_file) if wanted.engines else None  # first: it may have to be unsealed
    with run.stopping():
        run.controller()
        if joining is not None:
            run.engines(place.engine_file, joining)
        if wanted.background:
            run.let_go()
        else:
            say("Ctrl-C stops it")
            run.stay()


def run_engines(
    engine_file: Path, place: ClusterPlace | None, wanted: Wanted, say: Say, wishes: Wishes | None = None,
    confirm: Confirm | None = None,
) -> None:
    """Start an agent with engines; in the foreground, stay until told to stop or until it ends.

    Args:
        engine_file: the connection file.
        place: the cluster, if its directory is on this machine.
        wishes: of the way to the door, if it may lead through SSH.
        confirm: asks the user whether a file's ssh route may be used; None: nobody can be asked.

    Raises:
        SecureIppError: it could not be started, or ended with an error.
    """
    run = Run(place, wanted, say)
    joining = load_capability(engine_file)
    with run.stopping(), _way_open(joining, wishes, confirm, say):
        run.engines(engine_file, joining)
        if wanted.background:
            run.let_go()
        else:
            say("Ctrl-C stops them")
            run.stay()


@contextmanager
def _way_open(joining: Capability, wishes: Wishes | None, confirm: Confirm | None, say: Say) -> Iterator[None]:
    """Have the agent's tunnel open, if it needs one: here its user can be asked, there nobody can."""
    if wishes is None or not (wishes.route or joining.ssh):
        yield
        return
    reached = reach(joining.require_role("engine"), wishes, joining.server_keys, limits.AGENT_PATIENCE_SECONDS, confirm)
    say(f"cluster {joining.cluster!r} is reached {reached.said}")
    try:
        yield
    finally:
        reached.release()


def _tell(one: launch.Started, event: dict[str, Any], say: Say) -> None:
    if event["event"] == "failed":
        error: SecureIppError = failure_of(event, one.what)
        if one.what == "the controller":
            raise error
        say(str(error))
    elif event["event"] == "restarted":
        say(f"the {event.get('process', 'controller')} had died and is running again")
