"""The holder joins an answer to its secret: to the key of its request, or to the file that it has and that is renewed.

Laws: the issuer's fingerprint must be the one expected, where one is given, and that of the file which is renewed;
the file is new, or it is the same identity's and replaced in one step; the request's key goes when the file is there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from secure_ipp import limits
from secure_ipp.keys.capability import Capability, dump_capability, parse_capability
from secure_ipp.keys.changing import changing
from secure_ipp.keys.curve import CurvePublicKey, CurveSecretKey
from secure_ipp.keys.pending import find_pending, read_pending
from secure_ipp.keys.private_files import AlreadyThere, Path, remove_private, write_private
from secure_ipp.keys.requests import RequestError, parse_answer, read_open
from secure_ipp.keys.sealed_files import open_to_renew


@dataclass(frozen=True, slots=True)
class Accepted:
    """A capability that is whole.

    Attributes:
        capability: the holder's.
        file: where it was written.
        renewed: whether it replaced an older one of the same key.
        removed: the request's key file, which is needed no more; or "".
    """

    capability: Capability
    file: str
    renewed: bool
    removed: str


def accept(answer: Path, out: Path, *, key: Path | None = None, issuer: str = "", now: float) -> Accepted:
    """Join an answer to its secret, and write the capability file.

    Args:
        answer: the owner's; not trusted.
        out: a new private file, or the one to be renewed.
        key: the key file of the request; None: looked for where the answer is, where the file goes, and here.
        issuer: the fingerprint that the cluster's owner told; "": not compared.
        now: seconds since the epoch.

    Raises:
        RequestError: the answer is damaged, of another issuer, or its secret is not here.
        CapabilityError: its issuer did not sign it, or it is expired.
        AlreadyThere: `out` is something else.
        SecureIppError: a file cannot be read or written safely.
    """
    public, unverified = parse_answer(read_open(answer, limits.CAPABILITY_BYTES))
    if os.path.lexists(out):
        with changing(out):
            return _renew(unverified, public, out, issuer, now)
    places = (os.path.dirname(os.path.abspath(answer)), os.path.dirname(os.path.abspath(out)), os.curdir)
    found = os.fspath(key) if key is not None else find_pending(public, places)
    if found is None:
        raise RequestError(
            f"the secret of key {public.fingerprint} is not here",
            "do this where the request was made; name its key file: --key REQUEST.key",
            code="no-secret",
        )
    keys = read_pending(found)
    if keys.public != public:
        raise RequestError(
            f"the answer is for key {public.fingerprint}, and {found} is {keys.fingerprint}", "name the right key file"
        )
    capability = _joined(unverified, keys.secret, issuer, now)
    write_private(out, dump_capability(capability))
    remove_private(found)
    return Accepted(capability, os.fspath(out), False, found)


def _renew(unverified: dict[str, Any], public: CurvePublicKey, out: Path, issuer: str, now: float) -> Accepted:
    opened = open_to_renew(out)
    old = opened.capability
    if old.public_key != public:
        raise AlreadyThere(
            f"{os.fspath(out)} is there already, and is not the file of key {public.fingerprint}",
            "give another name for a new file, or the file that is to be renewed",
        )
    new = _joined(unverified, old.secret_key, issuer or old.issuer_key.fingerprint, now)
    if (new.cluster_id, new.role) != (old.cluster_id, old.role):
        raise RequestError("the answer is of another cluster or role than the file", "ask for the right one")
    write_private(out, opened.to_file(new), exclusive=False)
    return Accepted(new, os.fspath(out), True, "")


def _joined(unverified: dict[str, Any], secret: CurveSecretKey, issuer: str, now: float) -> Capability:
    capability = parse_capability({**unverified, "secret_key": secret.text}, now=now)
    found = capability.issuer_key.fingerprint
    if issuer and issuer.strip() != found:
        raise RequestError(
            f"the answer is signed by the issuer {found}, not by the one expected",
            "compare with the cluster's owner; if they differ, somebody else wrote this answer: do not use it",
            code="issuer",
        )
    if capability.parents:
        raise RequestError("the answer holds a capability that was handed on", "its holder makes the file itself")
    return capability
