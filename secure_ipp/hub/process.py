"""``python -m secure_ipp.hub``: the parts of the hub, wired together, and all of its I/O.

Decides nothing about peers; `core`, `questions` and `registry_watch` do.  Laws:
- actions are done in order, and what a record is about takes effect when the record lasts: one sync serves all that
  came in a turn of the loop; when the journal cannot be written, whatever stands behind that waits, no beat is sent,
  so that the gate admits nobody new, and no record is acknowledged, so that the scheduler takes no new work (S21);
- only the scheduler's key of this very start is admitted to the link, and one session of it counts (S30);
- the supervisor's end is this process's end; SIGTERM ends it in order.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secure_ipp import hardening, limits, logs
from secure_ipp.audit.journal import Journal
from secure_ipp.audit.retention import parse_keep
from secure_ipp.errors import EnvironmentProblem, SecureIppError
from secure_ipp.hub import bootstrap as told
from secure_ipp.hub.actions import Action, Adopted, Compare, HandKey, InForce, Keep, Send, Stop
from secure_ipp.hub.adopted import AdoptedRegistry
from secure_ipp.hub.clock import Clock
from secure_ipp.hub.control import ControlSocket
from secure_ipp.hub.core import Hub
from secure_ipp.hub.door_secret import door_secret
from secure_ipp.hub.grants import LiveGrants
from secure_ipp.hub.joins import Joins
from secure_ipp.hub.link_door import LinkDoor
from secure_ipp.hub.performing import Performer
from secure_ipp.hub.recorder import Recorder
from secure_ipp.hub.registry_watch import RegistryWatch
from secure_ipp.keys.derived import DerivedGrants
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import make_private_dir
from secure_ipp.store.memory import MemoryStore
from secure_ipp.wire import messages, tether
from secure_ipp.wire.loop import Loop
from secure_ipp.wire.session import Session

_log = logging.getLogger(__name__)


class HubProcess:
    """The running hub; a `DoorHandler` of its link."""

    def __init__(self, bootstrap: told.HubBootstrap) -> None:
        place = ClusterPlace(os.path.basename(bootstrap.place_dir), home=Path(bootstrap.place_dir).parent)
        self._place = place
        keys, scheduler = told.keys(bootstrap)
        now = time.time()
        self._loop = Loop()
        journal = Journal(place, keep=parse_keep(bootstrap.journal_keep))
        self._recorder = Recorder(journal, bootstrap.journal_sync)
        self._performer = Performer(
            self._loop, self._recorder, do=self._do, now=self._time,
            head=lambda line: self._perform(self._hub.head(line)),
        )
        self._adopted = AdoptedRegistry(place, lambda: journal.registry)
        self._before = before = self._adopted.before()
        self._hub = Hub(
            cluster=bootstrap.cluster, pid=os.getpid(), store=MemoryStore(started=now), started=now,
            before=before.by_id if before is not None else {},
            doors_before=before.doors if before is not None else None,
        )
        self._clock = Clock(place)
        self._clock_told = 0.0  # by how much the wall clock was off when that last went on record
        self._session: Session | None = None
        self._watch = RegistryWatch(str(place.registry), self._adopted.load, before)
        self._door = LinkDoor(
            self._loop,
            path=bootstrap.link_socket,
            cluster=bootstrap.cluster,
            cluster_id=bootstrap.cluster_id,
            proofs_file=lambda: place.durable_dir() / "link-proofs.used",
            keys=keys,
            scheduler=scheduler,
            handler=self,
            breached=self._fail,
            passed=self._tried,
        )
        self._control = ControlSocket(
            bootstrap.control_socket, refused=self._refused_from_thread,
            commands={
                "status": lambda _: self._in_loop(self._status),
                "adopt": lambda request: self._adopt_from_thread(request.version),
                "accept-clock": lambda _: self._in_loop(self._accept_clock),
            },
        )
        self._adopting: list[tuple[int, queue.SimpleQueue[None]]] = []  # versions that commands wait for
        self._tether = tether.Tether(self._loop, self._orphaned)
        self._failure: SecureIppError | None = None
        self._ready = False

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
        self._recorder.journal.open(self._time())
        self._perform(self._hub.start())
        self._poll_registry()
        self._recorder.journal.checkpoint(self._time())
        self._performer.keep_journal()
        self._door.open()
        self._control.open()
        self._tether.watch()
        self._beat()

    def _end(self) -> None:
        if self._recorder.journal.is_open:
            self._perform(self._hub.stop("asked to" if self._failure is None else self._failure.message, self._time()))
            self._performer.sync()
        self._control.close()
        self._door.close()
        try:
            self._clock.keep()
        except (SecureIppError, OSError) as error:
            _log.error("the clock mark cannot be written: %s", error)
        self._recorder.close(self._time())
        self._loop.close()
        _log.info("the hub has ended")

    def _fail(self, error: SecureIppError) -> None:
        self._failure = error
        self._loop.stop()

    def _tried(self, answered: bool) -> None:
        """The door was tried; from the first good trial on, the hub is ready."""
        if answered and not self._ready:
            self._ready = True
            tether.tell("ready", pid=os.getpid())
            _log.info("the hub serves")
        elif not answered:
            self._perform(self._hub.incident("probe-unanswered", {}, self._time()))

    def _orphaned(self) -> None:
        self._control.close()
        self._door.remove_socket()

    def _beat(self) -> None:
        self._loop.call_later(limits.BEAT_SECONDS, self._beat)
        self._look_at_clock()
        self._poll_registry()
        self._performer.go_on()
        if not self._recorder.problem:
            self._perform(self._hub.beat(self._time()))

    def _poll_registry(self) -> None:
        found = self._watch.poll()
        if isinstance(found, LiveGrants):
            _log.info("registry version %d: %d grants", found.version, len(found.by_id))
            if self._hub.handing_on.problem and found.registry is not None:
                self._load_derived(found.registry.cluster_id)
            self._perform(self._hub.registry_loaded(found, self._time()))
        elif found is not None:
            _log.error("nobody new is admitted: %s", found.message)
            self._perform(self._hub.registry_refused(found, self._time()))

    def _look_at_clock(self) -> None:
        now = self._time()
        off = self._clock.jump or -self._clock.behind
        if bool(off) != bool(self._clock_told) or off * self._clock_told < 0:
            if off:
                _log.critical(
                    "this host's clock is off by %.0f s; keys expire by the time that was shown before (if the clock is"
                    " right now: secure-ipp clock --accept)", off,
                )
            self._perform(self._hub.clock_jumped(off, now))
        self._clock_told = off
        self._clock.keep_sometimes()

    def _load_derived(self, cluster_id: str) -> None:
        """Once: nobody else writes that file."""
        before, self._before = self._before, None
        try:
            self._hub.handing_on.loaded(DerivedGrants.load(self._place, cluster_id))
            if before is not None:
                self._hub.remember(before, self._time())
        except (SecureIppError, OSError) as error:
            _log.error("nothing that holders handed on is in force: %s", error)
            self._hub.handing_on.damaged(str(error))
        try:
            self._hub.joins = Joins.load(self._place)
        except (SecureIppError, OSError) as error:
            _log.error("nobody joins with a key that is good for a number of joins: %s", error)

    # --- actions -------------------------------------------------------------------------------------------

    def _time(self) -> float:
        """The time of an event; that by which grants expire is brought up to date with it."""
        self._hub.trusted = self._clock.now()
        return time.time()

    def _perform(self, actions: list[Action]) -> None:
        self._performer.perform(actions, self._session)

    def _do(self, action: Action, session: Session | None) -> list[Action]:
        """Do it; what follows from it."""
        match action:
            case Send(message):
                if session is not None and session is self._session:
                    session.send(message)
            case HandKey(doors):
                if session is not None and session is self._session:
                    session.send(door_secret(self._place, doors))
            case Adopted(version):
                self._recorder.journal.registry = version
                self._adopted.keep()
            case Compare(seen):
                return self._compare(seen)
            case InForce(version):
                self._tell_adopted(version)
            case Keep():
                return self._keep(action)
            case Stop(by):
                _log.info("grant %s asked for the controller to stop", by)
                tether.tell("stop", by=by)
        return []

    def _compare(self, seen: messages.SeenHead) -> list[Action]:
        """What somebody has seen of the journal, with what it says now; what cannot be read now is on record."""
        try:
            reason = self._recorder.contradiction(seen)
        except SecureIppError as error:
            _log.error("what a client has seen of the journal cannot be compared: %s", error.message)
            return self._hub.incident("not-compared", {"reason": error.message}, self._time())
        if reason:
            _log.critical("the doors are closed: %s", reason)
            return self._hub.behind(seen, reason, self._time())
        return []

    def _keep(self, keep: Keep) -> list[Action]:
        if self._hub.overtaken(keep):  # while it waited for the journal
            return self._hub.handle(keep.asked, self._time())
        try:
            keep.file.save(self._place)
        except (SecureIppError, OSError) as error:
            _log.error("%s could not be kept: %s", type(keep.file).__name__, error)
            problem = EnvironmentProblem("the controller cannot keep it: its disk", "try again later", code="disk")
            return self._hub.not_kept(keep, problem)
        return self._hub.kept(keep, self._time())

    # --- the control socket's threads ------------------------------------------------------------------------

    def _in_loop(self, what: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What this gives, or raises, in the loop's thread."""
        found: queue.SimpleQueue[dict[str, Any] | SecureIppError] = queue.SimpleQueue()

        def do() -> None:
            try:
                found.put(what())
            except SecureIppError as error:
                found.put(error)

        self._loop.call_threadsafe(do)
        try:
            given = found.get(timeout=limits.CONTROL_SECONDS)
        except queue.Empty:
            raise EnvironmentProblem("the hub is too busy to answer", "try again", code="busy") from None
        if isinstance(given, SecureIppError):
            raise given
        return given

    def _accept_clock(self) -> dict[str, Any]:
        try:
            self._clock.accept()
        except OSError as error:
            raise EnvironmentProblem(f"the clock mark cannot be written: {error}", "make room on its disk") from error
        self._clock_told = 0.0
        self._perform(self._hub.clock_accepted(self._time()))
        return self._clock_part()

    def _clock_part(self) -> dict[str, Any]:
        trusted = self._clock.now()
        return {"trusted": trusted, "wall": time.time(), "jump": self._clock.jump, "behind": self._clock.behind}

    def _adopt_from_thread(self, version: int) -> dict[str, Any]:
        """Wait until this version is in force; the scheduler may have to be started again meanwhile."""
        done: queue.SimpleQueue[None] = queue.SimpleQueue()
        waiting = (version, done)
        self._loop.call_threadsafe(lambda: self._adopt(waiting))
        try:
            done.get(timeout=limits.ADOPT_SECONDS)
        except queue.Empty:
            self._loop.call_threadsafe(lambda: self._adopting.remove(waiting) if waiting in self._adopting else None)
            raise EnvironmentProblem(
                f"version {version} of the registry is not in force: {self._why_not_adopted()}",
                "see `secure-ipp status`, and the hub's log", code="not-in-force",
            ) from None
        return {"version": version, "in_force": True}

    def _adopt(self, waiting: tuple[int, queue.SimpleQueue[None]]) -> None:
        self._adopting.append(waiting)
        self._poll_registry()
        if self._hub.in_force(waiting[0]):
            self._tell_adopted(waiting[0])

    def _tell_adopted(self, version: int) -> None:
        for waiting in [waiting for waiting in self._adopting if waiting[0] <= version]:
            self._adopting.remove(waiting)
            waiting[1].put(None)

    def _why_not_adopted(self) -> str:
        if problem := self._recorder.problem or self._hub.registry_problem:
            return problem
        return "the scheduler does not answer" if self._session is not None else "no scheduler is connected"

    def _status(self) -> dict[str, Any]:
        known = self._hub.status(self._time())
        journal = {**self._recorder.status(), "doors_closed": self._hub.doors_closed}
        return {**known, "journal": journal, "clock": self._clock_part()}

    def _refused_from_thread(self, reason: str) -> None:
        self._loop.call_threadsafe(lambda: self._perform(self._hub.control_refused(reason, self._time())))

    # --- DoorHandler -----------------------------------------------------------------------------------------

    def on_open(self, session: Session) -> None:
        old, self._session = self._session, session
        if old is not None:
            old.cut(messages.Refusal("replaced", "another session of the scheduler took this one's place"))
        _log.info("the scheduler is here, process %d", session.hello.pid)
        self._perform(self._hub.scheduler_joined(session.hello.pid, self._time()))

    def on_message(self, session: Session, message: Any, frame: Any | None) -> None:
        if session is not self._session:
            return
        if self._recorder.problem and isinstance(message, messages.Forward):
            # What cannot go on record is not done, and what is not done must not pile up.
            busy = messages.Failure(
                message.request, "journal", "the hub cannot write its journal", "the cluster's owner must make room"
            )
            session.send(messages.Forwarded(message.session, busy))
            return
        self._perform(self._hub.handle(message, self._time()))

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
        self._perform(self._hub.scheduler_left(reason, self._time()))

    def on_incident(self, event: str, details: dict[str, str]) -> None:
        self._perform(self._hub.incident(event, details, self._time()))


def main() -> int:
    """Read the bootstrap, serve; the exit status."""
    try:
        os.umask(0o077)
        hardening.keep_secrets_inside()
        bootstrap = told.decode(tether.read_orders())
        make_private_dir(os.path.dirname(bootstrap.log_file))
        logs.start("hub", bootstrap.log_file, bootstrap.log_level)
        tether.collect_seldom()
        tether.keep_freed_memory()
        HubProcess(bootstrap).run()
    except SecureIppError as error:
        _log.error("the hub ends: %s", error.message)
        tether.tell("failed", code=error.code, message=error.message, advice=error.advice)
        return 1
    return 0
