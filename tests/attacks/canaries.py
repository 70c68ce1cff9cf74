"""A search for secrets: in the argv and environment of every process while a run lasts, in files, in memory (S11).

Each secret is looked for as its bytes and in every spelling that a program might give it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import zmq.utils.z85

from secure_ipp.keys import base64url
from secure_ipp.keys.places import ClusterPlace

_PAUSE_SECONDS = 0.01  # between two looks at all processes; a command of ours lives for a hundred of them
_LARGEST_MAPPING = 1 << 30
_SKIPPED = ("[vvar]", "[vsyscall]", "[vdso]", "/dev/")


def spellings(raw: bytes) -> frozenset[bytes]:
    """Ways to write 32 bytes: raw, base64 (both alphabets, without the padding), hex, Z85, base85, Python's own."""
    return frozenset({
        raw, base64url.encode(raw).encode(), base64.b64encode(raw).rstrip(b"="), raw.hex().encode(),
        raw.hex().upper().encode(), raw.hex(":").encode(), zmq.utils.z85.encode(raw), base64.b85encode(raw),
        repr(raw)[2:-1].encode(), str(list(raw))[1:-1].encode(),
    })


class Canaries:
    """Secrets by name, and what is found of them."""

    def __init__(self, secrets: dict[str, bytes]) -> None:
        self._spelled: dict[str, frozenset[bytes]] = {}
        for name, raw in secrets.items():
            self.add(name, raw)

    def add(self, name: str, raw: bytes) -> None:
        assert len(raw) == 32, name
        self._spelled[name] = spellings(raw)

    def only(self, *names: str) -> Canaries:
        some = Canaries({})
        some._spelled = {name: self._spelled[name] for name in names}
        return some

    def seen_in(self, data: bytes) -> set[str]:
        """Names of the secrets that stand in this, in whatever spelling."""
        return {name for name, forms in self._spelled.items() if any(form in data for form in forms)}


def key_files(place: ClusterPlace) -> dict[str, Path]:
    """The four private files that hold a secret, by its name."""
    return {"client": place.client_file, "join": place.engine_file, "server": place.server_key,
            "issuer": place.issuer_key}


def secrets_of(place: ClusterPlace) -> Canaries:
    found = {name: json.loads(path.read_bytes())["secret_key"] for name, path in key_files(place).items()}
    return Canaries({name: base64url.decode(text, 32) for name, text in found.items()})


class Watch:
    """Looks at argv and environment of every process of this machine, again and again, in a thread of its own."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries
        self._seen: set[bytes] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.leaks: list[str] = []
        self.programs: set[str] = set()  # modules and commands of ours that were looked at
        self.looks = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
                for file in ("cmdline", "environ"):
                    self._look(f"/proc/{pid}/{file}")
            self.looks += 1
            self._end.wait(_PAUSE_SECONDS)

    def _look(self, path: str) -> None:
        try:
            data = Path(path).read_bytes()
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            return  # what is closed to us is closed to others of our user, too
        if data in self._seen:
            return
        self._seen.add(data)
        self.programs.update(found.decode() for found in re.findall(rb"secure_ipp\.[a-z._]+|ipcluster|ipengine", data))
        self.leaks += [f"{name} in {path}: {data[:300]!r}" for name in self._canaries.seen_in(data)]


def leaks_in_files(canaries: Canaries, base: Path, spared: set[Path]) -> tuple[list[str], int]:
    """Secrets in the files below `base`; and how many files there were."""
    files = [path for path in base.rglob("*") if path.is_file() and not path.is_symlink() and path not in spared]
    leaks = [f"{name} in {path}" for path in files for name in canaries.seen_in(path.read_bytes())]
    return leaks, len(files)


def memory_of(pid: int) -> Iterator[bytes]:
    """What a process may have written to: its mappings that are not just a file's.

    Raises:
        PermissionError: this process may not be looked into.
    """
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            where, rights, *_, name = [*line.split(None, 5), ""][:6]
            first, last = (int(part, 16) for part in where.split("-"))
            if "r" not in rights or "w" not in rights or name.startswith(_SKIPPED) or last - first > _LARGEST_MAPPING:
                continue
            memory.seek(first)
            try:
                yield memory.read(last - first)
            except OSError:
                continue  # unmapped meanwhile, or a guard page


def found_in_memory(canaries: Canaries, pid: int) -> set[str]:
    found: set[str] = set()
    for piece in memory_of(pid):
        found |= canaries.seen_in(piece)
    return found


def texts_in_memory(pid: int, field: str) -> set[bytes]:
    """Secrets that still stand in a process's memory as it was told them: values of this JSON field."""
    pattern = re.compile(rb'"%s":"([A-Za-z0-9_-]{43})"' % field.encode())
    found = {text for piece in memory_of(pid) for text in pattern.findall(piece)}
    return {base64url.decode(text.decode(), 32) for text in found}
