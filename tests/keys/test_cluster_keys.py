"""Making a cluster's keys: what is made, where, and that nothing is ever overwritten."""

import os
import stat

import pytest

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, PrivateFileError, UsageError
from secure_ipp.keys import addresses, cluster_keys
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.cluster_keys import init_cluster, load_config, load_issuer, load_server
from secure_ipp.keys.owned import made_here
from secure_ipp.keys.places import ClusterPlace, NoKeys
from secure_ipp.keys.private_files import AlreadyThere
from secure_ipp.keys.registry import Registry


def test_everything_is_made_private_and_fits_together(place):
    result = init_cluster(place, hosts=["node1"], client_port=23001, engine_port=23002)
    keys = [place.server_key, place.issuer_key]
    for path in [*keys, place.config, place.registry, place.client_file, place.engine_file]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.dir.stat().st_mode) == 0o700
    server, registry = load_server(place), Registry.load(place)
    client, engine = load_capability(place.client_file), load_capability(place.engine_file)
    assert client.server_key == engine.server_key == server.keys.public
    assert client.server_keys == (server.keys.public,)
    assert client.issuer_key == load_issuer(place).public() == server.config.issuer_key
    assert client.door == ("tcp://127.0.0.1:23001", "tcp://node1:23001")
    assert engine.door == ("tcp://127.0.0.1:23002", "tcp://node1:23002")
    assert client.rights == ("task", "direct", "observe", "control", "admin")
    assert engine.rights == ("join",)
    assert client.keys.secret.public() == client.public_key
    assert [grant.key for grant in registry.grants] == [client.public_key, engine.public_key]
    assert [grant.engines for grant in registry.grants] == [0, limits.ENGINES_PER_JOIN_KEY]
    assert len({client.public_key, engine.public_key, server.keys.public}) == 3
    assert result.client.id != result.engine.id
    assert result.server_fingerprint == server.keys.fingerprint


def test_s8_the_server_secret_stands_in_no_file_that_travels(place):
    init_cluster(place)
    secrets = [load_server(place).keys.secret.text, load_issuer(place).text]
    for path in [place.client_file, place.engine_file, place.registry, place.config]:
        assert not any(secret in path.read_text() for secret in secrets)


def test_s10_a_controller_needs_no_issuer_key(place):
    init_cluster(place)
    place.issuer_key.unlink()
    load_server(place)
    Registry.load(place)
    with pytest.raises(NoKeys):
        load_issuer(place)


def test_ports_are_free_ones_below_the_ephemeral_range_and_not_those_of_another_cluster(place, monkeypatch):
    config = init_cluster(place).config
    for port in (config.client_port, config.engine_port):
        assert limits.PORT_FIRST <= port < limits.PORT_LAST
    other = ClusterPlace("other", place.home)
    assert addresses.ports_of_others(other) == {config.client_port, config.engine_port}
    offsets = iter([config.client_port, config.engine_port, 20_001, 20_001, 20_002])
    monkeypatch.setattr(addresses.secrets, "randbelow", lambda bound: next(offsets) - limits.PORT_FIRST)
    monkeypatch.setattr(addresses, "_problem", lambda bind, port: None)
    assert addresses.choose_ports(other, 0, 0, "*") == (20_001, 20_002)


def test_a_port_in_use_is_refused_at_once(place):
    import socket

    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        with pytest.raises(EnvironmentProblem, match="another process has it"):
            init_cluster(place, client_port=other.getsockname()[1])
    assert not place.config.exists()


@pytest.mark.parametrize(
    "bad",
    [
        {"client_port": 70000},
        {"engine_port": -1},
        {"client_port": 23001, "engine_port": 23001},
        {"hosts": ["a b"]},
        {"hosts": ["tcp://x"]},
        {"bind": "eth0:1;x"},
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(place, bad):
    with pytest.raises(UsageError):
        init_cluster(place, **bad)
    assert sorted(os.listdir(place.dir)) == ["run"]


@pytest.mark.parametrize(
    ("given", "bind", "hosts"),
    [
        (["b", "a", "b"], "*", ("127.0.0.1", "b", "a")),
        ([], "127.0.0.1", ("127.0.0.1",)),
        (["tunnel.example"], "127.0.0.1", ("127.0.0.1", "tunnel.example")),
        (["n1"], "10.0.0.1", ("n1", "10.0.0.1")),
        ([], "::1", ("::1",)),
    ],
)
def test_hosts_of_the_files(given, bind, hosts):
    assert addresses.hosts_for(given, bind) == hosts


def test_without_words_this_hosts_own_addresses_follow_loopback():
    hosts = addresses.hosts_for([], "*")
    assert hosts[0] == "127.0.0.1"
    assert list(hosts[1:]) == addresses.own_addresses()


def test_an_ipv6_host_stands_in_brackets(place):
    config = init_cluster(place, hosts=["fe80::1"], client_port=23003).config
    assert config.doors(23003)[1] == "tcp://[fe80::1]:23003"
    assert config.endpoints(23003) == ["tcp://*:23003"]


def test_nothing_is_overwritten(place):
    init_cluster(place)
    before = {path.name: path.read_bytes() for path in place.dir.iterdir() if path.is_file()}
    with pytest.raises(AlreadyThere, match="already has keys"):
        init_cluster(place)
    assert {path.name: path.read_bytes() for path in place.dir.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("left", ["server.key", "registry.json", "ipcontroller-client.json"])
def test_leftovers_are_named_and_not_overwritten(place, left):
    init_cluster(place)
    for path in place.dir.iterdir():
        if path.is_file() and path.name != left:
            path.unlink()
    with pytest.raises(AlreadyThere, match=left):
        init_cluster(place)


def test_an_attempt_that_fails_leaves_nothing(place, monkeypatch):
    def full(*_):
        raise EnvironmentProblem("disk full")

    monkeypatch.setattr(cluster_keys, "write_first", full)
    with pytest.raises(EnvironmentProblem, match="disk full"):
        init_cluster(place)
    assert sorted(os.listdir(place.dir)) == ["run"]
    monkeypatch.undo()


def test_an_open_directory_is_refused(place):
    place.dir.mkdir(parents=True)
    place.dir.chmod(0o755)
    with pytest.raises(PrivateFileError, match="closed to others"):
        init_cluster(place)


def test_no_keys(place):
    for load in (load_server, load_config, load_issuer, Registry.load):
        with pytest.raises(NoKeys, match="has no keys") as caught:
            load(place)
        assert "secure-ipp keys init" in caught.value.advice


def test_a_renamed_directory_is_noticed(place):
    init_cluster(place)
    moved = ClusterPlace("moved", place.home)
    place.dir.rename(moved.dir)
    with pytest.raises(EnvironmentProblem, match="keeps its name"):
        load_server(moved)


def test_s19_made_here_needs_the_issuers_secret(place):
    init_cluster(place)
    capability = load_capability(place.client_file)
    assert made_here(capability)
    issuer = place.issuer_key.read_bytes()
    place.issuer_key.unlink()
    assert not made_here(capability)
    place.issuer_key.write_bytes(issuer)
    assert not made_here(capability)  # mode 0644
    place.issuer_key.chmod(0o600)
    assert made_here(capability)


def test_s19_anothers_cluster_of_the_same_name_is_not_made_here(place, tmp_path):
    foreign = ClusterPlace(place.name, tmp_path / "elsewhere")
    init_cluster(foreign)
    capability = load_capability(foreign.client_file)
    assert not made_here(capability)
    init_cluster(place)
    assert not made_here(capability)
