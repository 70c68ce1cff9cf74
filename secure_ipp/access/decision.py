"""The gate's decision: one ZAP request (RFC 27/ZAP) and a table in, one reply out.  No socket, clock or thread.

Laws (S3, S4, S25): whatever is not clearly allowed is denied; 300 means "not known yet, try again", 400 "refused", 500
"this is no request", or "the proof is out of time, or was used"; every acceptance sets User-Id, Role and Grant, because
what the handler leaves out a peer can supply; a door takes Curve or proofs, never both.
The frames are unverified bytes, though only libzmq of this process should send them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from secure_ipp import limits
from secure_ipp.access.networks import is_inside
from secure_ipp.access.proof import Proof, is_timely, parse_proof
from secure_ipp.access.table import DOMAINS, SOCKET_DOORS, Admission, GateTable
from secure_ipp.errors import ProtocolError
from secure_ipp.keys import base64url

VERSION = b"1.0"
_LONGEST_FIELD = 255
_KEY_BYTES = 32
ANSWER = "Proof-Answer"  # the property of a connection that came in by a proof: what the door says to that (S25)

Status = Literal["200", "300", "400", "500"]


@dataclass(frozen=True, slots=True)
class ZapRequest:
    """One question: may this key come in here?"""

    request_id: bytes
    domain: str
    address: str
    mechanism: str
    credentials: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class GateClock:
    """The times that a decision rests on.

    Attributes:
        wall: seconds since the epoch, for expiry.
        now: monotonic seconds.
        started_at: when the gate started, monotonic.
        heard_at: when the hub was last heard, monotonic; minus infinity: never.
    """

    wall: float
    now: float
    started_at: float
    heard_at: float


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer.

    Attributes:
        status: of the reply.
        text: why, for people and the record; libzmq does not send it to the peer.
        user_id: the grant's id; empty unless accepted.
        metadata: what else the connection's messages carry; empty unless accepted.
        known: whether the key stands in the table, whatever the answer.
        early: whether the hub may be heard or the key be announced any moment, so that the answer is better given a
            little later.
        proof: by which it comes in; to be remembered before it does.
    """

    status: Status
    text: str
    user_id: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    known: bool = False
    early: bool = False
    proof: Proof | None = None

    @property
    def accepted(self) -> bool:
        """Whether the peer comes in."""
        return self.status == "200"


def parse_request(frames: Sequence[bytes]) -> ZapRequest:
    """The request that these frames are: version, request id, domain, address, identity, mechanism, credentials.

    `identity` is not looked at: libzmq puts the door's own option there, and routing ids are the door's matter (S5).

    Raises:
        ProtocolError: they are none.
    """
    if len(frames) < 6:
        raise ProtocolError("a ZAP request has at least six frames")
    version, request_id, domain, address, identity, mechanism = frames[:6]
    credentials = tuple(frames[6:])
    if version != VERSION:
        raise ProtocolError("a ZAP request of another version")
    if any(len(frame) > _LONGEST_FIELD for frame in (request_id, domain, address, identity, mechanism, *credentials)):
        raise ProtocolError("a field of a ZAP request is too long")
    if len(credentials) > 2:
        raise ProtocolError("a ZAP request has too many credentials")
    try:
        return ZapRequest(
            bytes(request_id), domain.decode("ascii"), address.decode("utf-8", "backslashreplace"),
            mechanism.decode("ascii"), credentials,
        )
    except UnicodeDecodeError:
        raise ProtocolError("a field of a ZAP request is not text") from None


class ProofChecks(Protocol):
    """What a decision needs to know of proofs.

    Attributes:
        doors: domains of the doors that take proofs, and nothing else.
    """

    @property
    def doors(self) -> frozenset[str]: ...

    def check(self, proof: Proof, door: str) -> bytes:
        """The door's answer to a proof that holds there.

        Raises:
            ProtocolError: it does not.
        """

    def is_used(self, proof: Proof) -> bool:
        """Whether it was taken before."""


