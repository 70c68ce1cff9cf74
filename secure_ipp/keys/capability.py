"""The capability: the one file whose holder is let in (S8).  Pure data; nothing in it names code or a command.

`parse_capability` accepts exactly what `dump_capability` writes: all fields, no other ones, none twice, each bounded;
names and addresses by their own rules; a secret key that belongs to the public one, or a lock in its place (S13); the
signature of the issuer named in the file over everything but these; not expired.  Errors never quote a secret.  Whether
the issuer is to be trusted is not decided here (see `owned`): a file is as trustworthy as the way it came.

A locked file is unlocked by whatever is given as `unlock`; with nothing given, its user is asked (see `unlocking`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from secure_ipp import limits
from secure_ipp.errors import CapabilityError, SecureIppError
from secure_ipp.keys import fields, strict_json
from secure_ipp.keys.curve import CurvePublicKey, CurveSecretKey, KeyPair
from secure_ipp.keys.grants import Grant
from secure_ipp.keys.issuer import IssuerPublicKey
from secure_ipp.keys.private_files import Path, read_private
from secure_ipp.keys.sealing import KeyringEntry, Lock, Locked, Sealed, Subject, Unlock, checked_lock
from secure_ipp.keys.signing import BadSignature, SigningKey, VerifyKey

FORMAT: Literal["secure-ipp-capability/1"] = "secure-ipp-capability/1"
PURPOSE = "capability/1"
_UNSIGNED = frozenset({"secret_key", "sealed", "keyring", "signature"})
_FILE_OF = {"client": "ipcontroller-client.json", "engine": "ipcontroller-engine.json"}


class PublicPart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What a capability file says in clear, sealed or not."""

    format: Literal["secure-ipp-capability/1"]
    cluster: fields.Name
    cluster_id: fields.Id
    role: Literal["client", "engine"]
    name: fields.Name
    rights: fields.Rights
    expires: fields.Moment  # seconds since the epoch; 0: never
    server_keys: Annotated[tuple[CurvePublicKey, ...], Meta(min_length=1, max_length=2)]  # current, next
    issuer_key: IssuerPublicKey
    public_key: CurvePublicKey
    door: fields.Doors
    ssh: str
    ssh_host_keys: fields.HostKeys = ()  # may add to what the user's ssh knows, never override it (S23)
    post_quantum: bool = False  # ssh's key exchange must be
    curve: bool  # false: this cluster's only doors are Unix sockets (S25)
    parents: Annotated[tuple[Grant, ...], Meta(max_length=limits.DERIVED_DEPTH)] = ()  # handed on by (S32)
    signature: fields.Signature

    @property
    def server_key(self) -> CurvePublicKey:
        """What the doors prove themselves with now."""
        return self.server_keys[0]

    @property
    def tcp_doors(self) -> tuple[str, ...]:
        """Where the door listens with Curve."""
        return tuple(door for door in self.door if not fields.is_socket_door(door))

    @property
    def socket_doors(self) -> tuple[str, ...]:
        """Where the door is a Unix socket at the host that `ssh` leads to (S25)."""
        return tuple(door for door in self.door if fields.is_socket_door(door))

    @property
    def subject(self) -> Subject[CurveSecretKey]:
        """Whose secret stands in the file, and what a box of it is bound to."""
        return Subject(
            CurveSecretKey, self.public_key, PURPOSE, _public_part(self),
            f"the {self.role} file of {self.name!r} in cluster {self.cluster!r}",
        )

    def require_role(self, role: Literal["client", "engine"]) -> Self:
        """This capability, if it is of that role.

        Raises:
            CapabilityError: it is the other kind of file.
        """
        if self.role != role:
            raise CapabilityError(
                f"this is the {self.role} file of cluster {self.cluster!r}; here the {role} file is needed",
                f"use {_FILE_OF[role]}, which lies beside it where the keys were made",
                code="capability-role",
            )
        return self

    def with_secret(self, secret: CurveSecretKey) -> Capability:
        """The same with its secret in clear."""
        return Capability(**_shared(self), secret_key=secret)

    def with_lock(self, lock: Lock) -> LockedCapability:
        """The same with a lock in place of the secret; the issuer's signature stays as it is."""
        return LockedCapability(**_shared(self), **lock.fields())

    def to_file(self) -> bytes:
        """The text of the file, **perhaps with the secret**; for `write_private` alone."""
        return fields.to_file(self)

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"<{kind} {self.role} {self.name!r} of cluster {self.cluster!r}, key {self.public_key.fingerprint}>"

    def __rich_repr__(self) -> Any:
        yield "role", self.role
        yield "name", self.name
        yield "cluster", self.cluster
        yield "key", self.public_key.fingerprint


