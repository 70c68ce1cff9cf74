"""The hub's end of the link: a door that admits one key, its gate, and the trial of both.

It is Curve; on a libzmq without Curve, which both ends have then, it takes proofs of the same keys (S25).
Laws: nobody but the scheduler of this very start completes a handshake (S30), apart from the door's own probe, which
is cut before it says a word; the door counts as open when it was tried and held, and a gate that ended is replaced
(S2).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from secure_ipp.access.gate import DecisionEvent, Gate
from secure_ipp.access.proof_checks import ProofDesk
from secure_ipp.access.proof_file import ProofFile
from secure_ipp.access.prover import Prover
from secure_ipp.access.table import Admission, GateTable, TableBuilder
from secure_ipp.errors import PolicyError
from secure_ipp.hub.control import remove_socket
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.wire import messages, sockets
from secure_ipp.wire.door import Door, DoorHandler, new_incarnation
from secure_ipp.wire.loop import Loop
from secure_ipp.wire.self_test import SelfTest

_log = logging.getLogger(__name__)
DOMAIN: Final = "controller"
ROLE: Final = "scheduler"
SELF_TEST = "self-test"  # grant of the probe; our own trials are not put on record


class LinkDoor:
    """The door, from `open` to `close`.

    Args:
        loop: of the hub.
        path: of the ipc socket, in a 0700 directory; what an earlier hub left there is removed.
        cluster, cluster_id: its name, for the greeting, and its id.
        proofs_file: where the proofs that were taken are kept, on a libzmq without Curve.
        keys: the hub's.
        scheduler: the one key that may come in.
        handler: of what comes in; also told of refusals at the gate, in the loop's thread.
        breached: told, in the loop's thread, that the door admitted a stranger.
        passed: told, in the loop's thread, after each trial, whether the probe was answered.
    """

    def __init__(
        self, loop: Loop, *, path: str, cluster: str, cluster_id: str, keys: KeyPair, scheduler: CurvePublicKey,
        proofs_file: Callable[[], Path], handler: DoorHandler, breached: Callable[[PolicyError], None],
        passed: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._path = path
        self._cluster = cluster
        self._cluster_id = cluster_id
        self._proofs_file = proofs_file
        self._desk: ProofDesk | None = None
        self._keys = keys
        self._scheduler = scheduler
        self._handler = handler
        self._breached = breached
        self._passed = passed
        self._table = GateTable()
        self._gate: Gate | None = None
        self._door: Door | None = None
        self._self_test: SelfTest | None = None

    def open(self) -> None:
        """Start the gate, bind, and begin to try the door.

        Raises:
            EnvironmentProblem: the path cannot be bound.
        """
        remove_socket(self._path)
        probe, endpoint = KeyPair.generate(), f"ipc://{self._path}"
        table = TableBuilder()
        table.add(DOMAIN, self._scheduler.raw, Admission(user_id=ROLE, role=ROLE, grant=ROLE))
        table.add(DOMAIN, probe.public.raw, Admission(user_id=SELF_TEST, role="probe", grant=SELF_TEST))
        self._table = table.build()
        if not sockets.has_curve():
            self._desk = self._open_desk()
        self._gate = self._new_gate()
        self._door = Door(
            self._loop, gate=self._gate, domain=DOMAIN, endpoints=[endpoint], keys=self._keys,
            cluster=self._cluster, receives={ROLE: messages.FromScheduler}, handler=self._handler,
            incarnation=new_incarnation(), by_proof=self._desk is not None,
        )
        self._self_test = SelfTest(
            self._loop, endpoints=[endpoint], server_key=self._keys.public, probe=probe, breached=self._breached,
            passed=self._tried,
            provers={} if self._desk is None else {endpoint: Prover(self._cluster_id, DOMAIN)},
        )
        self._self_test.start()

    def _open_desk(self) -> ProofDesk:
        memory = ProofFile(self._proofs_file(), self._cluster_id)
        memory.open(time.time())
        return ProofDesk(self._keys, self._cluster_id, frozenset({DOMAIN}), memory)

    def close(self) -> None:
        """Unbind, end the gate, remove the socket; closing what never opened is allowed."""
        if self._self_test is not None:
            self._self_test.stop()
        if self._door is not None:
            self._door.close()
            self.remove_socket()
        if self._gate is not None:
            self._gate.stop()

    def remove_socket(self) -> None:
        """Remove the socket's name, at once; whoever is connected stays so."""
        remove_socket(self._path)

    def _new_gate(self) -> Gate:
        # The table is the hub's own and never changes, so there is nobody to hear from.
        gate = Gate(self._on_decision, stale_after=float("inf"), proofs=self._desk)
        gate.replace(self._table)
        gate.run_in_thread(sockets.zap_socket(self._loop.context))
        return gate

    def _tried(self, answered: bool) -> None:
        if not answered and self._gate is not None and not self._gate.alive():
            _log.critical("the gate had ended; another one takes its place")
            self._gate = self._new_gate()
        self._passed(answered)

    def _on_decision(self, event: DecisionEvent) -> None:
        """In the gate's thread."""
        trial = self._self_test
        if event.grant == SELF_TEST or (trial and trial.is_own(event.key) and event.count == 1):
            return
        details = {
            "status": event.status, "reason": event.reason, "address": event.address, "grant": event.grant,
            "key": event.key, "count": str(event.count),
        }
        self._loop.call_threadsafe(lambda: self._handler.on_incident("gate", details))
