"""The journal's evolving key, and the lines that such keys sign (S20).

A checkpoint key signs one checkpoint, which names the next one, and is then forgotten: whoever takes the key of today
cannot sign yesterday anew.  A segment key does the same for each file of the journal, so that the links which prove a
later key outlive the files that retention removes.  Laws: the successor of a key is on the disk before the key signs,
so that a crash between any two writes leaves one way on; of each kind the file never holds more than those two; it
never leaves the controller's host (S29).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta, Struct

from secure_ipp import limits
from secure_ipp.errors import PolicyError
from secure_ipp.keys import fields, strict_json
from secure_ipp.keys.private_files import Path, read_private, write_private
from secure_ipp.keys.signing import SigningKey, VerifyKey

FORMAT: Literal["secure-ipp-journal-key/1"] = "secure-ipp-journal-key/1"
JOURNAL: Literal["secure-ipp-journal/1"] = "secure-ipp-journal/1"
Counter = Annotated[int, Meta(ge=0, le=2**53)]


class JournalKeyError(PolicyError):
    """The journal's key is missing or damaged, so nothing can be put on record that could be proven."""

    code = "journal-key"


class JournalPublicKey(VerifyKey):
    """The half that stands in the journal."""

    __slots__ = ()


class JournalSecretKey(SigningKey):
    """The half that signs once."""

    __slots__ = ()

    def public(self) -> JournalPublicKey:
        """The public half."""
        return JournalPublicKey(self._public_raw())


class JournalKey(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the hub keeps of the journal's keys.

    Attributes:
        index: of the next checkpoint; `checkpoint` will sign it and name `checkpoint_next`.
        segment: of the file being written; `segment_key` will sign its end and name `segment_next`.
        number: of the newest line that a forgotten key has signed.
        renewed: of the newest line by which the owner has accepted whatever was lost before.
    """

    format: Literal["secure-ipp-journal-key/1"]
    cluster_id: fields.Id
    index: Counter
    checkpoint: JournalSecretKey
    checkpoint_next: JournalSecretKey
    segment: Counter
    segment_key: JournalSecretKey
    segment_next: JournalSecretKey
    number: Counter
    renewed: Counter = 0

    @classmethod
    def fresh(cls, cluster_id: str, *, index: int = 0, segment: int = 0, renewed: int = 0) -> Self:
        """New keys that nothing vouches for yet."""
        new = JournalSecretKey.generate
        return cls(
            format=FORMAT, cluster_id=cluster_id, index=index, checkpoint=new(), checkpoint_next=new(),
            segment=segment, segment_key=new(), segment_next=new(), number=renewed, renewed=renewed,
        )

    def after_checkpoint(self, number: int) -> JournalKey:
        """The state once line `number`, a checkpoint, is on the disk."""
        return msgspec.structs.replace(
            self, index=self.index + 1, checkpoint=self.checkpoint_next, checkpoint_next=JournalSecretKey.generate(),
            number=number,
        )

    def after_end(self, number: int) -> JournalKey:
        """The state once line `number`, the end of a segment, is on the disk."""
        return msgspec.structs.replace(
            self, segment=self.segment + 1, segment_key=self.segment_next, segment_next=JournalSecretKey.generate(),
            number=number,
        )

    def __repr__(self) -> str:
        return f"<JournalKey of checkpoint {self.index}, segment {self.segment}>"

    def __rich_repr__(self) -> Any:
        yield "index", self.index
        yield "segment", self.segment


def write_journal_key(path: Path, key: JournalKey, *, exclusive: bool = False) -> None:
    """Replace the file in one step; what it held before is gone as far as the file system lets it go.

    Raises:
        PrivateFileError, EnvironmentProblem: it cannot be written safely, or not at all.
    """
    write_private(path, fields.to_file(key), exclusive=exclusive)


def read_journal_key(path: Path) -> JournalKey:
    """The keys on disk.

    Raises:
        MissingFile, PrivateFileError: they are not there, or others could read them.
        JournalKeyError: the file is damaged.
    """
    found = _decode(read_private(path, limits.CAPABILITY_BYTES))
    if found is None:
        raise JournalKeyError(
            f"{path} is no journal key file, or it is damaged",
            "look at the journal (secure-ipp audit verify), then go on with new keys: secure-ipp audit renew",
        )
    return found


def _decode(data: bytes) -> JournalKey | None:
    """None if damaged: an error raised from here would carry secrets in its traceback's variables (S11)."""
    try:
        plain = strict_json.parse_object(data, limits.CAPABILITY_BYTES)
        return msgspec.convert(plain, JournalKey, dec_hook=fields.decode_key)
    except ValueError:
        return None


def signed_line(key: SigningKey, purpose: str, line: dict[str, Any]) -> bytes:
    """A line of the journal that ends in the signature of all that stands before it; without a newline.

    What is signed is the line as it would stand without its last field.
    """
    text = msgspec.json.encode(line)
    return text[:-1] + b',"signature":"' + fields.sign(key, purpose, text).encode() + b'"}'
