"""What ``secure-ipp doctor`` asks of this user's own cluster: its files, ports, doors, processes, clock and engines."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from secure_ipp import limits
from secure_ipp.cli.checks import Check, Finding
from secure_ipp.errors import SecureIppError
from secure_ipp.keys.places import ClusterPlace

MOST_ENTRIES = 5000  # looked at in a cluster's directory
MOST_SHOWN = 20  # of what is wrong with them
DOOR_SECONDS = 3.0  # for one try of a door
SILENT_SECONDS = 1.0  # an engine door may leave strangers without an answer (S12)
_CORE_LIMIT = re.compile(r"^Max core file size\s+(\S+)\s+(\S+)", re.MULTILINE)
_GONE = "start it anew: ipcluster stop, then ipcluster start"


def checks(place: ClusterPlace) -> list[Check]:
    return [
        ("files", lambda: key_files(place)), ("modes", lambda: modes(place)), ("clock", lambda: clock(place)),
        ("ports", lambda: door_ports(place)), ("gate", lambda: gate(place)),
        ("processes", lambda: processes(place)), ("separation", lambda: separation(place)),
    ]


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


def modes(place: ClusterPlace) -> Iterator[Finding]:
    """Modes and owners of everything in the cluster's directories, and of the directories above them."""
    from secure_ipp.keys.private_files import check_ancestors

    inside = Path(os.path.realpath(place.dir))
    tops = [place.dir, *(top for top in (place.runtime_path, place.durable_path) if inside not in top.parents)]
    tops = [top for top in tops if top.exists()]
    wrong: list[Finding] = []
    count = 0
    for top in tops:
        try:
            check_ancestors(top)
        except SecureIppError as error:
            wrong.append(Finding("modes", "error", error.message, error.advice))
        for path in _below(top):
            count += 1
            why = what_is_wrong(path)
            if why:
                wrong.append(Finding("modes", "error", f"{path} {why}", f"if nobody used that: chmod go= {path}"))
            if count >= MOST_ENTRIES:
                wrong.append(Finding("modes", "note", f"only the first {MOST_ENTRIES} files were looked at"))
                break
    yield from wrong[:MOST_SHOWN]
    if len(wrong) > MOST_SHOWN:
        yield Finding("modes", "error", f"and {len(wrong) - MOST_SHOWN} more")
    elif tops and not wrong:
        yield Finding("modes", "ok", f"{count} files and directories, and all above them, are this user's alone")


def _below(top: Path) -> Iterator[Path]:
    yield top
    for directory, folders, files in os.walk(top):
        for name in [*folders, *files]:
            yield Path(directory) / name


def what_is_wrong(path: Path) -> str:
    """Why a file or directory of a cluster is not private; empty: it is, or is gone."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return ""
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link; nothing here should be one"
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}, not to you"
    if found.st_mode & 0o077:
        return f"has mode {stat.S_IMODE(found.st_mode):04o}; others could use it"
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        return f"has {found.st_nlink} names (hard links)"
    return ""


def clock(place: ClusterPlace) -> Iterator[Finding]:
    """Whether this host's clock goes with what is on file, and with the time by which keys expire (S17)."""
    from secure_ipp.cluster import clock_change, state
    from secure_ipp.keys.registry import Registry

    if not place.config.exists():
        return
    now = time.time()
    newest = max((grant.made for grant in Registry.load(place).grants), default=0)
    if newest > now + limits.CLOCK_SKEW_SECONDS:
        yield Finding(
            "clock", "warning", f"a grant was made {_span(newest - now)} from now: the clock was set back since",
            "set the clock of this host right",
        )
    if state.read_state(place) is None and not (place.durable_path / "clock.mark").exists():
        return  # no controller has ever shown a time here
    told = clock_change.look(place)
    which = "" if place.name == "default" else f" --cluster {place.name}"
    if told["jump"]:
        yield Finding(
            "clock", "error", f"this host's clock has jumped ahead by {_span(told['jump'])} and is not followed",
            f"see whether it is right; if so: secure-ipp clock --accept{which}",
        )
    elif told["behind"]:
        yield Finding(
            "clock", "warning", f"this host's clock is {_span(told['behind'])} behind what it has shown before",
            "set it right; no expired key is good again by that",
        )
    else:
        yield Finding("clock", "ok", "keys expire by this host's clock")


def _span(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds:.0f} s"


def door_ports(place: ClusterPlace) -> Iterator[Finding]:
    """Whether the doors can be opened, or are."""
    from secure_ipp.cluster import state
    from secure_ipp.cluster.ports import check_free
    from secure_ipp.keys.config import load_config

    if not place.config.exists():
        return
    controller, config = state.read_state(place), load_config(place)
    if controller is not None:
        ports = f"{controller.client_port} and {controller.engine_port}" if controller.client_port else "no ports"
        by_ssh = f"{', and' if controller.client_port else ', but'} for ssh two Unix sockets"
        text = f"the cluster runs; its doors are {ports}{by_ssh if controller.client_socket else ''}"
        yield Finding("ports", "ok", text)
        return
    if not config.curve:
        yield Finding("ports", "ok", "this cluster has no port: the only way in is ssh, as the account that owns it")
        return
    for door, port in (("client", config.client_port), ("engine", config.engine_port)):
        try:
            check_free(port, door, config.bind)
        except SecureIppError as error:
            yield Finding("ports", "error", error.message, error.advice)
        else:
            yield Finding("ports", "ok", f"port {port} for the {door} door is free")


