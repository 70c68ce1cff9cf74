"""The gate: a thread that answers libzmq's ZAP questions (S3).  What it answers is decided in `decision`.

Laws: it denies on any error and goes on; nothing that `on_decision` or a request does ends it; it never answers
from half a table (a table is replaced whole); known keys are never rate-limited; a proof is remembered before it
lets anybody in (S25).  Only a broken socket ends it, and then `alive()` is False, which closes doors.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from secure_ipp import limits
from secure_ipp.access.decision import (
    Decision,
    GateClock,
    ProofChecks,
    ZapRequest,
    build_reply,
    decide,
    parse_request,
)
from secure_ipp.access.flood import Aggregator, DecisionEvent, UnknownKeyBudget
from secure_ipp.access.proof import Proof, parse_proof
from secure_ipp.access.table import DOMAINS, SOCKET_DOORS, GateTable
from secure_ipp.errors import ProtocolError, SecureIppError

__all__ = ["DecisionEvent", "Gate", "ZapSocket"]

log = logging.getLogger("secure_ipp.access")
_POLL_MILLISECONDS = 100
_SOCKET_FAILURES = 5  # in a row: the socket is broken
_ADDRESS_CHARS = 64
_STOP_SECONDS = 5.0


class ZapSocket(Protocol):
    """What the gate needs of its socket: a ROUTER's frames, from libzmq of this process."""

    def poll(self, milliseconds: int, /) -> int:
        """Wait until something is there; 0 if nothing came."""

    def recv_multipart(self) -> list[bytes]:
        """One message."""

    def send_multipart(self, frames: list[bytes], /) -> object:
        """One message."""

    def close(self) -> object:
        """The end."""


class TakesProofs(ProofChecks, Protocol):
    """What the gate needs to take proofs."""

    def take(self, proof: Proof, now: float) -> None:
        """Remember it for good; raises `SecureIppError` if that cannot be."""


