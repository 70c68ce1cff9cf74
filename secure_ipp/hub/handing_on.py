"""What holders hand on (S32): merges derived grants into those in force, and judges a holder's request for one more.

Pure; `keys.derived` has the proofs.  Laws: who hands on is who asks, by the envelope, and only from its own grant; a
derived grant is in force only as long as every grant above it; its name tells of whom it comes; an engine's key, or one
that anybody holds or held, is nobody's new one; a request that was granted before is granted again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import replace

import msgspec

from secure_ipp import limits
from secure_ipp.errors import Refused
from secure_ipp.hub.grants import LiveGrants, info_of
from secure_ipp.keys import fields, strict_json
from secure_ipp.keys.derived import DerivedError, DerivedGrants, chain_of, check_new, live_derived
from secure_ipp.keys.grants import Grant
from secure_ipp.keys.registry import Registry
from secure_ipp.wire.messages import GrantInfo

_MINUTE = 60.0


class HandingOn:
    """Derived grants, and the registry that they hang on.

    Attributes:
        problem: why nothing that was handed on is in force; empty: it is.
    """

    def __init__(self) -> None:
        self.problem = "not read yet"
        self._registry: Registry | None = None
        self._derived: DerivedGrants | None = None
        self._live: list[Grant] = []
        self._granted: dict[str, deque[float]] = {}  # when, by the issuer's grant at the root, in the last minute

    def loaded(self, derived: DerivedGrants) -> None:
        """What was handed on before."""
        self._derived, self.problem = derived, ""

    def damaged(self, problem: str) -> None:
        """The file cannot be read or believed: nothing is in force, and nothing is written over it."""
        self._derived, self.problem = None, problem

    def merged(self, grants: LiveGrants, now: float) -> LiveGrants:
        """The registry's grants, and those that hang on them.

        Args:
            grants: of the registry alone.
            now: trusted time.
        """
        self._registry, self._live = grants.registry, []
        if grants.registry is None or self._derived is None:
            return grants
        self._live = live_derived(grants.registry, self._derived, now)
        by_id: dict[str, GrantInfo] = dict(grants.by_id)
        for grant in _parents_first(self._live, by_id):
            parent = by_id[grant.parent]
            name = f"{parent.name}/{grant.name}"[:_LABEL_CHARS]  # its root stands in front, whatever holders add
            by_id[grant.id] = msgspec.structs.replace(info_of(grant), name=name)
        return replace(grants, by_id=by_id)

    def chain(self, user: str) -> bytes:
        """The asker's own grant and all above it, the issuer's first: a JSON array of signed grants.

        Raises:
            Refused: it is not known.
        """
        registry, own = self._known(user)
        return msgspec.json.encode([fields.to_plain(one) for one in (*chain_of(registry, self._live, own), own)])

    def judged(self, user: str, body: bytes, engines: Collection[bytes], now: float) -> DerivedGrants | None:
        """What is to be kept if this request is granted; None: it is kept already.

        Args:
            user: who asks, by the envelope.
            body: the signed grant, unverified JSON.
            engines: session keys of the engines that are there.
            now: trusted time.

        Raises:
            Refused: it is not granted.
        """
        registry, own = self._known(user)
        if self._derived is None:
            raise _refused(self.problem)
        try:
            plain = strict_json.parse_object(body, limits.CAPABILITY_BYTES)
            grant = msgspec.convert(plain, Grant, dec_hook=fields.decode_key)
        except ValueError as error:
            raise _refused(f"this is no grant: {strict_json.shown(str(error), 200)}") from None
        if grant.parent != own.id:
            raise _refused("a holder hands on its own grant and nobody else's")
        if grant in self._live:
            return None
        if grant.key.raw in engines:
            raise _refused("this key is another one's")
        self._count((*chain_of(registry, self._live, own), own)[0].id, now)
        try:
            return check_new(registry, self._derived, grant, now)
        except DerivedError as error:
            raise Refused(error.message, error.advice, code="not-derived") from None

    @property
    def file(self) -> DerivedGrants | None:
        """What is on the disk; None: nothing that can be believed."""
        return self._derived

    def kept(self, derived: DerivedGrants) -> None:
        """It is on the disk."""
        self._derived = derived

    def _known(self, user: str) -> tuple[Registry, Grant]:
        registry = self._registry
        if registry is None:
            raise _refused("the registry of keys cannot be read")
        own = registry.grant(user) or next((grant for grant in self._live if grant.id == user), None)
        if own is None or own.role != "client":
            raise _refused("this identity has no grant in force")
        return registry, own

    def _count(self, root: str, now: float) -> None:
        """Each of them is written to the disk and told to everybody."""
        times = self._granted.setdefault(root, deque())
        while times and times[0] <= now - _MINUTE:
            times.popleft()
        if len(times) >= limits.DERIVED_PER_MINUTE:
            raise Refused(
                f"more than {limits.DERIVED_PER_MINUTE} capabilities in a minute", "hand on more later", code="quota"
            )
        times.append(now)
        for other in [other for other, asked in self._granted.items() if asked[-1] <= now - _MINUTE]:
            del self._granted[other]


_LABEL_CHARS = 255  # of ZAP metadata


def _parents_first(grants: list[Grant], known: Mapping[str, GrantInfo]) -> list[Grant]:
    """In an order in which each one's parent stands before it."""
    waiting: dict[str, list[Grant]] = {}
    for grant in grants:
        waiting.setdefault(grant.parent, []).append(grant)
    ordered = [grant for parent in known for grant in waiting.pop(parent, ())]
    for grant in ordered:  # grows while it is walked
        ordered += waiting.pop(grant.id, ())
    return ordered


def _refused(why: str) -> Refused:
    return Refused(f"this capability cannot be handed on: {why}", "see what your own file allows", code="not-derived")
