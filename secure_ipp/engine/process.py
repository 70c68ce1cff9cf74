"""An engine: its main thread runs tasks, and talks with the scheduler between them; a second one does during long ones.

Laws.
- Output of a task goes first, then its result, in the order of the tasks.
- Short tasks in a row do not keep a result waiting for longer than a moment.
- The engine ends when the scheduler dismisses it, when its scheduler cannot be found any more, or at once when its
  agent is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from secure_ipp import hardening, limits
from secure_ipp.engine import apart
from secure_ipp.engine.bootstrap import EngineBootstrap, EngineEvent, read_line, send_line
from secure_ipp.engine.executor import Executor
from secure_ipp.engine.helm import Helm
from secure_ipp.engine.link import EngineLink
from secure_ipp.engine.logs import log_to
from secure_ipp.engine.shared_page import SharedPage
from secure_ipp.engine.shell import EngineShell, add_working_directory, build_shell
from secure_ipp.engine.streams import Capture, close_input
from secure_ipp.engine.tasks import Task, TaskBoard
from secure_ipp.keys.curve import CurvePublicKey, CurveSecretKey, KeyPair
from secure_ipp.keys.issuer import IssuerPublicKey
from secure_ipp.keys.known_doors import KnownDoors
from secure_ipp.wire import messages
from secure_ipp.wire.connection import Connection
from secure_ipp.wire.loop import Loop

if TYPE_CHECKING:
    from secure_ipp.access.prover import Prover

log = logging.getLogger("secure_ipp.engine")
_SWITCH_SECONDS = 0.0005  # how long running Python keeps the other thread waiting
_MOMENT_SECONDS = 0.001  # short tasks may run in a row for so long before the engine talks again
_LAST_SECONDS = 2.0  # dismissed, a task may go on for so long


class Engine:
    """Wires the parts of one engine together."""

    def __init__(self, bootstrap: EngineBootstrap, agent: socket.socket, page: SharedPage, shell: EngineShell) -> None:
        self._bootstrap = bootstrap
        self._agent = agent
        self._capture = Capture()
        shell.sink = self._capture
        self._executor = Executor(shell, self._capture, page)
        self._board = TaskBoard()
        self._ready: deque[Task | None] = deque()
        self._talk_at = 0.0  # even if tasks are ready
        self._status = 0
        self._loop = Loop()
        self._helm = Helm(self._loop)
        self._link = EngineLink(
            self._loop, self._board, self._capture,
            report=self._report(), start=self._ready.append, registered=self._registered, end=self._end,
            interrupt=self._executor.interrupt,
        )

    def run(self) -> int:
        """Run tasks until it is over; returns the exit status."""
        self._capture.install()
        close_input()
        self._executor.take_signals()
        sys.setswitchinterval(_SWITCH_SECONDS)
        pid = os.getpid()
        self._helm.take()
        self._connect()
        threading.Thread(target=self._watch, name="secure-ipp-mate", daemon=True).start()
        while (task := self._next()) is not None:
            if not self._board.claim(task):
                continue
            self._helm.leave()
            finished = self._executor.run(task)
            if os.getpid() != pid:
                os._exit(0)  # user code forked, and the child came back as if it were the engine
            self._helm.take()
            self._link.finished(finished)
            self._board.finished()
            del task, finished
        self._loop.turn(0)  # last words
        self._helm.leave()
        return self._status

    def _next(self) -> Task | None:
        """The next task; None: it is over.  Talks before, if nothing is ready or it is time."""
        while not self._ready or time.monotonic() >= self._talk_at:
            self._loop.end_turn()  # results leave before anything else is looked at
            self._loop.turn(0.0 if self._ready else None)
            self._talk_at = time.monotonic() + _MOMENT_SECONDS
        return self._ready.popleft()

    def _watch(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the thread that runs tasks
        try:
            self._helm.watch()
        except BaseException:
            log.critical("the engine's connection broke", exc_info=True)
            os._exit(1)

    # --- whoever is at the helm ----------------------------------------------------------------------------

    def _connect(self) -> None:
        told = self._bootstrap
        secret = CurveSecretKey.from_text(told.secret_key)
        doors = KnownDoors(
            [CurvePublicKey.from_text(key) for key in told.server_keys],
            issuer=IssuerPublicKey.from_text(told.issuer_key), cluster_id=told.cluster_id,
        )
        connection = Connection(
            self._loop, doors=told.doors, server_key=doors,
            keys=KeyPair(CurvePublicKey.from_text(told.public_key), secret), role="engine",
            receives=messages.ToEngine, handler=self._link, first_patience=limits.AGENT_PATIENCE_SECONDS,
            patience=limits.AGENT_PATIENCE_SECONDS, proves=self._prover(),
        )
        self._link.connection = connection
        self._agent.setblocking(False)
        self._loop.add_reader(self._agent.fileno(), self._agent_spoke)
        for descriptor in self._capture.readers:
            self._loop.add_reader(descriptor, self._capture.drain)
        connection.start()

    def _prover(self) -> Prover | None:
        told = self._bootstrap
        if not told.by_proof:
            return None
        from secure_ipp.access.prover import prover_for

        return prover_for(told.cluster_id, "engine")

    def _agent_spoke(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            if self._agent.recv(4096):
                return
        os._exit(1)  # the agent is gone: nobody would stop this process any more

    def _report(self) -> messages.Report:
        told = self._bootstrap
        return messages.Report(
            host=socket.gethostname()[: limits.TEXT_CHARS], pid=os.getpid(), highest=0, started=0, live=[], finished=[],
            wanted_id=told.wanted_id, reads_cluster_dir=_can_list(told.cluster_dir),
            reads_join_file=_can_open(told.join_file),
        )

    def _registered(self, engine_id: int) -> None:
        log.info("engine %d is registered", engine_id)
        self._say(EngineEvent("registered", engine_id))

    def _say(self, event: EngineEvent) -> None:
        self._agent.setblocking(True)
        send_line(self._agent, event)
        self._agent.setblocking(False)

    def _end(self, status: int, event: EngineEvent | None) -> None:
        """Stop: in order if no task runs, else after a moment."""
        if event is not None:
            self._say(event)
        self._status = status
        self._ready.append(None)
        self._loop.call_later(_LAST_SECONDS, lambda: os._exit(status))


def _can_list(directory: str) -> bool:
    """Whether there is something to see; one that was hidden behind another is empty."""
    try:
        return bool(directory) and bool(os.listdir(directory))
    except OSError:
        return False


def _can_open(path: str) -> bool:
    try:
        if path:
            with open(path, "rb"):
                return True
    except OSError:
        return False
    return False


def run_engine(agent_socket: int, page: int) -> None:
    """Be an engine, in a process that was forked or spawned for it; does not return."""
    status = 1
    try:
        agent = socket.socket(fileno=agent_socket)
        bootstrap = msgspec.json.decode(read_line(agent_socket), type=EngineBootstrap)
        log_to(bootstrap.log_file, bootstrap.log_level)
        sys.argv = [""]
        if bootstrap.work_dir:
            os.chdir(bootstrap.work_dir)
        add_working_directory()
        shell: Any = EngineShell.instance() if EngineShell.initialized() else build_shell()
        status = Engine(bootstrap, agent, SharedPage(page), shell).run()
    except BaseException:
        log.critical("the engine cannot run", exc_info=True)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        atexit._run_exitfuncs()
        os._exit(status)


if __name__ == "__main__":
    hardening.end_with_parent(int(sys.argv[3]))
    apart.become_engine((int(sys.argv[1]), int(sys.argv[2])))
    run_engine(int(sys.argv[1]), int(sys.argv[2]))
