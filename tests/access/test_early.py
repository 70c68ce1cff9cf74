"""A key that is not known yet, soon after a start: its answer waits for it to be announced, for a bounded time."""

from __future__ import annotations

from typing import Any

from secure_ipp import limits
from secure_ipp.access.gate import Gate
from secure_ipp.access.table import Admission, GateTable

KEY, OTHER = b"e" * 32, b"o" * 32
KNOWN = GateTable({("engine", KEY): Admission("engine-id", "engine", "engine")})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _gate(events: list[Any]) -> tuple[Gate, Clock]:
    clock = Clock()
    gate = Gate(events.append, clock=clock)
    gate.heard()
    return gate, clock


def _ask(gate: Gate, key: bytes, number: bytes = b"1", domain: bytes = b"engine") -> list[bytes] | None:
    return gate.answer([b"route" + number, b"", b"1.0", number, domain, b"127.0.0.1", b"", b"CURVE", key])


def test_it_is_admitted_when_it_is_announced() -> None:
    events: list[Any] = []
    gate, clock = _gate(events)
    assert _ask(gate, KEY) is None
    clock.now += 0.3
    assert gate.answer_early() == []
    gate.replace(KNOWN)
    (reply,) = gate.answer_early()
    assert reply[:2] == [b"route1", b""] and reply[4] == b"200" and reply[6] == b"engine-id"
    assert gate.answer_early() == []
    assert [event.status for event in events] == ["200"]


def test_it_is_told_not_yet_when_nobody_announced_it() -> None:
    events: list[Any] = []
    gate, clock = _gate(events)
    assert _ask(gate, OTHER) is None
    gate.replace(KNOWN)
    assert gate.answer_early() == []  # another's key was announced: it goes on waiting
    clock.now += limits.GATE_EARLY_SECONDS
    gate.heard()
    (reply,) = gate.answer_early()
    assert reply[4] == b"300"
    assert [event.status for event in events] == ["300"]


def test_a_hub_that_fell_silent_meanwhile_admits_nobody() -> None:
    """S10: the answer is that of the moment at which it is given."""
    gate, clock = _gate([])
    assert _ask(gate, KEY) is None
    clock.now += limits.GATE_STALE_SECONDS + 0.1
    gate.replace(KNOWN)
    (reply,) = gate.answer_early()
    assert reply[4] == b"300"


def test_a_flood_of_unknown_keys_does_not_pile_up() -> None:
    gate, clock = _gate([])
    gate._started_at = clock.now
    for number in range(5000):
        _ask(gate, number.to_bytes(32, "big"), b"%d" % number)
    assert len(gate._early) <= limits.GATE_UNKNOWN_PER_SECOND
    clock.now += limits.GATE_EARLY_SECONDS
    assert len(gate.answer_early()) <= limits.GATE_UNKNOWN_PER_SECOND
    assert gate._early == []


def test_no_other_door_waits() -> None:
    gate, _ = _gate([])
    reply = _ask(gate, KEY, domain=b"client")
    assert reply is not None and reply[4] == b"400"
