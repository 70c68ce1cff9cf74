"""Signing a capability file of this cluster's owner anew, in place, with something in it changed.

Laws: only what this issuer has signed is signed anew, for it will count as the issuer's word; what is not named stays
as it is, the secret and the lock on it included; a file that says it all already is not touched; the file is replaced
in one step, and no other command changes it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from secure_ipp.errors import EnvironmentProblem, SecureIppError, UsageError
from secure_ipp.keys.capability import PublicPart, read_capability, sign_capability
from secure_ipp.keys.changing import changing
from secure_ipp.keys.desk import Desk
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.private_files import MissingFile, Path, write_private
from secure_ipp.keys.sealed_files import open_to_renew, remove_leftovers

_MADE_ANEW = frozenset({"format", "issuer_key", "public_key", "parents", "signature"})
Changes = Callable[[PublicPart], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What became of files.

    Attributes:
        files: those that were signed anew.
        left: those that were left as they are, and why.
    """

    files: tuple[str, ...]
    left: tuple[tuple[str, str], ...]


def rewrite_files(
    desk: Desk, issuer: IssuerKey, files: Iterable[Path], changes: Changes, *, must: Iterable[Path] = ()
) -> Rewritten:
    """Sign files anew; one that was moved away is nobody's concern, one that cannot be opened is left, and told.

    Args:
        desk: the owner's.
        issuer: its key.
        files: capability files of this cluster.
        changes: what a file says from now on, by what it says.
        must: files at which to stop if they cannot be rewritten.

    Raises:
        EnvironmentProblem: one of `must` was not.
    """
    named = tuple(must)
    rewritten: list[str] = []
    left: list[tuple[str, str]] = []
    for file in (*files, *named):
        try:
            with changing(file):
                if _rewrite(desk, issuer, file, changes):
                    rewritten.append(str(file))
        except MissingFile:
            continue
        except SecureIppError as error:
            if file in named:
                raise EnvironmentProblem(
                    f"{file} was not signed anew: {error.message}",
                    f"all else is done; {error.advice or 'name it again'}",
                ) from None
            left.append((str(file), error.message))
    return Rewritten(tuple(rewritten), tuple(left))


def _rewrite(desk: Desk, issuer: IssuerKey, file: Path, changes: Changes) -> bool:
    """Whether there was something to change."""
    found = read_capability(file, now=0.0)
    if (found.cluster_id, found.issuer_key) != (desk.config().cluster_id, issuer.public()):
        raise UsageError(f"{file} is of another cluster, or another issuer made it up", "move it away")
    if found.parents:
        raise UsageError(f"{file} was handed on by a holder", "its holder makes it anew")
    changed = changes(found)
    if all(getattr(found, name) == value for name, value in changed.items()):
        return False
    opened = open_to_renew(file)
    old = opened.capability
    kept = {name: getattr(old, name) for name in PublicPart.__struct_fields__ if name not in _MADE_ANEW}
    new = sign_capability(issuer, keys=old.keys, **{**kept, **changed})
    write_private(file, opened.to_file(new), exclusive=False)
    remove_leftovers(file)
    return True
