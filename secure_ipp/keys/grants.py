"""Grants: the public record of each identity, signed by the issuer (S10) or by the holder that handed it on (S32).

A grant says which key is who, what it may do, how much of it and until when.  Its id is random and never used again;
it is the holder's ZAP User-Id and stays when the key is rotated (S4).  Its name is a label for people.

A derived grant names its parent, is signed by the parent's holder, and never says more than the parent does:
`narrower` is the law, checked by whoever relies on one.  Its id follows from its parent and its key, so that no holder
can take an id that is or was another's, and with it what is kept under that id.
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from secure_ipp import limits
from secure_ipp.keys import base64url, fields
from secure_ipp.keys.curve import CurvePublicKey
from secure_ipp.keys.holder import HolderPublicKey
from secure_ipp.keys.issuer import IssuerKey, IssuerPublicKey
from secure_ipp.keys.signing import BadSignature, SigningKey, VerifyKey

PURPOSE = "grant/1"
DERIVED_PURPOSE = "derived-grant/1"
_UNSIGNED = frozenset({"signature"})
Amount = Annotated[int, Meta(ge=0, le=2**53)]
Networks = Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=32)]


class Quotas(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an identity may hold or do at one time (S18); 0: the default of limits.py."""

    sessions: Amount = 0  # connections at a time
    tasks: Amount = 0  # unfinished tasks
    bytes: Amount = 0  # held for it at the scheduler
    messages: Amount = 0  # a second, as a mean