class Capability(PublicPart, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One identity of one cluster, and the way to its doors."""

    secret_key: CurveSecretKey

    @property
    def keys(self) -> KeyPair:
        """The holder's key pair."""
        return KeyPair(self.public_key, self.secret_key)

    @property
    def locked(self) -> None:
        """It is not."""
        return None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `parse_capability`, **the secret included**: for a pipe to a child, nothing else."""
        return fields.to_plain(self)


class LockedCapability(PublicPart, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A capability whose secret is sealed, or lies in the OS keyring (S13)."""

    sealed: Sealed | UnsetType = UNSET
    keyring: KeyringEntry | UnsetType = UNSET

    @property
    def locked(self) -> Locked[CurveSecretKey]:
        """What must be unlocked."""
        subject = self.subject
        return Locked(subject, checked_lock(subject, self.sealed, self.keyring))


def sign_capability(issuer: SigningKey, *, keys: KeyPair, **values: Any) -> Capability:
    """A capability of these keys and values, signed by the issuer, or by the holder who hands it on.

    Args:
        issuer: the cluster's; with `parents`, the key of the last one's holder.
        keys: the holder's.
        values: cluster, cluster_id, role, name, rights, expires, server_keys, door; perhaps ssh, ssh_host_keys,
            post_quantum and curve (true unless said); of a derived one also parents and issuer_key.

    Raises:
        CapabilityError: the values make no capability.
    """
    values = {"ssh": "", "curve": True, **values}
    if "issuer_key" not in values:
        values["issuer_key"] = issuer.public()
    draft = Capability(
        format=FORMAT, public_key=keys.public, secret_key=keys.secret, signature="", **values,
    )
    signed = msgspec.structs.replace(draft, signature=fields.sign(issuer, PURPOSE, _public_part(draft)))
    return parse_capability(signed.as_dict(), now=0.0)


def sign_public_part(issuer: SigningKey, public_key: CurvePublicKey, values: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a capability but for its secret, which its holder alone has and adds.

    Args:
        issuer: the cluster's.
        public_key: the holder's.
        values: as for `sign_capability`.

    Raises:
        CapabilityError: the values make no capability.
    """
    stand_in = KeyPair.generate()
    whole = sign_capability(issuer, keys=stand_in, **values)  # checks the values
    draft = msgspec.structs.replace(whole, public_key=public_key)
    signature = fields.sign(issuer, PURPOSE, _public_part(draft))
    plain = msgspec.structs.replace(draft, signature=signature).as_dict()
    return {name: value for name, value in plain.items() if name != "secret_key"}


def dump_capability(capability: Capability) -> bytes:
    """The text of the file, **the secret included**; for `write_private` alone."""
    return capability.to_file()


def load_capability(path: Path, *, now: float | None = None, unlock: Unlock | None = None) -> Capability:
    """The capability of a private file, with its secret.

    Args:
        path: the file; only its owner may be able to read it.
        now: seconds since the epoch; None: the clock's.
        unlock: what opens a file that is sealed; None: its user is asked, where there is a way to ask.

    Raises:
        MissingFile: there is none.
        PrivateFileError: others could read or change it.
        CapabilityError: it is damaged, expired, not signed by its issuer, or no such file at all.
        SealError: it is sealed, and was not opened.
    """
    return _unlocked(read_capability(path, now=now), unlock)


def read_capability(path: Path, *, now: float | None = None) -> Capability | LockedCapability:
    """What a private file says, without unlocking anything.

    Raises:
        MissingFile, PrivateFileError, CapabilityError: as in `load_capability`.
    """
    where = strict_json.shown(os.fspath(path))
    data: bytes | None = read_private(path, limits.CAPABILITY_BYTES)
    result = _parse(data, time.time() if now is None else now)
    del data
    if isinstance(result, CapabilityError):
        raise CapabilityError(f"{where}: {result.message}", result.advice, code=result.code)
    return result


def parse_capability(
    data: bytes | Mapping[str, Any], *, now: float | None = None, unlock: Unlock | None = None
) -> Capability:
    """The capability that these unverified bytes, or this mapping, spell.

    Raises:
        CapabilityError: they spell none, it is expired, or its issuer has not signed it.
        SealError: it is sealed, and was not opened.
    """
    result = _parse(data, time.time() if now is None else now)
    del data
    if isinstance(result, CapabilityError):
        raise result
    return _unlocked(result, unlock)


def _unlocked(found: Capability | LockedCapability, unlock: Unlock | None) -> Capability:
    if isinstance(found, Capability):
        return found
    if unlock is None:
        from secure_ipp.keys.unlocking import Unlocker

        unlock = Unlocker()
    return found.with_secret(unlock(found.locked))


def _parse(data: bytes | Mapping[str, Any] | None, now: float) -> Capability | LockedCapability | CapabilityError:
    """The error is returned, not raised: a traceback of this frame would hold the secret in its variables (S11)."""
    try:
        return _checked(data, now)
    except CapabilityError as error:
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return error


def _checked(data: bytes | Mapping[str, Any] | None, now: float) -> Capability | LockedCapability:
    plain = _plain(data)
    _check_format(plain)
    locked = plain.keys() & {"sealed", "keyring"} and "secret_key" not in plain
    kind: type[Capability | LockedCapability] = LockedCapability if locked else Capability
    try:
        capability = msgspec.convert(plain, kind, dec_hook=fields.decode_key)
        fields.check_rights(capability.role, capability.rights)
        for door in capability.door:
            fields.check_door(door)
        fields.check_ssh_route(capability.ssh)
        fields.check_host_keys(capability.ssh_host_keys)
        if isinstance(capability, LockedCapability):
            checked_lock(capability.subject, capability.sealed, capability.keyring)
    except msgspec.ValidationError as error:
        raise _damaged(strict_json.shown(str(error))) from None
    except ValueError as error:
        text = error.message if isinstance(error, SecureIppError) else str(error)
        raise _damaged(strict_json.shown(text)) from None
    _check_curve(capability)
    try:
        fields.verify(_signer(capability), PURPOSE, _public_part(capability), capability.signature)
    except (BadSignature, ValueError):
        raise CapabilityError(
            "the file was changed after it was made, or its issuer never signed it",
            "take a fresh copy from the host where the keys were made; files are not edited by hand",
            code="capability-signature",
        ) from None
    if isinstance(capability, Capability) and capability.secret_key.public() != capability.public_key:
        raise _damaged("its secret key does not belong to its public key")
    if capability.expires and now >= capability.expires:
        raise CapabilityError(
            f"the {capability.role} file {capability.name!r} of cluster {capability.cluster!r} expired on "
            f"{time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(capability.expires))}",
            "ask the cluster's owner for a new one; if this host's clock is wrong, set it",
            code="capability-expired",
        )
    return capability


def _check_curve(capability: PublicPart) -> None:
    """No file leads to a plain connection over TCP; that there is no Curve is said by the file, never learnt (S25)."""
    if not capability.curve and capability.tcp_doors:
        raise CapabilityError(
            "this file asks for a plain connection over TCP, which there never is",
            "ask for a fresh file; a cluster without Curve has no door but a Unix socket, which is reached by ssh",
            code="no-curve",
        )
    if capability.curve and not capability.tcp_doors:
        raise _damaged("a cluster with Curve has a door on TCP, and this file names none")


def _signer(capability: PublicPart) -> VerifyKey:
    """Who must have signed it: the issuer, or the last of those who handed it on, each vouched for by the one before.

    Raises:
        BadSignature, ValueError: the chain does not hold, or the capability says more than its parent.
    """
    if not capability.parents:
        return capability.issuer_key
    parent, *others = capability.parents
    parent.verify(capability.issuer_key, capability.cluster_id)
    for child in others:
        child.verify_derived(parent, capability.cluster_id)
        parent = child
    within = not parent.expires or 0 < capability.expires <= parent.expires
    if parent.signing_key is None or not within or not set(capability.rights) <= set(parent.rights) - {"admin"}:
        raise BadSignature("it says more than its parent")
    return parent.signing_key


def _public_part(capability: PublicPart) -> bytes:
    return fields.canonical(capability, without=_UNSIGNED)


def _shared(capability: PublicPart) -> dict[str, Any]:
    return {name: getattr(capability, name) for name in PublicPart.__struct_fields__}


def _plain(data: bytes | Mapping[str, Any] | None) -> dict[str, Any]:
    if isinstance(data, bytes):
        try:
            return strict_json.parse_object(data, limits.CAPABILITY_BYTES)
        except strict_json.NotJson as error:
            raise _damaged(str(error)) from None
    if isinstance(data, Mapping):
        return dict(data)
    raise _damaged("it is neither bytes nor a mapping")


def _check_format(plain: dict[str, Any]) -> None:
    """Say what a file is that is none of ours."""
    found = plain.get("format")
    if found == FORMAT:
        return
    if found is None and "key" in plain and plain.keys() & {"ssh", "interface", "registration", "url", "location"}:
        raise CapabilityError(
            "this is a connection file of ipyparallel, whose one key is shared by everybody",
            "make keys of this package (secure-ipp keys init), start its controller, and use the file it made",
            code="capability-ipyparallel",
        )
    if isinstance(found, str) and found.startswith("secure-ipp-capability/"):
        raise CapabilityError(
            f"this file is of the format {strict_json.shown(found, 40)!r}; this version reads {FORMAT!r}",
            "install the version of secure-ipp that the controller's host has",
            code="capability-version",
        )
    raise _damaged("it does not say that it is a capability file (field `format`)")


def _damaged(why: str) -> CapabilityError:
    return CapabilityError(
        f"this is no capability file as this package writes it: {why}",
        "take a fresh copy of ipcontroller-client.json or ipcontroller-engine.json from where the keys were made",
    )
