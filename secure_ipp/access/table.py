"""The gate's table: which public key is who, at which door.  An immutable snapshot; a change makes another one.

Laws: a key stands once in a domain; a retired key stands nowhere; a duplicate is refused when the table is
built, so that no order of entries decides who somebody is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from secure_ipp.errors import PolicyError

Domain = Literal["client", "engine", "controller"]
Role = Literal["client", "agent", "engine", "scheduler", "probe"]
DOMAINS: tuple[Domain, ...] = ("client", "engine", "controller")
# Doors that are Unix sockets and take proofs (S25), and the doors whose keys are good there.
SOCKET_DOORS: Mapping[str, Domain] = MappingProxyType({"client-socket": "client", "engine-socket": "engine"})
ROLES_OF_DOMAIN: Mapping[str, frozenset[str]] = MappingProxyType({
    "client": frozenset({"client", "probe"}),
    "engine": frozenset({"agent", "engine", "probe"}),
    "controller": frozenset({"scheduler", "probe"}),
})


@dataclass(frozen=True, slots=True)
class Admission:
    """Who a key is.

    Attributes:
        user_id: the grant's random id; becomes the connection's User-Id.
        role: what the peer may be here.
        grant: the grant's name, for people.
        expires: seconds since the epoch; 0: never.
        networks: from which alone it comes in; empty: from anywhere.
    """

    user_id: str
    role: Role
    grant: str
    expires: float = 0.0
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for value in (self.user_id, self.role, self.grant):
            if not value or len(value) > 255 or not value.isascii() or not value.isprintable():
                raise PolicyError("an admission names its user, role and grant in printable ASCII", code="admission")


class GateTable:
    """Keys and who they are, by domain."""

    __slots__ = ("_entries", "_version")

    def __init__(self, entries: Mapping[tuple[str, bytes], Admission] | None = None, *, version: int = 0) -> None:
        """Take a copy of the entries.

        Raises:
            PolicyError: an entry's domain, key or role cannot be.
        """
        for (domain, key), admission in (entries or {}).items():
            if admission.role not in ROLES_OF_DOMAIN.get(domain, ()):
                raise PolicyError(f"the role {admission.role!r} has no place at the door {domain!r}", code="admission")
            if type(key) is not bytes or len(key) != 32:
                raise PolicyError("a Curve key is 32 bytes", code="admission")
        self._entries = dict(entries or {})
        self._version = version

    @property
    def version(self) -> int:
        """Of the registry that it was built from."""
        return self._version

    def find(self, domain: str, key: bytes) -> Admission | None:
        """Who this key is at this door; at one that is a Unix socket it is who it is at its sister with Curve."""
        return self._entries.get((SOCKET_DOORS.get(domain, domain), key))

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<GateTable of {len(self)} keys, version {self._version}>"


class TableBuilder:
    """Collects the entries of one table."""

    def __init__(self, *, version: int = 0, retired: Iterable[bytes] = ()) -> None:
        """Start empty.

        Args:
            version: of the registry.
            retired: public keys that are never admitted again, in any role.
        """
        self._version = version
        self._retired = frozenset(retired)
        self._entries: dict[tuple[str, bytes], Admission] = {}

    def add(self, domain: Domain, key: bytes, admission: Admission) -> None:
        """Add one key.

        Raises:
            PolicyError: the key is retired, or is there already.
        """
        if key in self._retired:
            raise PolicyError("a retired key is never admitted again", "make a new key pair", code="key-retired")
        if (domain, key) in self._entries:
            raise PolicyError("one key cannot be two identities", "make a new key pair", code="key-reused")
        self._entries[domain, key] = admission

    def build(self) -> GateTable:
        """The table.

        Raises:
            PolicyError: an entry cannot be.
        """
        return GateTable(self._entries, version=self._version)
