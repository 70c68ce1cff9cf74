"""Which doors a run has, and that hub and scheduler are told of these and no others."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from secure_ipp.cluster import supervisor
from secure_ipp.cluster.doors import Doors, check_curve, doors_for
from secure_ipp.cluster.start_secrets import StartSecrets, scheduler_bootstrap
from secure_ipp.errors import UsageError
from secure_ipp.keys.cluster_keys import init_cluster, load_server
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.scheduler.bootstrap import SchedulerBootstrap, decode


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterPlace:
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    return ClusterPlace("default")


def told(place: ClusterPlace, doors: Doors) -> SchedulerBootstrap:
    line = scheduler_bootstrap(
        place, load_server(place), StartSecrets.fresh(), log_level="INFO", doors=doors, scheme="leastload"
    )
    return decode(line)


def sockets(place: ClusterPlace) -> tuple[str, str]:
    return str(place.client_door_socket()), str(place.engine_door_socket())


def test_with_curve_the_doors_are_ports(place: ClusterPlace) -> None:
    config = init_cluster(place, bind="127.0.0.1").config
    doors = doors_for(place, config)
    assert doors == Doors(config.client_port, config.engine_port, "127.0.0.1")
    line = told(place, doors)
    assert line.client_endpoints == [f"tcp://127.0.0.1:{config.client_port}"]
    assert (line.client_socket, line.engine_socket) == ("", "")


@pytest.mark.parametrize("by", ["its files", "the run"])
def test_s25_sockets_are_opened_beside_curve(place: ClusterPlace, by: str) -> None:
    config = init_cluster(place, bind="127.0.0.1", ssh_door=by == "its files").config
    doors = doors_for(place, config, client_port=5, engine_port=6, bind="::1", ssh_door=by == "the run")
    assert doors == Doors(5, 6, "::1", *sockets(place))
    line = told(place, doors)
    assert (line.client_endpoints, line.engine_endpoints) == (["tcp://[::1]:5"], ["tcp://[::1]:6"])
    assert (line.client_socket, line.engine_socket) == sockets(place)
    assert Path(line.proofs_file).parent == place.durable_path and place.durable_path.is_dir()


def test_s25_without_curve_the_doors_are_sockets_alone(place: ClusterPlace) -> None:
    config = init_cluster(place, curve=False).config
    line = told(place, doors_for(place, config, curve=False))
    assert (line.client_endpoints, line.engine_endpoints) == ([], [])
    assert (line.client_socket, line.engine_socket) == sockets(place)
    assert len(set(sockets(place))) == 2


@pytest.mark.parametrize("has", [True, False])
def test_s25_what_is_said_must_be_so(place: ClusterPlace, has: bool) -> None:
    config = init_cluster(place, curve=has).config
    check_curve(place, config, has)
    for ask in (lambda: check_curve(place, config, not has), lambda: doors_for(place, config, curve=not has)):
        with pytest.raises(UsageError) as caught:
            ask()
        assert caught.value.code == "no-curve" and "--no-curve" in caught.value.advice


def test_s25_sockets_that_a_killed_controller_left_are_removed(place: ClusterPlace) -> None:
    """And nothing else of the directory."""
    init_cluster(place, curve=False)
    before = sorted(place.runtime_dir().iterdir())
    for path in sockets(place):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(path)
    supervisor._remove_doors(place)
    supervisor._remove_doors(place)
    assert sorted(place.runtime_dir().iterdir()) == before


def test_two_doors_have_two_ports(place: ClusterPlace) -> None:
    config = init_cluster(place).config
    with pytest.raises(UsageError, match="both doors"):
        doors_for(place, config, client_port=config.engine_port)
