"""Rotating the server's key pair (S33): announce the next public key, switch to it, erase the old secret.

The signed registry alone says which key counts; `server.key` and `server.next.key` hold secrets, and which of them is
the current one is looked up by its public half.  So each step is one change of the registry, and a command that is
killed between any two writes leaves a phase that `look` names and that the next command goes on from:

    steady --announce--> announced --switch--> switched --finish--> steady        prepared: a next secret, not announced
                          └─abort─> withdrawn --> steady                          withdrawn: one that never may be

Laws: a secret is on the disk before its public half is stated; the old secret is erased only when no running controller
goes by it; a key that was given up or withdrawn is retired for ever.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from secure_ipp import limits
from secure_ipp.errors import UsageError
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.keys.desk import Applied, Desk
from secure_ipp.keys.door_keys import DoorKeys, sign_door_keys
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.key_files import KeyFileError, read_server_key, write_server_key
from secure_ipp.keys.locks import Lock
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import MissingFile, Path, remove_private
from secure_ipp.keys.registry import Registry
from secure_ipp.keys.rewriting import rewrite_files

Phase = Literal["steady", "prepared", "announced", "switched", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Rotation:
    """Where a cluster stands.

    Attributes:
        phase: see above.
        current: the public key that counts.
        next: announced, or prepared; None: there is none.
        doors: the issuer's newest statement; None: the key never changed.
        version: of the registry.
    """

    phase: Phase
    current: CurvePublicKey
    next: CurvePublicKey | None
    doors: DoorKeys | None
    version: int


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was taken.

    Attributes:
        rotation: where the cluster stands now.
        applied: whether it is in force.
        rewritten: capability files that name the keys of now.
        left: capability files that were left as they are, and why.
    """

    rotation: Rotation
    applied: Applied
    rewritten: tuple[str, ...] = ()
    left: tuple[tuple[str, str], ...] = ()


def look(place: ClusterPlace) -> Rotation:
    """Where a cluster stands, from what is on its disk.

    Raises:
        NoKeys, RegistryError, PrivateFileError: it cannot be read.
        KeyFileError: a secret is missing.
    """
    registry = Registry.load(place)
    doors = registry.doors
    held = read_server_key(place.server_key).public
    waiting = _public_of(place.next_server_key)

    def at(phase: Phase, next_key: CurvePublicKey | None) -> Rotation:
        return Rotation(phase, held if doors is None else doors.current, next_key, doors, registry.version)

    if doors is None:
        return at("prepared" if waiting else "steady", waiting)
    if doors.next is not None:
        return at("announced", doors.next)
    if doors.current == held:
        if waiting is None or waiting == held:
            return at("steady" if waiting is None else "switched", None)
        return at("withdrawn" if waiting in doors.former else "prepared", waiting)
    if doors.current == waiting:
        return at("switched", None)
    raise KeyFileError(
        f"the secret half of the server's key {doors.current.fingerprint} is not in {place.dir}",
        f"restore {place.server_key.name} and {place.next_server_key.name} from their newest copy",
    )


def announce(desk: Desk, files: Iterable[Path] = (), *, now: float) -> Step:
    """State the next key, so that peers and files know it before the doors have it; saying it again does no harm.

    Args:
        desk: the owner's.
        files: capability files of this cluster that are to name it, besides the owner's own two.
        now: seconds since the epoch.

    Raises:
        UsageError: one of the files is not of this cluster, or was handed on by a holder.
        SecureIppError: it cannot be written, or is not in force (code "not-in-force").
    """
    with alone(desk.place):
        return _announce(desk, tuple(files), now)


def _announce(desk: Desk, named: tuple[Path, ...], now: float) -> Step:
    place = desk.place
    _check_files(desk, named)
    issuer = desk.issuer()
    found = look(place)
    if found.phase == "switched":
        raise UsageError("the last switch was not finished", "go on with it: secure-ipp keys rotate --switch")
    if found.phase == "announced":
        _secret_of(place, found.next)
        applied = desk.apply(place, issuer, Registry.again)
        return _with_files(desk, issuer, applied, named)
    if found.phase == "withdrawn" or found.next == found.current:  # the latter is a copy that somebody made
        remove_private(place.next_server_key)
    next_key = _prepared(place)

    def change(registry: Registry) -> Registry:
        _check_unchanged(registry, found.doors)
        before = registry.doors
        return registry.with_door_keys(sign_door_keys(
            issuer, registry.cluster_id, number=_number_after(before), keys=(found.current, next_key),
            former=() if before is None else before.former, announced=int(now),
            switched=0 if before is None else before.switched,
        ))

    return _with_files(desk, issuer, desk.apply(place, issuer, change), named)


def switch(desk: Desk, files: Iterable[Path] = (), *, now: float) -> Step:
    """Make the announced key the current one, then erase the old secret; an interrupted switch is gone on with.

    Raises:
        UsageError: no key is announced, or a file is not of this cluster.
        SecureIppError: it is not in force (code "not-in-force"): the old secret stays until it is.
    """
    with alone(desk.place):
        return _switch(desk, tuple(files), now)


def _switch(desk: Desk, named: tuple[Path, ...], now: float) -> Step:
    place = desk.place
    _check_files(desk, named)
    issuer, found = desk.issuer(), look(place)
    if found.phase == "switched":
        applied = desk.apply(place, issuer, Registry.again)
    elif found.phase == "announced" and found.doors is not None and found.next is not None:
        _secret_of(place, found.next)
        doors, next_key = found.doors, found.next

        def change(registry: Registry) -> Registry:
            _check_unchanged(registry, doors)
            return registry.with_door_keys(sign_door_keys(
                issuer, registry.cluster_id, number=doors.number + 1, keys=(next_key,),
                former=(*doors.former, doors.current), switched=int(now),
            ))

        applied = desk.apply(place, issuer, change)
    else:
        raise UsageError(
            "no next key is announced", "announce it first: secure-ipp keys rotate (or both at once, with --now)"
        )
    _finish(place)
    return _with_files(desk, issuer, applied, named)


