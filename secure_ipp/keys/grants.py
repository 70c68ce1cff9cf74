"""Grants: the registry's public record of each identity, signed by the issuer (S10).

A grant says which key is who, what it may do and until when.  Its id is random and never used again; it is the
holder's ZAP User-Id and stays when the key is rotated (S4).  Its name is a label for people.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from secure_ipp import limits
from secure_ipp.keys import fields
from secure_ipp.keys.curve import CurvePublicKey
from secure_ipp.keys.issuer import IssuerKey, IssuerPublicKey

PURPOSE = "grant/1"
_UNSIGNED = frozenset({"signature"})


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
    signature: fields.Signature

    def verify(self, issuer: IssuerPublicKey, cluster_id: str) -> None:
        """Return if this issuer signed this grant for this cluster, and it makes sense.

        Raises:
            BadSignature: the issuer did not.
            ValueError: the rights are not those of its role.
        """
        fields.verify(issuer, PURPOSE, _message(self, cluster_id), self.signature)
        fields.check_rights(self.role, self.rights)


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
) -> Grant:
    """A new grant (or, with `id`, a new version of one), signed.

    Raises:
        ValueError: the rights are not those of the role, or a value is out of its bounds.
    """
    fields.check_rights(role, rights)
    draft = Grant(
        id=id or fields.new_id(), name=name, role=role, key=key, rights=rights, expires=expires, engines=engines,
        made=int(now), signature="",
    )
    signed = msgspec.structs.replace(draft, signature=fields.sign(issuer, PURPOSE, _message(draft, cluster_id)))
    return msgspec.convert(fields.to_plain(signed), Grant, dec_hook=fields.decode_key)


def _message(grant: Grant, cluster_id: str) -> bytes:
    return fields.canonical(grant, without=_UNSIGNED, cluster_id=cluster_id)
