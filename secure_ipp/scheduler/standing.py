"""Who may be here now: keeps the gate, the sessions and the core at one and the same edition of the grants (S10, S17).

Laws: a new edition reaches the gate first, then the sessions, then the hub is told that it is in force; a session whose
grant is gone or has expired is cut; time is the hub's word, never this host's clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from secure_ipp.access.gate import Gate
from secure_ipp.access.networks import is_inside
from secure_ipp.access.table import GateTable
from secure_ipp.access.trusted_time import TrustedTime
from secure_ipp.errors import KeyExpired, Refused, Revoked
from secure_ipp.scheduler.admissions import GrantsInParts, gate_table
from secure_ipp.scheduler.core import Core
from secure_ipp.scheduler.dismissal import EXPIRED
from secure_ipp.scheduler.quota import IdentityAccount
from secure_ipp.wire import messages
from secure_ipp.wire.session import Session


class Sessions(Protocol):
    """What is needed of a door."""

    @property
    def sessions(self) -> list[Session]:
        """All of them."""


class Standing:
    """Applies what the hub says of grants and of the time.

    Args:
        core: decides about tasks.
        probe: public key of the doors' trial of themselves.
        doors: both, once they are open.
        tell: sends to the hub.
    """

    def __init__(
        self, core: Core, *, probe: bytes, doors: Iterable[Sessions], tell: Callable[[messages.Message], None]
    ) -> None:
        self._core = core
        self._probe = probe
        self._doors = doors
        self._tell = tell
        self._parts = GrantsInParts()
        self._retired: list[bytes] = []
        self._edition = -1
        self._closed: messages.DoorsClosed | None = None
        self._gate: Gate | None = None
        self._time = TrustedTime()
        self._accounts: dict[Session, IdentityAccount] = {}  # of clients and agents

    def trusted_time(self) -> float:
        """Seconds since the epoch, by the hub's word; any thread."""
        return self._time.at(time.monotonic())

    def guard(self, gate: Gate) -> None:
        """This is the gate from now on."""
        self._gate = gate
        self.renew_table()

    def renew_table(self) -> None:
        """Session keys came or went: the gate learns at once."""
        if self._gate is not None:
            self._gate.replace(self._table())

    def _table(self) -> GateTable:
        core = self._core
        return gate_table(
            core.grants.values(), core.agents.keys.values(), self._probe, self._retired, core.version
        )

    # --- the hub's words -----------------------------------------------------------------------------------

    def beat(self, beat: messages.Beat) -> bool:
        """The hub is there; whether what it goes by is in force here."""
        self._time.heard(beat.time, time.monotonic())
        if (beat.version, beat.edition) != (self._core.version, self._edition) or self._gate is None:
            return False
        self._gate.heard()
        return True

    def grants(self, part: messages.Grants) -> None:
        """A part of an edition; with the last one all of it is put in force, before this returns."""
        whole = self._parts.add(part)
        if whole is None:
            return
        self._core.grants_came(whole, self.trusted_time())
        self._retired = list(whole.retired)
        self._edition = whole.edition
        self.renew_table()
        self.cut_strangers()
        self._core.judge(time.time())
        self._core.agents.turn()  # session keys that ended with their join key leave the gate
        self._tell(messages.GrantsInForce(whole.version, whole.edition))

    # --- sessions ------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """A few times a second: grants expire."""
        self._core.expire(self.trusted_time(), now)
        self.cut_strangers()

    def check(self, session: Session) -> None:
        """Return if this newcomer, whom the gate let in, may still be here.

        Raises:
            Refused: it may not any more, or its identity has all the sessions that it may have.
        """
        refusal = self._refusal(session)
        if refusal is not None:
            raise refusal
        if session.role == "engine":
            return
        account = self._core.board.account(session.user)
        if account.sessions >= account.most_sessions and not self._make_room(account):
            raise Refused(
                f"sessions: this identity has {account.most_sessions} connections already, and may have no more",
                "close one, or ask the cluster's owner for a larger quota", code="quota",
            )

    def _make_room(self, account: IdentityAccount) -> bool:
        """End a session of it whose connection is lost; it may have been followed by the one that comes."""
        lost = (session for session, its in self._accounts.items() if its is account and session.routing_id is None)
        session = next(lost, None)
        if session is not None:
            session.cut(messages.Refusal("replaced", "another session took this one's place"))
        return session is not None

    def entered(self, session: Session) -> None:
        """It is in: it counts."""
        if session.role != "engine":
            account = self._accounts[session] = self._core.board.account(session.user)
            account.sessions += 1
            if session.role == "client":
                session.meter = account.meter

    def left(self, session: Session) -> None:
        """It is gone for good."""
        account = self._accounts.pop(session, None)
        if account is not None:
            account.sessions -= 1

    def cut_strangers(self) -> None:
        """Cut sessions whose key is no longer good (S12, S17)."""
        for door in self._doors:
            for session in door.sessions:
                refusal = self._refusal(session)
                if refusal is not None:
                    session.cut(messages.Refusal(refusal.code, refusal.message, refusal.advice))

    def close_doors(self, closed: messages.DoorsClosed) -> None:
        """The hub's word that nobody is served any more (S17)."""
        self._closed = closed
        self.cut_strangers()

    def _refusal(self, session: Session) -> Refused | None:
        if self._closed is not None:
            return Refused(self._closed.reason, self._closed.advice, code="doors-closed")
        if session.role == "engine":
            known = self._core.agents.key_of(session.user) is not None
            return None if known else Refused("this engine was declared dead or stopped", code="declared-dead")
        why = self._core.stands(session.user)
        if why is None:
            return self._wrong_host(session) if session.role == "agent" else None
        advice = "ask the cluster's owner for a new connection file"
        return KeyExpired(why.evalue, advice) if why is EXPIRED else Revoked(why.evalue, advice)

    def _wrong_host(self, session: Session) -> Refused | None:
        """An agent whose key is used up, or that comes from where it may not."""
        if session.peer is not None and session.peer.refusal is not None:
            refusal: Refused = session.peer.refusal
            return refusal
        networks = self._core.grants[session.user].networks
        if networks and not is_inside(session.address, networks):
            advice = "use it in the networks that it was issued for, or ask for another one"
            return Refused(f"this key may not be used from {session.address}", advice, code="network")
        return None
