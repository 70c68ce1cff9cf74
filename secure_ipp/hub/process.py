"""``python -m secure_ipp.hub``: the parts of the hub, wired together, and all of its I/O.

Decides nothing about peers; `core`, `questions` and `registry_watch` do.  Laws:
- actions are done in order; when the audit log cannot be written, whatever stands behind that waits, no beat is sent,
  so that the gate admits nobody new, and no record is acknowledged, so that the scheduler takes no new work (S21);
- only the scheduler's key of this very start is admitted to the link, and one session of it counts (S30);
- when stdin ends the supervisor is gone, and the hub ends at once; SIGTERM ends it in order.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import time
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from secure_ipp import hardening, limits, logs
from secure_ipp.audit.log import AuditLog
from secure_ipp.errors import EnvironmentProblem, SecureIppError
from secure_ipp.hub.bootstrap import HubBootstrap, read_bootstrap
from secure_ipp.hub.control import ControlSocket
from secure_ipp.hub.core import Action, Hub, Send, Stop, Write
from secure_ipp.hub.grants import LiveGrants, from_registry
from secure_ipp.hub.link_door import LinkDoor
from secure_ipp.hub.registry_watch import RegistryWatch
from secure_ipp.keys.curve import CurvePublicKey, CurveSecretKey, KeyPair
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import make_private_dir
from secure_ipp.keys.registry import Registry
from secure_ipp.store.memory import MemoryStore
from secure_ipp.wire import messages
from secure_ipp.wire.loop import Loop
from secure_ipp.wire.session import Session

_log = logging.getLogger(__name__)
_TETHER, _EVENTS = 0, 1  # stdin: a bootstrap, then nothing until the supervisor is gone; stdout: event lines
_ORPHANED = 3  # exit status when the supervisor is gone


class HubProcess:
    """The running hub; a `DoorHandler` of its link."""

    def __init__(self, bootstrap: HubBootstrap) -> None:
        place = ClusterPlace(os.path.basename(bootstrap.place_dir), home=_parent(bootstrap.place_dir))
        log_dir = os.path.dirname(bootstrap.log_file)
        keys, scheduler = _keys(bootstrap)
        now = time.time()
        self._loop = Loop()
        self._hub = Hub(cluster=bootstrap.cluster, pid=os.getpid(), store=MemoryStore(started=now), started=now)
        self._audit = AuditLog(os.path.join(log_dir, "audit.log"))
        self._audit_problem = ""
        self._waiting: deque[tuple[Action, Session | None]] = deque()
        self._session: Session | None = None
        self._watch = RegistryWatch(str(place.registry), lambda: from_registry(Registry.load(place)))
        self._door = LinkDoor(
            self._loop,
            path=bootstrap.link_socket,
            cluster=bootstrap.cluster,
            keys=keys,
            scheduler=scheduler,
            handler=self,
            broken=self._fail,
        )
        self._control = ControlSocket(
            bootstrap.control_socket, status=self._status_from_thread, refused=self._refused_from_thread
        )
        self._signals: tuple[socket.socket, socket.socket] | None = None
        self._failure: SecureIppError | None = None

    # --- life ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until SIGTERM.

        Raises:
            SecureIppError: it could not start, or a door admitted a stranger.
        """
        try:
            self._start()
            self._loop.run()
            if self._failure is not None:
                raise self._failure
        finally:
            self._end()

    def _start(self) -> None:
        self._audit.open()
        self._perform(self._hub.start())
        self._poll_registry()
        self._door.open()
        self._control.open()
        self._watch_signals()
        os.set_blocking(_TETHER, False)
        self._loop.add_reader(_TETHER, self._on_tether)
        self._beat()
        _tell("ready", pid=os.getpid())
        _log.info("the hub serves")

    def _end(self) -> None:
        self._perform(self._hub.stop("asked to" if self._failure is None else self._failure.message, time.time()))
        self._control.close()
        self._door.close()
        try:
            self._audit.close()
        except OSError as error:
            _log.error("the audit log could not be flushed: %s", error)
        self._loop.close()
        _log.info("the hub has ended")

    def _fail(self, error: SecureIppError) -> None:
        self._failure = error
        self._loop.stop()

    def _watch_signals(self) -> None:
        """SIGTERM and SIGINT become readable bytes, so that they end the loop between two turns."""
        woken, waking = self._signals = socket.socketpair()
        woken.setblocking(False)
        waking.setblocking(False)
        signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: None)
        self._loop.add_reader(woken.fileno(), self._loop.stop)

    def _on_tether(self) -> None:
        if os.read(_TETHER, 4096):
            return
        _log.error("the supervisor is gone; the hub ends")
        self._control.close()
        self._door.remove_socket()
        logging.shutdown()
        os._exit(_ORPHANED)

    def _beat(self) -> None:
        self._loop.call_later(limits.BEAT_SECONDS, self._beat)
        self._poll_registry()
        self._do_waiting()
        if not self._waiting:
            self._perform(self._hub.beat())

    def _poll_registry(self) -> None:
        found = self._watch.poll()
        if isinstance(found, LiveGrants):
            _log.info("registry version %d: %d grants", found.version, len(found.by_id))
            self._perform(self._hub.registry_loaded(found, time.time()))
        elif found is not None:
            _log.error("nobody new is admitted: %s", found.message)
            self._perform(self._hub.registry_refused(found, time.time()))

    # --- actions -------------------------------------------------------------------------------------------

    def _perform(self, actions: list[Action]) -> None:
        self._waiting.extend((action, self._session) for action in actions)
        self._do_waiting()

    def _do_waiting(self) -> None:
        """Do what can be done; one that cannot holds up the rest, and is tried again with the next beat."""
        while self._waiting:
            action, session = self._waiting[0]
            match action:
                case Write(records):
                    try:
                        self._audit.write(records)
                    except SecureIppError as error:
                        if not self._audit_problem:
                            _log.error("no new work is taken: %s; %s", error.message, error.advice)
                        self._audit_problem = error.message
                        return
                    self._audit_problem = ""
                case Send(message):
                    if session is not None and session is self._session:
                        session.send(message)
                case Stop(by):
                    _log.info("grant %s asked for the controller to stop", by)
                    _tell("stop", by=by)
            self._waiting.popleft()

    # --- the control socket's threads ------------------------------------------------------------------------

    def _status_from_thread(self) -> dict[str, Any]:
        found: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._loop.call_threadsafe(lambda: found.put(self._status()))
        try:
            return found.get(timeout=limits.CONTROL_SECONDS)
        except queue.Empty:
            raise EnvironmentProblem("the hub is too busy to tell its status", "try again", code="busy") from None

    def _status(self) -> dict[str, Any]:
        return {**self._hub.status(time.time()), "audit": {"problem": self._audit_problem}}

    def _refused_from_thread(self, reason: str) -> None:
        self._loop.call_threadsafe(lambda: self._perform(self._hub.control_refused(reason, time.time())))

    # --- DoorHandler -----------------------------------------------------------------------------------------

    def on_open(self, session: Session) -> None:
        old, self._session = self._session, session
        if old is not None:
            old.cut(messages.Refusal("replaced", "another session of the scheduler took this one's place"))
        _log.info("the scheduler is here, process %d", session.hello.pid)
        self._perform(self._hub.scheduler_joined(session.hello.pid, time.time()))

    def on_message(self, session: Session, message: Any, frame: Any | None) -> None:
        if session is not self._session:
            return
        if self._waiting and isinstance(message, messages.Forward):
            # What cannot go on record is not done, and what is not done must not pile up.
            busy = messages.Failure(
                message.request, "audit-log", "the hub cannot write its audit log", "the cluster's owner must make room"
            )
            session.send(messages.Forwarded(message.session, busy))
            return
        self._perform(self._hub.handle(message, time.time()))

    def on_acknowledged(self, session: Session, tokens: list[object]) -> None:
        """Nothing is sent with a token: what matters here is acknowledged by messages."""

    def on_resumed(self, session: Session) -> None:
        _log.info("the scheduler's link is back")

    def on_lost(self, session: Session) -> None:
        _log.warning("the scheduler's link is lost; it may resume within %.0f s", limits.RESUME_SECONDS)

    def on_gone(self, session: Session, reason: str) -> None:
        if session is not self._session:
            return
        self._session = None
        _log.warning("the scheduler is gone: %s", reason)
        self._perform(self._hub.scheduler_left(reason, time.time()))

    def on_incident(self, event: str, details: dict[str, str]) -> None:
        self._perform(self._hub.incident(event, details, time.time()))


