"""Keys for one cluster's life: a temporary home, for users who have made none.

Laws: the home is a fresh 0700 directory of a telling name; what is removed is such a directory and nothing else.  The
cluster listens on the loopback interface only: its keys are for nobody else.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from secure_ipp.cluster import state
from secure_ipp.errors import UsageError
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.places import ClusterPlace

PREFIX = "secure-ipp-throwaway-"
LOOPBACK = "127.0.0.1"
_ABANDONED_SECONDS = 3600.0  # a home that old whose lock nobody holds is nobody's

_log = logging.getLogger(__name__)


def make(name: str = "default", *, ssh_door: bool = False, curve: bool = True) -> ClusterPlace:
    """A cluster of this name, with fresh keys, in a fresh home."""
    sweep(Path(tempfile.gettempdir()), time.time())
    place = ClusterPlace(name, Path(tempfile.mkdtemp(prefix=PREFIX)).resolve())
    try:
        here = [LOOPBACK] if curve else []
        init_cluster(place, hosts=here, bind="".join(here), ssh_door=ssh_door, curve=curve)
    except BaseException:
        remove(place.home)
        raise
    return place


def sweep(directory: Path, now: float) -> None:
    """Remove homes that nobody could remove: those of clusters whose every process was killed."""
    for home in directory.glob(f"{PREFIX}*"):
        try:
            found = home.lstat()
        except FileNotFoundError:
            continue  # its own cluster has just removed it
        if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or now - found.st_mtime < _ABANDONED_SECONDS:
            continue
        if not any(state.is_locked(ClusterPlace(place.name, home)) for place in home.iterdir() if place.is_dir()):
            remove(home)


def remove(home: Path) -> None:
    """Remove such a home, keys and all; one that is gone already is no error.

    Raises:
        UsageError: this directory was not made by `make`.
    """
    if not home.name.startswith(PREFIX) or home.is_symlink():
        raise UsageError(f"{home} is no throw-away home", "remove it by hand if you mean it")
    shutil.rmtree(home, onerror=lambda function, path, info: _log.debug("not removed: %s", path))