def decide(
    request: ZapRequest, table: GateTable, clock: GateClock, *, stale_after: float = limits.GATE_STALE_SECONDS,
    proofs: ProofChecks | None = None,
) -> Decision:
    """Whether this key may come in.

    Args:
        request: who asks, and where.
        table: who is known.
        clock: the times now.
        stale_after: seconds without the hub after which nobody new comes in (S10); infinity where the process is
            itself the source of its table.
        proofs: for doors that take proofs; None: there are none.
    """
    by_proof = proofs is not None and request.domain in proofs.doors
    if request.mechanism != ("PLAIN" if by_proof else "CURVE"):
        return Decision("400", "not a proof" if by_proof else "not Curve")
    if request.domain not in DOMAINS and not by_proof:
        return Decision("400", "no such door")
    if by_proof:
        assert proofs is not None
        return _decide_by_proof(request, table, clock, stale_after, proofs)
    if len(request.credentials) != 1 or len(request.credentials[0]) != _KEY_BYTES:
        return Decision("400", "not a Curve key")
    found = table.find(request.domain, request.credentials[0])
    return _before_all(request.domain, found, clock, stale_after) or _of_known(request, found, clock)


def _before_all(domain: str, found: Admission | None, clock: GateClock, stale_after: float) -> Decision | None:
    """What there is to say of anybody, and of whoever is unknown."""
    is_probe = found is not None and found.role == "probe"  # the door tries itself while the hub is away, too
    if not is_probe and not clock.now - clock.heard_at <= stale_after:
        said = "the hub was not heard of late; nobody new is admitted"
        return Decision("300", said, known=found is not None, early=True)
    if found is not None:
        return None
    if SOCKET_DOORS.get(domain, domain) == "engine" and clock.now - clock.started_at < limits.GATE_GRACE_SECONDS:
        return Decision("300", "unknown key soon after a start; it may be announced yet", early=True)
    return Decision("400", "unknown key")


def _of_known(request: ZapRequest, found: Admission | None, clock: GateClock) -> Decision:
    assert found is not None
    if found.expires and not clock.wall < found.expires:
        return Decision("400", "the grant has expired", known=True)
    if not is_inside(request.address, found.networks):
        return Decision("400", "the key may not be used from there", known=True)
    return Decision("200", "welcome", found.user_id, {"Role": found.role, "Grant": found.grant}, known=True)


def _decide_by_proof(
    request: ZapRequest, table: GateTable, clock: GateClock, stale_after: float, proofs: ProofChecks
) -> Decision:
    """A key whose proof does not hold counts as unknown: anybody can name a key."""
    answer = b""
    try:
        proof = parse_proof(*request.credentials) if len(request.credentials) == 2 else None
        if proof is None:
            return Decision("400", "not a proof")
        found = table.find(request.domain, proof.holder.raw)
        if found is not None:
            answer = proofs.check(proof, request.domain)
    except ProtocolError as error:
        return Decision("400", error.message)
    said = _before_all(request.domain, found, clock, stale_after)
    if said is not None:
        return said
    assert found is not None
    if found.networks:
        return Decision("400", "a key that is bound to networks is not used at a Unix socket", known=True)
    said = _of_known(request, found, clock)
    if not said.accepted:
        return said
    if not is_timely(proof, clock.wall):
        return Decision("500", "the proof is out of time: the clocks differ, or it is an old one", known=True)
    if proofs.is_used(proof):
        return Decision("500", "the proof was used before", known=True)
    metadata = {**said.metadata, ANSWER: base64url.encode(answer)}
    return Decision("200", said.text, said.user_id, metadata, known=True, proof=proof)


def build_reply(request_id: bytes, decision: Decision) -> list[bytes]:
    """The reply's frames: version, request id, status code, status text, user id, metadata."""
    return [
        VERSION,
        request_id,
        decision.status.encode("ascii"),
        decision.text.encode("utf-8")[:_LONGEST_FIELD],
        decision.user_id.encode("ascii"),
        encode_metadata(decision.metadata),
    ]


def encode_metadata(metadata: dict[str, str]) -> bytes:
    """Properties as in ZMTP 3.1: a length octet and the name, four octets of length and the value."""
    pieces = []
    for name, value in metadata.items():
        raw_name, raw_value = name.encode("ascii"), value.encode("utf-8")
        if not 0 < len(raw_name) <= 255:
            raise ValueError("a property's name is of 1 to 255 characters")
        pieces += [bytes([len(raw_name)]), raw_name, struct.pack(">I", len(raw_value)), raw_value]
    return b"".join(pieces)
