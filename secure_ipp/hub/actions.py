"""What the hub decides to have done; `core` makes these, `performing` and the process do them, in order."""

from __future__ import annotations

from dataclasses import dataclass

from secure_ipp.audit import record as audit
from secure_ipp.hub import questions
from secure_ipp.hub.joins import Joins
from secure_ipp.keys.derived import DerivedGrants
from secure_ipp.keys.door_keys import DoorKeys
from secure_ipp.wire import messages


@dataclass(frozen=True, slots=True)
class Send:
    """To the scheduler."""

    message: messages.Message


@dataclass(frozen=True, slots=True)
class Write:
    """To the journal; whatever follows waits until this is written, and lasts if it must."""

    records: tuple[audit.AuditRecord, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """The controller is to stop, in order; `by` is a grant id."""

    by: str


@dataclass(frozen=True, slots=True)
class Compare:
    """What a client has seen with the journal; then `Hub.behind`, if that does not hold it."""

    seen: messages.SeenHead


@dataclass(frozen=True, slots=True)
class Adopted:
    """This version of the registry is on record."""

    version: int


@dataclass(frozen=True, slots=True)
class InForce:
    """The scheduler has put this version of the registry in force."""

    version: int


@dataclass(frozen=True, slots=True)
class Keep:
    """A file, on the disk; then `Hub.kept` says what follows, or `Hub.not_kept` if it could not be.

    Attributes:
        after: what was kept when this was judged; once it is something else, `Hub.overtaken` says so.
    """

    file: DerivedGrants | Joins
    after: DerivedGrants | Joins | None
    asked: messages.Forward | messages.JoinAsked
    reply: questions.Reply | None = None


@dataclass(frozen=True, slots=True)
class HandKey:
    """To the scheduler, with the secret of its current key: the issuer's statement of the server's keys (S33)."""

    doors: DoorKeys


Action = Send | Write | Stop | Adopted | Compare | InForce | Keep | HandKey
