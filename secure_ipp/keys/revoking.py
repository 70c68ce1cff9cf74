"""Finding identities by what people type, and taking them away.

An identity is meant by its name, by its key's fingerprint, or by the beginning of either.  One that was handed on is
called by the names above it, too (``ada/ben``), which no name of the registry can look like.  Laws: what is taken
away is retired for ever; a word that means two identities means none.
"""

from __future__ import annotations

from dataclasses import dataclass

from secure_ipp.errors import UsageError
from secure_ipp.keys.derived import DerivedError, DerivedGrants, by_id, chain_among
from secure_ipp.keys.desk import Applied, Desk
from secure_ipp.keys.grants import Grant
from secure_ipp.keys.registry import Registry
from secure_ipp.keys.strict_json import shown


@dataclass(frozen=True, slots=True)
class Identity:
    """A grant and what it is called."""

    title: str
    grant: Grant


def identities(desk: Desk) -> list[Identity]:
    """All of a cluster's; whether a derived one is in force is not decided here.

    Raises:
        RegistryError, DerivedError: what is on disk cannot be relied on.
    """
    registry = Registry.load(desk.place)
    return known_identities(registry, DerivedGrants.load(desk.place, registry.cluster_id))


def known_identities(registry: Registry, file: DerivedGrants) -> list[Identity]:
    """Those of the registry, then those derived whose parents are there."""
    derived = file.grants
    found = [Identity(grant.name, grant) for grant in registry.grants]
    known, retired = by_id(registry, derived), set(registry.retired)
    for grant in derived:
        try:
            above = chain_among(known, grant)
        except DerivedError:
            continue  # its parent was taken away, and it with it
        if grant.key not in retired:
            found.append(Identity("/".join(one.name for one in (*above, grant)), grant))
    return found


def choose(known: list[Identity], word: str, *, prefix: bool = False) -> list[Identity]:
    """Those that a word means: one, or with `prefix` all whose title or fingerprint begins so.

    Raises:
        UsageError: it means none, or is not clear.
    """
    if prefix:
        found = [one for one in known if word and (one.title.startswith(word) or _print(one).startswith(word))]
    else:
        found = [one for one in known if one.title == word] or [one for one in known if _print(one) == word]
    if not found:
        begins = " that begins with" if prefix else ""
        raise UsageError(
            f"there is no identity{begins} {shown(word, 64)!r}", "secure-ipp keys list shows names and fingerprints",
            code="unknown-name",
        )
    if len(found) > 1 and not prefix:
        raise UsageError(
            f"{shown(word, 64)!r} means {len(found)} identities", f"say which: {', '.join(map(_print, found))}",
            code="ambiguous",
        )
    return found


def grant_of(desk: Desk, word: str) -> Grant:
    """The one grant of the registry that this word means.

    Raises:
        UsageError: it means none, or one that was handed on by its holder.
    """
    (found,) = choose(identities(desk), word)
    if found.grant.parent:
        raise UsageError(
            f"{found.title!r} was handed on by its holder", "that holder makes another; you can take it away (revoke)"
        )
    return found.grant


def revoke(desk: Desk, chosen: list[Identity]) -> Applied:
    """Take these away, in one change of the registry.

    Raises:
        UsageError: all of them were taken away meanwhile.
        SecureIppError: it is not in force.
    """
    ids = {one.grant.id for one in chosen if not one.grant.parent}
    keys = {one.grant.key for one in chosen if one.grant.parent}
    return desk.apply(desk.place, desk.issuer(), lambda registry: registry.without(ids, keys))


def _print(identity: Identity) -> str:
    return identity.grant.key.fingerprint
