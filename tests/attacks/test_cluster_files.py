"""Attacks on a cluster's own files and on capability files (S8, S9, S11, S19, S22): damage, mixing, hostile text."""

import json
import os
import stat

import pytest

from secure_ipp.errors import CapabilityError, EnvironmentProblem, PolicyError, PrivateFileError
from secure_ipp.keys.capability import dump_capability, load_capability
from secure_ipp.keys.cluster_keys import init_cluster, load_issuer, load_server
from secure_ipp.keys.key_files import KeyFileError
from secure_ipp.keys.owned import made_here
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import write_private
from secure_ipp.keys.registry import Registry


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    place = ClusterPlace("default")
    init_cluster(place)
    return place


LOADERS = {
    "cluster.toml": load_server,
    "server.key": load_server,
    "issuer.key": load_issuer,
    "registry.json": Registry.load,
    "ipcontroller-client.json": lambda place: load_capability(place.client_file),
    "ipcontroller-engine.json": lambda place: load_capability(place.engine_file),
}


@pytest.mark.parametrize("name", LOADERS)
def test_s9_each_file_of_a_cluster_is_checked(place, name):
    path, load = place.dir / name, LOADERS[name]
    load(place)
    path.chmod(0o640)
    with pytest.raises(PrivateFileError):
        load(place)
    path.chmod(0o600)
    place.dir.chmod(0o770)
    with pytest.raises(PrivateFileError):
        load(place)
    place.dir.chmod(0o700)
    target = path.rename(place.dir / "moved")
    path.symlink_to(target)
    with pytest.raises(PrivateFileError):
        load(place)


@pytest.mark.parametrize("name", ["server.key", "issuer.key"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b"[" * 60000, None])
def test_s11_a_damaged_key_file_is_one_error_that_shows_nothing(place, name, damage):
    path = place.dir / name
    plain = json.loads(path.read_bytes())
    if damage is None:
        damage = json.dumps({**plain, "public_key": load_capability(place.client_file).public_key.text}).encode()
    write_private(path, damage, exclusive=False)
    with pytest.raises(KeyFileError) as caught:
        LOADERS[name](place)
    assert plain["secret_key"] not in str(caught.value)
    assert name in caught.value.message


def test_s8_one_kind_of_key_is_not_taken_for_another(place):
    server, issuer = place.server_key.read_bytes(), place.issuer_key.read_bytes()
    write_private(place.server_key, issuer, exclusive=False)
    write_private(place.issuer_key, server, exclusive=False)
    for load in (load_server, load_issuer):
        with pytest.raises(KeyFileError):
            load(place)
    write_private(place.client_file, issuer, exclusive=False)
    with pytest.raises(CapabilityError):
        load_capability(place.client_file)


def test_s8_the_files_of_two_clusters_do_not_mix(place, tmp_path):
    other = ClusterPlace("default", tmp_path / "other")
    init_cluster(other)
    write_private(place.issuer_key, other.issuer_key.read_bytes(), exclusive=False)
    with pytest.raises(EnvironmentProblem, match="not the issuer"):
        load_issuer(place)
    assert not made_here(load_capability(place.client_file))
    write_private(place.registry, other.registry.read_bytes(), exclusive=False)
    with pytest.raises(PolicyError):
        Registry.load(place)


# --- hostile capability files ------------------------------------------------------------------------------


def hostile(place, **changes):
    plain = {**load_capability(place.client_file).as_dict(), **changes}
    path = place.dir / "hostile.json"
    write_private(path, json.dumps(plain).encode(), exclusive=False)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"door": ["tcp://evil.example:25001"]},
        {"server_keys": ["A" * 43]},
        {"rights": ["task", "direct", "observe", "control", "admin", "admin"]},
        {"role": "engine"},
        {"expires": 2**40},
        {"ssh": "-oProxyCommand=touch /tmp/x"},
        {"ssh": "ada@evil.example"},
        {"cluster": "../../etc"},
        {"name": "$(reboot)"},
        {"name": "a\nb"},
        {"command": "touch /tmp/x"},
        {"preload": ["os"]},
        {"results": "any"},
        {"curve": False},
    ],
)
def test_s8_a_file_that_was_tampered_with_is_refused(place, changes):
    with pytest.raises(CapabilityError) as caught:
        load_capability(hostile(place, **changes))
    text = str(caught.value)
    assert load_capability(place.client_file).secret_key.text not in text
    assert all(character.isprintable() or character == "\n" for character in text)


def test_s19_a_file_made_elsewhere_is_never_made_here(place, tmp_path):
    """The attacker makes a whole cluster of the victim's cluster's name and hands out its file."""
    elsewhere = ClusterPlace("default", tmp_path / "attacker")
    init_cluster(elsewhere)
    write_private(place.dir / "gift.json", elsewhere.client_file.read_bytes())
    gift = load_capability(place.dir / "gift.json")
    assert not made_here(gift)
    assert made_here(load_capability(place.client_file))


def test_s9_the_files_that_init_makes_are_never_open_for_a_moment(tmp_path, monkeypatch):
    modes = []
    real = os.open

    def watched(path, flags, mode=0o777, **options):
        if flags & os.O_CREAT:
            modes.append((mode, bool(flags & os.O_EXCL or str(path).endswith(".lock")), bool(flags & os.O_NOFOLLOW)))
        return real(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", watched)
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    place = ClusterPlace("default")
    init_cluster(place)
    assert set(modes) == {(0o600, True, True)}
    assert len(modes) == 9
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in place.dir.iterdir())


def test_s11_a_capability_goes_to_a_file_in_no_other_way(place):
    capability = load_capability(place.client_file)
    assert capability.secret_key.text.encode() in dump_capability(capability)
    for value in (capability, capability.keys, load_server(place)):
        assert capability.secret_key.text not in f"{value!r} {value}"
