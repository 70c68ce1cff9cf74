"""The loop that keeps hub and scheduler running.

It starts its children, hears their events and their stderr, has `restarts` decide about each death, and stops them in
order.  Laws: it never blocks on a pipe; when `run` ends, in order or by an error, no child is left; when this process
is killed instead, the children's stdin ends (and on Linux the kernel kills them).
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from secure_ipp import limits, logs
from secure_ipp.cluster.bootstrap import SupervisorBootstrap, event_line, failure_of, parse_event
from secure_ipp.cluster.children import Child, Lines
from secure_ipp.cluster.restarts import Course, GiveUp, Life, Restart, StopAll, describe
from secure_ipp.errors import EnvironmentProblem, SecureIppError

_log = logging.getLogger("secure_ipp.supervisor")


class Supervisor:
    """The loop around the two processes.

    Args:
        bootstrap: what we were told.
        children: hub and scheduler, in the order of their start.
        tell: writes an event line to whoever started us.
        write_state: called with (pids by name, restarts) when all are ready, and after each restart.
    """

    def __init__(
        self,
        bootstrap: SupervisorBootstrap,
        children: list[Child],
        tell: Callable[[bytes], None],
        write_state: Callable[[dict[str, int], int], None],
    ) -> None:
        self._bootstrap = bootstrap
        self._children = {child.name: child for child in children}
        self._courses = {child.name: Course(child.name) for child in children}
        self._deadlines: dict[str, float] = {}
        self._tell = tell
        self._write_state = write_state
        self._selector = selectors.DefaultSelector()
        self._announced = False
        self._restarts = 0
        self._stop_reason = ""

    # --- running ---------------------------------------------------------------------------------------

    def run(self, wakeup: int) -> None:
        """Start all, keep them running, and stop them in order when asked to.

        Args:
            wakeup: descriptor that becomes readable when a signal has come.

        Raises:
            SecureIppError: a process could not be started, or died too often.
        """
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: self._on_wakeup(wakeup))
        if self._bootstrap.tether:
            self._selector.register(0, selectors.EVENT_READ, self._on_tether)
        try:
            for name in self._children:
                self._start(name)
            while not self._stop_reason:
                self._turn(self._patience())
            _log.info("stopping: %s", self._stop_reason)
        finally:
            self._stop_children()
            self._selector.close()

    def ask_to_stop(self, reason: str) -> None:
        self._stop_reason = self._stop_reason or reason

    def _turn(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            key.data()
        now = time.monotonic()
        for name, child in self._children.items():
            status = child.status()
            if status is not None:
                self._on_death(name, status, now)
            elif now >= self._deadlines.get(name, now + 1):
                _log.error("the %s was not ready after %.0f s", name, limits.CONTROLLER_START_SECONDS)
                child.kill()
                del self._deadlines[name]

    def _patience(self) -> float:
        nearest = min(self._deadlines.values(), default=time.monotonic() + 60.0)
        return max(0.0, nearest - time.monotonic())

    def _start(self, name: str) -> None:
        child = self._children[name]
        stdout, stderr = child.start()
        self._deadlines[name] = time.monotonic() + limits.CONTROLLER_START_SECONDS
        self._selector.register(stdout.descriptor, selectors.EVENT_READ, lambda: self._on_stdout(name, stdout))
        self._selector.register(stderr.descriptor, selectors.EVENT_READ, lambda: self._on_stderr(name, stderr))
        _log.info("started the %s, process %d", name, child.pid)

    # --- what comes ---------------------------------------------------------------------------------------

    def _on_wakeup(self, wakeup: int) -> None:
        for number in os.read(wakeup, 64):
            if number in (signal.SIGTERM, signal.SIGINT):
                self.ask_to_stop(f"{signal.Signals(number).name} came")

    def _on_tether(self) -> None:
        if not os.read(0, 4096):
            self._selector.unregister(0)
            self.ask_to_stop("whoever started this cluster is gone")

    def _on_stdout(self, name: str, lines: Lines) -> None:
        found, ended = lines.read()
        for line in found:
            event = parse_event(line, f"the {name}")
            kind = event["event"]
            if kind == "ready":
                self._on_ready(name)
            elif kind == "failed":
                if self._courses[name].life is Life.STARTING:
                    raise failure_of(event, f"the {name}")
                _log.error("the %s failed: %s", name, event.get("message", ""))
            elif kind == "stop":
                self.ask_to_stop("a client asked for it")
            else:
                _log.debug("the %s said %s", name, kind)
        if ended:
            self._selector.unregister(lines.descriptor)

    def _on_stderr(self, name: str, lines: Lines) -> None:
        found, ended = lines.read()
        for line in found:
            text = line.decode("utf-8", "backslashreplace")
            self._children[name].last_lines.append(text)
            if not (self._stop_reason and text.startswith(f"{name}: WARNING")):  # an end in order has lost links
                logs.show_on(sys.stderr, text)
            if not text.startswith(f"{name}: "):  # such a line stands in that process's own log
                _log.error("from the %s: %s", name, text)
        if ended:
            self._selector.unregister(lines.descriptor)

    def _on_ready(self, name: str) -> None:
        self._deadlines.pop(name, None)
        restarted = self._courses[name].life is Life.RESTARTING
        self._courses[name].ready()
        if any(course.life is not Life.READY for course in self._courses.values()):
            return
        self._write_state({name: child.pid for name, child in self._children.items()}, self._restarts)
        if not self._announced:
            self._announced = True
            self._tell(event_line("ready", pid=os.getpid()))
            _log.info("the controller is ready")
        elif restarted:
            self._tell(event_line("restarted", process=name))
            _log.warning("the %s is ready again", name)

    def _on_death(self, name: str, status: int, now: float) -> None:
        child = self._children[name]
        self._drain(name)
        self._deadlines.pop(name, None)
        decision = self._courses[name].died(status, now)
        last_words = "; ".join(list(child.last_lines)[-3:])
        child.close()
        if isinstance(decision, StopAll):
            self.ask_to_stop(f"the {name} was asked to end the controller")
        elif isinstance(decision, Restart):
            self._restarts += 1
            _log.warning("the %s died (%s); it is started again", name, describe(status))
            self._start(name)
        elif isinstance(decision, GiveUp):
            reason = f"{decision.reason}: {last_words}" if last_words else decision.reason
            raise EnvironmentProblem(reason, decision.advice, code="controller-failed")

    def _drain(self, name: str) -> None:
        """Take what a dead child still said, so that its reason comes before the news of its death."""
        child = self._children[name].process
        assert child is not None
        for pipe in (child.stdout, child.stderr):
            assert pipe is not None
            while pipe.fileno() in self._selector.get_map():
                self._selector.get_key(pipe.fileno()).data()

    # --- the end --------------------------------------------------------------------------------------------

    def _stop_children(self) -> None:
        """Scheduler first, so that the hub hears its last records; what does not stop in time is killed."""
        end = time.monotonic() + limits.SUPERVISOR_STOP_SECONDS
        for child in reversed(list(self._children.values())):
            child.ask_to_stop()
            while child.running() and time.monotonic() < end:
                self._listen_while_stopping(min(0.5, end - time.monotonic()))
            if child.running():
                _log.error("the %s did not stop within %.0f s; killed", child.name, limits.SUPERVISOR_STOP_SECONDS)
                child.kill()
            child.close()

    def _listen_while_stopping(self, seconds: float) -> None:
        for key, _ in self._selector.select(max(0.0, seconds)):
            with contextlib.suppress(SecureIppError):  # a last word that is no event changes nothing now
                key.data()


def catch_signals() -> int:
    """Make signals readable on a descriptor; a hang-up of a terminal that is not ours is nothing."""
    reading, writing = os.pipe()
    for descriptor in (reading, writing):
        os.set_blocking(descriptor, False)

    def noted(signum: int, frame: FrameType | None) -> None:
        """The number is in the pipe already; the loop acts on it."""

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(signum, noted)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading
