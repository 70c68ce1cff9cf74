"""What ``secure-ipp doctor`` asks of the machine: descriptors, core files, ptrace, the clock, the keyring."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

from secure_ipp import limits
from secure_ipp.cli.checks import Check, Finding

FEW_DESCRIPTORS = 4096  # a scheduler holds one for each peer
BACKLOG_BOUND = Path("/proc/sys/net/core/somaxconn")  # Linux
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")  # Linux; core(5)
PTRACE_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")  # Linux with Yama
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_SOME_DESCRIPTORS = 64  # that a process has anyway


def checks() -> list[Check]:
    return [
        ("system", descriptors), ("system", backlog), ("cores", core_files), ("ptrace", ptrace_scope),
        ("clock", synchronised), ("keyring", keyring_backend),
    ]


def descriptors() -> Iterator[Finding]:
    """For how many peers a controller has descriptors."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < FEW_DESCRIPTORS:
        text = (
            f"a process may have {hard} open files; a controller needs one for each engine and client, so that there"
            f" is room for about {max(0, hard - _SOME_DESCRIPTORS)} of them"
        )
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


def core_files() -> Iterator[Finding]:
    """Whether a program that dies could leave its memory, keys included, in a file."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    pattern = CORE_PATTERN.read_text().strip() if CORE_PATTERN.exists() else ""
    ours = "controllers and agents forbid it for themselves; clients and engines do not"
    if pattern.startswith("|"):
        handler = (pattern[1:].split() or ["a program"])[0]
        yield Finding(
            "cores", "note", f"the memory of a program that dies goes to {handler}, whatever its limit; {ours}",
            "see who may read what it keeps; sysctl kernel.core_pattern=core and ulimit -c 0 turn it off",
        )
    elif soft != 0:
        yield Finding(
            "cores", "note", f"a program that dies may leave its memory in a core file; {ours}",
            "ulimit -c 0 in the shell that starts clients",
        )
    else:
        yield Finding("cores", "ok", "programs started here leave no core files")


def ptrace_scope() -> Iterator[Finding]:
    """Whether processes of one user may read each other's memory."""
    if sys.platform != "linux":
        return
    ours = "controllers and agents are not dumpable and so out of reach; clients and engines are within"
    advice = "sysctl kernel.yama.ptrace_scope=1 lets only a parent look into its children"
    if not PTRACE_SCOPE.exists():
        text = f"this kernel has no Yama: any process of a user may look into the user's others; {ours}"
        yield Finding("ptrace", "note", text, "do not run programs that you do not trust as the user who holds keys")
    elif PTRACE_SCOPE.read_text().strip() == "0":
        yield Finding("ptrace", "note", f"any process of a user may look into the user's others; {ours}", advice)
    else:
        yield Finding("ptrace", "ok", "processes of one user cannot look into each other")


def synchronised() -> Iterator[Finding]:
    """Whether the kernel knows that its clock is right: grants expire by it."""
    if sys.platform != "linux":
        return
    state = clock_state()
    if state == _TIME_ERROR:
        yield Finding(
            "clock", "note", "the kernel does not know its clock to be right; grants expire by the controller's clock",
            "run a time service (chrony, systemd-timesyncd, ntpd)",
        )
    elif state >= 0:
        yield Finding("clock", "ok", "the clock is synchronised")


def clock_state() -> int:
    """What adjtimex(2) returns when asked for nothing; -1 if it cannot be asked."""
    room = ctypes.create_string_buffer(512)  # struct timex, zeroed: modes 0 changes nothing
    try:
        return int(ctypes.CDLL(None).adjtimex(room))
    except (AttributeError, OSError):
        return -1


def keyring_backend() -> Iterator[Finding]:
    """Whether there is a keyring that protects what it keeps."""
    from secure_ipp.keys.keyring_store import Keyring, NoKeyring, RefusedKeyring

    try:
        found = Keyring()
    except NoKeyring as error:
        yield Finding("keyring", "ok", f"no keyring is used: {error.message}")
    except RefusedKeyring as error:
        yield Finding("keyring", "note", error.message, error.advice)
    else:
        yield Finding("keyring", "ok", f"the keyring is {found.name}")
