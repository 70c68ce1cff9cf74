"""No secret of a full run stands where others, or a support request, could find it (S11).

The secrets are the canaries: those of the key files, in every spelling a program might write them in. They are looked
for in the argv and environment of every process of the run, in every log, state and pid file, and in what commands
print.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from secure_ipp.keys import base64url
from tests.running import RunningCluster, our_processes

pytestmark = pytest.mark.live

SECRET = re.compile(rb"[A-Za-z0-9_-]{43}")


def spellings(raw: bytes) -> set[bytes]:
    """Ways to write 32 bytes."""
    return {
        raw, raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(raw)[:43], base64.b85encode(raw),
        base64url.encode(raw).encode(), repr(raw)[2:-1].encode(), str(list(raw))[1:-1].encode(),
    }


def secrets_of(own: RunningCluster) -> dict[str, set[bytes]]:
    """The secrets of all four key files, found by what public files do not hold."""
    place = own.place
    public = set(SECRET.findall(place.registry.read_bytes()) + SECRET.findall(place.config.read_bytes()))
    for file in (place.client_file, place.engine_file):
        found = json.loads(file.read_bytes())
        public |= {text.encode() for text in (*found["server_keys"], found["issuer_key"], found["public_key"])}
    canaries: dict[str, set[bytes]] = {}
    for file in (place.client_file, place.engine_file):
        secret = json.loads(file.read_bytes())["secret_key"]
        canaries[file.name] = spellings(base64url.decode(secret, 32))
    for file in (place.server_key, place.issuer_key):
        texts = [text for text in SECRET.findall(file.read_bytes()) if text not in public]
        assert texts, f"{file} has no secret; this test looks for nothing"
        for text in texts:
            canaries[f"{file.name} {len(canaries)}"] = spellings(base64url.decode(text.decode(), 32))
    return canaries


def exposed(own: RunningCluster) -> Iterator[tuple[str, bytes]]:
    """Everything that is looked through: (where, bytes)."""
    for process in our_processes():
        for name in ("cmdline", "environ"):
            path = Path(f"/proc/{process.pid}/{name}")
            try:
                yield str(path), path.read_bytes()
            except (PermissionError, FileNotFoundError, ProcessLookupError):
                continue  # closed to us is closed to others of our user, too
    keys = {own.place.client_file, own.place.engine_file, own.place.server_key, own.place.issuer_key}
    for path in own.home.rglob("*"):
        if path.is_file() and path not in keys:
            yield str(path), path.read_bytes()


def look(own: RunningCluster, more: list[tuple[str, bytes]]) -> None:
    canaries = secrets_of(own)
    places = [*exposed(own), *more]
    assert len(places) > 10
    for where, data in places:
        for name, forms in canaries.items():
            assert not any(form in data for form in forms), f"the secret of {name} stands in {where}"


def test_no_secret_is_seen_in_a_full_run() -> None:
    own = RunningCluster(engines=2)
    said: list[tuple[str, bytes]] = []
    try:
        own.start("--log-level", "DEBUG")
        client = own.client()
        assert client[:].apply_sync(os.getpid)
        with pytest.raises(Exception, match="division"):
            client[:].apply_sync(lambda: 1 / 0)
        said.append(("the environment of an engine", repr(client[0].apply_sync(lambda: dict(os.environ))).encode()))
        said.append(("the repr of a client", repr([client, vars(client)]).encode()))
        for name, *args in (
            ["secure-ipp", "status", "--json"], ["secure-ipp", "keys", "list", "--json"], ["secure-ipp", "doctor"],
            ["secure-ipp", "keys", "show", str(own.place.client_file)], ["ipcluster", "list", "--json"],
        ):
            done = own.run(name, *args)
            said.append((f"the output of {name} {args}", (done.stdout + done.stderr).encode()))
        look(own, said)
        limits = {pid: Path(f"/proc/{pid}/limits").read_text() for pid in [*own.pids().values(), *own.agent_pids()]}
        for pid, text in limits.items():
            assert re.search(r"Max core file size +0 +0 ", text), psutil.Process(pid).cmdline()
    finally:
        own.stop()
    look(own, said)
    assert not list(own.home.rglob("core*"))
    assert tomllib.loads(own.place.config.read_text())["curve"] is True


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """A search that cannot find anything would pass too."""
    own = RunningCluster(engines=0)
    assert own.run("secure-ipp", "keys", "init", "--host", "127.0.0.1").returncode == 0
    for number, (name, forms) in enumerate(secrets_of(own).items()):
        for form in forms:
            leak = own.home / f"leak-{number}.log"
            leak.write_bytes(b"so " + form + b" it is")
            with pytest.raises(AssertionError, match=re.escape(f"the secret of {name}")):
                look(own, [("", b"")] * 10)
            leak.unlink()
