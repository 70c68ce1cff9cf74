"""The Python interface of ``secure-ipp keys``: what `secure_ipp.keys` offers by name.

Each function does what the command of its name does, on the machine where the cluster's keys lie (`request` and
`accept`: on the holder's), and raises errors with advice.  A change of the registry returns when a running controller
has it in force; without one it is in force at the next start.  `cluster` is a cluster's name, or a `ClusterPlace`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from secure_ipp.cluster import registry_change
from secure_ipp.cluster.aware import wait_until_aware
from secure_ipp.cluster.control import ask
from secure_ipp.cluster.state import is_locked
from secure_ipp.errors import SecureIppError, UsageError
from secure_ipp.keys import accepting, facts, issuing, orders, renewal, requests, revoking, server_rotation, ways_change
from secure_ipp.keys.accepting import Accepted
from secure_ipp.keys.capability import read_capability
from secure_ipp.keys.cluster_keys import InitResult, init_cluster
from secure_ipp.keys.desk import Applied, Desk
from secure_ipp.keys.expiry import parse_expires
from secure_ipp.keys.issuing import Issued
from secure_ipp.keys.names import check_name
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import Path
from secure_ipp.keys.recipients import RecipientPublicKey
from secure_ipp.keys.revoking import Identity
from secure_ipp.keys.server_rotation import Step
from secure_ipp.keys.ways import AS_THE_CLUSTER, check_host_keys, check_route, make_ways
from secure_ipp.keys.ways_change import Changed

Cluster = str | ClusterPlace
Function = TypeVar("Function", bound=Callable[..., Any])
REACH_SECONDS = 2.0  # the hub is asked so long which engines can read the owner's files


@dataclass(frozen=True, slots=True)
class Requested:
    """A request that was made here.

    Attributes:
        file: to be sent to the cluster's owner; it holds no secret.
        key_file: the secret; it stays here.
        fingerprint: of the key; tell it to the owner by another way.
    """

    file: str
    key_file: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """Identities that were taken away."""

    identities: tuple[Identity, ...]
    applied: Applied


def _without_frames(function: Function) -> Function:
    """Errors of this package and the system end here, without the frames below, whose variables hold secrets (S11)."""

    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except (SecureIppError, OSError) as error:
            error.__cause__ = error.__context__ = None
            failed: Exception = error.with_traceback(None)
        raise failed

    return called  # type: ignore[return-value]


def _recipient(word: str) -> RecipientPublicKey | None:
    return RecipientPublicKey.of_word(word) if word else None


def desk_of(cluster: Cluster = "default") -> Desk:
    """The owner's desk of a cluster of this machine."""
    place = cluster if isinstance(cluster, ClusterPlace) else ClusterPlace(cluster)
    return Desk(place, registry_change.apply)


@_without_frames
def init(
    cluster: Cluster = "default", *, hosts: Iterable[str] = (), client_port: int = 0, engine_port: int = 0,
    bind: str = "", curve: bool = True, ssh_door: bool = False, ssh: str = "", ssh_host_keys: Iterable[str] = (),
    require_post_quantum: bool = False,
) -> InitResult:
    """Make a cluster's keys, once; see `cluster_keys.init_cluster`."""
    return init_cluster(
        desk_of(cluster).place, hosts=tuple(hosts), client_port=client_port, engine_port=engine_port, bind=bind,
        curve=curve, ssh_door=ssh_door, ssh=ssh, ssh_host_keys=tuple(ssh_host_keys),
        require_post_quantum=require_post_quantum,
    )


