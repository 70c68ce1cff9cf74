"""What ``secure-ipp doctor FILE`` asks of a capability: what its holder could do, and whether it still can.

The doors are really tried, with the file's key and with a stranger's; a client's file is also used to ask the
controller who it takes the holder for.  Nothing is changed by that, and nobody is asked for a passphrase: a sealed file
is opened only if a descriptor with its passphrase was given.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from secure_ipp.cli.checks import Check, Finding
from secure_ipp.cli.doctor_cluster import DOOR_SECONDS, SILENT_SECONDS, stranger_finding
from secure_ipp.cli.doctor_route import route_finding
from secure_ipp.keys.capability import Capability, LockedCapability, PublicPart, load_capability, read_capability
from secure_ipp.keys.fields import socket_path
from secure_ipp.keys.strict_json import shown

if TYPE_CHECKING:
    from secure_ipp.keys.curve import KeyPair
    from secure_ipp.wire.intruder import Verdict

SESSION_SECONDS = 8.0
DOORS_SECONDS = 20.0  # after which no further door is tried: whoever makes a file may name many that never answer
MOST_ADDRESSES = 4  # of one name that are tried
_MOST_RIGHTS = 16  # shown of those that the controller knows
_DAY, _HOUR = 86400, 3600
_MEANINGS = {
    "task": "run load-balanced tasks", "direct": "address engines, push, pull and execute",
    "observe": "see others' tasks and output",
    "control": "signal, restart and shut down engines, purge others' results",
    "admin": "issue and revoke keys", "join": "let a host's engines join",
}
_REFUSED = (
    "its grant was revoked or has expired, or its key was replaced: ask the cluster's owner for a new file (or: the"
    " cluster was made anew)"
)


class Examination:
    """One file, examined step by step; a step is left out if one before it showed that it is vain.

    Args:
        path: the capability file.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.expanduser(path)
        self._found: Capability | LockedCapability | None = None
        self._reachable: list[str] = []
        self._undecided = False  # something listens, and nobody can tell what
        self._admitted = False

    def checks(self) -> list[Check]:
        return [
            ("file", self.file), ("rights", self.rights), ("door", self.doors), ("ssh", self.routes),
            ("session", self.session),
        ]

    def file(self) -> Iterator[Finding]:
        """Whether it is private, whole, signed and unlocked."""
        from secure_ipp.keys.owned import made_here

        found: Capability | LockedCapability = read_capability(self._path, now=0.0)
        self._found = found
        where = "whose keys were made here" if made_here(found) else "of somebody else's keys"
        text = (
            f"the {found.role} file of {found.name!r} in cluster {found.cluster!r}, {where}; key"
            f" {found.public_key.fingerprint}; it and all directories above it are private"
        )
        yield Finding("file", "ok", text)
        if isinstance(found, LockedCapability):
            yield from self._unlock(found)
        else:
            yield Finding(
                "file", "ok", "its secret lies in it in clear: whoever copies it is that identity"
                " (secure-ipp keys seal locks it)",
            )

    def _unlock(self, found: LockedCapability) -> Iterator[Finding]:
        from secure_ipp.keys.unlocking import DESCRIPTOR_VARIABLE, Unlocker

        if os.environ.get(DESCRIPTOR_VARIABLE):
            self._found = load_capability(self._path, now=0.0, unlock=Unlocker())
            yield Finding("file", "ok", "it is sealed, and was opened")
        else:
            yield Finding(
                "file", "note", "it is sealed, and stays so: whether its key is admitted is not tried",
                f"give its passphrase by a descriptor: {DESCRIPTOR_VARIABLE}=3 secure-ipp doctor FILE 3<PASSPHRASE",
            )

    def rights(self) -> Iterator[Finding]:
        """What it says that its holder may do, and until when."""
        found = self._found
        if found is None:
            return
        told = "; ".join(f"{right}: {_MEANINGS.get(right, 'unknown')}" for right in found.rights)
        yield Finding("rights", "ok", f"its holder may {told}" if told else "its holder may do nothing but connect")
        yield expiry_finding(found, time.time())

    def doors(self) -> Iterator[Finding]:
        """Whether its doors are there, are its cluster's, and admit its key now."""
        found = self._found
        if found is None:
            return
        end = time.monotonic() + DOORS_SECONDS
        for number, endpoint in enumerate(found.door):
            if time.monotonic() > end:
                text = f"{len(found.door) - number} of its doors were not tried: others kept us waiting for too long"
                yield Finding("door", "warning", text, "try again when the network is faster")
                break
            yield self._door(found, endpoint)
        for endpoint in self._reachable[:1]:
            yield self._stranger(found, endpoint)
        if found.tcp_doors and not self._reachable and not self._undecided:
            by_ssh = found.ssh and isinstance(found, Capability)  # which is tried, too
            yield Finding(
                "door", "note" if by_ssh else "error", "none of its doors answers from here",
                "see whether the controller runs and a firewall or tunnel stands between",
            )

    def _door(self, found: Capability | LockedCapability, endpoint: str) -> Finding:
        from secure_ipp.keys.curve import KeyPair

        if endpoint in found.socket_doors:
            return self._socket_door(found, endpoint)
        why = unreachable(endpoint)
        if why:
            return Finding("door", "note", f"{endpoint} cannot be reached from here: {why}")
        keys = found.keys if isinstance(found, Capability) else KeyPair.generate()
        begun = time.perf_counter()
        verdict = _try(found, endpoint, keys, DOOR_SECONDS)
        took = f"{(time.perf_counter() - begun) * 1000:.0f} ms"
        if isinstance(found, LockedCapability):
            if verdict == "silent" and found.role == "engine":
                self._undecided = True
                text = f"{endpoint} does not answer an unknown key, and this file's own is sealed"
                return Finding("door", "note", text)
            if verdict in ("silent", "closed"):
                return _not_ours(endpoint)
            self._reachable.append(endpoint)
            return Finding("door", "ok", f"{endpoint} answers ({took})")
        if verdict == "admitted":
            self._reachable.append(endpoint)
            self._admitted = True
            return Finding("door", "ok", f"{endpoint} has the cluster's server key and admits this file's ({took})")
        if verdict == "refused":
            self._reachable.append(endpoint)
            return Finding("door", "error", f"{endpoint} refuses this file's key", _REFUSED)
        if verdict == "closed":
            return Finding(
                "door", "error", f"{endpoint} turned this file's key away",
                "if the cluster has just been started, try again; else another program has that port, or the cluster"
                " was made anew: compare the server's fingerprint with its owner",
            )
        return _not_ours(endpoint)

    def _socket_door(self, found: Capability | LockedCapability, endpoint: str) -> Finding:
        """A door that takes proofs (S25); who uses it comes by ssh, so what is seen from here is only its near side."""
        why = out_of_reach(found, endpoint)
        if why:
            return Finding("door", "note", f"{endpoint} {why}")
        if isinstance(found, LockedCapability):
            return Finding("door", "ok", f"{endpoint} is on this host, and something listens there")
        verdict = _try(found, endpoint, found.keys, DOOR_SECONDS)
        if verdict == "admitted":
            return Finding("door", "ok", f"{endpoint} is on this host, and admits by a proof of this file's key")
        if verdict == "refused":
            return Finding("door", "error", f"{endpoint} refuses a proof of this file's key", _REFUSED)
        return Finding(
            "door", "error", f"{endpoint} is on this host and does not answer a proof of this file's key ({verdict})",
            "see the scheduler's log file; if the cluster has just been started, try again",
        )

    def routes(self) -> Iterator[Finding]:
        """What it says of ssh."""
        found = self._found
        if found is not None:
            yield from route_findings(found)
            if found.ssh and isinstance(found, Capability):
                yield route_finding(found)

    def _stranger(self, found: PublicPart, endpoint: str) -> Finding:
        from secure_ipp.keys.curve import KeyPair

        seconds = SILENT_SECONDS if found.role == "engine" else DOOR_SECONDS
        verdict = _try(found, endpoint, KeyPair.generate(), seconds)
        return stranger_finding("door", found.role, endpoint, verdict, answers=True)

    def session(self) -> Iterator[Finding]:
        """Who the controller takes the holder for."""
        from secure_ipp.client.session import Session
        from secure_ipp.wire import messages

        found = self._found
        if not self._admitted or not isinstance(found, Capability) or found.role != "client":
            return
        session = Session(found, "data")
        try:
            session.start(SESSION_SECONDS)
            known: dict[str, Any] = session.question(messages.Whois(), SESSION_SECONDS)
        finally:
            session.close(1.0)
        yield from identity_findings(found, known)


