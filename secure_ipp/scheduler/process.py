"""``python -m secure_ipp.scheduler``: its doors, the gate, the link to the hub, and all of the scheduler's I/O.

Decides nothing about tasks; `core` does.  Laws: a door is open only while its gate answers and the hub is heard; what a
turn of the loop brought is answered at its end; the supervisor's end is this process's end.
"""

from __future__ import annotations

import logging
import os
import platform
import random
import sys
import time
from typing import Any

from secure_ipp import hardening, limits, logs
from secure_ipp._version import __version__
from secure_ipp.access.gate import DecisionEvent, Gate
from secure_ipp.access.prover import Prover
from secure_ipp.errors import Refused, SecureIppError
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.scheduler import bootstrap as told
from secure_ipp.scheduler.core import Core
from secure_ipp.scheduler.doors import Doors
from secure_ipp.scheduler.heads import Heads, head_key
from secure_ipp.scheduler.hub_link import HubLink
from secure_ipp.scheduler.server_key import ServerKey
from secure_ipp.scheduler.standing import Standing
from secure_ipp.wire import messages, sockets, tether
from secure_ipp.wire.connection import Connection
from secure_ipp.wire.door import new_incarnation
from secure_ipp.wire.loop import Loop
from secure_ipp.wire.self_test import SelfTest
from secure_ipp.wire.session import Session

_log = logging.getLogger(__name__)
_TICK_SECONDS = 0.2
_STATUS_SECONDS = 1.0
_GOODBYE_SECONDS = 1.0