class Grant(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one identity may do."""

    id: fields.Id
    name: fields.Name
    role: Literal["client", "engine"]  # engine: a join grant, of a host's agent (S12)
    key: CurvePublicKey
    rights: fields.Rights
    expires: fields.Moment  # seconds since the epoch; 0: never
    engines: Annotated[int, Meta(ge=0, le=limits.TARGETS)]  # a join grant's limit of engines at one time; else 0
    made: fields.Moment
    signing_key: HolderPublicKey | None = None  # None: it can hand nothing on
    parent: fields.MaybeId = ""  # of a derived grant; "": the issuer's own
    tenancy: Literal["shared", "own"] = "shared"  # own: engines run this identity's work alone (S27)
    quotas: Quotas = Quotas()
    joins: Amount = 0  # a join grant: so many hosts may ever join with it; 0: any number
    networks: Networks = ()  # a join grant: only from addresses in these; empty: from anywhere
    signature: fields.Signature

    def verify(self, issuer: IssuerPublicKey, cluster_id: str) -> None:
        """Return if this issuer signed this grant for this cluster, and it makes sense.

        Raises:
            BadSignature: the issuer did not.
            ValueError: its values are not those of its role.
        """
        if self.parent:
            raise BadSignature("a derived grant is its parent's, not the issuer's")
        self._verify(issuer, PURPOSE, cluster_id)

    def verify_derived(self, parent: Grant, cluster_id: str) -> None:
        """Return if the holder of `parent` signed this grant, and it is narrower.

        Raises:
            BadSignature: that holder did not, or cannot.
            ValueError: its values are not those of its role, or say more than the parent's.
        """
        if self.parent != parent.id or parent.signing_key is None:
            raise BadSignature("the signature of this grant is not its parent's")
        self._verify(parent.signing_key, DERIVED_PURPOSE, cluster_id)
        if self.id != derived_id(parent, self.key):
            raise ValueError("the id of this grant is not its own")
        if not narrower(self, parent):
            raise ValueError("a derived grant says more than the one that it comes from")

    def _verify(self, key: VerifyKey, purpose: str, cluster_id: str) -> None:
        fields.verify(key, purpose, _message(self, cluster_id), self.signature)
        check_grant(self)


def check_grant(grant: Grant) -> None:
    """Return if its values are those of its role.

    Raises:
        ValueError: they are not.
    """
    fields.check_rights(grant.role, grant.rights)
    if grant.role == "client" and (grant.engines or grant.joins or grant.networks):
        raise ValueError("a client's grant has no engines")
    for network in grant.networks:
        ipaddress.ip_network(network)


def derived_id(parent: Grant, key: CurvePublicKey) -> str:
    """The id of what the holder of `parent` hands on to this key."""
    digest = hashlib.sha256(b"secure-ipp\0derived-id/1\0" + parent.id.encode() + b"\0" + key.raw).digest()
    return base64url.encode(digest[: fields.ID_BYTES])


def narrower(child: Grant, parent: Grant) -> bool:
    """Whether a derived grant says nothing that its parent does not say."""
    return (
        child.role == parent.role == "client"
        and set(child.rights) <= set(parent.rights) - {"admin"}
        and (parent.expires == 0 or 0 < child.expires <= parent.expires)
        and child.tenancy == parent.tenancy
        and child.quotas == Quotas()  # it draws on its parent's
    )


def sign_grant(
    issuer: IssuerKey,
    cluster_id: str,
    *,
    name: str,
    role: Literal["client", "engine"],
    key: CurvePublicKey,
    rights: tuple[str, ...],
    now: float,
    expires: int = 0,
    engines: int = 0,
    id: str | None = None,
    signing_key: HolderPublicKey | None = None,
    tenancy: Literal["shared", "own"] = "shared",
    quotas: Quotas | None = None,
    joins: int = 0,
    networks: tuple[str, ...] = (),
) -> Grant:
    """A new grant (or, with `id`, a new version of one), signed.

    Raises:
        ValueError: the rights are not those of the role, or a value is out of its bounds.
    """
    draft = Grant(
        id=id or fields.new_id(), name=name, role=role, key=key, rights=rights, expires=expires, engines=engines,
        made=int(now), signing_key=signing_key, tenancy=tenancy, quotas=quotas or Quotas(), joins=joins,
        networks=networks, signature="",
    )
    return _signed(draft, issuer, PURPOSE, cluster_id)


def sign_again(issuer: IssuerKey, cluster_id: str, grant: Grant, *, now: float, **changes: Any) -> Grant:
    """The next version of one of the issuer's grants, with these fields changed, signed.

    Raises:
        ValueError: a value is out of its bounds, or the grant is derived.
    """
    if grant.parent or changes.keys() & {"id", "role", "parent", "signature"}:
        raise ValueError("a grant keeps its id, its role and its signer")
    return _signed(msgspec.structs.replace(grant, made=int(now), **changes), issuer, PURPOSE, cluster_id)


def sign_derived(
    holder: SigningKey, cluster_id: str, parent: Grant, *, name: str, key: CurvePublicKey, rights: tuple[str, ...],
    now: float, expires: int, signing_key: HolderPublicKey,
) -> Grant:
    """A grant that the holder of `parent` hands on, signed.

    Raises:
        ValueError: it would say more than its parent, or a value is out of its bounds.
        BadSignature: this is not the key of that holder.
    """
    draft = Grant(
        id=derived_id(parent, key), name=name, role="client", key=key, rights=rights, expires=expires, engines=0,
        made=int(now), signing_key=signing_key, parent=parent.id, tenancy=parent.tenancy, signature="",
    )
    grant = _signed(draft, holder, DERIVED_PURPOSE, cluster_id)
    grant.verify_derived(parent, cluster_id)
    return grant


def _signed(draft: Grant, key: SigningKey, purpose: str, cluster_id: str) -> Grant:
    check_grant(draft)
    signed = msgspec.structs.replace(draft, signature=fields.sign(key, purpose, _message(draft, cluster_id)))
    return msgspec.convert(fields.to_plain(signed), Grant, dec_hook=fields.decode_key)


def _message(grant: Grant, cluster_id: str) -> bytes:
    return fields.canonical(grant, without=_UNSIGNED, cluster_id=cluster_id)
