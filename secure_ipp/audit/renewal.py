"""The owner's way on when a journal cannot be gone on with: damaged, put back from a copy, or its key lost.

Nothing is repaired: what is there stays as it is.  A new segment begins with a line that the issuer signs, which names
new keys and the numbers that are lost, so that the break stays on record, and in the verifier's report, for good.
"""

from __future__ import annotations

import re

from secure_ipp import limits
from secure_ipp.audit import segments
from secure_ipp.audit.chain import hash_of
from secure_ipp.audit.record import bounded
from secure_ipp.errors import SecureIppError
from secure_ipp.keys.genesis import genesis_steps
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.journal_key import JournalKey, read_journal_key, signed_line, write_journal_key
from secure_ipp.keys.locks import Lock
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import remove_private, write_private

PURPOSE = "journal-renewed/1"
_NUMBER = re.compile(rb'\{"n":([0-9]{1,15}),')


def renew(
    place: ClusterPlace, issuer: IssuerKey, cluster: str, cluster_id: str, reason: str, now: float,
    lost_through: int = -1,
) -> int:
    """Go on with new keys; the number of the line that says so.

    Args:
        place: whose journal; its controller must not run.
        issuer: the issuer's key.
        cluster, cluster_id: for the first line, if there is no journal at all.
        reason: for the record.
        now: seconds since the epoch.
        lost_through: a number that somebody has seen and that is lost.

    Raises:
        LockHeld: the controller runs.
        PrivateFileError, EnvironmentProblem: files are open to others, or cannot be written.
    """
    with Lock(place.lock_file), Lock(place.durable_path / "journal.lock", wait=limits.JOURNAL_LOCK_SECONDS):
        place.durable_dir()
        try:
            last, before = _last_line(place)
        except segments.NoJournal:
            remove_private(place.journal_key)
            for _, write in genesis_steps(place, issuer, cluster, cluster_id, now):
                write()
            if lost_through < 0:
                return 0
            last, before = _last_line(place)
        old = _old_key(place)
        number = max(last, lost_through, old.number if old is not None else 0) + 1
        key = JournalKey.fresh(
            cluster_id, index=old.index + 1 if old is not None else 0,
            segment=old.segment + 1 if old is not None else 0, renewed=number,
        )
        line = signed_line(issuer, PURPOSE, {
            "n": number, "prev": before, "event": "renewed", "at": now, "reason": bounded(reason),
            "lost_from": last + 1, "lost_through": number - 1, "cluster_id": cluster_id,
            "index": key.index, "checkpoint_key": key.checkpoint.public().text,
            "segment": key.segment, "segment_key": key.segment_key.public().text,
        })
        write_journal_key(place.journal_key, key)
        write_private(place.journal_dir / segments.segment_name(number), line + b"\n", exclusive=False)
        return number


def _last_line(place: ClusterPlace) -> tuple[int, str]:
    """The number and hash of the last whole line, whatever it says."""
    last, before = -1, ""
    for first, path in segments.segments(place.journal_dir):
        texts = segments.read_segment(path).split(b"\n")[:-1]
        for index, text in enumerate(texts):
            match = _NUMBER.match(text)
            last = max(last, int(match[1]) if match else first + index)
        if texts:
            before = hash_of(texts[-1])
    if last < 0:
        raise segments.NoJournal("the journal is empty", "")
    return last, before


def _old_key(place: ClusterPlace) -> JournalKey | None:
    try:
        return read_journal_key(place.journal_key)
    except SecureIppError:
        return None
