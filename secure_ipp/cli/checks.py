"""What ``secure-ipp doctor`` looks at: one function a question, each giving findings.

Laws: a check never changes anything; one that cannot be made is a finding, not an exception; no finding shows a secret.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from secure_ipp import limits
from secure_ipp.errors import SecureIppError
from secure_ipp.keys.places import ClusterPlace

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "error")
PACKAGE = "secure-ipp"
SLOW_CIPHER = 400e6  # bytes a second; a libsodium without vector code runs at about a quarter of this
CIPHER_BYTES = 8 * limits.MIB
BACKLOG_BOUND = Path("/proc/sys/net/core/somaxconn")  # Linux
FEW_DESCRIPTORS = 4096  # a scheduler holds one for each peer


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer.

    Attributes:
        check: which question, a short stable word.
        level: how bad.
        text: what was found.
        advice: what to do; empty when nothing need be done.
    """

    check: str
    level: Level
    text: str
    advice: str = ""


def all_findings(place: ClusterPlace) -> list[Finding]:
    """Every check, in order."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", python_version), ("libraries", library_floors), ("curve", curve), ("cipher", cipher_speed),
        ("commands", command_owner), ("system", descriptors), ("system", backlog), ("files", lambda: key_files(place)),
        ("ports", lambda: door_ports(place)), ("separation", lambda: separation(place)),
    ]
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check()
        except SecureIppError as error:
            found.append(Finding(name, "error", error.message, error.advice))
        except Exception as error:  # noqa: BLE001  a check that breaks is itself something to tell
            found.append(Finding(name, "warning", f"could not be checked: {type(error).__name__}: {error}"))
    return found


# --- the installation --------------------------------------------------------------------------------------


def python_version() -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < (3, 11):  # noqa: UP036  whoever ignored requires-python is told
        yield Finding("python", "error", f"Python {version} is too old", "use 3.11 or newer")
    else:
        yield Finding("python", "ok", f"Python {version} ({sys.executable})")


def library_floors() -> Iterator[Finding]:
    """Installed versions against what this package says it needs."""
    try:
        needed = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("libraries", "note", f"{PACKAGE} is used without being installed", "pip install .")
        return
    for requirement in needed:
        match = re.match(r"([A-Za-z0-9._-]+)\s*>=\s*([0-9.]+)\s*$", requirement)
        if match is None:
            continue  # extras
        name, floor = match.groups()
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("libraries", "error", f"{name} is not installed", f"pip install '{name}>={floor}'")
            continue
        if numbers(version) < numbers(floor):
            yield Finding("libraries", "error", f"{name} {version} is too old", f"pip install '{name}>={floor}'")
        else:
            yield Finding("libraries", "ok", f"{name} {version} (at least {floor})")


def numbers(version: str) -> tuple[int, ...]:
    """The numbers a version begins with: "27.3.0rc1" is (27, 3, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def curve() -> Iterator[Finding]:
    """Whether libzmq can encrypt at all."""
    from secure_ipp.wire.sockets import make_context

    make_context().destroy(linger=0)
    yield Finding("curve", "ok", "libzmq has Curve")


def cipher_speed() -> Iterator[Finding]:
    """How fast the library that libzmq encrypts with is on this machine."""
    library = _sodium()
    if library is None:
        text = "the libsodium that libzmq uses was not found, so that its speed is not known"
        yield Finding("cipher", "note", text, "install pyzmq's wheel, which brings a fast one")
        return
    data, key, nonce = bytes(CIPHER_BYTES), bytes(32), bytes(24)
    out = ctypes.create_string_buffer(CIPHER_BYTES + 16)
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        library.crypto_secretbox_easy(out, data, ctypes.c_ulonglong(len(data)), nonce, key)
        seconds.append(time.perf_counter() - begun)
    speed = CIPHER_BYTES / min(seconds)
    text = f"XSalsa20-Poly1305 runs at {speed / 1e9:.1f} GB/s"
    if speed < SLOW_CIPHER:
        yield Finding("cipher", "warning", f"{text}, which is slow", "pip install --upgrade 'pyzmq>=27.3.0'")
    else:
        yield Finding("cipher", "ok", text)


def _sodium() -> ctypes.CDLL | None:
    for file in importlib.metadata.files("pyzmq") or []:
        if "sodium" in file.name and file.name.startswith("lib"):
            return ctypes.CDLL(str(file.locate()))
    return None


def command_owner() -> Iterator[Finding]:
    """Whether ``ipcluster`` is ours: ipyparallel brings commands of the same names."""
    for name in ("ipcluster", "ipcontroller", "ipengine"):
        found = shutil.which(name)
        if found is None:
            yield Finding("commands", "note", f"{name} is not on PATH", f"use secure-ipp {name.removeprefix('ip')}")
        elif b"secure_ipp" in Path(found).read_bytes()[:4096]:
            yield Finding("commands", "ok", f"{name} is ours ({found})")
        else:
            text = f"{name} on PATH is another program's ({found})"
            yield Finding("commands", "warning", text, f"use secure-ipp {name.removeprefix('ip')} instead")


def descriptors() -> Iterator[Finding]:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < FEW_DESCRIPTORS:
        text = f"a process may have {hard} open files; a controller needs one for each engine and client"
        yield Finding("system", "note", text, "raise it (ulimit -n) for large clusters")
    else:
        yield Finding("system", "ok", f"a process may have {hard if hard >= 0 else 'any number of'} open files")


def backlog() -> Iterator[Finding]:
    """How many connections the kernel lets wait for a door."""
    if not BACKLOG_BOUND.exists():
        return
    most = int(BACKLOG_BOUND.read_text())
    if most < limits.BACKLOG:
        text = f"{most} connections may wait for a door; when more engines start at once, the rest come again later"
        advice = f"raise it (sysctl net.core.somaxconn={limits.BACKLOG}) for large clusters"
        yield Finding("system", "note", text, advice)
    else:
        yield Finding("system", "ok", f"{most} connections may wait for a door")


# --- the cluster --------------------------------------------------------------------------------------------


def key_files(place: ClusterPlace) -> Iterator[Finding]:
    """Whether each file that must be private is, and holds what it should."""
    from secure_ipp.cluster.launch import require_keys
    from secure_ipp.keys.capability import read_capability
    from secure_ipp.keys.cluster_keys import check_issuer, load_server
    from secure_ipp.keys.places import NoKeys
    from secure_ipp.keys.private_files import check_private_dir
    from secure_ipp.keys.registry import Registry

    try:
        require_keys(place)
    except NoKeys as error:
        yield Finding("files", "note", error.message, error.advice)
        return
    checks: list[tuple[Path, Callable[[], object]]] = [
        (place.dir, lambda: check_private_dir(place.dir)),
        (place.server_key, lambda: load_server(place)),
        (place.issuer_key, lambda: check_issuer(place)),
        (place.registry, lambda: Registry.load(place)),
        (place.client_file, lambda: read_capability(place.client_file).require_role("client")),
        (place.engine_file, lambda: read_capability(place.engine_file).require_role("engine")),
        (place.runtime_path, place.runtime_dir),
    ]
    for path, check in checks:
        try:
            check()
        except SecureIppError as error:
            yield Finding("files", "error", error.message, error.advice)
        else:
            yield Finding("files", "ok", f"{path} is private and whole")


def door_ports(place: ClusterPlace) -> Iterator[Finding]:
    """Whether the doors can be opened."""
    from secure_ipp.cluster import state
    from secure_ipp.cluster.ports import check_free
    from secure_ipp.keys.config import load_config

    if not place.config.exists():
        return
    controller, config = state.read_state(place), load_config(place)
    if controller is not None:
        text = f"the cluster runs; its doors are {controller.client_port} and {controller.engine_port}"
        yield Finding("ports", "ok", text)
        return
    for door, port in (("client", config.client_port), ("engine", config.engine_port)):
        try:
            check_free(port, door, config.bind)
        except SecureIppError as error:
            yield Finding("ports", "error", error.message, error.advice)
        else:
            yield Finding("ports", "ok", f"port {port} for the {door} door is free")


def separation(place: ClusterPlace) -> Iterator[Finding]:
    """S26: code on an engine is that engine's user, and may be the owner of the keys."""
    from secure_ipp.cluster import control, state

    advice = "for code that you do not trust, run engines as another user or on another host"
    if not place.config.exists():
        return
    if state.read_state(place) is None:
        text = "engines started here by you can read your cluster's private files; rights do not bind code on them"
        yield Finding("separation", "note", text, advice)
        return
    engines = control.ask(place, "status")["engines"]
    reaching = [engine["id"] for engine in engines if engine["reads_cluster_dir"] or engine["reads_join_file"]]
    if reaching:
        text = f"{len(reaching)} of {len(engines)} engines can read the cluster's private files or the engine file"
        yield Finding("separation", "note", f"{text}; rights and revocation do not bind code on them", advice)
    else:
        yield Finding("separation", "ok", f"none of {len(engines)} engines can read the cluster's private files")
