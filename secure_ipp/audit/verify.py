"""Verify a journal of secure-ipp.  This one file is all of it; it needs Python 3.11 and the package `cryptography`.

    python verify.py JOURNAL_DIR --issuer KEY [--since HEAD] [--json]

KEY is the issuer's public key (base64url, 43 characters; it stands in every connection file as `issuer_key`), HEAD a
head that a client remembered (a file or its text).  The format, and what a journal can and cannot prove, is in
docs/journal.md.  Exit status: 0 nothing is wrong, 1 something is, 2 it could not be looked at.

How it works: each line names its number and the SHA-256 of the line before.  Checkpoint lines are signed by keys of
which each names its successor and is then erased, the first one being named by line 0, which the issuer signed.  So a
changed line no longer fits the next one, and whoever changes those too cannot sign the next checkpoint.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SEGMENT = re.compile(r"segment-([0-9]{16})\.jsonl")
PRUNED = "pruned.jsonl"
LINE_BYTES = 4 * 1024 * 1024
MOST_FINDINGS = 50
OPEN_LINES = 5000  # a writer makes a checkpoint after 1000 lines,
OPEN_SECONDS = 600.0  # or 5 seconds; a tail beyond these bounds was not left by a writer that died
FIELDS: dict[str, dict[str, type]] = {  # of the lines that are read here; all others may hold anything
    "genesis": {"index": int, "checkpoint_key": str, "segment": int, "segment_key": str},
    "checkpoint": {"index": int, "key": str, "next": str},
    "end": {"segment": int, "key": str, "next": str, "index": int, "checkpoint_key": str},
    "pruned": {"through": int},
}
FIELDS["renewed"] = {"lost_from": int, "lost_through": int, **FIELDS["genesis"]}
SIGNATURE = re.compile(rb',"signature":"([A-Za-z0-9_-]{86})"\}')


@dataclass
class Finding:
    """One thing that is wrong, and where."""

    kind: str  # damaged edited deleted reordered gap re-sealed unsealed truncated forked genesis retention
    file: str
    line: int  # in the file, from 1; 0: none
    number: int  # the number that the journal gives the line; -1: none
    text: str


@dataclass
class Report:
    """What was found; `ok` when `findings` is empty."""

    cluster: str = ""
    cluster_id: str = ""
    begins: int = 0  # number of the first line that is there
    last: int = -1
    hash: str = ""  # of the last line
    lines: int = 0
    checkpoints: int = 0
    sealed: int = -1  # number of the last line that a signature covers
    pruned: int = -1  # number of the last line that the owner's policy has removed
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings


def hash_of(line: bytes) -> str:
    """The name that the next line calls this one by."""
    return _base64(hashlib.sha256(b"secure-ipp-journal/1\0" + line).digest())


def signed_by(line: bytes, key: str, purpose: str) -> bool:
    """Whether the line ends in this key's signature of all that stands before it."""
    match = SIGNATURE.search(line, len(line) - 102)
    if match is None or match.end() != len(line):
        return False
    message = b"secure-ipp\0" + purpose.encode() + b"\0" + line[: match.start()] + b"}"
    try:
        Ed25519PublicKey.from_public_bytes(_bytes(key)).verify(_bytes(match[1].decode()), message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Verifier:
    """Goes through the lines in order, and remembers where the chain and the keys stand."""

    def __init__(self, issuer: str, heads: list[dict[str, Any]]) -> None:
        self.report = Report()
        self.issuer = issuer
        self.heads = {head["number"]: head for head in heads}
        self.seen: set[int] = set()
        self.file, self.row = "", 0
        self.checkpoint: tuple[int, str] | None = None  # index and key of the next one
        self.segment: tuple[int, str] | None = None
        self.missing: dict[int, Finding] = {}  # by number: what was found to be missing before its line came
        self.opened = 0.0  # time of the first line that no checkpoint covers
        self.time = 0.0
        self.allowed = -1  # retention may have removed lines up to here: the next line, a checkpoint, sealed it
        self.said = -1  # what the line before says of that; anybody can link such a line
        self.lost: list[tuple[int, int]] = []  # numbers that the issuer has declared lost

    def found(self, kind: str, number: int, text: str) -> Finding:
        finding = Finding(kind, self.file, self.row, number, text)
        if len(self.report.findings) < MOST_FINDINGS:
            self.report.findings.append(finding)
        return finding

    # --- files -------------------------------------------------------------------------------------------------

    def pruned(self, data: bytes) -> None:
        """What stands for segments that retention removed: the lines that hand the keys on."""
        self.file = PRUNED
        for self.row, line in enumerate(data.splitlines(), 1):
            fields = self.parse(line)
            if fields is not None:
                self.keys(line, fields, whole=False)  # the checkpoints between them are gone
                self.report.pruned, self.report.last, self.report.hash = fields["n"], fields["n"], hash_of(line)
                self.compare(fields["n"], hash_of(line))

    def segment_file(self, name: str, first: int, data: bytes, newest: bool) -> None:
        """One segment."""
        self.file, self.row = name, 0
        lines = data.split(b"\n")
        rest = lines.pop()
        for self.row, line in enumerate(lines, 1):
            fields = self.parse(line)
            if fields is None:
                self.report.last, self.report.hash = self.report.last + 1, hash_of(line)
            else:
                if self.row == 1 and fields["n"] != first:
                    self.found("reordered", fields["n"], f"the file is named after line {first}")
                self.line(line, fields)
        if rest and newest:
            self.report.notes.append(f"{name} ends in {len(rest)} bytes of a line that is not finished")
        elif rest:
            self.row = len(lines) + 1
            self.found("damaged", self.report.last + 1, "a line in the middle of the journal has no end")

    def parse(self, line: bytes) -> dict[str, Any] | None:
        """The fields of a line that has the form of one."""
        try:
            text = line.decode("ascii")
            if not text.isprintable() or len(line) > LINE_BYTES:
                raise ValueError("it is not printable, or too long")
            fields: Any = json.loads(text, object_pairs_hook=_once)
            if not text.startswith(f'{{"n":{fields["n"]:d},"prev":"') or type(fields["event"]) is not str:
                raise ValueError("it does not begin with its number and link")
            fields["at"] = float(fields["at"] or 0)
            for name, kind in FIELDS.get(fields["event"], {}).items():
                if type(fields[name]) is not kind:
                    raise ValueError(f"its {name} is of another type")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self.found("damaged", self.report.last + 1, f"this is no line of a journal: {str(error)[:100]}")
            return None
        return dict(fields)

    # --- lines -------------------------------------------------------------------------------------------------

    def line(self, line: bytes, fields: dict[str, Any]) -> None:
        """One line: its number, its link, its signature."""
        report, number = self.report, fields["n"]
        if not report.lines:
            report.begins = number
        whole = self.link(number, fields)
        report.lines, report.last, report.hash = report.lines + 1, max(report.last, number), hash_of(line)
        self.compare(number, report.hash)
        if report.sealed == number - 1 or not self.opened:
            self.opened = fields["at"]
        self.time = fields["at"]
        if fields["event"] in ("genesis", "checkpoint", "end", "renewed"):
            self.keys(line, fields, whole)
        elif fields["event"] in ("gap", "torn", "fork"):
            told = fields.get("reason") or f"{fields.get('bytes')} bytes of an unfinished line were cut off"
            report.notes.append(f"line {number} tells of a {fields['event']}: {told}")
        if fields["event"] == "checkpoint" and whole and report.sealed == number:
            self.allowed = max(self.allowed, self.said)
        self.said = fields["through"] if fields["event"] == "pruned" else -1

    def link(self, number: int, fields: dict[str, Any]) -> bool:
        """Whether the line follows the one before."""
        report = self.report
        expected = report.last + 1
        if number > expected:
            lost = fields.get("lost_from"), fields.get("lost_through")
            if fields["event"] == "renewed" and fields["prev"] == report.hash and lost == (expected, number - 1):
                return True  # `keys` looks whether the issuer has said so
            kind, words = ("gap", "a segment is missing") if self.row == 1 else ("deleted", "lines are missing")
            finding = self.found(kind, number, f"{words}: line {expected} would be next")
            self.missing.update((n, finding) for n in range(expected, min(number, expected + OPEN_LINES)))
        elif number < expected:
            known = self.missing.get(number)
            if known is not None:
                known.kind, known.text = "reordered", f"lines stand in another order: {number} comes later"
            else:
                self.found("reordered", number, f"line {expected} would be next")
        elif fields["prev"] != report.hash:
            if number - 1 not in self.missing and not self.broken_before(number - 1):
                self.found("edited", number - 1, f"line {number - 1} is not the one that line {number} was linked to")
        else:
            return True
        return False

    def broken_before(self, number: int) -> bool:
        """Whether the line of this number was found at fault already."""
        return any(one.number == number and one.kind in ("damaged", "reordered", "deleted", "gap")
                   for one in self.report.findings[-3:])

    def keys(self, line: bytes, fields: dict[str, Any], whole: bool = True) -> None:
        """A line that signs, or hands keys on.  Where lines are missing (not `whole`), keys are missing with them."""
        event, number, report = fields["event"], fields["n"], self.report
        if event == "genesis":
            self.genesis(line, fields)
        elif event == "renewed":
            if not signed_by(line, self.issuer, "journal-renewed/1"):
                self.found("re-sealed", number, "the issuer did not sign that the journal goes on with new keys here")
                return
            first, through = fields["lost_from"], fields["lost_through"]
            self.lost.append((first, through))
            lost = f"; lines {first} to {through} are lost" if through >= first else ""
            report.notes.append(f"the issuer let it go on with new keys at line {number}{lost}: {fields.get('reason')}")
        elif event == "checkpoint" and self.fits(line, "checkpoint", fields, whole, self.checkpoint):
            report.checkpoints += 1
            self.checkpoint = fields["index"] + 1, fields["next"]
        elif event == "end" and self.fits(line, "end", fields, whole, self.segment):
            if whole and self.checkpoint not in (None, (fields["index"], fields["checkpoint_key"])):
                self.found("re-sealed", number, "the end of a segment hands on a key that no checkpoint named")
            self.segment = fields["segment"] + 1, fields["next"]
            self.checkpoint = fields["index"], fields["checkpoint_key"]
        else:
            return
        if event in ("genesis", "renewed"):
            self.checkpoint = fields["index"], fields["checkpoint_key"]
            self.segment = fields["segment"], fields["segment_key"]
        report.sealed = number

    def fits(self, line: bytes, what: str, fields: dict[str, Any], whole: bool, expected: Any) -> bool:
        """Whether the key that was promised signed this line."""
        index: int = fields["index" if what == "checkpoint" else "segment"]
        here = index, fields["key"]
        skipped = self.report.findings and expected is not None and index > expected[0]
        if here != expected and not (skipped and not whole) and not (skipped and self.missing):
            self.found("re-sealed", fields["n"], f"this {what} is not signed by the key that the one before it named")
            return False
        if not signed_by(line, fields["key"], f"journal-{what}/1"):
            self.found("re-sealed", fields["n"], f"the signature of this {what} is not its key's")
            return False
        return True

    def genesis(self, line: bytes, fields: dict[str, Any]) -> None:
        """Line 0: whose journal it is."""
        self.report.cluster, self.report.cluster_id = str(fields.get("cluster")), str(fields.get("cluster_id"))
        if fields.get("format") != "secure-ipp-journal/1" or fields["n"] != 0 or fields["prev"] != "":
            self.found("genesis", fields["n"], "the first line is of another format")
        elif fields.get("issuer_key") != self.issuer or not signed_by(line, self.issuer, "journal-genesis/1"):
            self.found("genesis", 0, "the first line is not signed by this issuer")

    # --- heads and the end -------------------------------------------------------------------------------------

    def compare(self, number: int, found: str) -> None:
        """A line of which somebody remembers the hash."""
        if number not in self.heads:
            return
        self.seen.add(number)
        if self.heads[number]["hash"] != found:
            self.found("forked", number, f"a client saw another line {number}: this journal took another way before")

    def end(self) -> Report:
        """What only the end shows."""
        report = self.report
        for number in sorted(set(self.heads) - self.seen):
            if number > report.last:
                self.found("truncated", report.last, f"a client saw line {number}; the journal ends at {report.last}")
            elif any(first <= number <= through for first, through in self.lost):
                report.notes.append(f"line {number}, which a client saw, is among those that the issuer called lost")
            elif number <= report.pruned:
                report.notes.append(f"line {number}, which a client saw, was removed by retention")
        open_lines = report.last - max(report.sealed, report.begins - 1)
        if open_lines > OPEN_LINES or (open_lines > 0 and self.time - self.opened > OPEN_SECONDS):
            text = f"no checkpoint covers the last {open_lines} lines, though a writer makes one every few seconds"
            self.found("unsealed", report.sealed + 1, text)
        elif open_lines:
            report.notes.append(f"the last {open_lines} lines are not covered by a checkpoint yet")
        if report.pruned >= 0:
            report.notes.append(f"begins at line {report.begins}: what was before was pruned by the owner's policy")
            if self.allowed < report.pruned:
                self.found("retention", report.pruned, "segments were removed, and no record says that policy did it")
        if not report.cluster_id:
            self.found("genesis", 0, "the journal does not begin with the line that the issuer signed")
        return report


def verify(directory: str | os.PathLike[str], issuer: str, heads: list[dict[str, Any]] | None = None) -> Report:
    """Verify the journal in a directory.

    Args:
        directory: of the segments.
        issuer: the issuer's public key, base64url.
        heads: what clients remembered, as `read_head` gives it.

    Raises:
        OSError: a file cannot be read, or there is none.
    """
    verifier = Verifier(issuer, heads or [])
    names = sorted(name for name in os.listdir(directory) if SEGMENT.fullmatch(name))
    if not names:
        raise FileNotFoundError(f"there is no journal in {os.fspath(directory)}")
    if os.path.exists(os.path.join(directory, PRUNED)):
        with open(os.path.join(directory, PRUNED), "rb") as file:
            verifier.pruned(file.read())
        names = [name for name in names if int(name[8:24]) > verifier.report.pruned]
    for name in names:
        with open(os.path.join(directory, name), "rb") as file:
            verifier.segment_file(name, int(name[8:24]), file.read(), name == names[-1])
    report = verifier.end()
    other = [head for head in heads or [] if head["cluster_id"] != report.cluster_id]
    if other:
        report.findings.append(Finding("forked", "", 0, -1, "a head is of another cluster"))
    return report


def read_head(text: str) -> dict[str, Any]:
    """A head: the path of its file, or its text.

    Raises:
        ValueError: it is none, or it does not hang together.
    """
    if not text.lstrip().startswith("{"):
        with open(text, encoding="ascii") as file:
            text = file.read(LINE_BYTES)
    head = json.loads(text, object_pairs_hook=_once)
    if not isinstance(head, dict) or head.get("format") != "secure-ipp-head/1" or type(head.get("number")) is not int:
        raise ValueError("this is no head of a journal")
    line = str(head.get("line", "")).encode()
    fields = json.loads(line)
    if hash_of(line) != head.get("hash") or fields.get("n") != head["number"] or type(head["cluster_id"]) is not str:
        raise ValueError("this head contradicts itself")
    return head


def in_words(report: Report) -> list[str]:
    """The report for a terminal."""
    lines = [f"{one.kind}: {one.file} line {one.line}, number {one.number}: {one.text}" for one in report.findings]
    lines += [f"note: {note}" for note in report.notes]
    state = "is whole" if report.ok else "IS NOT WHOLE"
    lines.append(
        f"the journal of {report.cluster} ({report.cluster_id}) {state}: lines {report.begins} to {report.last}, "
        f"{report.checkpoints} checkpoints, sealed through {report.sealed}"
    )
    return [line.encode("ascii", "backslashreplace").decode() for line in lines]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands in it twice")
    return fields


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Verify a journal of secure-ipp.")
    parser.add_argument("directory")
    parser.add_argument("--issuer", required=True, help="the issuer's public key, base64url")
    parser.add_argument("--since", action="append", default=[], help="a head that a client remembered: file or text")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    try:
        report = verify(told.directory, told.issuer, [read_head(text) for text in told.since])
    except (OSError, ValueError) as error:
        print(f"cannot verify: {error}", file=sys.stderr)
        return 2
    if told.json:
        print(json.dumps({"ok": report.ok, **asdict(report)}, indent=2))
    else:
        print("\n".join(in_words(report)))
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
