"""The gate's decision: one ZAP request (RFC 27/ZAP) and a table in, one reply out.  No socket, clock or thread.

Laws (S3, S4): whatever is not clearly allowed is denied; 300 means "not known yet, try again", 400 "refused", 500
"this is no request"; every acceptance sets User-Id, Role and Grant, because what the handler leaves out a peer can
supply.
The frames are unverified bytes, though only libzmq of this process should send them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from secure_ipp import limits
from secure_ipp.access.networks import is_inside
from secure_ipp.access.table import DOMAINS, GateTable
from secure_ipp.errors import ProtocolError

VERSION = b"1.0"
_LONGEST_FIELD = 255
_KEY_BYTES = 32

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
    """

    status: Status
    text: str
    user_id: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    known: bool = False
    early: bool = False

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


def decide(
    request: ZapRequest, table: GateTable, clock: GateClock, *, stale_after: float = limits.GATE_STALE_SECONDS
) -> Decision:
    """Whether this key may come in.

    Args:
        request: who asks, and where.
        table: who is known.
        clock: the times now.
        stale_after: seconds without the hub after which nobody new comes in (S10); infinity where the process is
            itself the source of its table.
    """
    if request.mechanism != "CURVE":
        return Decision("400", "not Curve")
    if request.domain not in DOMAINS:
        return Decision("400", "no such door")
    if len(request.credentials) != 1 or len(request.credentials[0]) != _KEY_BYTES:
        return Decision("400", "not a Curve key")
    found = table.find(request.domain, request.credentials[0])
    is_probe = found is not None and found.role == "probe"  # the door tries itself while the hub is away, too
    if not is_probe and not clock.now - clock.heard_at <= stale_after:
        said = "the hub was not heard of late; nobody new is admitted"
        return Decision("300", said, known=found is not None, early=True)
    if found is None:
        if request.domain == "engine" and clock.now - clock.started_at < limits.GATE_GRACE_SECONDS:
            return Decision("300", "unknown key soon after a start; it may be announced yet", early=True)
        return Decision("400", "unknown key")
    if found.expires and not clock.wall < found.expires:
        return Decision("400", "the grant has expired", known=True)
    if not is_inside(request.address, found.networks):
        return Decision("400", "the key may not be used from there", known=True)
    return Decision("200", "welcome", found.user_id, {"Role": found.role, "Grant": found.grant}, known=True)


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
