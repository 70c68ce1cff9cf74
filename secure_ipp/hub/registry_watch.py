"""Watches the registry's file: the hub is its only reader while the controller runs (S10).

Decides when to read again and whether to believe what was read; verification itself is `keys.registry`'s.  Laws:
- what cannot be read, verified or believed is a problem, never an older truth: nothing is in force until it can;
- a version below the highest seen, or the same version with other content, is not believed;
- a file is read again when it was replaced or touched, and at each poll while there is a problem.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from secure_ipp.errors import EnvironmentProblem, PolicyError, SecureIppError
from secure_ipp.hub.grants import LiveGrants

Mark = tuple[int, int, int, int, int] | str  # tells one state of a file from another


class RegistryWatch:
    """One file, polled.

    Args:
        path: of the registry's file.
        load: reads and verifies it.
        before: what was in force when a hub last ran here.
    """

    def __init__(self, path: str, load: Callable[[], LiveGrants], before: LiveGrants | None = None) -> None:
        self._path = path
        self._load = load
        self._mark: Mark | None = None
        self._believed = before
        self._told = False
        self._problem = ""

    def poll(self) -> LiveGrants | SecureIppError | None:
        """Grants that are in force from now on, a problem that is new, or None: nothing changed."""
        mark = _mark(self._path)  # before it is read: a change meanwhile is seen by the next poll
        if mark == self._mark and not self._problem:
            return None
        self._mark = mark
        try:
            grants = self._believe(self._load())
        except SecureIppError as error:
            return self._refuse(error)
        except OSError as error:
            problem = f"cannot read the registry {self._path}: {error.strerror or error}"
            return self._refuse(EnvironmentProblem(problem, "see that its disk is there"))
        news = bool(self._problem) or grants != self._believed or not self._told
        self._believed, self._problem, self._told = grants, "", True
        return grants if news else None

    def _refuse(self, error: SecureIppError) -> SecureIppError | None:
        before, self._problem = self._problem, error.message or type(error).__name__
        return error if self._problem != before else None

    def _believe(self, grants: LiveGrants) -> LiveGrants:
        before = self._believed
        if before is not None and grants.version < before.version:
            raise PolicyError(
                f"the registry is of version {grants.version}, and version {before.version} was in force already",
                "put the newest registry back; an older copy would revive revoked keys",
                code="registry-rollback",
            )
        if before is not None and grants.version == before.version and grants != before:
            raise PolicyError(
                f"the registry has changed without a new version (it is still {grants.version})",
                "put the registry back, and change it through the commands only",
                code="registry-fork",
            )
        return grants


def _mark(path: str) -> Mark:
    try:
        found = os.lstat(path)
    except OSError as error:
        return error.strerror or str(error)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
