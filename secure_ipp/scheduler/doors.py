"""Which doors the scheduler has: with Curve at ports, and with proofs at Unix sockets (S25).

Laws: what a client, an agent or an engine may do is the same at either; if the proofs that were taken before are not
known, no door that takes proofs is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from secure_ipp.access.proof_checks import ProofDesk
from secure_ipp.access.proof_file import ProofFile
from secure_ipp.access.prover import Prover
from secure_ipp.errors import SecureIppError
from secure_ipp.keys.curve import KeyPair
from secure_ipp.scheduler.bootstrap import SchedulerBootstrap
from secure_ipp.wire import messages
from secure_ipp.wire.door import Door, DoorHandler
from secure_ipp.wire.loop import Loop
from secure_ipp.wire.sockets import LiveGate

CLIENTS: Mapping[str, Any] = {"client": messages.FromClient}
HOSTS: Mapping[str, Any] = {"agent": messages.FromAgent, "engine": messages.FromEngine}


class Plan(NamedTuple):
    """One door that is to be."""

    domain: str
    endpoints: list[str]
    receives: Mapping[str, Any]
    by_proof: bool


class Doors:
    """From the orders to open doors.

    Attributes:
        all: that are open.
        desk: for the gate; None: no door takes proofs.
        problem: why doors that should take proofs are not opened.

    Args:
        keys: the server's.
        now: seconds since the epoch, as the gate has it.
    """

    def __init__(self, orders: SchedulerBootstrap, keys: KeyPair, now: Callable[[], float]) -> None:
        self._orders = orders
        self._now = now
        self._plans = plans(orders)
        self.all: list[Door] = []
        self.problem: SecureIppError | None = None
        self._memory = ProofFile(Path(orders.proofs_file), orders.cluster_id)
        by_proof = frozenset(plan.domain for plan in self._plans if plan.by_proof)
        self.desk = ProofDesk(keys, orders.cluster_id, by_proof, self._memory) if by_proof else None

    def open(self, loop: Loop, gate: LiveGate, keys: KeyPair, handler: DoorHandler, incarnation: bytes) -> None:
        """Open them all.

        Raises:
            SecureIppError: one cannot be opened, or no door takes anything but proofs and nothing is known of those.
        """
        try:
            if self.desk is not None:
                self._memory.open(self._now())
        except SecureIppError as error:
            self._plans = [plan for plan in self._plans if not plan.by_proof]
            if not self._plans:
                raise
            self.problem = error
        for plan in self._plans:
            self.all.append(
                Door(
                    loop, gate=gate, domain=plan.domain, endpoints=plan.endpoints, keys=keys,
                    cluster=self._orders.cluster, receives=plan.receives, handler=handler, incarnation=incarnation,
                    by_proof=plan.by_proof,
                )
            )

    def rebind(self, door: Door, gate: LiveGate, keys: KeyPair) -> None:
        """Bind one anew with another key, by which proofs are checked from the same moment (S33)."""
        if door.by_proof and self.desk is not None:
            self.desk.use(keys)
        door.rebind(gate, keys)

    @property
    def endpoints(self) -> list[str]:
        """As one would connect to them from this host."""
        return [_nearby(endpoint) for plan in self._plans for endpoint in plan.endpoints]

    @property
    def provers(self) -> dict[str, Prover]:
        """For those of them that take proofs, by the time that the gate goes by."""
        return {
            endpoint: Prover(self._orders.cluster_id, plan.domain, self._now)
            for plan in self._plans if plan.by_proof for endpoint in plan.endpoints
        }

    def clients(self, most: int) -> list[messages.ClientRecord]:
        """Who is connected as a client, whichever the door."""
        found = (s for door in self.all for s in door.sessions if s.role == "client")
        return [
            messages.ClientRecord(s.user, s.grant, s.hello.host, s.hello.pid, s.address, s.since)
            for s, _ in zip(found, range(most), strict=False)
        ]


def plans(orders: SchedulerBootstrap) -> list[Plan]:
    """The doors that are ordered."""
    wanted = [
        Plan("client", list(orders.client_endpoints), CLIENTS, False),
        Plan("engine", list(orders.engine_endpoints), HOSTS, False),
        Plan("client-socket", [f"ipc://{orders.client_socket}"] if orders.client_socket else [], CLIENTS, True),
        Plan("engine-socket", [f"ipc://{orders.engine_socket}"] if orders.engine_socket else [], HOSTS, True),
    ]
    return [plan for plan in wanted if plan.endpoints]


def _nearby(endpoint: str) -> str:
    """How to reach a bound endpoint from this host."""
    for everywhere, here in (("tcp://*:", "tcp://127.0.0.1:"), ("tcp://0.0.0.0:", "tcp://127.0.0.1:"),
                             ("tcp://[::]:", "tcp://[::1]:")):
        if endpoint.startswith(everywhere):
            return here + endpoint[len(everywhere) :]
    return endpoint
