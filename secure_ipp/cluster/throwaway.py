"""Keys for one cluster's life: a temporary home, for users who have made none.

Laws: the home is a fresh 0700 directory of a telling name; what is removed is such a directory and nothing else.  The
cluster listens on the loopback interface only: its keys are for nobody else.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from secure_ipp.errors import UsageError
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.places import ClusterPlace

PREFIX = "secure-ipp-throwaway-"
LOOPBACK = "127.0.0.1"

_log = logging.getLogger(__name__)


def make(name: str = "default") -> ClusterPlace:
    """A cluster of this name, with fresh keys, in a fresh home."""
    place = ClusterPlace(name, Path(tempfile.mkdtemp(prefix=PREFIX)).resolve())
    try:
        init_cluster(place, hosts=[LOOPBACK], bind=LOOPBACK)
    except BaseException:
        remove(place.home)
        raise
    return place


def remove(home: Path) -> None:
    """Remove such a home, keys and all; one that is gone already is no error.

    Raises:
        UsageError: this directory was not made by `make`.
    """
    if not home.name.startswith(PREFIX) or home.is_symlink():
        raise UsageError(f"{home} is no throw-away home", "remove it by hand if you mean it")
    shutil.rmtree(home, onerror=lambda function, path, info: _log.debug("not removed: %s", path))