class SchedulerProcess:
    """The running scheduler; the handler of its doors."""

    def __init__(self, orders: told.SchedulerBootstrap) -> None:
        self._orders = orders
        server = told.pair(orders.server_secret, orders.server_public)
        self._probe = KeyPair.generate()
        self._loop = Loop()
        link = told.pair(orders.link_secret, orders.link_public)
        self._core = Core(
            send=Session.send, to_hub=self._to_hub, ticket_key=told.ticket_key(orders.ticket_key), scheme=orders.scheme,
            rng=random.Random(os.urandom(16)), keys_changed=lambda: self._standing.renew_table(), now=time.time(),
            own_keys=frozenset(keys.public.raw for keys in (server, self._probe, link)),
            heads=Heads(head_key(server.secret)),
        )
        self._hub_link = HubLink(self._hub_welcomed, self._hub_said, self._fail)
        self._hub = Connection(
            self._loop, doors=[f"ipc://{orders.link_socket}"],
            server_key=CurvePublicKey.from_text(orders.link_server_public),
            keys=link, role="scheduler",
            receives=messages.ToScheduler, handler=self._hub_link,
            first_patience=float("inf"), patience=float("inf"),
            proves=None if sockets.has_curve() else Prover(orders.cluster_id, "controller"),
        )
        self._tether = tether.Tether(self._loop, lambda: None)
        self._doors = Doors(orders, server, lambda: self._standing.trusted_time())
        self._server_key = ServerKey(
            server, self._doors.all, lambda door, keys: self._doors.rebind(door, self._gate, keys), self._bound
        )
        self._standing = Standing(
            self._core, probe=self._probe.public.raw, doors=self._doors.all,
            tell=lambda message: self._hub.send(message),
        )
        self._gate = self._new_gate()
        self._standing.guard(self._gate)
        self._self_test: SelfTest | None = None
        self._failure: SecureIppError | None = None
        self._turn_due = self._records_due = False
        self._ready = False
        self._refused = 0  # counted in the gate's thread

    # --- life ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until SIGTERM.

        Raises:
            SecureIppError: it could not start, a door admitted a stranger, or the hub refused the link.
        """
        try:
            self._start()
            self._loop.run()
            if self._failure is not None:
                raise self._failure
            self._take_leave()  # after a crash nobody is told: another scheduler follows
        finally:
            self._end()

    def _start(self) -> None:
        self._doors.open(self._loop, self._gate, self._server_key.pair, self, new_incarnation())
        if self._doors.problem is not None:
            self._audit("proofs-unknown", {"reason": self._doors.problem.message})
            _log.critical("no door that takes proofs is opened: %s", self._doors.problem)
        self._tether.watch()
        self._hub.start()
        self._loop.call_later(_TICK_SECONDS, self._tick)
        self._loop.call_later(_STATUS_SECONDS, self._tell_status)

    def _end(self) -> None:
        if self._self_test is not None:
            self._self_test.stop()
        for door in self._doors.all:
            door.close()
        self._leave_hub()
        self._gate.stop()
        self._loop.close()
        _log.info("the scheduler has ended")

    def _take_leave(self) -> None:
        """Tell every peer that this is the end, so that nobody looks for a controller that was stopped."""
        sessions = [session for door in self._doors.all for session in door.sessions if session.routing_id is not None]
        for session in sessions:
            session.send(messages.Goodbye("the controller was stopped"))
        until = time.monotonic() + _GOODBYE_SECONDS
        while time.monotonic() < until and any(s.routing_id is not None and not s.link.idle for s in sessions):
            self._loop.turn(0.05)

    def _leave_hub(self) -> None:
        """Say what is left to say, and goodbye."""
        self._core.flush_records()
        self._hub.close("the scheduler has stopped", _GOODBYE_SECONDS)
        until = time.monotonic() + _GOODBYE_SECONDS
        while not self._hub.ended and time.monotonic() < until:
            self._loop.turn(0.05)
        self._hub.abandon()

    def _fail(self, error: SecureIppError) -> None:
        self._failure = error
        self._loop.stop()

    def _begin_self_test(self) -> None:
        self._self_test = SelfTest(
            self._loop, endpoints=self._doors.endpoints, server_key=self._server_key.pair.public, probe=self._probe,
            breached=self._fail, passed=self._tested, provers=self._doors.provers,
        )
        self._self_test.start()

    def _bound(self, keys: KeyPair) -> None:
        """The doors are bound with another key: they are tried with it at once (S2)."""
        self._core.heads.rekey(head_key(keys.secret))
        if self._self_test is not None:
            self._self_test.use(keys.public)

    def _tested(self, answered: bool) -> None:
        if answered and not self._ready:
            self._ready = True
            tether.tell("ready", pid=os.getpid())
            _log.info("the doors are open")
        elif not answered:
            self._audit("probe-unanswered", {})
            if not self._gate.alive():
                _log.critical("the gate had ended; another one takes its place")
                self._gate = self._new_gate()
                self._standing.guard(self._gate)

    def _new_gate(self) -> Gate:
        gate = Gate(self._decided_in_gate, wall=self._standing.trusted_time, proofs=self._doors.desk)
        gate.run_in_thread(sockets.zap_socket(self._loop.context))
        return gate

    # --- turns and time ------------------------------------------------------------------------------------

    def _turn_later(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._loop.at_turn_end(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        self._core.turn(time.time())
        if self._core.board.records.fresh and not self._records_due:
            self._records_due = True
            self._loop.call_later(limits.RECORDS_SECONDS, self._flush_records)

    def _flush_records(self) -> None:
        self._records_due = False
        self._core.flush_records()

    def _tick(self) -> None:
        self._loop.call_later(_TICK_SECONDS, self._tick)
        now = time.time()
        self._core.tick(now)
        self._standing.tick(now)
        self._turn_later()

    def _tell_status(self) -> None:
        self._loop.call_later(_STATUS_SECONDS, self._tell_status)
        if not self._hub.connected:
            return
        status = self._core.status()
        self._to_hub(
            messages.SchedulerStatus(
                self._doors.clients(limits.TARGETS), status.tasks_waiting, status.tasks_running, status.tasks_done,
                self._refused, status.recovering, self._server_key.number, self._server_key.unaware,
            )
        )

    # --- the gate --------------------------------------------------------------------------------------------

    def _decided_in_gate(self, event: DecisionEvent) -> None:
        own_trial = self._self_test is not None and self._self_test.is_own(event.key)
        if event.role == "probe" or (own_trial and event.count == 1 and event.status != "200"):
            return
        if event.status != "200":
            self._refused += event.count
        details = {
            "door": event.domain, "status": event.status, "reason": event.reason, "address": event.address,
            "user": event.user_id, "name": event.grant, "role": event.role, "key": event.key,
            "count": str(event.count),
        }
        self._loop.call_threadsafe(lambda: self._audit("gate", details, event.at))

    def _audit(self, event: str, details: dict[str, str], at: float | None = None) -> None:
        bounded = {key: value[: limits.TEXT_CHARS] for key, value in details.items()}
        self._to_hub(messages.AuditEvent(event, time.time() if at is None else at, bounded))

    # --- the hub ---------------------------------------------------------------------------------------------

    def _to_hub(self, message: messages.Message) -> None:
        if isinstance(message, messages.AuditEvent | messages.StopController | messages.SeenHead):
            self._hub_link.record(self._hub, message)
        else:
            self._hub.send(message)

    def _hub_welcomed(self, resumed: bool) -> None:
        self._core.hub_welcome(resumed)
        if not resumed:
            self._hub_link.say_again(self._hub)

    def _hub_said(self, message: Any) -> None:
        now = time.time()
        if isinstance(message, messages.Beat):
            if self._standing.beat(message) and self._self_test is None:
                self._begin_self_test()
            return
        if isinstance(message, messages.Grants):
            self._standing.grants(message)
            self._turn_later()
            return
        if isinstance(message, messages.DoorsClosed):
            _log.critical("the doors are closed: %s", message.reason)
            self._standing.close_doors(message)
            return
        if isinstance(message, messages.DoorSecret):
            try:
                self._server_key.told(message)
            except SecureIppError as error:
                self._fail(error)
            return
        self._core.hub_message(message, now)
        if isinstance(message, messages.JoinAnswered):
            self._standing.cut_strangers()
        self._turn_later()

    # --- the doors ---------------------------------------------------------------------------------------------

    def on_open(self, session: Session) -> None:
        self._standing.check(session)
        self._server_key.greet(session)
        if session.role != "client":
            _same_versions(session)
        if session.role == "client":
            session.peer = self._core.client_joined(session, session.user, session.token)
        elif session.role == "agent":
            session.peer = self._core.agent_joined(session, session.user, session.token)
        self._standing.entered(session)
        details = {
            "role": session.role, "user": session.user, "name": session.grant, "address": session.address,
            "host": session.hello.host, "pid": str(session.hello.pid),
        }
        self._audit("admitted", details)
        self._turn_later()

    def on_message(self, session: Session, message: Any, frame: Any | None) -> None:
        now = time.time()
        self._turn_later()
        if session.role == "client":
            self._core.client_message(session.peer, message, frame, now)
        elif session.role == "engine":
            self._core.engine_message(session, session.user, message, frame, now)
        else:
            self._core.agent_message(session.peer, message, now)

    def on_acknowledged(self, session: Session, tokens: list[object]) -> None:
        self._server_key.confirmed(session, tokens)

    def on_lost(self, session: Session) -> None:
        if session.role == "engine":
            self._core.engine_lost(session, session.user, time.time())
            self._turn_later()

    def on_resumed(self, session: Session) -> None:
        if session.role == "engine":
            self._core.engine_back(session, session.user)
        _log.info("the %s %s is back", session.role, session.grant)

    def on_gone(self, session: Session, reason: str) -> None:
        now = time.time()
        self._standing.left(session)
        self._audit("left", {"role": session.role, "user": session.user, "name": session.grant, "reason": reason})
        if session.role == "client":
            self._core.client_left(session.peer, now)
        elif session.role == "engine":
            self._core.engine_left(session, session.user, reason, now)
        elif session.peer is not None:
            self._core.agents.left(session.peer, reason, now)
        self._turn_later()

    def on_incident(self, event: str, details: dict[str, str]) -> None:
        self._audit(event, details)


def _same_versions(session: Session) -> None:
    """Agents and engines run the controller's versions: what is pickled in one is loaded in the other."""
    mine, theirs = platform.python_version_tuple()[:2], tuple(session.hello.python.split(".")[:2])
    if theirs != mine or session.hello.package != __version__:
        raise Refused(
            f"the {session.role} on {session.hello.host} has Python {session.hello.python} and secure_ipp "
            f"{session.hello.package}, this controller Python {platform.python_version()} and {__version__}",
            f"use Python {'.'.join(mine)} there, and install secure-ipp=={__version__}", code="version",
        )


def main() -> int:
    """Read the orders, serve; the exit status."""
    try:
        hardening.keep_secrets_inside()
        hardening.raise_descriptors()
        orders = told.decode(tether.read_orders())
        logs.start("scheduler", orders.log_file, orders.log_level)
        sys.setswitchinterval(0.001)  # the gate's thread must get a word in
        tether.collect_seldom()
        tether.keep_freed_memory()
        SchedulerProcess(orders).run()
    except SecureIppError as error:
        _log.error("the scheduler ends: %s", error.message)
        tether.tell("failed", code=error.code, message=error.message, advice=error.advice)
        return 1
    return 0