def gate(place: ClusterPlace) -> Iterator[Finding]:
    """Whether the doors of a running cluster let in whom they should and nobody else: they are tried (S2)."""
    from secure_ipp.cluster import state

    controller = state.read_state(place) if place.config.exists() else None
    if controller is None:
        return
    address = "127.0.0.1" if controller.bind == "*" else controller.bind
    for door, port, path, file in (
        ("client", controller.client_port, controller.client_socket, place.client_file),
        ("engine", controller.engine_port, controller.engine_socket, place.engine_file),
    ):
        if port:
            yield from _one_door(place, door, f"tcp://{address}:{port}", file)
        if path:
            yield from _one_door(place, door, f"ipc://{path}", file)


def _one_door(place: ClusterPlace, door: str, endpoint: str, file: Path) -> Iterator[Finding]:
    from secure_ipp.access.prover import prover_for
    from secure_ipp.keys.capability import Capability, read_capability
    from secure_ipp.keys.cluster_keys import load_server
    from secure_ipp.keys.curve import KeyPair
    from secure_ipp.wire.intruder import try_door

    server = load_server(place)
    key, by_proof = server.keys.public, endpoint.startswith("ipc:")
    ways: dict[str, Any] = {"proves": prover_for(server.config.cluster_id, door)} if by_proof else {}
    called = f"{door} ssh" if by_proof else door
    known = read_capability(file, now=0.0)
    if isinstance(known, Capability):
        verdict = try_door(endpoint, key, known.keys, DOOR_SECONDS, **ways)
        if verdict == "admitted":
            yield Finding("gate", "ok", f"the {called} door admits the key of {file.name}")
        else:
            text = f"the {called} door at {endpoint} does not admit the key of {file.name}: it is {verdict}"
            yield Finding("gate", "error", text, f"see {place.log_dir / 'scheduler.log'}; {_GONE}")
        if by_proof and try_door(endpoint, key, known.keys, DOOR_SECONDS, **ways, spoilt=True) == "admitted":
            yield stranger_finding("gate", called, endpoint, "admitted")
            return
    patience = SILENT_SECONDS if door == "engine" else DOOR_SECONDS
    verdict = try_door(endpoint, key, KeyPair.generate(), patience, **ways)
    yield stranger_finding("gate", called, endpoint, verdict)


def stranger_finding(check: str, door: str, endpoint: str, verdict: str) -> Finding:
    """What a door's treatment of an unknown key means."""
    if verdict == "admitted":
        return Finding(
            check, "error", f"the {door} door at {endpoint} LETS STRANGERS IN",
            "stop that controller now (ipcluster stop), and report this",
        )
    if verdict == "refused" or door.startswith("engine"):
        return Finding(check, "ok", f"the {door} door refuses an unknown key")
    return Finding(
        check, "warning", f"the {door} door at {endpoint} did not answer an unknown key: it is {verdict}",
        "try again when it is less busy",
    )


def processes(place: ClusterPlace) -> Iterator[Finding]:
    """Whether a running controller's processes and agents leave no core file and cannot be looked into (S11)."""
    from secure_ipp.cluster import state

    controller = state.read_state(place) if place.config.exists() else None
    if controller is None:
        return
    named = {"supervisor": controller.pid, "hub": controller.hub, "scheduler": controller.scheduler}
    named |= {f"agent {agent.pid}": agent.pid for agent in state.read_agents(place)}
    for what, pid in named.items():
        try:
            shown = Path(f"/proc/{pid}/limits").read_text()
            owner = Path(f"/proc/{pid}/maps").stat().st_uid
        except OSError:
            continue  # it has just ended; or this is no Linux
        bound = _CORE_LIMIT.search(shown)
        if bound is None or bound.groups() != ("0", "0"):
            yield Finding("processes", "error", f"the {what} (process {pid}) may leave a core file", _GONE)
        elif os.geteuid() != 0 and owner == os.geteuid():  # of a process that is not dumpable they belong to root
            yield Finding("processes", "error", f"the {what} (process {pid}) can be looked into by this user", _GONE)
        else:
            yield Finding("processes", "ok", f"the {what} (process {pid}) leaves no core file")


def separation(place: ClusterPlace) -> Iterator[Finding]:
    """S26: code on an engine is that engine's user, and may be the owner of the keys."""
    from secure_ipp.cluster import control, state

    advice = (
        "for code that you do not trust, run engines as another user or on another host, or hide the cluster's"
        " directory from them in a mount namespace"
    )
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