class Gate:
    """Answers until stopped."""

    def __init__(
        self,
        on_decision: Callable[[DecisionEvent], None],
        *,
        stale_after: float = limits.GATE_STALE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        proofs: TakesProofs | None = None,
    ) -> None:
        """Make a gate that knows nobody and has not started.

        Args:
            on_decision: told of decisions, in the gate's thread; must not block.
            stale_after: seconds without `heard` after which nobody new is admitted; infinity in the hub itself.
            clock: monotonic seconds.
            wall: seconds since the epoch.
            proofs: for doors that take proofs; None: there are none.
        """
        self._proofs = proofs
        self._on_decision = on_decision
        self._stale_after = stale_after
        self._clock = clock
        self._wall = wall
        self._table = GateTable()
        self._started_at = clock()
        self._heard_at = float("-inf") if stale_after != float("inf") else self._started_at
        self._budget = UnknownKeyBudget()
        self._aggregator = Aggregator()
        self._refused = 0
        self._early: list[tuple[float, list[bytes], list[bytes]]] = []  # when, envelope and body of a request
        self._early_facts = (self._table, self._heard_at)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def refused(self) -> int:
        """How many were not admitted since the start."""
        return self._refused

    def replace(self, table: GateTable) -> None:
        """Answer from this table from now on; any thread."""
        self._table = table

    def heard(self, now: float | None = None) -> None:
        """The hub was heard just now, or at this time of `time.monotonic`; any thread."""
        present = self._clock()
        self._heard_at = present if now is None else min(now, present)  # never in the future: that would not go stale

    def alive(self) -> bool:
        """Whether the thread answers."""
        thread = self._thread
        return thread is not None and thread.is_alive() and not self._stopping.is_set()

    def run_in_thread(self, socket: ZapSocket) -> None:
        """Start the thread; from then on the socket is the thread's alone, which closes it in the end.

        Raises:
            RuntimeError: the gate was started before.
        """
        if self._thread is not None:
            raise RuntimeError("a gate is started once")
        self._started_at = self._clock()
        self._thread = threading.Thread(target=self._run, args=(socket,), name="gate", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; from then on nobody is admitted."""
        self._stopping.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_SECONDS)

    # --- the gate's thread ---------------------------------------------------------------------------------

    def _run(self, socket: ZapSocket) -> None:
        failures = 0
        try:
            while not self._stopping.is_set() and failures < _SOCKET_FAILURES:
                try:
                    self._turn(socket)
                    failures = 0
                except Exception:  # edge of a thread that must go on
                    failures += 1
                    log.exception("the gate's socket failed (%d in a row)", failures)
            if failures:
                log.critical("the gate has ended: its socket is broken; nobody is admitted any more")
        finally:
            for event in self._aggregator.rest():
                self._tell(event)
            socket.close()

    def _turn(self, socket: ZapSocket) -> None:
        if socket.poll(_POLL_MILLISECONDS):
            frames = socket.recv_multipart()
            reply = self.answer(frames)
            if reply is not None:
                socket.send_multipart(reply)
        for reply in self.answer_early():
            socket.send_multipart(reply)
        for event in self._aggregator.due(self._clock()):
            self._tell(event)

    def answer(self, frames: list[bytes]) -> list[bytes] | None:
        """The reply to one message of the ROUTER, with its routing frames; None: it gets none.  Never raises."""
        try:
            end = frames.index(b"") + 1
        except ValueError:
            log.error("the gate was sent something that is no request")
            return None
        envelope, body = list(frames[:end]), frames[end:]
        request_id = bytes(body[1]) if len(body) > 1 and len(body[1]) <= 255 else b""
        try:
            return self._answer(envelope, body)
        except Exception as error:  # noqa: BLE001  deny on any error (S3)
            log.warning("the gate denied a request that it could not answer: %r", error)
            self._refused += 1
            return envelope + build_reply(request_id, Decision("500", "not a request that can be answered"))

    def answer_early(self) -> list[list[bytes]]:
        """Replies to requests that came too early, now that something has changed or that they waited enough.

        libzmq leaves a peer that is told "not yet" without a word until its own time is over, so that whoever is a
        moment early after a restart would lose seconds.
        """
        if not self._early:
            return []
        facts, now = (self._table, self._heard_at), self._clock()
        if facts == self._early_facts and now - self._early[0][0] < limits.GATE_EARLY_SECONDS:
            return []
        self._early_facts = facts
        waiting, self._early = self._early, []
        replies = []
        for since, envelope, body in waiting:
            reply = self._answer(envelope, body, since)
            if reply is not None:
                replies.append(reply)
        return replies

    def _answer(self, envelope: list[bytes], body: list[bytes], since: float | None = None) -> list[bytes] | None:
        now, wall = self._clock(), self._wall()
        request = parse_request(body)
        clock = GateClock(wall=wall, now=now, started_at=self._started_at, heard_at=self._heard_at)
        decision = decide(request, self._table, clock, stale_after=self._stale_after, proofs=self._proofs)
        if decision.proof is not None:
            decision = self._take(decision, decision.proof, wall)
        reply = envelope + build_reply(request.request_id, decision)
        dropped = since is None and not decision.known and not self._budget.take(now)
        began = now if since is None else since
        waits = now - began < limits.GATE_EARLY_SECONDS and len(self._early) < limits.GATE_EARLY
        if decision.early and not dropped and waits:
            self._early.append((began, envelope, body))
            return None
        if not decision.accepted:
            self._refused += 1
        event = _event(request, decision, wall, "dropped" if dropped else decision.status)
        first = self._aggregator.add(event, now)
        if first is not None:
            self._tell(first)
        return None if dropped else reply

    def _take(self, decision: Decision, proof: Proof, wall: float) -> Decision:
        """The decision, once its proof is remembered."""
        assert self._proofs is not None
        try:
            self._proofs.take(proof, wall)
        except SecureIppError as error:
            return Decision("300", error.message, known=True)
        return decision

    def _tell(self, event: DecisionEvent) -> None:
        try:
            self._on_decision(event)
        except Exception:  # whoever listens cannot stop the gate
            log.exception("a decision could not be put on record: %r", event)


def _event(request: ZapRequest, decision: Decision, wall: float, status: str) -> DecisionEvent:
    return DecisionEvent(
        at=wall,
        domain=request.domain if request.domain in DOMAINS or request.domain in SOCKET_DOORS else "?",
        status=status,
        reason=decision.text,
        address=request.address[:_ADDRESS_CHARS],
        user_id=decision.user_id,
        grant=decision.metadata.get("Grant", ""),
        role=decision.metadata.get("Role", ""),
        key=_fingerprint(request),
    )


def _fingerprint(request: ZapRequest) -> str:
    from secure_ipp.keys.raw import fingerprint_of

    if request.mechanism == "PLAIN" and len(request.credentials) == 2:
        try:
            return parse_proof(*request.credentials).holder.fingerprint
        except ProtocolError:
            return ""
    is_key = request.mechanism == "CURVE" and len(request.credentials) == 1
    return fingerprint_of(request.credentials[0]) if is_key else ""
