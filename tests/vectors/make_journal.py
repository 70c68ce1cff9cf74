"""Make tests/vectors/journal again, the same to the byte: `python -m tests.vectors.make_journal`.

Every key follows from a sentence that says that it is a test's; the vectors hold public halves and signatures alone.
One directory a journal; `vectors.json` says which flaw each has, and what a verifier must find, and where.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from secure_ipp.audit import chain
from secure_ipp.audit.journal import Journal
from secure_ipp.audit.record import AuditRecord, EngineJoined, HubStopped, QuestionRefused, TaskRow, TasksEnded
from secure_ipp.audit.retention import Keep
from secure_ipp.keys import journal_key
from secure_ipp.keys.genesis import FIRST_SEGMENT, genesis_line
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.journal_key import JournalKey, write_journal_key
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import make_private_dir, write_private

HERE = Path(__file__).parent / "journal"
CLUSTER, CLUSTER_ID, START = "vectors", "TestVectorsOfAJournal-", 1_700_000_000.0
_LINK = re.compile(rb'^\{"n":([0-9]+),"prev":"[^"]*",')


class TestKeys:
    """A row of keys that everybody can make."""

    __test__ = False

    def __init__(self, seed: str) -> None:
        self._seed, self._made = seed, 0

    def generate(self) -> journal_key.JournalSecretKey:
        self._made += 1
        text = f"a key for test vectors, not a secret: {self._seed} {self._made}"
        return journal_key.JournalSecretKey(hashlib.sha256(text.encode()).digest())


ISSUER = IssuerKey(hashlib.sha256(b"a key for test vectors, not a secret: the issuer").digest())
STRANGER = TestKeys("somebody else")


def record(number: int, who: str) -> AuditRecord:
    at = START + number
    if number % 3 == 0:
        row = TaskRow(
            "dGhlIG93bmVyIG9mIHRhc2", f"task-{number}", "apply", "balanced", hashlib.sha256(b"f").hexdigest(), "ok", 0,
            "dGhlIGlkIG9mIGFuIGVuZ2", at - 2, at - 1, at, 1,
        )
        return TasksEnded(at=at, tasks=[row])
    if number % 3 == 1:
        return QuestionRefused(at=at, user=who, question="Purge\u001b[2J\nRecords", reason="ünknown \u202e right")
    return EngineJoined(
        at=at, engine=number, uuid="dGhlIGlkIG9mIGFuIGVuZ2", agent="dGhlIGlkIG9mIGFuIGFnZW", host="node1", pid=7,
        reads_cluster_dir=False, reads_join_file=False,
    )


def make(home: Path, *, fork_at: int = -1, keep: Keep | None = None) -> tuple[ClusterPlace, list[dict[str, Any]]]:
    """A journal of 30 records, closed in order, and the head of each of its checkpoints."""
    place, keys, heads = ClusterPlace(CLUSTER, home=home), TestKeys("the journal"), []
    with mock.patch.object(journal_key.JournalSecretKey, "generate", keys.generate):
        first = JournalKey.fresh(CLUSTER_ID)
        make_private_dir(place.journal_dir)
        place.durable_dir()
        write_journal_key(place.journal_key, first)
        write_private(place.journal_dir / FIRST_SEGMENT, genesis_line(ISSUER, CLUSTER, CLUSTER_ID, first, START))
        journal = Journal(place, keep=keep, segment_bytes=3000)
        journal.open(START)
        for number in range(1, 31):
            journal.write([record(number, "mallory" if 0 <= fork_at <= number else "alice")])
            if number % 5 == 0:
                journal.checkpoint(START + number)
                heads.append(chain.head_of(CLUSTER_ID, journal.newest_checkpoint))
        journal.write([HubStopped(at=START + 31, pid=7, reason="asked to")])
        journal.close(START + 31)
        heads.append(chain.head_of(CLUSTER_ID, journal.newest_checkpoint))
    return place, heads


def relinked(lines: list[bytes], sign: bool) -> list[bytes]:
    """What somebody who may write the files can do: every number and link made to fit, checkpoints signed by keys of
    its own or left out."""
    made: list[bytes] = []
    key = JournalKey.fresh(CLUSTER_ID) if sign else None
    for text in lines:
        event = json.loads(text)["event"]
        at = chain.Place(len(made) - 1, chain.hash_of(made[-1])) if made else chain.Place(-1, "")
        if event == "genesis":
            made.append(text)
        elif event == "checkpoint" and key is not None:
            made.append(chain.checkpoint_line(key, at, json.loads(text)["at"], 0)[0])
            key = key.after_checkpoint(at.number + 1)
        elif event not in ("checkpoint", "end"):
            made.append(b'{"n":%d,"prev":"%s",' % (at.number + 1, at.hash.encode()) + text[_LINK.match(text).end() :])
    return made


def later(lines: list[bytes]) -> list[bytes]:
    """The same records over an hour, so that no writer could have left them without a checkpoint."""
    return [re.sub(rb'"at":17000000([0-9]{2})', lambda m: b'"at":1700%d00' % (int(m[1]) + 1000), text)
            if b'"event":"genesis"' not in text else text for text in lines]


def flaws(heads: list[dict[str, Any]]) -> dict[str, tuple[str, Callable[[Path], None], list[Any], list[Any]]]:
    """Each flaw: what it is, how it is made, the heads to verify against, and what must be found."""

    def on_line(number: int, change: Callable[[list[bytes], int], None]) -> Callable[[Path], None]:
        def flawed(directory: Path) -> None:
            for path in sorted(directory.glob("segment-*")):
                texts = path.read_bytes().splitlines()
                for index, text in enumerate(texts):
                    if text.startswith(b'{"n":%d,' % number):
                        change(texts, index)
                        path.write_bytes(b"".join(one + b"\n" for one in texts))
                        return

        return flawed

    def edit(texts: list[bytes], index: int) -> None:
        texts[index] = texts[index].replace(b"node1", b"node2")

    def swap(texts: list[bytes], index: int) -> None:
        texts[index], texts[index + 1] = texts[index + 1], texts[index]

    def one_file(sign: bool, change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
        def flawed(directory: Path) -> None:
            paths = sorted(directory.glob("segment-*"))
            texts = [text for path in paths for text in path.read_bytes().splitlines()]
            for path in paths[1:]:
                path.unlink()
            with mock.patch.object(journal_key.JournalSecretKey, "generate", TestKeys("somebody else").generate):
                made = relinked(change(texts), sign)
            paths[0].write_bytes(b"".join(one + b"\n" for one in made))

        return flawed

    def truncate(directory: Path) -> None:
        for path in sorted(directory.glob("segment-*"))[2:]:
            path.unlink()

    def gap(directory: Path) -> None:
        sorted(directory.glob("segment-*"))[1].unlink()

    def injected(texts: list[bytes], index: int) -> None:
        texts[index] = texts[index].replace(b'"host":"node1"', b'"host":"node1\x1b[2J"')

    return {
        "whole": ("none", lambda directory: None, heads, []),
        "edited": ("a word of line 2 was changed", on_line(2, edit), [], [["edited", 2]]),
        "deleted": ("line 7 was taken out", on_line(7, lambda t, i: t.pop(i)), [], [["deleted", 8]]),
        "swapped": ("lines 3 and 4 changed places", on_line(3, swap), [], [["reordered", 4]]),
        "damaged": ("line 2 holds what no writer writes", on_line(2, injected), [], [["damaged", 2]]),
        "truncated": ("the newest segments are gone", truncate, heads[-1:], [["truncated", None]]),
        "re-sealed": (
            "line 2 was changed, and all links and signatures made anew under other keys",
            one_file(True, lambda texts: [text.replace(b"node1", b"node2") for text in texts]), [],
            [["re-sealed", 6]],
        ),
        "gap": ("a segment is missing in the middle", gap, [], [["gap", None]]),
        "unsealed": ("every checkpoint was taken out, and the links made anew", one_file(False, later), [],
                     [["unsealed", 1]]),
        "forked": ("the cluster was put back from a copy, and took another way", lambda directory: None, heads[3:4],
                   [["forked", heads[3]["number"]]]),
    }


def main(into: Path = HERE) -> None:
    """Write all vectors."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    vectors: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        place, heads = make(Path(directory) / "whole")
        other, _ = make(Path(directory) / "forked", fork_at=16)
        short, short_heads = make(Path(directory) / "pruned", keep=Keep(segments=2))
        all_flaws = flaws(heads)
        all_flaws["pruned"] = "none; retention has removed the oldest segments", lambda _: None, short_heads, []
        for name, (flaw, change, known, findings) in all_flaws.items():
            source = {"forked": other, "pruned": short}.get(name, place)
            shutil.copytree(source.journal_dir, into / name)
            change(into / name)
            vectors.append({"name": name, "flaw": flaw, "heads": known, "findings": findings})
    told = {"issuer": ISSUER.public().text, "cluster_id": CLUSTER_ID, "vectors": vectors}
    (into / "vectors.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
