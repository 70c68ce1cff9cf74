"""Renewing an identity's end, and giving its holder a new key; its id, and so what is its own, stays (S4).

Laws: what was granted is neither more nor less afterwards, but for the end or the key; a key that was replaced is
retired for ever, and what its holder had handed on ends with it, for it was signed by that key; a grant that
somebody else changed meanwhile is not overwritten.
"""

from __future__ import annotations

from dataclasses import replace

from secure_ipp.errors import SecureIppError, UsageError
from secure_ipp.keys.capability import read_capability, sign_capability
from secure_ipp.keys.changing import changing
from secure_ipp.keys.config import ClusterConfig
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.desk import Applied, Desk, check_free, read_file
from secure_ipp.keys.grants import Grant, sign_again
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.issuing import Issued, file_values
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import Path
from secure_ipp.keys.recipients import RecipientPublicKey
from secure_ipp.keys.registry import Registry
from secure_ipp.keys.requests import Request, make_answer
from secure_ipp.keys.revoking import grant_of
from secure_ipp.keys.sealed_files import new_file, open_to_renew
from secure_ipp.keys.ways import AS_THE_CLUSTER, Ways, ways_of


def renew_by_answer(
    desk: Desk, word: str, expires: int, out: Path, *, ways: Ways = AS_THE_CLUSTER, now: float
) -> Issued:
    """A new end, and an answer that the holder joins with its file (`requests.accept`).

    Args:
        desk: the owner's.
        word: a name or fingerprint.
        expires: the new end.
        out: the new answer.
        ways: what stands in it of the ways to the cluster.
        now: seconds since the epoch.

    Raises:
        UsageError: there is no such identity.
        SecureIppError: it cannot be written, or is not in force.
    """
    check_free(out)
    old, issuer = grant_of(desk, word), desk.issuer()
    new = sign_again(issuer, desk.config().cluster_id, old, now=now, expires=expires)
    return _publish(desk, issuer, old, new, out, _answer(desk, issuer, new, ways), over=None)


def renew_in_place(desk: Desk, word: str, expires: int, file: Path, *, now: float) -> Issued:
    """A new end, also in the holder's file, which is replaced in one step.

    Raises:
        UsageError: there is no such identity, or the file is not its.
        CapabilityError, PrivateFileError: the file is damaged, or others could read it.
        SecureIppError: it cannot be written, or is not in force.
    """
    with changing(file):
        return _renew_in_place(desk, word, expires, file, now)


def _renew_in_place(desk: Desk, word: str, expires: int, file: Path, now: float) -> Issued:
    old, issuer, config = grant_of(desk, word), desk.issuer(), desk.config()
    over = read_file(file)
    opened = open_to_renew(file)
    capability = opened.capability
    if capability.public_key != old.key or capability.cluster_id != config.cluster_id:
        raise UsageError(
            f"{file} is not the file of {old.name!r} (its key is {capability.public_key.fingerprint})",
            "give the file that this identity uses, or --out ANSWER for its holder",
        )
    new = sign_again(issuer, config.cluster_id, old, now=now, expires=expires)
    values = file_values(desk.place, config, new, ways_of(capability, config))
    data = opened.to_file(sign_capability(issuer, keys=capability.keys, **values))
    return _publish(desk, issuer, old, new, file, data, over=over)


def rotate_holder(
    desk: Desk, word: str, out: Path, *, ways: Ways = AS_THE_CLUSTER, now: float, to: RecipientPublicKey | None = None
) -> Issued:
    """A new key pair for an identity, in a new capability file, perhaps sealed to somebody; the old key is retired.

    Raises:
        UsageError: there is no such identity.
        SecureIppError: the file cannot be written, or the change is not in force.
    """
    check_free(out)
    old, issuer, config, keys = grant_of(desk, word), desk.issuer(), desk.config(), KeyPair.generate()
    signing_key = HolderKey.of(keys.secret).public() if old.role == "client" else None
    new = sign_again(issuer, config.cluster_id, old, now=now, key=keys.public, signing_key=signing_key)
    values = file_values(desk.place, config, new, _as_before(desk.place, config, old, ways))
    data = new_file(sign_capability(issuer, keys=keys, **values), to)
    return _publish(desk, issuer, old, new, out, data, over=None)


def _as_before(place: ClusterPlace, config: ClusterConfig, old: Grant, ways: Ways) -> Ways:
    """A new key for one of the owner's two files: it names the door for ssh if the old file does, and nothing was said.

    Files of others are elsewhere; of them that has to be said.
    """
    if ways.door is not None or not config.ssh_door:
        return ways
    for file in (place.client_file, place.engine_file):
        try:
            found = read_capability(file, now=0.0)
        except SecureIppError:
            continue  # it was moved away, or is damaged: then there is nothing to be like
        if found.public_key == old.key and found.socket_doors:
            return replace(ways, door=True)
    return ways


def rotate_by_request(
    desk: Desk, word: str, request: Request, out: Path, *, ways: Ways = AS_THE_CLUSTER, now: float
) -> Issued:
    """A new key that its holder made, and an answer for it; the old key is retired.

    Raises:
        UsageError: there is no such identity, or the request is of another role.
        RegistryError: the key was held before.
        SecureIppError: the answer cannot be written, or the change is not in force.
    """
    check_free(out)
    old, issuer = grant_of(desk, word), desk.issuer()
    request.require_role(old.role)
    signing_key = request.signing_key if old.role == "client" else None
    new = sign_again(
        issuer, desk.config().cluster_id, old, now=now, key=request.public_key, signing_key=signing_key
    )
    return _publish(desk, issuer, old, new, out, _answer(desk, issuer, new, ways), over=None)


def _answer(desk: Desk, issuer: IssuerKey, grant: Grant, ways: Ways) -> bytes:
    values = file_values(desk.place, desk.config(), grant, ways)
    return make_answer(issuer, grant.key, values)


def _publish(
    desk: Desk, issuer: IssuerKey, old: Grant, new: Grant, path: Path, data: bytes, *, over: bytes | None
) -> Issued:
    def change(registry: Registry) -> Registry:
        if registry.grant(old.id) != old:
            raise UsageError(
                f"{old.name!r} was changed meanwhile", "look at it (secure-ipp keys show), then say it again"
            )
        return registry.with_grant_replaced(new)

    applied: Applied = desk.publish(
        issuer, path, data, change, lambda registry: registry.grant(old.id) == new, over=over
    )
    return Issued(new, str(path), applied, issuer.fingerprint)

