"""The proofs that were taken, so that none is good twice (S25), and the lines that keep them over restarts.

Pure: files are `proof_file`'s.  Laws: what was taken is refused as long as its time is looked at at all, and afterwards
because it lies below the floor, which never goes down; what is kept is bounded, and beyond the bound nothing is taken;
a line that is not one of ours, or was changed, is damage.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from secure_ipp import limits
from secure_ipp.access.proof import Proof
from secure_ipp.errors import PolicyError
from secure_ipp.keys import base64url

_FORMAT = "secure-ipp-proofs/1"
_NAME_BYTES = 16
_WINDOW_MILLISECONDS = int(limits.PROOF_SECONDS * 1000)


class Row(NamedTuple):
    """A proof that was taken: when it was made, by its maker's clock, and its name."""

    milliseconds: int
    name: bytes


class UsedProofs:
    """Those that are remembered.

    Attributes:
        floor: whatever was made (milliseconds since the epoch) at this time or before is refused.
    """

    def __init__(self, floor: int = 0, rows: Iterable[Row] = ()) -> None:
        self.floor = floor
        self._rows: dict[bytes, int] = {row.name: row.milliseconds for row in rows}
        self._holders: dict[bytes, bytes] = {}  # of those that were taken by this process
        self._counts: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._rows)

    def is_used(self, proof: Proof) -> bool:
        """Whether it was taken before, or is too old to know."""
        return proof.milliseconds <= self.floor or proof.name in self._rows

    def has_room(self, proof: Proof) -> bool:
        """Whether one more may be remembered, of this holder."""
        return len(self._rows) < limits.PROOFS_KEPT and self._counts[proof.holder.raw] < limits.PROOFS_PER_KEY

    def take(self, proof: Proof) -> Row:
        """Remember it; the row is to be on the disk before anything comes of it."""
        row = Row(proof.milliseconds, proof.name)
        self._rows[row.name] = row.milliseconds
        self._holders[row.name] = proof.holder.raw
        self._counts[proof.holder.raw] += 1
        return row

    def forget(self, now: float) -> int:
        """Drop what is out of time (seconds since the epoch) by the same measure again; returns how many."""
        oldest = int(now * 1000) - 2 * _WINDOW_MILLISECONDS
        old = [name for name, milliseconds in self._rows.items() if milliseconds < oldest]
        for name in old:
            self.floor = max(self.floor, self._rows.pop(name))
            holder = self._holders.pop(name, None)
            if holder is not None:
                self._counts[holder] -= 1
                if not self._counts[holder]:
                    del self._counts[holder]
        return len(old)

    def text(self, cluster_id: str) -> bytes:
        """A whole file of what is remembered."""
        lines = [_line(f"{_FORMAT} {cluster_id} {self.floor}")]
        lines += [row_line(Row(milliseconds, name)) for name, milliseconds in self._rows.items()]
        return b"".join(lines)


def row_line(row: Row) -> bytes:
    """What is appended for one that was taken."""
    return _line(f"{row.milliseconds} {base64url.encode(row.name)}")


def parse_used(data: bytes, cluster_id: str) -> UsedProofs:
    """What a file says.

    A last line without an end was never flushed, so that nothing came of it.

    Raises:
        PolicyError: it is damaged, or another cluster's.
    """
    lines = data.split(b"\n")[:-1]
    try:
        kind, cluster, floor = _words(lines[0], 3)
        if (kind, cluster) != (_FORMAT, cluster_id):
            raise ValueError("another cluster's, or another version's")
        rows = [Row(_moment(moment), base64url.decode(name, _NAME_BYTES)) for moment, name in
                (_words(line, 2) for line in lines[1:])]
        return UsedProofs(_moment(floor), rows)
    except (ValueError, IndexError) as error:
        raise PolicyError(
            f"what is kept of the proofs that were taken is damaged: {error}",
            f"stop the controller, wait for {2 * limits.PROOF_SECONDS:.0f} seconds, so that no proof of before is good "
            "any more, move the file away, and start again", code="proofs",
        ) from None


def _line(text: str) -> bytes:
    return f"{text} {zlib.crc32(text.encode()):08x}\n".encode()


def _words(line: bytes, count: int) -> list[str]:
    text, _, check = line.decode("ascii").rpartition(" ")
    words = text.split(" ")
    if check != f"{zlib.crc32(text.encode()):08x}" or len(words) != count:
        raise ValueError("a line was changed")
    return words


def _moment(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and len(text) <= 16):
        raise ValueError("no time")
    return int(text)
