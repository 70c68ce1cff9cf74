"""What the owner orders for one identity: role, rights, end, quotas, engines of its own or shared (S14, S18, S27).

Decides what an order may say and what stands in place of what it does not say; makes nothing.  Laws: a client's rights
are ``task`` and ``direct`` unless named, its engines its own unless sharing is chosen; a join key has no rights but to
join; a name cannot be taken for a fingerprint.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from secure_ipp import limits
from secure_ipp.errors import UsageError
from secure_ipp.keys import fields
from secure_ipp.keys.expiry import parse_expires
from secure_ipp.keys.grants import Quotas
from secure_ipp.keys.names import check_name
from secure_ipp.keys.strict_json import shown
from secure_ipp.keys.ways import AS_THE_CLUSTER, Ways

DEFAULT_RIGHTS = ("task", "direct")
FINGERPRINT = re.compile(r"[a-z2-7]{4}(?:-[a-z2-7]{4}){5}", re.ASCII)
_QUOTAS = Quotas.__struct_fields__
_AMOUNT = re.compile(r"([1-9][0-9]{0,15})([kmgt]?)", re.ASCII | re.IGNORECASE)
_SIZES = {"": 1, "k": limits.KIB, "m": limits.MIB, "g": limits.GIB, "t": 1024 * limits.GIB}

Role = Literal["client", "engine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order that was checked; see `make_order`."""

    name: str
    role: Role
    rights: tuple[str, ...]
    expires: int
    tenancy: Literal["shared", "own"]
    quotas: Quotas
    engines: int
    joins: int
    networks: tuple[str, ...]
    ways: Ways

    def of_grant(self) -> dict[str, Any]:
        """What of it stands in the grant, for `sign_grant`."""
        return {
            "name": self.name, "role": self.role, "rights": self.rights, "expires": self.expires,
            "tenancy": self.tenancy, "quotas": self.quotas, "engines": self.engines, "joins": self.joins,
            "networks": self.networks,
        }


def make_order(
    name: str, *, role: str = "client", rights: str | Iterable[str] | None = None, expires: str = "never", now: float,
    shared_engines: bool | None = None, quotas: str | Mapping[str, int] | Quotas | None = None,
    engines: int | None = None, joins: int | None = None, networks: Iterable[str] = (), ways: Ways = AS_THE_CLUSTER,
) -> Order:
    """An order from what was typed, or given to the Python interface.

    Args:
        name: what people call this identity.
        role: "client", or "engine" for the agents of hosts that run engines.
        rights: of a client: names, or one text with commas.
        expires: see `expiry.parse_expires`.
        now: seconds since the epoch.
        shared_engines: whether a client works on engines that others use, too; None: it does not.
        quotas: of a client: ``tasks=1000,bytes=64M``, or a mapping.
        engines: of a join key: so many at one time; None: `limits.ENGINES_PER_JOIN_KEY`.
        joins: of a join key: so many hosts may ever join with it; None: any number.
        networks: of a join key: addresses (CIDR) from which it is good; none: all.
        ways: what stands in the file of the ways to the cluster; see `ways.make_ways`.

    Raises:
        UsageError: something in it cannot be.
    """
    if role not in ("client", "engine"):
        raise UsageError(f"{shown(role, 40)!r} is no role", "say client or engine", code="role")
    _check_of_role(role, rights=rights, shared_engines=shared_engines, quotas=quotas, engines=engines, joins=joins,
                   networks=tuple(networks))
    is_client = role == "client"
    return Order(
        name=check_label(name), role=role,  # type: ignore[arg-type]
        rights=parse_rights(DEFAULT_RIGHTS if rights is None else rights) if is_client else fields.JOIN_RIGHTS,
        expires=parse_expires(expires, now), tenancy="own" if is_client and not shared_engines else "shared",
        quotas=quotas if isinstance(quotas, Quotas) else parse_quotas(quotas or {}),
        engines=0 if is_client else _count("engines", engines, limits.ENGINES_PER_JOIN_KEY, limits.TARGETS),
        joins=_count("joins", joins, 0, 2**53), networks=tuple(parse_network(one) for one in networks),
        ways=ways,
    )


