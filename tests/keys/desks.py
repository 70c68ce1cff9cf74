"""A desk without a controller, and what an owner's commands leave behind."""

from __future__ import annotations

from pathlib import Path

from secure_ipp.cluster.registry_change import apply
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.desk import Desk
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.registry import Registry


def new_desk(place: ClusterPlace) -> Desk:
    """A cluster with fresh keys that does not run."""
    init_cluster(place, hosts=["127.0.0.1"], bind="127.0.0.1")
    return Desk(place, apply)


def names(place: ClusterPlace) -> list[str]:
    """Of all grants."""
    return [grant.name for grant in Registry.load(place).grants]


def files(directory: Path) -> list[str]:
    """Everything that is there, hidden files too."""
    return sorted(path.name for path in directory.iterdir())
