"""The registry that the hub last adopted, kept beside the journal's key, for the next start to compare with.

A copy of the registry, which its issuer signed, so that nobody can make the hub believe in another past.  Laws: it is
written after its version is on record; a copy that is missing or damaged means that everything in force is told anew,
never that something is believed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from secure_ipp import limits
from secure_ipp.errors import SecureIppError
from secure_ipp.hub.grants import LiveGrants, from_registry
from secure_ipp.keys import fields
from secure_ipp.keys.config import load_config
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import read_private, write_private
from secure_ipp.keys.registry import Registry, parse_registry

_log = logging.getLogger(__name__)


class AdoptedRegistry:
    """Reads the registry, and remembers which one was adopted.

    Args:
        place: whose.
        at_least: gives the highest version that the journal has on record (S10).
    """

    def __init__(self, place: ClusterPlace, at_least: Callable[[], int]) -> None:
        self._place = place
        self._path = place.durable_path / "registry.adopted.json"
        self._at_least = at_least
        self._read: Registry | None = None
        self._kept = -1

    def load(self) -> LiveGrants:
        """The registry on disk, verified, and no older than the journal has seen.

        Raises:
            RegistryError, PrivateFileError, NoKeys: it cannot be relied on.
        """
        self._read = Registry.load(self._place, at_least=self._at_least())
        return from_registry(self._read)

    def before(self) -> LiveGrants | None:
        """What was adopted when a hub last ran here; None: nobody knows."""
        try:
            config = load_config(self._place)
            data = read_private(self._path, limits.REGISTRY_BYTES)
            registry = parse_registry(data, cluster_id=config.cluster_id, issuer=config.issuer_key)
        except SecureIppError as error:
            _log.info("no registry was adopted before: %s", error.message)
            return None
        self._kept = registry.version
        return from_registry(registry)

    def keep(self) -> None:
        """Remember what was read last; a disk that says no costs only that it is told again."""
        if self._read is None or self._read.version == self._kept:
            return
        try:
            write_private(self._path, fields.to_file(self._read), exclusive=False)
            self._kept = self._read.version
        except SecureIppError as error:
            _log.warning("the adopted registry was not kept: %s", error.message)