def check_label(name: str) -> str:
    """A name that a new identity may have, unchanged.

    Raises:
        UsageError: it is no name, or looks like a fingerprint, by which another could be meant.
    """
    if FINGERPRINT.fullmatch(check_name(name)):
        raise UsageError(f"{name!r} looks like a fingerprint", "choose a name that nobody takes for one", code="name")
    return name


def parse_rights(rights: str | Iterable[str]) -> tuple[str, ...]:
    """Rights of a client, each once, in the order of the table.

    Raises:
        UsageError: there are none, or one is none.
    """
    named = [word.strip() for word in (rights.split(",") if isinstance(rights, str) else rights)]
    strange = [word for word in named if word not in fields.CLIENT_RIGHTS]
    if strange or not named:
        what = f"{shown(strange[0], 40)!r} is no right" if strange else "a client without a right can do nothing"
        raise UsageError(what, f"the rights of a client are: {', '.join(fields.CLIENT_RIGHTS)}", code="rights")
    return tuple(right for right in fields.CLIENT_RIGHTS if right in named)


def parse_quotas(quotas: str | Mapping[str, int]) -> Quotas:
    """Quotas of a client; those not named have their defaults.

    Raises:
        UsageError: one is unknown, named twice, or no amount.
    """
    pairs: list[tuple[str, str]] = []
    if isinstance(quotas, str):
        for word in filter(None, (part.strip() for part in quotas.split(","))):
            name, equals, amount = word.partition("=")
            if not equals:
                raise _no_quota(word)
            pairs.append((name.strip(), amount.strip()))
    else:
        pairs = [(name, str(amount)) for name, amount in quotas.items()]
    found: dict[str, int] = {}
    for name, amount in pairs:
        match = _AMOUNT.fullmatch(amount)
        if name not in _QUOTAS or name in found or match is None or (match[2] and name != "bytes"):
            raise _no_quota(f"{name}={amount}")
        found[name] = int(match[1]) * _SIZES[match[2].lower()]
    try:
        return msgspec.convert(found, Quotas)
    except msgspec.ValidationError:
        raise _no_quota(", ".join(f"{name}={amount}" for name, amount in found.items())) from None


def parse_network(text: str) -> str:
    """A network in its one spelling.

    Raises:
        UsageError: it is none.
    """
    try:
        return str(ipaddress.ip_network(text.strip()))
    except ValueError as error:
        raise UsageError(
            f"{shown(text, 80)!r} is no network: {shown(str(error), 100)}",
            "say 192.0.2.0/24, 2001:db8::/32 or an address",
            code="network",
        ) from None


def _check_of_role(role: str, **given: Any) -> None:
    of_engines = ("engines", "joins", "networks")
    strange = [
        name for name, value in given.items()
        if value not in (None, (), {}, "") and (name in of_engines) == (role == "client")
    ]
    if strange:
        other = "engine" if role == "client" else "client"
        raise UsageError(
            f"{strange[0].replace('_', ' ')} cannot be set for the role {role}", f"it belongs to the role {other}",
            code="role",
        )


def _count(what: str, given: int | None, default: int, most: int) -> int:
    if given is None:
        return default
    if not 1 <= given <= most:
        raise UsageError(f"{given} is no number of {what}", f"give one from 1 to {most:,}")
    return given


def _no_quota(text: str) -> UsageError:
    forms = ", ".join(f"{name}=N" for name in _QUOTAS)
    return UsageError(
        f"{shown(text, 80)!r} is no quota",
        f"say {forms}; bytes may end in K, M, G or T; what is left out has its default",
        code="quotas",
    )
