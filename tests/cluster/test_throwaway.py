"""Throw-away homes: removed with their cluster, and swept when nobody was left to remove them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from secure_ipp.cluster import launch, state, throwaway
from secure_ipp.cluster.cluster import Cluster
from secure_ipp.errors import UsageError
from secure_ipp.keys.capability import load_capability
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


@pytest.mark.parametrize("curve", [True, False])
def test_throw_away_keys_have_the_doors_that_were_asked_for(
    curve: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = throwaway.make(ssh_door=True, curve=curve)
    for file in (place.client_file, place.engine_file):
        made = load_capability(file)
        assert len(made.socket_doors) == 1 and bool(made.tcp_doors) is curve
        assert all(door.startswith("tcp://127.0.0.1:") for door in made.tcp_doors)
    throwaway.remove(place.home)
    assert not list(tmp_path.iterdir())


def test_s25_a_cluster_in_a_program_has_no_less_than_curve_unless_told(
    own_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said reaches the supervisor, and nothing else does."""
    asked: list[tuple[bool, bool]] = []

    def start(place: ClusterPlace, **said: Any) -> Any:
        asked.append((said["ssh_door"], said["curve"]))
        raise UsageError("enough")

    monkeypatch.setattr(launch, "start_controller", start)
    for options in ({}, {"ssh_door": True}, {"curve": False}):
        with pytest.raises(UsageError, match="enough"):
            Cluster(1, **options).start_controller_sync()
    assert asked == [(False, True), (True, True), (False, False)]
    assert not list(own_tmp.glob(f"{throwaway.PREFIX}*"))
