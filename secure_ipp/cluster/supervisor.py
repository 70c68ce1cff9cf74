"""``python -m secure_ipp.cluster.supervisor``: starts hub and scheduler, and either again when it dies.

It has no socket and holds what must outlast a restart: the server's keys, the hub link's keys and the ticket key, which
go to the two processes through pipes (S11, S16, S30).  Its own life is told to whoever started it as event lines on
`ready_fd`: `ready`, `failed` (code, message, advice), `restarted`, `stopped`.  Laws: one controller per cluster; the
end of this process, however it comes, ends the controller; one that stops in order leaves no process, socket, state
file or held lock behind.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from secure_ipp import hardening, logs
from secure_ipp._version import __version__
from secure_ipp.cluster import ports, state, throwaway
from secure_ipp.cluster.bootstrap import SupervisorBootstrap, event_line, failed_line, module_command, read_bootstrap
from secure_ipp.cluster.children import Child
from secure_ipp.cluster.doors import doors_for
from secure_ipp.cluster.start_secrets import StartSecrets, hub_bootstrap, scheduler_bootstrap
from secure_ipp.cluster.supervision import Supervisor, catch_signals
from secure_ipp.errors import EnvironmentProblem, SecureIppError
from secure_ipp.keys.cluster_keys import load_server
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import make_private_dir

_log = logging.getLogger("secure_ipp.supervisor")
HUB, SCHEDULER = "hub", "scheduler"


def main() -> int:
    """Run as a process; gives its exit status."""
    hardening.keep_secrets_inside()
    wakeup = catch_signals()
    tell: Callable[[bytes], None] = lambda line: None  # noqa: E731
    try:
        bootstrap = read_bootstrap(0, SupervisorBootstrap)
        tell = _teller(bootstrap.ready_fd)
        place = ClusterPlace(bootstrap.cluster)
        _supervise(place, bootstrap, tell, wakeup)
    except SecureIppError as error:
        _log.error("%s", error)
        tell(failed_line(error))
        return 1
    except Exception as error:  # noqa: BLE001  the edge of the process: whoever waits for us must hear of it
        _log.exception("the supervisor failed")
        problem = EnvironmentProblem(f"the supervisor failed: {type(error).__name__}: {error}", "see supervisor.log")
        tell(failed_line(problem))
        return 1
    tell(event_line("stopped"))
    return 0


def _supervise(place: ClusterPlace, bootstrap: SupervisorBootstrap, tell: Callable[[bytes], None], wakeup: int) -> None:
    server = load_server(place)
    lock = state.take_lock(place)
    try:
        make_private_dir(place.log_dir)
        logs.start("supervisor", str(place.log_dir / "supervisor.log"), bootstrap.log_level)
        doors = doors_for(
            place, server.config, client_port=bootstrap.client_port, engine_port=bootstrap.engine_port,
            bind=bootstrap.bind, ssh_door=bootstrap.ssh_door, curve=bootstrap.curve,
        )
        if doors.client_port:
            ports.check_free(doors.client_port, "client", doors.bind)
            ports.check_free(doors.engine_port, "engine", doors.bind)
        _remove_doors(place)
        secrets = StartSecrets.fresh()
        level, started = bootstrap.log_level, time.time()

        def write_state(pids: dict[str, int], restarts: int) -> None:
            state.write_state(
                place,
                state.ControllerState(
                    cluster=place.name, host=socket.gethostname(), pid=os.getpid(),
                    created=state.created_at(os.getpid()), client_port=doors.client_port, engine_port=doors.engine_port,
                    bind=doors.bind, started=started, hub=pids[HUB], scheduler=pids[SCHEDULER], restarts=restarts,
                    version=__version__, client_socket=doors.client_socket, engine_socket=doors.engine_socket,
                ),
            )

        children = [
            Child(
                HUB, module_command("secure_ipp.hub"),
                lambda: hub_bootstrap(
                    place, server, secrets, log_level=level, journal_keep=bootstrap.journal_keep,
                    journal_sync=bootstrap.journal_sync,
                ),
                place.dir, place.home,
            ),
            Child(
                SCHEDULER, module_command("secure_ipp.scheduler"),
                lambda: scheduler_bootstrap(
                    place, load_server(place), secrets, log_level=level, doors=doors, scheme=bootstrap.scheme,
                ),
                place.dir, place.home,
            ),
        ]
        try:
            Supervisor(bootstrap, children, tell, write_state).run(wakeup)
        finally:
            _stop_agents(place)
            state.remove_state(place)
            _remove_sockets(place)
    finally:
        lock.release()
        if bootstrap.throwaway:
            throwaway.remove(place.home)


def _stop_agents(place: ClusterPlace) -> None:
    """Agents that were started here for this controller have nothing to wait for."""
    for agent in state.read_agents(place):
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent.pid, signal.SIGTERM)


def _remove_sockets(place: ClusterPlace) -> None:
    for path in (place.hub_socket(), place.control_socket()):
        path.unlink(missing_ok=True)
    _remove_doors(place)


def _remove_doors(place: ClusterPlace) -> None:
    """The doors' sockets; those that a killed controller left, too.  Only the holder of the lock comes here."""
    for path in (place.client_door_socket(), place.engine_door_socket()):
        path.unlink(missing_ok=True)


def _teller(descriptor: int) -> Callable[[bytes], None]:
    """Writes to a pipe without ever waiting; a reader that is gone or asleep misses lines."""
    if descriptor < 0:
        return lambda line: None
    os.set_blocking(descriptor, False)
    os.set_inheritable(descriptor, False)

    def tell(line: bytes) -> None:
        try:
            os.write(descriptor, line)
        except (BrokenPipeError, BlockingIOError):
            _log.debug("nobody listens to: %s", line)

    return tell


if __name__ == "__main__":
    sys.exit(main())
