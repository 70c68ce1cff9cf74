"""The owner's desk: where a cluster's keys are issued, changed and taken away.

It holds the way in which a change of the registry comes into force, which this room cannot know (a running controller
must be told), and the one order in which files and registry are written.  Law of `publish`: the file is there before
the registry is changed, and goes again if the registry was not, so that no identity is let in whose file nobody has,
and no existing file is touched.  A kill in between leaves a file that opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from secure_ipp import limits
from secure_ipp.errors import SecureIppError
from secure_ipp.keys import fields
from secure_ipp.keys.cluster_keys import load_issuer
from secure_ipp.keys.config import ClusterConfig, load_config
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import AlreadyThere, Path, read_private, remove_private, write_private
from secure_ipp.keys.registry import Registry

Change = Callable[[Registry], Registry]


class Applied(Protocol):
    """A change that stands in the registry."""

    @property
    def registry(self) -> Registry:
        """Its new version."""

    @property
    def in_force(self) -> bool:
        """Whether a running controller has confirmed it."""

    @property
    def controller(self) -> str:
        """"running" or "stopped"; with the latter it is in force at the next start."""


class Apply(Protocol):
    """What changes the registry and has a running controller adopt it."""

    def __call__(self, place: ClusterPlace, issuer: IssuerKey, change: Change, /) -> Applied:
        """Do so.

        Raises:
            SecureIppError: nothing was changed; or, with the code "not-in-force", it was and no controller confirmed.
        """


@dataclass(frozen=True, slots=True)
class Desk:
    """One cluster's desk."""

    place: ClusterPlace
    apply: Apply

    def issuer(self) -> IssuerKey:
        """The issuer's key."""
        return load_issuer(self.place)

    def config(self) -> ClusterConfig:
        """Where the doors are."""
        return load_config(self.place)

    def publish(
        self, issuer: IssuerKey, path: Path, data: bytes, change: Change, made: Callable[[Registry], bool], *,
        over: bytes | None = None,
    ) -> Applied:
        """Write a file and change the registry, both or none.

        Args:
            issuer: its key.
            path: the file's.
            data: its text.
            change: the registry's change.
            made: whether a registry contains the change.
            over: what the file held before; None: it must be new.

        Raises:
            AlreadyThere: something has this name.
            SecureIppError: as by `Apply`; with "not-in-force" the file stays.
        """
        Registry.load(self.place)  # one that cannot be relied on is no reason to write a file
        write_private(path, data, exclusive=over is None)
        try:
            return self.apply(self.place, issuer, change)
        except BaseException as error:
            if not self._stands(made):
                _take_back(path, over)
            elif isinstance(error, SecureIppError):
                error.advice = f"{error.advice}; {path} was written and is good as soon as it is in force".lstrip("; ")
            raise

    def _stands(self, made: Callable[[Registry], bool]) -> bool:
        """Whether the change is in the registry; yes when in doubt: a file too many opens nothing."""
        try:
            return made(Registry.load(self.place))
        except SecureIppError:
            return True


def check_free(path: Path) -> None:
    """Return if nothing has this name: before work is done for a file that could not be written.

    Raises:
        AlreadyThere: something has.
    """
    import os

    if os.path.lexists(path):
        raise AlreadyThere(f"{os.fspath(path)} is there already", "move it away first; nothing is overwritten")


def read_file(path: Path) -> bytes:
    """A capability file's bytes, to be put back.

    Raises:
        MissingFile, PrivateFileError: it is not there, or others could read it.
    """
    return fields.FileText(read_private(path, limits.CAPABILITY_BYTES))


def _take_back(path: Path, over: bytes | None) -> None:
    if over is None:
        remove_private(path)
    else:
        write_private(path, over, exclusive=False)