def main() -> int:
    """Read the bootstrap, serve; the exit status."""
    try:
        os.umask(0o077)
        hardening.keep_secrets_inside()
        bootstrap = read_bootstrap(_TETHER)
        make_private_dir(os.path.dirname(bootstrap.log_file))
        logs.start("hub", bootstrap.log_file, bootstrap.log_level)
        HubProcess(bootstrap).run()
    except SecureIppError as error:
        _log.error("the hub ends: %s", error.message)
        _tell("failed", code=error.code, message=error.message, advice=error.advice)
        return 1
    return 0


def _tell(event: str, **details: Any) -> None:
    """One line for the supervisor."""
    try:
        os.write(_EVENTS, msgspec.json.encode({"event": event, **details}) + b"\n")
    except BrokenPipeError:
        _log.error("the supervisor does not listen any more")


def _keys(bootstrap: HubBootstrap) -> tuple[KeyPair, CurvePublicKey]:
    """The hub's own pair, and the scheduler's public key."""
    try:
        pair = KeyPair.from_secret(CurveSecretKey.from_text(bootstrap.link_server_secret))
        public = CurvePublicKey.from_text(bootstrap.link_server_public)
        scheduler = CurvePublicKey.from_text(bootstrap.scheduler_public)
    except ValueError:
        raise EnvironmentProblem("the hub was given texts that are no keys", "start the cluster again") from None
    if pair.public != public:
        raise EnvironmentProblem("the two halves of the hub's key do not match", "start the cluster again")
    return pair, scheduler


def _parent(directory: str) -> Path:
    return Path(directory).parent