def identity_findings(found: PublicPart, known: dict[str, Any]) -> Iterator[Finding]:
    """Compare what a file says with what the controller says of its holder (unverified)."""
    rights = tuple(shown(str(right), 40) for right in known.get("rights", ())[:_MOST_RIGHTS])
    lost = [right for right in found.rights if right not in rights]
    more = [right for right in rights if right not in found.rights]
    if lost or more:
        changed = "; ".join(
            f"{word} {', '.join(which)}" for word, which in (("without", lost), ("besides", more)) if which
        )
        yield Finding(
            "session", "warning" if lost else "note", f"the controller knows its holder with other rights: {changed}",
            "the controller's word counts; ask the cluster's owner if more is needed",
        )
    else:
        name = shown(str(known.get("name")), 80)
        yield Finding("session", "ok", f"the controller knows its holder as {name}, with these rights")
    if int(known.get("expires", 0)) != found.expires:
        from secure_ipp.keys.expiry import in_words

        ends = in_words(int(known.get("expires", 0)), time.time())
        yield Finding("session", "note", f"the controller lets it in until another time than the file says: {ends}")


def expiry_finding(found: PublicPart, now: float) -> Finding:
    """Until when a file is good."""
    from secure_ipp.keys.expiry import in_words

    text = in_words(found.expires, now)
    if not found.expires:
        return Finding("rights", "ok", "it does not expire")
    renew = "ask the cluster's owner for a new one (secure-ipp keys renew)"
    if now >= found.expires:
        return Finding("rights", "error", f"it is not good any more: {text}", f"{renew}; or set this host's clock")
    left = found.expires - now
    level = "warning" if left <= _HOUR else "note" if left <= _DAY else "ok"
    return Finding("rights", level, f"it is good until {text}", renew if left <= _DAY else "")  # type: ignore[arg-type]


