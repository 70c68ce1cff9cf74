"""What a tunnel is asked to be, from a file and its user's wishes."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_ipp.errors import UsageError
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.tunnel import reach
from secure_ipp.tunnel.reached import Wishes
from secure_ipp.tunnel.spec import Spec
from secure_ipp.tunnel.ways import Way

FINGERPRINT = "SHA256:" + "A" * 43


@pytest.fixture
def place(home: Path) -> ClusterPlace:
    made = ClusterPlace("lab")
    init_cluster(made, hosts=["127.0.0.1"], ssh="ada@login", ssh_host_keys=[FINGERPRINT])
    return made


def spec(place: ClusterPlace, **wishes: object) -> Spec:
    capability = load_capability(place.client_file)
    way = Way("ssh", capability.tcp_doors, by_proof=False, why="")
    return reach.spec_of(capability, way, Wishes(backend="openssh", **wishes))  # type: ignore[arg-type]


def test_s23_the_files_fingerprints_are_about_the_files_route_alone(place: ClusterPlace) -> None:
    assert spec(place).fingerprints == spec(place, route="ada@login").fingerprints == [FINGERPRINT]
    assert spec(place, route="ada@elsewhere").fingerprints == []


def test_paths_mean_the_same_wherever_the_keeper_runs(
    place: ClusterPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two users with a file of the same name in different directories do not share a tunnel."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").touch()
    monkeypatch.setenv(reach.CONFIG_VARIABLE, "config")
    found = spec(place, identity="key")
    assert (found.config, found.identity) == (str(tmp_path / "config"), str(tmp_path / "key"))
    for same in ("", "none"):
        monkeypatch.setenv(reach.CONFIG_VARIABLE, same)
        assert spec(place).config == same
    with pytest.raises(UsageError):
        spec(place, identity="no such key")
