"""What ``secure-ipp doctor`` asks of the installation: versions, Curve and its speed, whose commands these are."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator

from secure_ipp import limits
from secure_ipp.cli.checks import Check, Finding

# Lowest versions, as pyproject.toml has them (a test compares the two).
FLOORS = {
    "pyzmq": "27.3.0", "msgspec": "0.19", "cloudpickle": "3.0", "cryptography": "47", "click": "8.1.7",
    "ipython": "8.20", "psutil": "5.9", "tqdm": "4.66",
}
EXTRAS = {  # library: its floor, the extra that brings it, what it is for
    "numpy": ("1.26", "numpy", "arrays"),
    "keyring": ("25", "keyring", "secrets in the keyring of the system"),
    "paramiko": ("3.5", "ssh", "tunnels without the ssh command"),
    "sshtunnel": ("0.5.1", "ssh", "tunnels without the ssh command"),
    "rich": ("13", "table", "tables"),
}
SLOW_CIPHER = 400e6  # bytes a second; a libsodium without vector code runs at about a quarter of this
_BEGINNING_BYTES = 4096  # of a command, by which ours is known
CIPHER_BYTES = 8 * limits.MIB
OTHER_PACKAGE = "ipyparallel"  # brings commands of the same names


def checks() -> list[Check]:
    return [
        ("python", python_version), ("libraries", library_floors), ("extras", extras), ("curve", curve),
        ("cipher", cipher_speed), ("commands", command_owner), ("ipyparallel", other_package),
    ]


def python_version() -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < (3, 11):  # noqa: UP036  whoever ignored requires-python is told
        yield Finding("python", "error", f"Python {version} is too old", "use 3.11 or newer")
    else:
        yield Finding("python", "ok", f"Python {version} ({sys.executable})")


def library_floors() -> Iterator[Finding]:
    """Installed versions against what this package needs."""
    for name, floor in FLOORS.items():
        version = _version(name)
        if version is None:
            yield Finding("libraries", "error", f"{name} is not installed", f"pip install '{name}>={floor}'")
        elif numbers(version) < numbers(floor):
            yield Finding("libraries", "error", f"{name} {version} is too old", f"pip install '{name}>={floor}'")
        else:
            yield Finding("libraries", "ok", f"{name} {version} (at least {floor})")


def extras() -> Iterator[Finding]:
    """What is there besides, and what is not."""
    for name, (floor, extra, purpose) in EXTRAS.items():
        version = _version(name)
        advice = f"pip install 'secure-ipp[{extra}]'"
        if version is None:
            yield Finding("extras", "ok", f"{name} is not installed (for {purpose}: {advice})")
        elif numbers(version) < numbers(floor):
            yield Finding("extras", "warning", f"{name} {version} is too old (at least {floor})", advice)
        else:
            yield Finding("extras", "ok", f"{name} {version} (for {purpose})")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def numbers(version: str) -> tuple[int, ...]:
    """The numbers a version begins with: "27.3.0rc1" is (27, 3, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def curve() -> Iterator[Finding]:
    """Whether libzmq can encrypt at all."""
    from secure_ipp.wire.sockets import require_curve

    require_curve()
    yield Finding("curve", "ok", "libzmq has Curve")


def cipher_speed() -> Iterator[Finding]:
    """How fast the library that libzmq encrypts with is on this machine."""
    library = sodium()
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
    text = f"Curve's cipher, XSalsa20-Poly1305, runs at {speed / 1e6:,.0f} MB/s"
    if speed < SLOW_CIPHER:
        yield Finding("cipher", "warning", f"{text}, which is slow", "pip install --upgrade 'pyzmq>=27.3.0'")
    else:
        yield Finding("cipher", "ok", text)


def sodium() -> ctypes.CDLL | None:
    """The libsodium that came with pyzmq, or else the system's."""
    try:
        brought = importlib.metadata.files("pyzmq") or []
    except importlib.metadata.PackageNotFoundError:
        brought = []
    for file in brought:
        if "sodium" in file.name and file.name.startswith("lib"):
            return ctypes.CDLL(str(file.locate()))
    found = ctypes.util.find_library("sodium")
    return ctypes.CDLL(found) if found else None


def command_owner() -> Iterator[Finding]:
    """Whether ``ipcluster`` is ours: ipyparallel brings commands of the same names."""
    for name in ("ipcluster", "ipcontroller", "ipengine"):
        ours = f"secure-ipp {name.removeprefix('ip')}"
        found = shutil.which(name)
        if found is None:
            yield Finding("commands", "note", f"{name} is not on PATH", f"use {ours}")
        elif b"secure_ipp" in _beginning(found):
            yield Finding("commands", "ok", f"{name} is ours ({found})")
        else:
            text = f"{name} on PATH is another program's ({found})"
            yield Finding("commands", "warning", text, f"use {ours} instead")


def _beginning(path: str) -> bytes:
    """The first bytes of whatever has this name: of a pipe that nobody writes to, none."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
        return file.read(_BEGINNING_BYTES) or b""


def other_package() -> Iterator[Finding]:
    """Whether ipyparallel is installed beside us."""
    version = _version(OTHER_PACKAGE)
    if version is None:
        yield Finding("ipyparallel", "ok", f"{OTHER_PACKAGE} is not installed here")
        return
    yield Finding(
        "ipyparallel", "note",
        f"{OTHER_PACKAGE} {version} is installed here too: ipcluster, ipcontroller and ipengine are of whichever was"
        " installed last, and its clusters are not protected by our rules",
        f"import secure_ipp as ipp; use secure-ipp cluster, controller and engine; pip uninstall {OTHER_PACKAGE} if"
        " nothing needs it, and install secure-ipp again after that",
    )
