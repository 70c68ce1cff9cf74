"""How a cluster's journal begins: its first line, signed by the issuer, and the first evolving keys (S20).

The line names the cluster, the issuer and the first public halves; everything else in the journal hangs on it.  It is
made by the owner's commands, which hold the issuer's key; the hub never does (S10).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.journal_key import JOURNAL, JournalKey, signed_line, write_journal_key
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import make_private_dir, write_private

PURPOSE = "journal-genesis/1"
FIRST_SEGMENT = "segment-0000000000000000.jsonl"


def genesis_line(issuer: IssuerKey, cluster: str, cluster_id: str, key: JournalKey, now: float) -> bytes:
    """Line 0, with its newline."""
    line = {
        "n": 0, "prev": "", "event": "genesis", "at": now, "format": JOURNAL, "cluster": cluster,
        "cluster_id": cluster_id, "issuer_key": issuer.public().text, "index": key.index,
        "checkpoint_key": key.checkpoint.public().text, "segment": key.segment,
        "segment_key": key.segment_key.public().text,
    }
    return signed_line(issuer, PURPOSE, line) + b"\n"


def genesis_steps(
    place: ClusterPlace, issuer: IssuerKey, cluster: str, cluster_id: str, now: float
) -> list[tuple[Path, Callable[[], None]]]:
    """Each new file of a journal and what writes it, in order; none is written over another.

    The writers raise `AlreadyThere`, `PrivateFileError` or `EnvironmentProblem`.
    """
    key = JournalKey.fresh(cluster_id)
    first = place.journal_dir / FIRST_SEGMENT

    def write_key() -> None:
        place.durable_dir()
        write_journal_key(place.journal_key, key, exclusive=True)

    def write_line() -> None:
        make_private_dir(place.journal_dir)
        write_private(first, genesis_line(issuer, cluster, cluster_id, key, now))

    return [(place.journal_key, write_key), (first, write_line)]