@_without_frames
def change_ways(
    cluster: Cluster = "default", *, ssh: str | None = None, ssh_host_keys: Iterable[str] | None = None,
    ssh_door: bool | None = None, require_post_quantum: bool | None = None,
) -> Changed:
    """Change what a cluster offers besides Curve on TCP, and what its owner's two files say of it.

    Args:
        cluster: which one.
        ssh: the route ``[user@]host[:port]`` that stands in files from now on; None: as it is, and likewise
        ssh_host_keys: fingerprints of the host there; "here": those of this one.
        ssh_door: whether its doors are Unix sockets, too, which only the account that owns the cluster reaches, by ssh.
        require_post_quantum: whether files ask for an ssh key exchange that is post-quantum.

    Raises:
        UsageError: a cluster cannot be like that.
        SecureIppError: it cannot be written.
    """
    host_keys = None if ssh_host_keys is None else check_host_keys(ssh_host_keys)
    return ways_change.change_ways(
        desk_of(cluster), ssh=None if ssh is None else check_route(ssh), host_keys=host_keys, door=ssh_door,
        post_quantum=require_post_quantum,
    )


@_without_frames
def issue(
    name: str, out: Path, *, role: str = "client", rights: str | Iterable[str] | None = None, expires: str = "never",
    shared_engines: bool | None = None, quotas: str | Mapping[str, int] | None = None, engines: int | None = None,
    joins: int | None = None, networks: Iterable[str] = (), ssh: str | None = None,
    ssh_host_keys: Iterable[str] | None = None, ssh_door: bool | None = None, to: str = "",
    cluster: Cluster = "default",
) -> Issued:
    """Make an identity and its capability file, which lets in whoever holds it.

    Args:
        name: what people call it; unique in the cluster.
        out: the new private file.
        role: "client", or "engine" for hosts that run engines.
        rights: of a client; None: task and direct.
        expires: ``7d``, ``12h``, a date, or ``never``.
        shared_engines: whether a client works in the namespaces of others; None: its engines are its own.
        quotas: of a client, such as ``tasks=1000,bytes=64M``.
        engines: of a join key: at one time.
        joins: of a join key: hosts that may ever join with it.
        networks: of a join key: from where.
        ssh: the route that stands in the file; None: cluster.toml's, and likewise
        ssh_host_keys: fingerprints of the host there; "here": those of this one.
        ssh_door: whether the file names the door that only the account that owns the cluster reaches, by ssh.
        to: the word of a recipient, whom the file is sealed to; "": its secret stands in it in clear.
        cluster: which one.

    Raises:
        SecureIppError: nothing was made; or, with the code "not-in-force", the controller did not confirm it.
    """
    now = time.time()
    order = orders.make_order(
        name, role=role, rights=rights, expires=expires, now=now, shared_engines=shared_engines, quotas=quotas,
        engines=engines, joins=joins, networks=networks,
        ways=make_ways(ssh=ssh, ssh_host_keys=ssh_host_keys, ssh_door=ssh_door),
    )
    return issuing.issue(desk_of(cluster), order, out, now, to=_recipient(to))


@_without_frames
def request(
    out: Path, *, name: str, role: Literal["client", "engine"] = "client", rights: str | Iterable[str] | None = None
) -> Requested:
    """Make a key pair here, keep its secret here, and write a request for the cluster's owner.

    Args:
        out: the request's new file; the secret goes to the same name with ".key".
        name: wished.
        role: wished.
        rights: wished; None: task and direct.

    Raises:
        SecureIppError: one of the files is there already or cannot be written; neither is left.
    """
    if role not in ("client", "engine"):
        raise UsageError(f"{role!r} is no role", "say client or engine", code="role")
    wished = orders.parse_rights(orders.DEFAULT_RIGHTS if rights is None else rights) if role == "client" else ("join",)
    made, kept = requests.make_request(out, name=check_name(name), role=role, rights=wished, now=time.time())
    return Requested(str(out), kept, made.public_key.fingerprint)