def out_of_reach(found: PublicPart, endpoint: str) -> str:
    """Why nothing listens at a Unix socket, as seen from here; empty: something does."""
    path = socket_path(endpoint)
    if not os.path.lexists(path):
        by = f"by ssh, through {found.ssh}" if found.ssh else "by ssh; the file names no route"
        return f"is not on this host; it is reached {by}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(DOOR_SECONDS)
            probe.connect(path)
    except OSError as error:
        return f"cannot be reached from here: {error.strerror or error}"
    return ""


def route_findings(found: PublicPart) -> Iterator[Finding]:
    """What a file says of the way through ssh."""
    if found.ssh:
        keys = len(found.ssh_host_keys)
        known = f"whose key it knows by {keys} fingerprints" if keys > 1 else (
            "whose key it knows by its fingerprint" if keys else "whose key your own known_hosts must know"
        )
        yield Finding("ssh", "ok", f"the cluster's host is reached by ssh through {found.ssh}, {known}")
    elif not found.tcp_doors:
        yield Finding(
            "ssh", "warning", "its only door is reached by ssh, and it names no route",
            "say it where the file is used, or ask the cluster's owner for a file that names it",
        )
    if found.post_quantum:
        yield Finding("ssh", "ok", "it asks for a key exchange that is post-quantum, and ssh is refused without one")


def unreachable(endpoint: str) -> str:
    """Why nothing listens at `tcp://host:port`, as seen from here; empty: something does."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    why = ""
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        return _in_words(error)
    end = time.monotonic() + DOOR_SECONDS
    for family, kind, protocol, _, address in found[:MOST_ADDRESSES]:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.settimeout(max(0.1, end - time.monotonic()))
                probe.connect(address)
            return ""
        except OSError as error:
            why = _in_words(error)
    return why


def _in_words(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__


def _try(found: PublicPart, endpoint: str, keys: KeyPair, seconds: float) -> Verdict:
    """What a door does about these keys, under the current server key or the next one."""
    from secure_ipp.access.prover import prover_for
    from secure_ipp.wire.intruder import try_door

    ways: dict[str, Any] = {}
    if endpoint in found.socket_doors:
        ways["proves"] = prover_for(found.cluster_id, found.role)
    verdict: Verdict = "silent"
    for server_key in found.server_keys:
        verdict = try_door(endpoint, server_key, keys, seconds, **ways)
        if verdict == "admitted" or (verdict == "refused" and not ways):  # a proof for another key is refused, too
            break
    return verdict


def _not_ours(endpoint: str) -> Finding:
    return Finding(
        "door", "error", f"something listens at {endpoint}, but not with the server key of this file",
        "another program has that port, or the cluster was made anew: compare the server's fingerprint with its owner",
    )