def _finish(place: ClusterPlace) -> None:
    """Erase the old secret after a switch that is in force: the next key's takes its place."""
    pair = _secret_of(place, look(place).current)
    if read_server_key(place.server_key).public != pair.public:
        write_server_key(place.server_key, pair, exclusive=False)
    remove_private(place.next_server_key)


def abort(desk: Desk, files: Iterable[Path] = (), *, now: float) -> Step | None:
    """Withdraw what was prepared or announced; it is never announced again.  None: nothing but a file was removed.

    Raises:
        UsageError: there is nothing to withdraw, or the switch has been made.
        SecureIppError: it is not in force (code "not-in-force").
    """
    with alone(desk.place):
        return _abort(desk, tuple(files), now)


def _abort(desk: Desk, named: tuple[Path, ...], now: float) -> Step | None:
    place = desk.place
    _check_files(desk, named)
    found = look(place)
    if found.phase in ("prepared", "withdrawn"):
        remove_private(place.next_server_key)
        return None
    if found.phase != "announced" or found.doors is None or found.next is None:
        raise UsageError(
            "there is no announced key to withdraw",
            "a switch cannot be undone; rotate again: secure-ipp keys rotate" if found.phase == "switched" else "",
        )
    issuer, doors, next_key = desk.issuer(), found.doors, found.next

    def change(registry: Registry) -> Registry:
        _check_unchanged(registry, doors)
        return registry.with_door_keys(sign_door_keys(
            issuer, registry.cluster_id, number=doors.number + 1, keys=(doors.current,),
            former=(*doors.former, next_key), switched=doors.switched,
        ))

    applied = desk.apply(place, issuer, change)
    remove_private(place.next_server_key)
    return _with_files(desk, issuer, applied, named)


@contextlib.contextmanager
def alone(place: ClusterPlace) -> Iterator[None]:
    """One command that signs files anew at a time; what a killed one left of what it was writing is removed."""
    with Lock(place.runtime_path / "rotation.lock", wait=limits.REGISTRY_LOCK_SECONDS):
        for path in (place.server_key, place.next_server_key, place.config):
            for left in path.parent.glob(f".{path.name}.*.new"):
                remove_private(left)
        yield


# --- secrets -----------------------------------------------------------------------------------------------------


def _public_of(path: Path) -> CurvePublicKey | None:
    try:
        return read_server_key(path).public
    except MissingFile:
        return None


def _prepared(place: ClusterPlace) -> CurvePublicKey:
    """The next key, whose secret is on the disk: the one that waits there, or a new one."""
    waiting = _public_of(place.next_server_key)
    if waiting is not None:
        return waiting
    pair = KeyPair.generate()
    write_server_key(place.next_server_key, pair, exclusive=False)  # in one step; nobody else writes it now
    return pair.public


def _secret_of(place: ClusterPlace, public: CurvePublicKey | None) -> KeyPair:
    """Raises `KeyFileError` unless the next key's file, or the current one's, holds it."""
    for path in (place.next_server_key, place.server_key):
        try:
            pair = read_server_key(path)
        except MissingFile:
            continue
        if pair.public == public:
            return pair
    raise KeyFileError(
        f"{place.next_server_key} does not hold the announced key",
        "restore it from its copy, or withdraw the key: secure-ipp keys rotate --abort",
    )


def _number_after(doors: DoorKeys | None) -> int:
    return 1 if doors is None else doors.number + 1


def _check_unchanged(registry: Registry, doors: DoorKeys | None) -> None:
    if registry.doors != doors:
        raise UsageError(
            "another command rotates the server's key just now", "look at it: secure-ipp keys rotate --status"
        )


# --- files -------------------------------------------------------------------------------------------------------


def _check_files(desk: Desk, files: Iterable[Path]) -> None:
    """Before anything is changed; nothing is unlocked."""
    from secure_ipp.keys.capability import read_capability

    config = desk.config()
    for file in files:
        found = read_capability(file, now=0.0)
        ours = (found.cluster_id, found.issuer_key) == (config.cluster_id, config.issuer_key)
        if not ours or found.parents:
            raise UsageError(
                f"{file} is not a file that this cluster's owner issued",
                "name files of this cluster; a file that a holder handed on is made anew by that holder",
            )


def _with_files(desk: Desk, issuer: IssuerKey, applied: Applied, named: tuple[Path, ...]) -> Step:
    """Have the files name the keys of now; the owner's own are left, and told, where they cannot be opened."""
    place = desk.place
    rotation = look(place)
    keys = (rotation.current,) if rotation.doors is None else rotation.doors.keys
    done = rewrite_files(
        desk, issuer, (place.client_file, place.engine_file), lambda found: {"server_keys": keys}, must=named
    )
    return Step(rotation, applied, done.files, done.left)


def facts(rotation: Rotation) -> dict[str, object]:
    """What may be shown, as plain values."""
    doors = rotation.doors
    return {
        "phase": rotation.phase,
        "current": rotation.current.fingerprint,
        "next": "" if rotation.next is None else rotation.next.fingerprint,
        "announced": 0 if doors is None else doors.announced,
        "switched": 0 if doors is None else doors.switched,
        "number": 0 if doors is None else doors.number,
        "version": rotation.version,
        "former": [] if doors is None else [key.fingerprint for key in doors.former],
    }


def moment(seconds: int) -> str:
    """A time as people read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
