"""What has become of each key between two versions of the grants in force, as records (S20).

Pure.  The hub compares when it adopts a version, so that a change made while no controller ran is on record at the
next start.  Law: whatever differs in a grant gives one record, and an unchanged one gives none; one that was handed on
and has expired leaves without a record, for it was told when it ends.
"""

from __future__ import annotations

from collections.abc import Mapping

from secure_ipp.audit import record as audit
from secure_ipp.keys.door_keys import DoorKeys
from secure_ipp.keys.raw import fingerprint_of
from secure_ipp.wire.messages import GrantInfo


def changes(
    before: Mapping[str, GrantInfo], after: Mapping[str, GrantInfo], version: int, trusted: float, *, at: float
) -> list[audit.AuditRecord]:
    """One record for each grant that came, changed, got another key, or went.

    Args:
        before, after: by id.
        version: of the registry that holds `after`.
        trusted: the time by which grants expire.
        at: the records' time.
    """
    found: list[audit.AuditRecord] = []
    for id, grant in after.items():
        old = before.get(id)
        if old is None:
            found.append(_told(audit.GrantIssued, grant, version, at))
        elif old.key != grant.key:
            found.append(_told(audit.KeyRotated, grant, version, at, old_fingerprint=fingerprint_of(old.key)))
        elif old != grant:
            found.append(_told(audit.GrantChanged, grant, version, at))
    for id, grant in before.items():
        if id not in after and not (grant.parent and 0 < grant.expires <= trusted):
            found.append(audit.GrantRevoked(
                at=at, version=version, id=id, name=grant.name, role=grant.role, fingerprint=fingerprint_of(grant.key)
            ))
    return found


def door_changes(
    before: DoorKeys | None, after: DoorKeys | None, version: int, now: float
) -> list[audit.AuditRecord]:
    """One record if the issuer states other keys of the doors (S33).

    Args:
        before, after: statements; None: none was ever made.
        version: of the registry that holds `after`.
        now: seconds since the epoch.
    """
    if after is None or before == after:
        return []
    return [audit.ServerKeyStated(
        at=now, version=version, number=after.number, fingerprint=after.current.fingerprint,
        next_fingerprint="" if after.next is None else after.next.fingerprint,
        former_fingerprint=after.former[-1].fingerprint if after.former else "",
    )]


def _told(
    kind: type[audit.GrantIssued] | type[audit.GrantChanged] | type[audit.KeyRotated], grant: GrantInfo, version: int,
    now: float, **more: str,
) -> audit.AuditRecord:
    return kind(
        at=now, version=version, id=grant.id, name=grant.name, role=grant.role, fingerprint=fingerprint_of(grant.key),
        rights=list(grant.rights), expires=grant.expires, engines=grant.engines, **more,
    )
