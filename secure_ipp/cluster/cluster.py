"""`Cluster`: a controller and its engines, as one object in a program or a notebook.

The names are those of ipyparallel's users: coroutines, each with a ``_sync`` twin that may also be called inside a
running event loop.  Laws: `stop_cluster`, the end of a ``with`` block, and the end of the interpreter leave no process,
socket, pid file or throw-away key behind; even when the interpreter is killed, the cluster ends with it (unless
``shutdown_atexit=False``).
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import signal
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from secure_ipp import limits
from secure_ipp.cluster import launch, state, stopping, throwaway
from secure_ipp.cluster.twins import as_coroutine, usable_cores
from secure_ipp.errors import EnvironmentProblem, UsageError
from secure_ipp.keys.places import ClusterPlace, cluster_name

if TYPE_CHECKING:
    from secure_ipp.client.client import Client

_log = logging.getLogger(__name__)
_started: weakref.WeakSet[Cluster] = weakref.WeakSet()


class Cluster:
    """A cluster on this machine.

    Args:
        n: how many engines; None: one for each core.
        cluster, profile, cluster_id: which cluster's keys to use, as for the commands.  When the user has made none for
            it, or (with none of the three given) that cluster is running already, throw-away keys are made.
        controller_ip: address to listen on; empty: the cluster's own, which for throw-away keys is 127.0.0.1.
        ssh_door: beside Curve, open the doors that only the account which owns the cluster reaches, by ssh.
        curve: false: the cluster was made without Curve, and is reached by ssh alone.
        engine_timeout: seconds that engines may take to join.
        preload: modules that the engines import before they start.
        work_dir: working directory of the engines.
        shutdown_atexit: whether the cluster ends with this interpreter.
        log_level: of its log files, a name or a number of the `logging` module.
        engines: only None or "local"; batch systems are not offered by this version.
        delay: accepted and not needed: engines are started when the controller is ready.

    Raises:
        UsageError: a name is none, or what was asked for is not offered.
    """

    def __init__(
        self,
        n: int | None = None,
        *,
        cluster: str = "",
        profile: str = "",
        cluster_id: str = "",
        controller_ip: str = "",
        ssh_door: bool = False,
        curve: bool = True,
        engine_timeout: float = limits.ENGINES_START_SECONDS,
        preload: list[str] | None = None,
        work_dir: str = "",
        shutdown_atexit: bool = True,
        log_level: int | str = "INFO",
        engines: str | None = None,
        delay: float = 0.0,
    ) -> None:
        if engines not in (None, "local"):
            raise UsageError(
                f"engines={engines!r} is not offered by this version",
                "engines on this machine: leave it out; elsewhere: run ipengine --file there", code="not-offered",
            )
        if n is not None and n < 1:
            raise UsageError(f"a cluster of {n} engines cannot be", "give a number from 1 up")
        self.n = n if n is not None else usable_cores()
        self.profile = profile
        self.cluster_id = cluster_id
        self.engine_timeout = engine_timeout
        self.preload = list(preload or [])
        self.work_dir = work_dir
        self.shutdown_atexit = shutdown_atexit
        self.log_level = logging.getLevelName(log_level) if isinstance(log_level, int) else log_level.upper()
        self.delay = delay
        self._name = cluster_name(cluster, profile, cluster_id)
        self._is_named = bool(cluster or profile or cluster_id)
        self._bind = controller_ip
        self._ssh_door, self._curve = ssh_door, curve
        self._place: ClusterPlace | None = None
        self.is_throwaway = False
        self._wants_throwaway = False
        self._controller: launch.Started | None = None
        self._agents: dict[str, launch.Started] = {}
        self._engine_ids: dict[str, dict[str, int]] = {}  # engine set -> uuid -> id
        self._clients: weakref.WeakSet[Client] = weakref.WeakSet()
        self._owner = os.getpid()

    @classmethod
    def with_throwaway_keys(cls, n: int | None = None, **options: Any) -> Self:
        """A cluster that uses no keys of the user's, whether there are any or not."""
        cluster = cls(n, **options)
        cluster._wants_throwaway = True
        return cluster

    def __repr__(self) -> str:
        running = "running" if self._controller is not None else "not running"
        return f"<Cluster {self._name!r}, {len(self._agents)} engine sets, {running}>"

    @property
    def place(self) -> ClusterPlace:
        """Where this cluster's files lie.

        Raises:
            UsageError: that is decided when the cluster is started.
        """
        if self._place is None:
            raise UsageError("this cluster has not been started", "await start_cluster(), or start_cluster_sync()")
        return self._place

    # --- the controller --------------------------------------------------------------------------------

    def start_controller_sync(self) -> None:
        """Start hub and scheduler, and return when their doors are open.

        Raises:
            SecureIppError: ports are in use, a controller of this cluster is running, keys are not as they must be.
        """
        if self._controller is not None:
            raise UsageError("this cluster's controller is running", "stop it first")
        self._choose_place()
        try:
            controller = launch.start_controller(
                self.place, bind=self._bind, ssh_door=self._ssh_door, curve=self._curve, log_level=self.log_level,
                tether=self.shutdown_atexit, throwaway=self.is_throwaway,
            )
            try:
                controller.wait_for("ready", limits.CONTROLLER_START_SECONDS)
            except BaseException:
                controller.stop()
                raise
        except BaseException:
            self._forget_place()
            raise
        controller.listen(lambda event: _log.info("the controller: %s", event))
        self._controller = controller
        _started.add(self)

    start_controller = as_coroutine(start_controller_sync)

    def stop_controller_sync(self) -> None:
        """Stop hub and scheduler; throw-away keys are gone afterwards."""
        controller, self._controller = self._controller, None
        if controller is not None:
            controller.stop()
        if self._place is not None:
            stopping.stop_cluster(self._place)
        self._forget_place()
        _started.discard(self)

    stop_controller = as_coroutine(stop_controller_sync)

    def _choose_place(self) -> None:
        if self._place is not None:
            return
        place = ClusterPlace(self._name)
        has_keys = place.config.exists() and not self._wants_throwaway
        if has_keys and (self._is_named or not state.is_locked(place)):
            self._place, self.is_throwaway = place, False
        else:
            self._place = throwaway.make(self._name, ssh_door=self._ssh_door, curve=self._curve)
            self.is_throwaway = True

    def _forget_place(self) -> None:
        if self.is_throwaway and self._place is not None:
            throwaway.remove(self._place.home)
        self._place, self.is_throwaway = None, False

    # --- engines -----------------------------------------------------------------------------------------

    def start_engines_sync(
        self, n: int | None = None, engine_set_id: str | None = None, *, environment: Mapping[str, str] | None = None
    ) -> str:
        """Start an agent with n engines; returns when it has joined, with the set's id.

        The engines themselves may take a moment longer: see `Client.wait_for_engines`.

        Args:
            n: how many; None: as many as the cluster was made for.
            engine_set_id: a name for the set; None: a random one.
            environment: variables that only these engines have.
        """
        name = engine_set_id or secrets.token_hex(6)
        if name in self._agents:
            raise UsageError(f"there is an engine set {name!r} already", "choose another name")
        agent = launch.start_agent(
            self.place.engine_file, n or self.n, place=self.place, log_level=self.log_level, work_dir=self.work_dir,
            preload=self.preload, environment=environment,
        )
        known: dict[str, int] = {}

        def note(event: dict[str, Any]) -> None:
            if event["event"] == "engine":
                known[str(event["uuid"])] = int(event["id"])
            elif event["event"] == "failed":
                _log.error("the engines' agent: %s", event.get("message", ""))

        try:
            agent.wait_for("joined", self.engine_timeout, each=note)
        except BaseException:
            agent.stop()
            state.remove_agent(self.place, agent.pid)
            raise
        agent.listen(note)
        self._agents[name], self._engine_ids[name] = agent, known
        return name

    start_engines = as_coroutine(start_engines_sync)

    def stop_engines_sync(self, engine_set_id: str | None = None) -> None:
        """Stop one set of engines, or (None) all."""
        if engine_set_id is None and self._controller is None:
            stopping.stop_engines(self.place)  # somebody else started them
        names = list(self._agents) if engine_set_id is None else [engine_set_id]
        for name in names:
            agent = self._agents.pop(name, None)
            if agent is None:
                raise UsageError(f"there is no engine set {name!r}", f"there are: {', '.join(self._agents) or 'none'}")
            agent.stop()
            state.remove_agent(self.place, agent.pid)
            del self._engine_ids[name]

    stop_engines = as_coroutine(stop_engines_sync)

    def restart_engines_sync(self, engine_set_id: str | None = None) -> None:
        """Replace the engines of a set (None: of all) by fresh ones; what runs on them is lost."""
        with self.connect_client_sync() as client:
            client.shutdown(self._ids_of(engine_set_id), restart=True, block=True)

    restart_engines = as_coroutine(restart_engines_sync)

    def signal_engines_sync(self, signum: int = signal.SIGINT, engine_set_id: str | None = None) -> None:
        """Send a signal to the engines of a set (None: of all); SIGINT interrupts the running task only."""
        with self.connect_client_sync() as client:
            client.send_signal(signum, self._ids_of(engine_set_id), block=True)

    signal_engines = as_coroutine(signal_engines_sync)

    def stop_engine_sync(self, engine_id: int) -> None:
        """Stop one engine."""
        with self.connect_client_sync() as client:
            client.shutdown([engine_id], block=True)

    stop_engine = as_coroutine(stop_engine_sync)

    def restart_engine_sync(self, engine_id: int) -> None:
        """Replace one engine by a fresh one."""
        with self.connect_client_sync() as client:
            client.shutdown([engine_id], restart=True, block=True)

    restart_engine = as_coroutine(restart_engine_sync)

    def signal_engine_sync(self, signum: int, engine_id: int) -> None:
        """Send a signal to one engine."""
        with self.connect_client_sync() as client:
            client.send_signal(signum, [engine_id], block=True)

    signal_engine = as_coroutine(signal_engine_sync)

    def _ids_of(self, engine_set_id: str | None) -> list[int] | None:
        if engine_set_id is None:
            return None
        if engine_set_id not in self._engine_ids:
            raise UsageError(f"there is no engine set {engine_set_id!r}", f"there are: {', '.join(self._agents)}")
        return sorted(self._engine_ids[engine_set_id].values())

    # --- both --------------------------------------------------------------------------------------------

    def start_cluster_sync(self, n: int | None = None) -> None:
        """Start the controller and n engines (None: as many as the cluster was made for)."""
        if n is not None:
            self.n = n
        self.start_controller_sync()
        try:
            self.start_engines_sync(self.n)
        except BaseException:
            self.stop_controller_sync()
            raise

    start_cluster = as_coroutine(start_cluster_sync)

    def stop_cluster_sync(self) -> None:
        """Close this cluster's clients, stop the engines, then the controller."""
        for client in list(self._clients):
            client.close()
        if self._agents:
            self.stop_engines_sync()
        self.stop_controller_sync()

    stop_cluster = as_coroutine(stop_cluster_sync)

    def connect_client_sync(self, **options: Any) -> Client:
        """A client of this cluster; options are those of `Client`.

        Throw-away keys were made by this very process, so that results of any type are accepted, as for the user's own
        clusters (S19).
        """
        from secure_ipp.client.client import Client

        if self.is_throwaway:
            options.setdefault("results", "any")
        client = Client(str(self.place.client_file), cluster=self, **options)
        self._clients.add(client)
        return client

    async def connect_client(self, **options: Any) -> Client:
        """As `connect_client_sync`, without holding up the event loop."""
        import asyncio

        return await asyncio.to_thread(lambda: self.connect_client_sync(**options))

    def start_and_connect_sync(self, n: int | None = None, activate: bool = False) -> Client:
        """Start everything and return a client when all engines are there.

        Args:
            n: how many engines.
            activate: make magics for the client's first view; not offered by this version.
        """
        if activate:
            raise UsageError("magics are not offered by this version", "leave activate out", code="not-offered")
        self.start_cluster_sync(n)
        try:
            client = self.connect_client_sync()
            client.wait_for_engines(self.n, timeout=self.engine_timeout)
        except BaseException:
            self.stop_cluster_sync()
            raise
        return client

    start_and_connect = as_coroutine(start_and_connect_sync)

    # --- from outside ------------------------------------------------------------------------------------

    @classmethod
    def from_file(
        cls, cluster_file: str | os.PathLike[str] | None = None, *, cluster: str = "", profile: str = "",
        cluster_id: str = "", **options: Any,
    ) -> Self:
        """The running cluster of a state file, or of a name; it outlives this object.

        Raises:
            EnvironmentProblem: no controller of it is running.
        """
        if cluster_file is not None:
            directory = Path(cluster_file).resolve().parent
            place = ClusterPlace(directory.name, directory.parent)
        else:
            place = ClusterPlace(cluster_name(cluster, profile, cluster_id))
        if state.read_state(place) is None:
            raise EnvironmentProblem(
                f"no controller of cluster {place.name!r} is running", "start one: ipcluster start", code="not-running"
            )
        found = cls(cluster=place.name, **options)
        found._place = place
        return found

    # --- with ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Client:
        return self.start_and_connect_sync()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_cluster_sync()

    async def __aenter__(self) -> Client:
        return await self.start_and_connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_cluster()


@atexit.register
def _stop_all() -> None:
    for cluster in list(_started):
        if cluster.shutdown_atexit and cluster._owner == os.getpid():
            cluster.stop_cluster_sync()
