"""Whose work an engine may hold (S27).

Pure.  Laws: an engine has at most one tenant in its life: nobody's until it is given its first task, then for good
that of whoever sent it; identities that share engines are one tenant, any other identity is one with those that it
handed its capability on to; which tenant an identity is, is decided when it is first seen and does not change while
anything of it is here.  While all share nobody is kept apart, and none of this costs anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from secure_ipp.wire.messages import GrantInfo

NOBODY = ""  # it was never given a task
SHARED = "shared"  # the identities that work in the same namespaces
UNKNOWN = "unknown"  # an engine of before a restart, of which it is not known whom it worked for
LEAVING = "leaving"  # it gets no task any more; a fresh one takes its place
_WORDS = frozenset({NOBODY, SHARED, UNKNOWN, LEAVING})


class Tenancy:
    """Who is whose tenant.

    Attributes:
        apart: identities are kept apart, since there was one with engines of its own.
    """

    __slots__ = ("_of", "apart")

    def __init__(self) -> None:
        self.apart = False
        self._of: dict[str, str] = {}

    def registry(self, grants: Mapping[str, GrantInfo], remembered: Collection[str]) -> bool:
        """The grants in force; whether identities must be kept apart.

        Args:
            grants: by id.
            remembered: identities of which something is still here.
        """
        known = {user: tenant for user, tenant in self._of.items() if user in grants or user in remembered}
        for user, grant in grants.items():
            if grant.role == "client" and user not in known:
                known[user] = _tenant(grant, grants)
        self._of = known
        return self.apart or any(tenant != SHARED for tenant in known.values())

    def of(self, user: str) -> str:
        """The tenant that this identity's tasks are of; one that is not known is one for itself."""
        return self._of.get(user, user)


def is_identity(tenant: str) -> bool:
    """Whether this tenant is one identity (and those it handed on to)."""
    return tenant not in _WORDS


def _tenant(grant: GrantInfo, grants: Mapping[str, GrantInfo]) -> str:
    """The root of a derived grant decides for all below it."""
    seen = {grant.id}
    while grant.parent in grants and grant.parent not in seen:
        grant = grants[grant.parent]
        seen.add(grant.id)
    return SHARED if grant.tenancy == "shared" else grant.id
