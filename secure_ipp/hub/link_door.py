"""The hub's end of the link: a door that admits one key, its gate, and the trial of both.

Laws: nobody but the scheduler of this very start completes a handshake (S30); the door is tried with a stranger's
key and with a probe's at the start, and every minute after; a stranger admitted is final; a probe that is not
answered is an alarm and nothing more (S2).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from secure_ipp import limits
from secure_ipp.access.gate import DecisionEvent, Gate
from secure_ipp.access.table import Admission, TableBuilder
from secure_ipp.errors import PolicyError, SecureIppError
from secure_ipp.hub.control import remove_socket
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.wire import messages, sockets
from secure_ipp.wire.door import Door, DoorHandler, new_incarnation
from secure_ipp.wire.intruder import Verdict, try_door
from secure_ipp.wire.loop import Loop, Timer

DOMAIN: Final = "controller"
ROLE: Final = "scheduler"
SELF_TEST = "self-test"  # grant of the probe; our own trials are not put on record
_log = logging.getLogger(__name__)


class LinkDoor:
    """The door, from `open` to `close`.

    Args:
        loop: of the hub.
        path: of the ipc socket, in a 0700 directory; what an earlier hub left there is removed.
        cluster: its name, for the greeting.
        keys: the hub's.
        scheduler: the one key that may come in.
        handler: of what comes in; also told of refusals at the gate, in the loop's thread.
        broken: told, in the loop's thread, that the door admitted a stranger.
    """

    def __init__(
        self, loop: Loop, *, path: str, cluster: str, keys: KeyPair, scheduler: CurvePublicKey, handler: DoorHandler,
        broken: Callable[[SecureIppError], None],
    ) -> None:
        self._loop = loop
        self._path = path
        self._cluster = cluster
        self._keys = keys
        self._scheduler = scheduler
        self._handler = handler
        self._broken = broken
        self._probe = KeyPair.generate()
        self._stranger = KeyPair.generate()
        self._gate: Gate | None = None
        self._door: Door | None = None
        self._timer: Timer | None = None

    def open(self) -> None:
        """Start the gate, bind, and try the door.

        Raises:
            PolicyError: the door admits a stranger.
            EnvironmentProblem: the path cannot be bound.
        """
        remove_socket(self._path)
        # The table is the hub's own and never changes, so there is nobody to hear from.
        self._gate = Gate(self._on_decision, stale_after=float("inf"))
        table = TableBuilder()
        table.add(DOMAIN, self._scheduler.raw, Admission(user_id=ROLE, role=ROLE, grant=ROLE))
        table.add(DOMAIN, self._probe.public.raw, Admission(user_id=SELF_TEST, role="probe", grant=SELF_TEST))
        self._gate.replace(table.build())
        self._gate.run_in_thread(sockets.zap_socket(self._loop.context))
        self._door = Door(
            self._loop, gate=self._gate, domain=DOMAIN, endpoints=[self._endpoint], keys=self._keys,
            cluster=self._cluster, receives={ROLE: messages.FromScheduler}, handler=self._handler,
            incarnation=new_incarnation(),
        )
        self._judge(*self._try())
        self._timer = self._loop.call_later(limits.SELF_TEST_SECONDS, self._try_again)

    def close(self) -> None:
        """Unbind, end the gate, remove the socket; closing what never opened is allowed."""
        if self._timer is not None:
            self._timer.cancel()
        if self._door is not None:
            self._door.close()
            self.remove_socket()
        if self._gate is not None:
            self._gate.stop()

    def remove_socket(self) -> None:
        """Remove the socket's name, at once; whoever is connected stays so."""
        remove_socket(self._path)

    @property
    def _endpoint(self) -> str:
        return f"ipc://{self._path}"

    def _try(self) -> tuple[Verdict, Verdict]:
        """What the door does with a stranger, and with the probe; takes a while."""
        stranger = try_door(self._endpoint, self._keys.public, self._stranger)
        return stranger, try_door(self._endpoint, self._keys.public, self._probe)

    def _judge(self, stranger: Verdict, probe: Verdict) -> None:
        if stranger == "admitted":
            raise PolicyError(
                "the hub's door admitted a key that nobody knows, so it was closed",
                "this libzmq does not ask our gate; reinstall pyzmq from its wheel and report this",
                code="door-open",
            )
        if probe != "admitted":
            _log.error("the hub's door did not admit its own probe (%s); the scheduler may be locked out", probe)

    def _try_again(self) -> None:
        self._timer = self._loop.call_later(limits.SELF_TEST_SECONDS, self._try_again)
        threading.Thread(target=self._try_in_thread, name="trial of the door", daemon=True).start()

    def _try_in_thread(self) -> None:
        found = self._try()
        self._loop.call_threadsafe(lambda: self._judge_later(*found))

    def _judge_later(self, stranger: Verdict, probe: Verdict) -> None:
        try:
            self._judge(stranger, probe)
        except PolicyError as error:
            self._broken(error)

    def _on_decision(self, event: DecisionEvent) -> None:
        """In the gate's thread."""
        ours = event.grant == SELF_TEST or event.key == self._stranger.fingerprint
        if ours and event.count == 1:
            return
        details = {
            "status": event.status, "reason": event.reason, "address": event.address, "grant": event.grant,
            "key": event.key, "count": str(event.count),
        }
        self._loop.call_threadsafe(lambda: self._handler.on_incident("gate", details))