@_without_frames
def approve(
    request: Path, name: str, out: Path, *, fingerprint: str, rights: str | Iterable[str] | None = None,
    expires: str = "never", shared_engines: bool | None = None, quotas: str | Mapping[str, int] | None = None,
    engines: int | None = None, joins: int | None = None, networks: Iterable[str] = (), ssh: str | None = None,
    ssh_host_keys: Iterable[str] | None = None, ssh_door: bool | None = None, cluster: Cluster = "default",
) -> Issued:
    """Grant what a request asks for, as far as said here, and write an answer, which is no secret.

    Args:
        request: the file that came.
        name: what people call the identity, whatever the request wishes.
        out: the answer's new file.
        fingerprint: that its maker told by another way than the file came.
        rights, expires, shared_engines, quotas, engines, joins, networks, ssh, ssh_host_keys, ssh_door,
            cluster: as for `issue`.

    Raises:
        UsageError: the fingerprint is another: somebody may have swapped the file.
        SecureIppError: as for `issue`.
    """
    now, asked = time.time(), requests.read_request(request)
    requests.check_fingerprint(fingerprint, asked.public_key.fingerprint)
    order = orders.make_order(
        name, role=asked.role, rights=rights, expires=expires, now=now, shared_engines=shared_engines, quotas=quotas,
        engines=engines, joins=joins, networks=networks,
        ways=make_ways(ssh=ssh, ssh_host_keys=ssh_host_keys, ssh_door=ssh_door),
    )
    return requests.approve(desk_of(cluster), asked, order, out, now)


@_without_frames
def accept(answer: Path, out: Path, *, key: Path | None = None, issuer: str = "") -> Accepted:
    """Join an answer to the secret that was kept here; see `accepting.accept`."""
    return accepting.accept(answer, out, key=key, issuer=issuer, now=time.time())


def identities(cluster: Cluster = "default") -> list[Identity]:
    """All identities of a cluster, those that holders handed on included."""
    return revoking.identities(desk_of(cluster))


def describe(what: Path, cluster: Cluster = "default") -> dict[str, Any]:
    """What may be shown of a capability file (a path), or of an identity (a name or fingerprint); never a secret.

    Raises:
        SecureIppError: there is no such file or identity, or the file is damaged or open to others.
    """
    import os

    now, text = time.time(), os.fspath(what)
    if os.sep in text or text.endswith(".json") or os.path.exists(text):
        return facts.capability_facts(read_capability(os.path.expanduser(text), now=0.0), now)
    (found,) = revoking.choose(identities(cluster), text)
    return facts.grant_facts(found.grant, now, title=found.title)


def revoke(word: str, *, prefix: bool = False, cluster: Cluster = "default") -> Revoked:
    """Take an identity away: it is refused, its connections are cut, its tasks end; its key never comes back.

    Args:
        word: a name or a fingerprint.
        prefix: take away all whose name or fingerprint begins so.
        cluster: which one.

    Raises:
        UsageError: it means none, or several.
        SecureIppError: it is not in force (code "not-in-force"), or nothing was changed.
    """
    desk = desk_of(cluster)
    chosen = revoking.choose(revoking.identities(desk), word, prefix=prefix)
    return Revoked(tuple(chosen), revoking.revoke(desk, chosen))


@_without_frames
def renew(
    word: str, expires: str, *, out: Path | None = None, file: Path | None = None, ssh: str | None = None,
    ssh_host_keys: Iterable[str] | None = None, ssh_door: bool | None = None, cluster: Cluster = "default",
) -> Issued:
    """Give an identity another end; its key stays.

    Args:
        word: a name or a fingerprint.
        expires: as for `issue`.
        out: a new answer, which the holder accepts onto its file; or
        file: the holder's capability file, where it is here.
        ssh, ssh_host_keys, ssh_door: as for `issue`, of an answer; a file keeps its own.
        cluster: which one.

    Raises:
        UsageError: neither or both of `out` and `file` are given, or there is no such identity.
        SecureIppError: as for `issue`.
    """
    if (out is None) == (file is None):
        raise UsageError("say either the holder's file or a new answer", "--file FILE, or --out ANSWER")
    now, desk = time.time(), desk_of(cluster)
    end, ways = parse_expires(expires, now), make_ways(ssh=ssh, ssh_host_keys=ssh_host_keys, ssh_door=ssh_door)
    if out is not None:
        return renewal.renew_by_answer(desk, word, end, out, ways=ways, now=now)
    if ways != AS_THE_CLUSTER:
        raise UsageError("a file keeps its ssh route", "leave --ssh and its like out, or write an answer")
    assert file is not None
    return renewal.renew_in_place(desk, word, end, file, now=now)


