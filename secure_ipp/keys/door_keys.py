"""The doors' public keys, as the issuer states them: what peers are told around a change of the server's key (S33).

A statement names the current key and, while a rotation is announced, the next one; the last of those that were given
up stand in it, too.  Laws: its number rises with each statement of a cluster; it is signed for one cluster; a key
stands in it once.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from secure_ipp import limits
from secure_ipp.keys import fields, strict_json
from secure_ipp.keys.curve import CurvePublicKey
from secure_ipp.keys.issuer import IssuerKey, IssuerPublicKey

PURPOSE = "door-keys/1"
_UNSIGNED = frozenset({"signature"})


class DoorKeys(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One statement.

    Attributes:
        number: counts the statements of this cluster.
        keys: the current one and, while it is announced, the next one.
        former: given up or withdrawn, the newest last; older ones are left out.
        announced: when the next key was, seconds since the epoch; 0: there is none.
        switched: when the current key took its place; 0: it is the first.
    """

    cluster_id: fields.Id
    number: Annotated[int, Meta(ge=1, le=2**53)]
    keys: Annotated[tuple[CurvePublicKey, ...], Meta(min_length=1, max_length=2)]
    former: Annotated[tuple[CurvePublicKey, ...], Meta(max_length=limits.FORMER_SERVER_KEYS)] = ()
    announced: fields.Moment = 0
    switched: fields.Moment = 0
    signature: fields.Signature

    @property
    def current(self) -> CurvePublicKey:
        """What the doors prove themselves with now."""
        return self.keys[0]

    @property
    def next(self) -> CurvePublicKey | None:
        """What they will prove themselves with after the switch; None: no rotation is announced."""
        return self.keys[1] if len(self.keys) > 1 else None

    def verify(self, issuer: IssuerPublicKey, cluster_id: str) -> None:
        """Return if this issuer stated this of this cluster.

        Raises:
            BadSignature: it did not.
            ValueError: it is of another cluster, or a key stands in it twice.
        """
        if self.cluster_id != cluster_id:
            raise ValueError("these are the door keys of another cluster")
        named = (*self.keys, *self.former)
        if len(set(named)) != len(named):
            raise ValueError("a door key stands there twice")
        fields.verify(issuer, PURPOSE, _message(self), self.signature)

    def to_bytes(self) -> bytes:
        """What travels; it holds no secret."""
        return msgspec.json.encode(fields.to_plain(self))


def sign_door_keys(
    issuer: IssuerKey, cluster_id: str, *, number: int, keys: tuple[CurvePublicKey, ...],
    former: tuple[CurvePublicKey, ...] = (), announced: int = 0, switched: int = 0,
) -> DoorKeys:
    """A statement, signed.

    Raises:
        ValueError: a value is out of its bounds.
    """
    draft = DoorKeys(
        cluster_id=cluster_id, number=number, keys=keys, former=former[-limits.FORMER_SERVER_KEYS :],
        announced=announced, switched=switched, signature="",
    )
    signed = msgspec.structs.replace(draft, signature=fields.sign(issuer, PURPOSE, _message(draft)))
    checked = parse_door_keys(signed.to_bytes())
    checked.verify(issuer.public(), cluster_id)
    return checked


def parse_door_keys(data: bytes) -> DoorKeys:
    """The statement that these bytes spell; **nobody has verified it**.

    Raises:
        ValueError: they spell none.
    """
    plain = strict_json.parse_object(data, limits.DOOR_KEYS_BYTES)
    return msgspec.convert(plain, DoorKeys, dec_hook=fields.decode_key)


def _message(doors: DoorKeys) -> bytes:
    return fields.canonical(doors, without=_UNSIGNED)
