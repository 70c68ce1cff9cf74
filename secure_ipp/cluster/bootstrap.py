"""What a starting process is told, and how: one line of JSON on its stdin, never argv or environment (S11).

This module knows the wording of bootstraps and of the event lines that come back; it starts nothing.
Laws: a bootstrap is decoded strictly (unknown fields refused); event lines that are no JSON object are an error of the
process that wrote them.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path
from typing import Any

import msgspec

from secure_ipp import limits
from secure_ipp.errors import (
    CapabilityError,
    ControllerUnreachable,
    EnvironmentProblem,
    PrivateFileError,
    ProtocolError,
    Refused,
    SecureIppError,
    UsageError,
)

LINE_BYTES = 1 * limits.MIB
_BY_CODE: dict[str, type[SecureIppError]] = {
    **{
        kind.code: kind
        for kind in (CapabilityError, ControllerUnreachable, PrivateFileError, ProtocolError, Refused, UsageError)
    },
    **dict.fromkeys(("key-refused", "version", "role", "revoked", "expired"), Refused),  # last words of a door
}


class SupervisorBootstrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For ``python -m secure_ipp.cluster.supervisor``.

    Attributes:
        cluster: the cluster's name under the home directory (`SECURE_IPP_HOME`).
        client_port: bind this port instead of the cluster's own; 0 keeps that.
        engine_port: the same for engines.
        bind: address to bind instead of the cluster's own; empty keeps that.
        ssh_door: open the doors that are Unix sockets even if the cluster's files do not say so (S25).
        curve: false: whoever started this said that the cluster has no Curve.
        scheme: how balanced tasks are placed.
        log_level: of the controller's log files.
        journal_keep: what the journal's retention leaves.
        journal_sync: when its records must last.
        ready_fd: inherited descriptor for event lines; -1 for none.
        tether: stop when stdin ends, that is, when whoever started the cluster is gone.
        throwaway: remove the home directory at the end; it was made for this cluster alone.
    """

    cluster: str
    client_port: int = 0
    engine_port: int = 0
    bind: str = ""
    ssh_door: bool = False
    curve: bool = True
    scheme: str = "leastload"
    log_level: str = "INFO"
    journal_keep: str = "all"
    journal_sync: str = "batch"
    ready_fd: int = -1
    tether: bool = False
    throwaway: bool = False


def read_bootstrap(descriptor: int, kind: type[SupervisorBootstrap]) -> SupervisorBootstrap:
    """The first line of a pipe, decoded.

    Raises:
        EnvironmentProblem: no whole line came, or it is not what this process needs.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(descriptor, 1)  # not one byte of what follows the line is taken
        if not piece or len(line) >= LINE_BYTES:
            raise EnvironmentProblem("this process was not told what to do", "it is started by ipcluster, not by hand")
        line += piece
    try:
        return msgspec.json.decode(bytes(line), type=kind)
    except msgspec.DecodeError as error:
        raise EnvironmentProblem(f"the bootstrap is not valid: {error}", "use one version of secure_ipp") from error


def event_line(event: str, **details: Any) -> bytes:
    """One event for whoever started this process."""
    return msgspec.json.encode({"event": event, **details}) + b"\n"


def parse_event(line: bytes, source: str) -> dict[str, Any]:
    """The event of a line that a child wrote.

    Raises:
        EnvironmentProblem: it is no event.
    """
    try:
        event = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        text = line[:200].decode("utf-8", "replace")
        raise EnvironmentProblem(f"{source} said something that is no event: {text!r}", "see its log file") from error
    if not isinstance(event.get("event"), str):
        raise EnvironmentProblem(f"{source} sent an event without a name", "see its log file")
    return event


def failure_of(event: dict[str, Any], source: str) -> SecureIppError:
    """The error that a `failed` event tells of, of the branch that its code stands for."""
    message = str(event.get("message") or f"{source} failed")
    code = str(event.get("code") or EnvironmentProblem.code)
    return _BY_CODE.get(code, EnvironmentProblem)(message, str(event.get("advice", "")), code=code)


def failed_line(error: SecureIppError) -> bytes:
    return event_line("failed", code=error.code, message=error.message, advice=error.advice)


def module_command(module: str) -> list[str]:
    """argv that runs a module of this package; ``-P`` keeps the working directory off the module path."""
    return [sys.executable, "-P", "-m", module]


def child_environment(home: Path | None) -> dict[str, str]:
    """Environment for our processes: ours, the home directory (if any) spelled out, and this very package found.

    Without the numbers of descriptors that give passphrases: a child has no such descriptor, or another file there,
    which code on an engine that opens a sealed file would read as a passphrase, and close.
    """
    from secure_ipp.keys.unlocking import DESCRIPTOR_VARIABLE, NEW_DESCRIPTOR_VARIABLE

    numbers = (DESCRIPTOR_VARIABLE, NEW_DESCRIPTOR_VARIABLE)
    environment = {name: value for name, value in os.environ.items() if name not in numbers}
    if home is not None:
        environment["SECURE_IPP_HOME"] = str(home)
    parent = str(Path(__file__).resolve().parent.parent.parent)
    if parent not in {str(Path(p).resolve()) for p in [*site.getsitepackages(), site.getusersitepackages()]}:
        known = environment.get("PYTHONPATH", "")
        if parent not in known.split(os.pathsep):
            environment["PYTHONPATH"] = parent + (os.pathsep + known if known else "")
    return environment
