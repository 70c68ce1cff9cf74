"""Keys whose secret never travels: the holder makes them, asks with a request, and joins the answer to them.

A request holds the public halves, what the holder wishes, and a signature that proves that whoever made it has the
secret that its signing key follows from; who that is, only a fingerprint compared by another way tells.  An answer
is a capability without its secret, signed by the issuer: it needs no secrecy, and its issuer's fingerprint is what the
holder compares.  Both are parsed strictly; errors quote no secret.
"""

from __future__ import annotations

import os
import stat
from typing import Any, Literal

import msgspec
from msgspec import Struct

from secure_ipp import limits
from secure_ipp.errors import PolicyError, SecureIppError, UsageError
from secure_ipp.keys import fields, strict_json
from secure_ipp.keys.capability import sign_public_part
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.keys.desk import Desk, check_free
from secure_ipp.keys.grants import sign_grant
from secure_ipp.keys.holder import HolderKey, HolderPublicKey
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.issuing import Issued, file_values
from secure_ipp.keys.orders import Order
from secure_ipp.keys.pending import key_file_of, write_pending
from secure_ipp.keys.private_files import MissingFile, Path, remove_private, write_private
from secure_ipp.keys.signing import BadSignature

FORMAT: Literal["secure-ipp-request/1"] = "secure-ipp-request/1"
ANSWER_FORMAT = "secure-ipp-answer/1"
PURPOSE = "request/1"
_UNSIGNED = frozenset({"signature"})


class RequestError(PolicyError):
    """A request, or an answer, is damaged or not what it should be."""

    code = "request"


class Request(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a holder asks for; whatever it wishes, the owner decides."""

    format: Literal["secure-ipp-request/1"]
    role: Literal["client", "engine"]
    name: fields.Name
    rights: fields.Rights
    public_key: CurvePublicKey
    signing_key: HolderPublicKey
    made: fields.Moment
    signature: fields.Signature

    def require_role(self, role: str) -> None:
        """Return if it asks for this role.

        Raises:
            UsageError: it asks for the other.
        """
        if self.role != role:
            raise UsageError(f"this request asks for the role {self.role}, not {role}", "have the right one made")


def make_request(
    out: Path, *, name: str, role: Literal["client", "engine"], rights: tuple[str, ...], now: float
) -> tuple[Request, str]:
    """Make a key pair, keep it beside the request, and write the request.

    Args:
        out: the new request.
        name: wished.
        role: wished.
        rights: wished.
        now: seconds since the epoch.

    Returns:
        The request, and the path of the private file with its secret.

    Raises:
        AlreadyThere: one of the two files is.
        SecureIppError: they cannot be written; neither is left.
    """
    check_free(out)
    keys = KeyPair.generate()
    holder = HolderKey.of(keys.secret)
    draft = Request(
        format=FORMAT, role=role, name=name, rights=rights, public_key=keys.public, signing_key=holder.public(),
        made=int(now), signature="",
    )
    request = msgspec.structs.replace(draft, signature=fields.sign(holder, PURPOSE, _message(draft)))
    kept = key_file_of(out)
    write_pending(kept, keys)
    try:
        write_private(out, fields.to_file(request))
    except BaseException:
        remove_private(kept)
        raise
    return request, kept


def parse_request(data: bytes) -> Request:
    """The request that these unverified bytes spell.

    Raises:
        RequestError: they spell none, or nobody who has the secret signed it.
    """
    try:
        plain = strict_json.parse_object(data, limits.REQUEST_BYTES)
        request = msgspec.convert(plain, Request, dec_hook=fields.decode_key)
        fields.check_rights(request.role, request.rights)
        fields.verify(request.signing_key, PURPOSE, _message(request), request.signature)
    except (BadSignature, ValueError) as error:
        why = error.message if isinstance(error, SecureIppError) else str(error)
        raise RequestError(
            f"this is no request as this package writes it: {strict_json.shown(why)}",
            "have its maker run secure-ipp keys request, and send the file that it wrote",
        ) from None
    return request


def read_request(path: Path) -> Request:
    """The request of a file, which need not be private.

    Raises:
        MissingFile, RequestError: there is none, or it is damaged.
    """
    return parse_request(read_open(path, limits.REQUEST_BYTES))


def check_fingerprint(expected: str, found: str) -> None:
    """Return if a fingerprint that was told is the one that was found.

    Raises:
        UsageError: it is not.
    """
    if expected.strip() != found:
        raise UsageError(
            f"the key is {found}, not the one expected",
            "compare with its maker by another way (by voice, say); if they differ, somebody swapped the file",
            code="fingerprint",
        )


def approve(desk: Desk, request: Request, order: Order, out: Path, now: float) -> Issued:
    """Grant a request, as the owner orders, and write the answer.

    Raises:
        UsageError: the name is taken, or the order is for the other role.
        RegistryError: the key was held before.
        SecureIppError: the answer cannot be written, or the change is not in force.
    """
    request.require_role(order.role)
    check_free(out)
    issuer, config = desk.issuer(), desk.config()
    grant = sign_grant(
        issuer, config.cluster_id, key=request.public_key, now=now,
        signing_key=request.signing_key if order.role == "client" else None, **order.of_grant(),
    )
    answer = make_answer(issuer, grant.key, file_values(desk.place, config, grant, order.ways))
    applied = desk.publish(
        issuer, out, answer, lambda registry: registry.with_grant(grant),
        lambda registry: registry.grant(grant.id) is not None,
    )
    return Issued(grant, str(out), applied, issuer.fingerprint)


def make_answer(issuer: IssuerKey, key: CurvePublicKey, values: dict[str, Any]) -> bytes:
    """The text of an answer for the holder of this key.

    Raises:
        CapabilityError: the values make no capability.
    """
    answer = {"format": ANSWER_FORMAT, "capability": sign_public_part(issuer, key, values)}
    return msgspec.json.format(msgspec.json.encode(answer), indent=2) + b"\n"


def parse_answer(data: bytes) -> tuple[CurvePublicKey, dict[str, Any]]:
    """The key that an answer is for, and the unverified capability without its secret.

    Raises:
        RequestError: the bytes spell no answer.
    """
    try:
        plain = strict_json.parse_object(data, limits.CAPABILITY_BYTES)
        public = plain.get("capability")
        if plain.get("format") != ANSWER_FORMAT or plain.keys() != {"format", "capability"}:
            raise ValueError("it does not say that it is an answer (field `format`)")
        if not isinstance(public, dict) or not isinstance(public.get("public_key"), str) or "secret_key" in public:
            raise ValueError("it holds no capability without its secret")
        return CurvePublicKey.from_text(public["public_key"]), public
    except ValueError as error:
        raise RequestError(
            f"this is no answer as this package writes it: {strict_json.shown(str(error))}",
            "ask the cluster's owner for the file that secure-ipp keys approve (or renew) wrote",
        ) from None


def read_open(path: Path, limit: int) -> bytes:
    """The bytes of a file that came from somewhere: a regular one, bounded; what it says is not trusted.

    Raises:
        MissingFile: there is none.
        RequestError: it is no regular file, cannot be read, or is too long.
    """
    where = strict_json.shown(os.fspath(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RequestError(f"{where} is not a regular file", "give the path of the file itself")
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise MissingFile(f"{where} is not there", "check the path") from None
    except OSError as error:
        raise RequestError(f"{where} cannot be read: {error.strerror}", "check its owner and mode") from None
    if len(data) > limit:
        raise RequestError(f"{where} is longer than {limit} bytes", "it is not what it should be")
    return data


def _message(request: Request) -> bytes:
    return fields.canonical(request, without=_UNSIGNED)