@_without_frames
def rotate(
    word: str, out: Path, *, request: Path | None = None, fingerprint: str = "", ssh: str | None = None,
    ssh_host_keys: Iterable[str] | None = None, ssh_door: bool | None = None, to: str = "",
    cluster: Cluster = "default",
) -> Issued:
    """Give an identity a new key; its id stays, the old key is retired, and what its holder handed on ends.

    Args:
        word: a name or a fingerprint.
        out: the new capability file; with `request`, the new answer.
        request: of its holder, who made the new key.
        fingerprint: of that key, which its maker told by another way.
        ssh, ssh_host_keys, ssh_door: as for `issue`.
        to: as for `issue`; without a request.
        cluster: which one.

    Raises:
        UsageError: there is no such identity, or the request is not the one that was told of.
        SecureIppError: as for `issue`.
    """
    now, desk = time.time(), desk_of(cluster)
    ways = make_ways(ssh=ssh, ssh_host_keys=ssh_host_keys, ssh_door=ssh_door)
    if request is None:
        return renewal.rotate_holder(desk, word, out, ways=ways, now=now, to=_recipient(to))
    if to:
        raise UsageError("an answer holds no secret that could be sealed", "leave --to out")
    asked = requests.read_request(request)
    requests.check_fingerprint(fingerprint, asked.public_key.fingerprint)
    return renewal.rotate_by_request(desk, word, asked, out, ways=ways, now=now)


@_without_frames
def rotate_server(
    step: Literal["announce", "switch", "now"] = "announce", *, files: Iterable[Path] = (), anyway: bool = False,
    cluster: Cluster = "default",
) -> Step:
    """Rotate the server's key, a step at a time; saying a step again goes on from where it was interrupted.

    Args:
        step: announce the next key; switch to it; or both, now.
        files: capability files that are to name the keys of then, besides the owner's own two.
        anyway: switch even if somebody who is connected has not confirmed the next key.
        cluster: which one.

    Raises:
        Unaware: somebody has not; nothing was switched.
        UsageError: it is not the time for this step, or a file is not of this cluster.
        SecureIppError: it is not in force (code "not-in-force"), or nothing was changed.
    """
    if step not in ("announce", "switch", "now"):
        raise UsageError(f"{step!r} is no step", "say announce, switch or now")
    desk, named = desk_of(cluster), tuple(files)
    if step != "switch":
        announced = server_rotation.announce(desk, named, now=time.time())
        if step == "announce":
            return announced
    found = server_rotation.look(desk.place)
    if found.phase == "announced" and found.doors is not None and not anyway:
        wait_until_aware(desk.place, found.doors.number)
    return server_rotation.switch(desk, named, now=time.time())


@_without_frames
def abort_server_rotation(*, files: Iterable[Path] = (), cluster: Cluster = "default") -> Step | None:
    """Withdraw the server's next key, before the switch; None: it was not announced yet.

    Raises:
        UsageError: there is nothing to withdraw.
        SecureIppError: it is not in force (code "not-in-force"), or nothing was changed.
    """
    return server_rotation.abort(desk_of(cluster), tuple(files), now=time.time())


def engines_that_reach(place: ClusterPlace) -> int | None:
    """How many engines of a running controller can read the owner's private files (S26); None: not known."""
    if not is_locked(place):
        return None
    try:
        found = ask(place, "status", REACH_SECONDS)["engines"]
    except (SecureIppError, KeyError):
        return None  # it is a note beside something else; `status` says what is wrong
    return sum(1 for engine in found if engine["reads_cluster_dir"] or engine["reads_join_file"])
