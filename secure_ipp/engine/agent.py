"""The agent of a host: joins the cluster with the engine file, has engines made, and answers for them.

`python -m secure_ipp.engine.agent` reads an `AgentBootstrap` from its stdin.  Laws.
- The template is started before the join key is read (S12); engines get session keys, never the join key.
- SIGTERM, SIGINT, SIGHUP, a dismissal or the final loss of the scheduler end it in order: engines first.  Whatever
  kills it kills them.
- It runs no user code and unpickles nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import resource
import signal
import socket
import sys
from typing import Any

import msgspec

from secure_ipp import hardening, limits, logs
from secure_ipp.engine import fleet as actions
from secure_ipp.engine.bootstrap import (
    AgentBootstrap,
    EngineBootstrap,
    EngineEvent,
    Lines,
    read_line,
    send_line,
)
from secure_ipp.engine.fleet import Fleet, Member
from secure_ipp.engine.logs import log_of_engine
from secure_ipp.engine.nursery import Nursery, SpawnNursery, TemplateNursery
from secure_ipp.engine.reaching import reach_door
from secure_ipp.engine.shared_page import SharedPage
from secure_ipp.errors import EnvironmentProblem, SecureIppError
from secure_ipp.keys.capability import Capability, parse_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.known_doors import KnownDoors
from secure_ipp.tunnel.reached import Reached
from secure_ipp.wire import messages
from secure_ipp.wire.connection import Connection
from secure_ipp.wire.loop import Loop

log = logging.getLogger("secure_ipp.engine")
_END_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_STOP_SECONDS = 2.0  # between asking an engine to end and killing it


class _Channel:
    """An agent's end of what it shares with one engine; `slot` is the engine's place among those of this agent."""

    def __init__(self, ours: socket.socket, page: SharedPage, slot: int) -> None:
        self.slot = slot
        self.socket = ours
        self.lines = Lines(ours)
        self.page = page


class Agent:
    """Wires the fleet to its scheduler and to its processes."""

    def __init__(
        self, bootstrap: AgentBootstrap, capability: Capability, loop: Loop, template: TemplateNursery | None,
        reached: Reached,
    ) -> None:
        self._bootstrap = bootstrap
        self._capability = capability
        self._reached = reached
        self._loop = loop
        self._instance = os.urandom(32)  # by which the controller knows it again, and nobody else does
        self._fleet = Fleet(self._join, KeyPair.generate)
        self._template = template
        self._spawn = SpawnNursery(loop, self)
        self._nurseries: dict[str, Nursery] = {}
        self._channels: dict[str, _Channel] = {}
        self._doors = KnownDoors(
            capability.server_keys, cluster_id=capability.cluster_id, issuer=capability.issuer_key
        )
        self._connection = Connection(
            loop, doors=reached.doors, server_key=self._doors, keys=capability.keys, role="agent",
            receives=messages.ToAgent, handler=self, first_patience=limits.AGENT_PATIENCE_SECONDS,
            patience=limits.AGENT_PATIENCE_SECONDS, proves=reached.prover(capability),
        )
        self._failure: SecureIppError | None = None
        self._ending = False
        self._joined = False
        self.status = 0

    def run(self) -> int:
        """Until all is over; returns the exit status."""
        self._hear_signals()
        if self._template is not None:
            self._template.join(self._loop, self, self._bootstrap.preload)
        self._fleet.begin(self._bootstrap.engines)
        self._connection.start()
        self._reached.watch(self._loop, self._connection, self._fail)
        self._loop.run()
        for nursery in (self._spawn, self._template):
            if nursery is not None:
                nursery.close()
        self._reached.release()
        return self.status

    def _hear_signals(self) -> None:
        reading, writing = os.pipe()
        for descriptor in (reading, writing):
            os.set_blocking(descriptor, False)
        for number in _END_SIGNALS:
            signal.signal(number, lambda *_: None)  # the loop reads of it
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

        def heard() -> None:
            if _END_SIGNALS.intersection(os.read(reading, 64)):
                self._end("the agent was asked to stop", 0)

        self._loop.add_reader(reading, heard)

    def _join(self, dead: list[messages.EngineDeath]) -> messages.Join:
        return messages.Join(socket.gethostname()[: limits.TEXT_CHARS], os.getpid(), dead, self._instance)

    # --- the connection ------------------------------------------------------------------------------------

    def on_welcome(self, welcome: messages.Welcome) -> None:
        if not self._joined:
            self._joined = True
            log.info("joined cluster %s", self._capability.cluster)
            self._tell("joined")
        self._do(self._fleet.welcome(welcome.resumed))

    def on_message(self, message: Any, frames: list[memoryview]) -> None:
        if isinstance(message, messages.Announced):
            self._do(self._fleet.announced(message))
        elif isinstance(message, messages.SignalEngine):
            self._do(self._fleet.signal(message))
        elif isinstance(message, messages.StopEngine):
            self._do(self._fleet.stop(message))
        elif isinstance(message, messages.Dismiss):
            self._end(f"dismissed: {message.reason}", 0)
        else:
            self._end("the cluster has ended", 0)
        self._over()

    def on_acknowledged(self, tokens: list[object]) -> None:
        for token in tokens:
            self._fleet.heard_of_death(str(token))

    def on_lost(self, reason: str) -> None:
        log.warning("connection to the scheduler lost: %s", reason)

    def on_failed(self, error: SecureIppError) -> None:
        self._fail(self._reached.explain(error))

    def on_closed(self) -> None:
        self._loop.stop()

    # --- processes -----------------------------------------------------------------------------------------

    def on_running(self, uuid: str, pid: int) -> None:
        self._do(self._fleet.running(uuid, pid))

    def on_exited(self, uuid: str, status: int, reason: str) -> None:
        channel = self._channels.pop(uuid, None)
        started = 0
        if channel is not None:
            self._hear(uuid, channel)
            started = channel.page.started
            self._drop(channel)
        self._nurseries.pop(uuid, None)
        member = self._fleet.by_uuid(uuid)
        if member is not None and not member.asked:
            log.error("engine %s (pid %d) is gone: status %d %s", uuid, member.pid, status, reason)
        self._do(self._fleet.exited(uuid, status, started, reason))
        self._over()

    def on_refused(self, uuid: str, reason: str) -> None:
        log.warning("%s; engines are spawned instead, which takes longer", reason)
        channel = self._channels.pop(uuid, None)
        member = self._fleet.by_uuid(uuid)
        if channel is not None:
            self._drop(channel)
        if member is not None:
            self._make(member, self._spawn)

    def _make(self, member: Member, nursery: Nursery) -> None:
        told = self._bootstrap
        ours, theirs = socket.socketpair()
        taken = {channel.slot for channel in self._channels.values()}
        slot = next(number for number in itertools.count() if number not in taken)
        channel = self._channels[member.uuid] = _Channel(ours, SharedPage.create(), slot)
        bootstrap = EngineBootstrap(
            uuid=member.uuid, doors=list(self._reached.doors), by_proof=self._reached.by_proof,
            server_keys=[key.text for key in self._doors.keys], issuer_key=self._capability.issuer_key.text,
            cluster_id=self._capability.cluster_id,
            public_key=member.keys.public.text, secret_key=member.keys.secret.text, work_dir=told.work_dir,
            cluster_dir=told.cluster_dir, join_file=told.join_file, log_file=log_of_engine(told.log_file, slot),
            log_level=told.log_level,
        )
        send_line(ours, bootstrap)
        ours.setblocking(False)
        self._loop.add_reader(ours.fileno(), lambda: self._hear(member.uuid, channel))
        self._nurseries[member.uuid] = nursery
        nursery.start(member.uuid, theirs, channel.page.descriptor)
        theirs.close()

    def _hear(self, uuid: str, channel: _Channel) -> None:
        """What an engine says of itself."""
        for line in channel.lines.read():
            event = msgspec.json.decode(line, type=EngineEvent)
            member = self._fleet.by_uuid(uuid)
            if event.event == "registered" and member is not None:
                self._tell("engine", uuid=uuid, id=event.id, pid=member.pid)
            elif event.event == "failed":
                log.error("engine %s: %s (%s)", uuid, event.message, event.advice)
                self._failure = self._failure or EnvironmentProblem(event.message, event.advice, code=event.code)
        if channel.lines.ended:
            self._loop.remove_reader(channel.socket.fileno())

    def _drop(self, channel: _Channel) -> None:
        self._loop.remove_reader(channel.socket.fileno())
        channel.socket.close()
        channel.page.close()

    # --- doing ---------------------------------------------------------------------------------------------

    def _do(self, wanted: list[actions.Action]) -> None:
        for action in wanted:
            if isinstance(action, actions.Say):
                self._connection.send(action.message, (), action.death or None)
            elif isinstance(action, actions.StartEngine):
                template = self._template
                self._make(action.member, template if template is not None and template.usable else self._spawn)
            elif isinstance(action, actions.SignalProcess):
                self._signal(action.member.uuid, action.signum)
            elif isinstance(action, actions.StopProcess):
                self._stop(action.member.uuid)
            elif isinstance(action, actions.Remark):
                log.warning("%s", action.text)
            else:
                log.error("%s", action.reason)
                self._failure = self._failure or EnvironmentProblem(
                    action.reason, "see the controller's log", code="engine-refused"
                )

    def _signal(self, uuid: str, signum: int) -> None:
        nursery = self._nurseries.get(uuid)
        if nursery is not None:
            nursery.signal(uuid, signum)

    def _stop(self, uuid: str) -> None:
        self._signal(uuid, signal.SIGTERM)
        self._loop.call_later(_STOP_SECONDS, lambda: self._signal(uuid, signal.SIGKILL))

    def _tell(self, event: str, **details: Any) -> None:
        """One line for whoever started this agent, if anybody still listens."""
        tell(self._bootstrap.ready_fd, event, **details)

    # --- the end -------------------------------------------------------------------------------------------

    def _fail(self, error: SecureIppError) -> None:
        log.error("%s", error)
        self._failure = error
        self._end(error.message, 3)
        self._over()

    def _end(self, reason: str, status: int) -> None:
        """Stop all engines, then say goodbye."""
        if self._ending:
            return
        log.info("ending: %s", reason)
        self._ending = True
        self.status = status
        self._do(self._fleet.stop_all())
        self._loop.call_later(2 * _STOP_SECONDS, self._close)
        self._over()

    def _over(self) -> None:
        """Is there nothing left to do?"""
        if not self._fleet.empty:
            return
        if not self._ending:
            self._ending = True
            self.status = 1 if self._failure is not None or self._fleet.crashed else 0
            log.info("no engine is left")
        self._close()

    def _close(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._tell("failed", code=failure.code, message=failure.message, advice=failure.advice)
        if isinstance(self._connection, Connection) and self._connection.connected:
            self._connection.close("the agent has stopped")
        else:
            self._connection.abandon()
            self._loop.stop()


def tell(descriptor: int, event: str, **details: Any) -> None:
    """Write one event line to an inherited descriptor; nobody there is no harm."""
    if descriptor < 0:
        return
    try:
        os.write(descriptor, msgspec.json.encode({"event": event, **details}) + b"\n")
    except OSError as error:
        log.debug("nobody listens to events: %s", error)


def _start_template() -> TemplateNursery | None:
    if os.environ.get("SECURE_IPP_SPAWN") == "1" or not hasattr(os, "fork"):
        return None
    return TemplateNursery()


def run_agent(bootstrap: AgentBootstrap, template: TemplateNursery | None) -> int:
    """Be the agent until it is over; returns the exit status."""
    try:
        logs.start("agent", bootstrap.log_file, bootstrap.log_level)
        capability = parse_capability(bootstrap.capability)
        capability.require_role("engine")
        if bootstrap.engines < 1:
            raise EnvironmentProblem("an agent needs at least one engine", "say how many engines to run")
        reached = reach_door(capability, bootstrap.way)
    except SecureIppError as error:
        log.error("%s", error)
        tell(bootstrap.ready_fd, "failed", code=error.code, message=error.message, advice=error.advice)
        return 2
    if bootstrap.ready_fd >= 0:
        os.set_inheritable(bootstrap.ready_fd, False)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # each engine takes two descriptors here; macOS has no "most"
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return Agent(bootstrap, capability, Loop(), template, reached).run()


def main() -> int:
    """Read the bootstrap from stdin and be the agent."""
    template = _start_template()
    hardening.keep_secrets_inside()
    try:
        bootstrap = msgspec.json.decode(read_line(0), type=AgentBootstrap)
    except (EnvironmentProblem, msgspec.MsgspecError) as error:
        print(f"secure_ipp.engine.agent: {error}", file=sys.stderr)
        return 2
    return run_agent(bootstrap, template)


if __name__ == "__main__":
    sys.exit(main())
