"""``secure-ipp tunnel``: which tunnels a word means."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_ipp.cli.tunnel import _meant
from secure_ipp.errors import UsageError
from secure_ipp.keys.capability import read_capability
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.tunnel.messages import State
from secure_ipp.tunnel.spec import Spec


def state(route: str, doors: list[str], cluster: str) -> State:
    return State("up", spec=Spec(route=route, doors=doors, backend="openssh", cluster=cluster))


def test_a_file_means_the_tunnels_of_its_own_cluster(home: Path) -> None:
    """The same address is another door as seen from another ssh server."""
    place = ClusterPlace("lab")
    init_cluster(place, hosts=["127.0.0.1"], ssh="ada@login")
    file = str(place.client_file)
    doors = list(read_capability(place.client_file, now=0.0).door)
    found = {
        "own": state("ada@login", doors, "lab"), "other": state("ada@elsewhere", doors, "lab"),
        "foreign": state("ada@login", doors, "default"), "none": state("ada@login", ["tcp://10.0.0.1:1"], "lab"),
    }
    assert _meant(file, found) == ["own"]
    del found["own"]
    assert _meant(file, found) == ["other"]  # by a route that was named
    assert _meant("foreign", found) == ["foreign"]
    with pytest.raises(UsageError):
        _meant("nowhere", found)
