"""The files of a journal: one private directory, segments in order, and what is left of those that retention removed.

Laws: a segment is named after the number of its first line; `pruned.jsonl` holds, of removed segments, the lines that
hand the keys on, and is replaced in one step before any of them is unlinked.  Every file is regular, this user's, 0600,
and opened without following a symbolic link (S9).  Nothing here judges what the lines say.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from secure_ipp.errors import EnvironmentProblem, PrivateFileError
from secure_ipp.keys.private_files import check_private_dir, remove_private, write_private
from secure_ipp.logs import why_not_private

PRUNED = "pruned.jsonl"
_NAME = re.compile(r"segment-([0-9]{16})\.jsonl")
_CARRIED = re.compile(rb'\{"n":[0-9]{1,16},"prev":"[A-Za-z0-9_-]*","event":"(?:genesis|renewed|end)",')
_NO_FOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class NoJournal(EnvironmentProblem):
    """The cluster has no journal."""

    code = "no-journal"


def segment_name(first: int) -> str:
    """The file whose first line has this number."""
    return f"segment-{first:016d}.jsonl"


def segments(directory: Path) -> list[tuple[int, Path]]:
    """The segments that are there, in order, each with the number of its first line.

    Raises:
        NoJournal: there is none.
        PrivateFileError: others could read or change the directory.
    """
    try:
        check_private_dir(directory)
        names = os.listdir(directory)
    except FileNotFoundError:
        names = []
    found = sorted((int(match[1]), directory / match[0]) for name in names if (match := _NAME.fullmatch(name)))
    if not found:
        raise NoJournal(
            f"there is no journal in {directory}",
            "restore it from its copy, or begin another one: secure-ipp audit renew",
        )
    return found


def open_segment(path: Path, *, new: bool = False) -> int:
    """A descriptor to read and append; a new file is made exclusively.

    Raises:
        PrivateFileError: others could read or write it, or it is no regular file.
        OSError: the disk says no.
    """
    flags = os.O_RDWR | os.O_APPEND | _NO_FOLLOW | (os.O_CREAT | os.O_EXCL if new else 0)
    return _checked(path, os.open(path, flags, 0o600))


def read_segment(path: Path, offset: int = 0) -> bytes:
    """All bytes of a segment from an offset on.

    Raises:
        PrivateFileError: others could read or write it, or it is no regular file.
        OSError: it cannot be read.
    """
    with os.fdopen(_checked(path, os.open(path, os.O_RDONLY | _NO_FOLLOW)), "rb") as file:
        file.seek(offset)
        return file.read()


def sync_directory(directory: Path) -> None:
    """What was made, renamed or unlinked there lasts."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def carried(data: bytes) -> list[bytes]:
    """The lines of a segment that hand keys on, without their newlines."""
    return [text for text in data.split(b"\n") if _CARRIED.match(text)]


def pruned_lines(directory: Path) -> list[bytes]:
    """The lines that stand for removed segments; none, if none was removed."""
    try:
        return read_segment(directory / PRUNED).splitlines()
    except FileNotFoundError:
        return []


def number_of(text: bytes) -> int:
    """The number that a line begins with."""
    return int(text[5 : text.index(b",")])


def pruned_through(lines: list[bytes]) -> int:
    """The number of the last line that was removed; -1: none was."""
    return number_of(lines[-1]) if lines else -1


def sweep(directory: Path) -> None:
    """Unlink what a prune that was interrupted has left.

    Raises:
        PrivateFileError, EnvironmentProblem, OSError: it cannot be done.
    """
    through = pruned_through(pruned_lines(directory))
    for first, path in segments(directory):
        if first <= through:
            remove_private(path)


def prune(directory: Path, gone: list[Path]) -> None:
    """Replace the oldest segments by the lines that hand their keys on; a crash between leaves files to `sweep`.

    Raises:
        PrivateFileError, EnvironmentProblem, OSError: something is left of them; trying again is right.
    """
    kept = pruned_lines(directory)
    through = pruned_through(kept)
    for path in gone:
        kept += [text for text in carried(read_segment(path)) if number_of(text) > through]
    write_private(directory / PRUNED, b"".join(text + b"\n" for text in kept), exclusive=False)
    for path in gone:
        remove_private(path)
    sync_directory(directory)


def line_at(directory: Path, number: int) -> bytes | None:
    """The line of this number, if it is there."""
    found = [path for first, path in segments(directory) if first <= number]
    if not found:
        return None
    data = b"\n" + read_segment(found[-1])
    start = data.find(b'\n{"n":%d,' % number) + 1
    end = data.find(b"\n", start)
    return data[start:end] if 0 < start < end else None


def _checked(path: Path, descriptor: int) -> int:
    wrong = why_not_private(descriptor)
    if wrong:
        os.close(descriptor)
        raise PrivateFileError(f"{path} {wrong}", "nobody else may touch it: secure-ipp audit verify")
    return descriptor
