"""Throw-away homes: removed with their cluster, and swept when nobody was left to remove them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from secure_ipp.cluster import state, throwaway
from secure_ipp.errors import UsageError
from secure_ipp.keys.places import ClusterPlace


def _home(directory: Path, name: str, age: float) -> Path:
    home = directory / f"{throwaway.PREFIX}{name}"
    (home / "default").mkdir(parents=True, mode=0o700)
    os.utime(home, (time.time() - age, time.time() - age))
    return home


def test_only_old_homes_that_nobody_holds_are_swept(tmp_path: Path) -> None:
    old, young = _home(tmp_path, "old", 7200), _home(tmp_path, "young", 10)
    held = _home(tmp_path, "held", 7200)
    lock = state.take_lock(ClusterPlace("default", held))
    os.utime(held, (time.time() - 7200, time.time() - 7200))
    (tmp_path / "something-else").mkdir()
    throwaway.sweep(tmp_path, time.time())
    assert not old.exists()
    assert young.exists() and held.exists() and (tmp_path / "something-else").exists()
    lock.release()


def test_no_other_directory_is_ever_removed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    link = tmp_path / f"{throwaway.PREFIX}link"
    link.symlink_to(target)
    os.utime(link, (0, 0), follow_symlinks=False)
    throwaway.sweep(tmp_path, time.time())
    assert target.exists() and link.is_symlink()
    for path in (target, link):
        with pytest.raises(UsageError):
            throwaway.remove(path)
