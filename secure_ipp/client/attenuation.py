"""Handing on: a holder makes a narrower, shorter capability for somebody else, over its own connection (S32).

The child's key pair is made here, its grant is signed here by the holder's own key, and the controller puts it in
force; the owner's hand is not needed.  Laws: nothing that the controller says is believed without the issuer's
signature; the child's secret stays here, for whoever writes its file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from secure_ipp import limits
from secure_ipp.errors import CapabilityError, UsageError
from secure_ipp.keys import fields
from secure_ipp.keys.capability import Capability, dump_capability, sign_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.expiry import parse_expires
from secure_ipp.keys.grants import Grant, sign_derived
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.names import check_name
from secure_ipp.keys.private_files import write_private
from secure_ipp.keys.signing import BadSignature
from secure_ipp.wire import messages

if TYPE_CHECKING:
    from secure_ipp.client.session import Session


def attenuate(
    session: Session, name: str, rights: Iterable[str] | None, expires: float | timedelta | str | None,
    out: str | os.PathLike[str] | None,
) -> Capability:
    """See `Client.attenuate`."""
    own = session.capability
    check_name(name)
    chain = _chain(session)
    parent = chain[-1]
    wanted = _rights(rights, parent)
    until = _moment(expires, parent)
    if len(chain) > limits.DERIVED_DEPTH:
        raise UsageError(
            f"this capability was handed on {limits.DERIVED_DEPTH} times already", "ask one of those above you for it"
        )
    keys, holder = KeyPair.generate(), HolderKey.of(own.secret_key)
    if parent.signing_key != holder.public():
        raise UsageError("your file was made without the means to hand on", "ask the cluster's owner for a newer one")
    try:
        grant = sign_derived(
            holder, own.cluster_id, parent, name=name, key=keys.public, rights=wanted, now=time.time(), expires=until,
            signing_key=HolderKey.of(keys.secret).public(),
        )
    except ValueError as error:
        raise UsageError(f"this cannot be handed on: {error}", "ask for less than you hold") from None
    child = sign_capability(
        holder, keys=keys, cluster=own.cluster, cluster_id=own.cluster_id, role="client", name=name, rights=wanted,
        expires=until, server_keys=session.doors.keys[:2], door=own.door, ssh=own.ssh,
        ssh_host_keys=own.ssh_host_keys, post_quantum=own.post_quantum, curve=own.curve, issuer_key=own.issuer_key,
        parents=chain,
    )
    session.question(messages.Attenuate(msgspec.json.encode(fields.to_plain(grant))))
    if out is not None:
        write_private(out, dump_capability(child), exclusive=True)
    return child


def _chain(session: Session) -> tuple[Grant, ...]:
    """The grants above and with this identity's own, each proven by the one before, the first by the pinned issuer.

    Raises:
        CapabilityError: the controller says something else.
    """
    own = session.capability
    try:
        plain = msgspec.json.decode(session.question(messages.OwnGrant())["chain"])
        chain = msgspec.convert(plain, tuple[Grant, ...], dec_hook=fields.decode_key)
        first, *others = chain
        first.verify(own.issuer_key, own.cluster_id)
        for parent, child in zip(chain, others, strict=False):
            child.verify_derived(parent, own.cluster_id)
        if chain[-1].key != own.public_key:
            raise ValueError("it is of another key")
    except (BadSignature, msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise CapabilityError(
            f"what the controller says of your own grant does not hold: {error}",
            "ask the cluster's owner whether the controller is what it should be",
        ) from None
    return chain


def _rights(wanted: Iterable[str] | None, parent: Grant) -> tuple[str, ...]:
    held = [right for right in parent.rights if right != "admin"]
    if wanted is None:
        return tuple(held)
    if isinstance(wanted, str):
        wanted = [word.strip() for word in wanted.split(",") if word.strip()]
    chosen = tuple(dict.fromkeys(wanted))
    missing = [right for right in chosen if right not in held]
    if missing:
        raise UsageError(
            f"you cannot hand on what you do not hold: {', '.join(missing)}", f"you can hand on: {', '.join(held)}"
        )
    return chosen


def _moment(expires: float | timedelta | str | None, parent: Grant) -> int:
    if isinstance(expires, str):
        expires = parse_expires(expires, time.time())
    if isinstance(expires, timedelta):
        if expires <= timedelta(0):
            raise UsageError("a capability that has expired already is of no use", "give it some time")
        expires = time.time() + expires.total_seconds()
    until = int(expires) if expires else parent.expires
    if parent.expires and not 0 < until <= parent.expires:
        raise UsageError(
            "a capability cannot outlive the one that it comes from",
            f"yours expires at {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(parent.expires))}",
        )
    return until
