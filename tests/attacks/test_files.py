"""Attacks on private files and capability files (S8, S9, S11, S22): modes, owners, links, hostile contents."""

import json
import os
import socket
import stat

import pytest

from secure_ipp import limits
from secure_ipp.errors import CapabilityError, EnvironmentProblem, PolicyError, PrivateFileError, SecureIppError
from secure_ipp.keys.ancestors import check_ancestors
from secure_ipp.keys.capability import dump_capability, load_capability
from secure_ipp.keys.cluster_keys import init_cluster, load_issuer, load_server
from secure_ipp.keys.key_files import KeyFileError
from secure_ipp.keys.locks import Lock
from secure_ipp.keys.owned import made_here
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import (
    AlreadyThere,
    check_private_dir,
    make_private_dir,
    read_private,
    remove_private,
    write_private,
)
from secure_ipp.keys.registry import Registry

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def file(tmp_path):
    write_private(tmp_path / "file", b"secret")
    return tmp_path / "file"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    place = ClusterPlace("default")
    init_cluster(place)
    return place


def refused(path, reason):
    with pytest.raises(PrivateFileError, match=reason) as caught:
        read_private(path, 100)
    assert caught.value.advice
    assert "secret" not in str(caught.value)
    return caught.value


# --- modes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o601, 0o660, 0o666, 0o777, 0o700, 0o444])
def test_s9_a_file_that_others_could_touch_is_refused(file, mode):
    file.chmod(mode)
    assert f"chmod 600 {file}" in refused(file, f"mode {mode:04o}").advice


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_s9_a_closed_file_is_read(file, mode):
    file.chmod(mode)
    assert read_private(file, 100) == b"secret"


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o702, 0o777])
def test_s9_a_directory_that_others_may_write_in_is_refused(tmp_path, mode):
    outer = tmp_path / "outer"
    path = outer / "inner" / "file"
    make_private_dir(outer / "inner")
    write_private(path, b"secret")
    for directory in (outer, outer / "inner"):
        directory.chmod(mode)
        assert "chmod go-w" in refused(path, "others may write").advice
        with pytest.raises(PrivateFileError):
            write_private(path, b"new", exclusive=False)
        with pytest.raises(PrivateFileError):
            write_private(outer / "inner" / "new", b"new")
        with pytest.raises(PrivateFileError):
            remove_private(path)
        with pytest.raises(PrivateFileError):
            make_private_dir(outer / "inner" / "more")
        directory.chmod(0o700)
    assert read_private(path, 100) == b"secret"


@pytest.mark.parametrize("mode", [0o755, 0o711, 0o750])
def test_s9_a_directory_that_others_may_only_look_into_passes_for_files(tmp_path, mode):
    make_private_dir(tmp_path / "d")
    write_private(tmp_path / "d" / "file", b"secret")
    (tmp_path / "d").chmod(mode)
    assert read_private(tmp_path / "d" / "file", 100) == b"secret"
    with pytest.raises(PrivateFileError, match="closed to others"):
        check_private_dir(tmp_path / "d")
    with pytest.raises(PrivateFileError, match="closed to others"):
        make_private_dir(tmp_path / "d")


# --- owners ----------------------------------------------------------------------------------------------


@as_root
def test_s9_another_users_file_is_refused(file):
    os.chown(file, NOBODY, NOBODY)
    refused(file, f"belongs to user {NOBODY}")


@as_root
def test_s9_another_users_directory_is_refused(tmp_path):
    path = tmp_path / "outer" / "inner" / "file"
    make_private_dir(path.parent)
    write_private(path, b"secret")
    os.chown(tmp_path / "outer", NOBODY, NOBODY)
    refused(path, f"belongs to user {NOBODY}")
    for attempt in (check_private_dir, make_private_dir):
        with pytest.raises(PrivateFileError):
            attempt(path.parent)
    with pytest.raises(PrivateFileError):
        Lock(path.parent / "lock").acquire()


@as_root
def test_s9_another_users_empty_directory_is_not_moved_into(tmp_path):
    (tmp_path / "d").mkdir(mode=0o700)
    os.chown(tmp_path / "d", NOBODY, NOBODY)
    with pytest.raises(PrivateFileError):
        make_private_dir(tmp_path / "d")
    with pytest.raises(PrivateFileError):
        write_private(tmp_path / "d" / "file", b"secret")


@as_root
def test_s9_a_root_owned_sticky_directory_passes(tmp_path):
    sticky = tmp_path / "tmp"
    sticky.mkdir()
    sticky.chmod(0o1777)
    make_private_dir(sticky / "mine")
    write_private(sticky / "mine" / "file", b"secret")
    assert read_private(sticky / "mine" / "file", 100) == b"secret"
    sticky.chmod(0o777)
    refused(sticky / "mine" / "file", "others may write")
    sticky.chmod(0o1777)
    os.chown(sticky, NOBODY, NOBODY)
    refused(sticky / "mine" / "file", "belongs to user")


@as_root
def test_s9_anothers_squatted_entry_in_a_sticky_directory_is_refused(tmp_path):
    sticky = tmp_path / "tmp"
    sticky.mkdir()
    sticky.chmod(0o1777)
    (sticky / "secure-ipp-0").mkdir(mode=0o700)
    os.chown(sticky / "secure-ipp-0", NOBODY, NOBODY)
    with pytest.raises(PrivateFileError):
        make_private_dir(sticky / "secure-ipp-0")
    with pytest.raises(PrivateFileError):
        make_private_dir(sticky / "secure-ipp-0" / "cluster")


# --- links -----------------------------------------------------------------------------------------------


def test_s9_a_symbolic_link_is_not_read(file):
    link = file.parent / "link"
    link.symlink_to(file)
    refused(link, "symbolic link")


def test_s9_a_dangling_link_is_not_written_through(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(AlreadyThere):
        write_private(tmp_path / "link", b"secret")
    with pytest.raises(PrivateFileError):
        write_private(tmp_path / "link", b"secret", exclusive=False)
    assert not (tmp_path / "target").exists()
    assert os.listdir(tmp_path) == ["link"]


def test_s9_a_hard_link_is_refused(file, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "LINKED_RETRY_SECONDS", 0)
    os.link(file, tmp_path / "other")
    assert "-samefile" in refused(file, "2 names").advice
    os.link(file, tmp_path / "third")
    refused(file, "3 names")
    (tmp_path / "other").unlink()
    (tmp_path / "third").unlink()
    assert read_private(file, 100) == b"secret"


def test_s9_ones_own_link_in_the_directories_is_followed_and_checked_on(tmp_path):
    real = tmp_path / "real"
    make_private_dir(real)
    write_private(real / "file", b"secret")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "absolute").symlink_to(real)
    (tmp_path / "up").symlink_to("real/../real")
    for name in ("link", "absolute", "up"):
        assert read_private(tmp_path / name / "file", 100) == b"secret"
        assert check_ancestors(tmp_path / name / "file") == str(real / "file")
    real.chmod(0o770)
    for name in ("link", "absolute", "up"):
        refused(tmp_path / name / "file", "others may write")


@as_root
def test_s9_anothers_link_in_the_directories_is_refused(tmp_path):
    make_private_dir(tmp_path / "real")
    write_private(tmp_path / "real" / "file", b"secret")
    (tmp_path / "link").symlink_to("real")
    os.chown(tmp_path / "link", NOBODY, NOBODY, follow_symlinks=False)
    refused(tmp_path / "link" / "file", "symbolic link .* belongs to user")


def test_s9_a_link_that_leads_through_an_open_directory_is_refused(tmp_path):
    make_private_dir(tmp_path / "real")
    write_private(tmp_path / "real" / "file", b"secret")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "hop").symlink_to(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "open" / "hop")
    refused(tmp_path / "link" / "file", "others may write")


def test_s9_links_in_a_circle_end(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    refused(tmp_path / "a" / "file", "too many symbolic links")
    with pytest.raises(SecureIppError):
        make_private_dir(tmp_path / "a" / "d")


# --- other kinds of files --------------------------------------------------------------------------------


def test_s9_a_pipe_neither_blocks_nor_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    refused(tmp_path / "pipe", "not a regular file")


def test_s9_a_directory_is_no_file(tmp_path):
    (tmp_path / "d").mkdir(mode=0o700)
    refused(tmp_path / "d", "not a regular file")
    with pytest.raises(SecureIppError):
        write_private(tmp_path / "d", b"x", exclusive=False)
    assert os.listdir(tmp_path) == ["d"]


def test_s9_a_socket_or_device_is_no_file(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(SecureIppError):
            read_private(tmp_path / "s", 100)
    with pytest.raises(SecureIppError):
        read_private("/dev/zero", 100)


def test_s9_a_file_above_a_file_is_absence_not_a_crash(file):
    with pytest.raises(SecureIppError):
        read_private(file / "below", 100)
    with pytest.raises(SecureIppError):
        make_private_dir(file)


@pytest.mark.parametrize("path", ["", "/", ".", "..", "a\0b", "d/", "d/.", "d/.."])
def test_s9_what_names_no_file_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir(mode=0o700)
    for attempt in (lambda: read_private(path, 10), lambda: write_private(path, b"x"), lambda: remove_private(path)):
        with pytest.raises(SecureIppError):
            attempt()


def test_s9_a_long_file_is_not_read(file):
    assert read_private(file, 6) == b"secret"
    with pytest.raises(PrivateFileError, match="longer than 5"):
        read_private(file, 5)


def test_s9_a_temporary_file_of_another_is_never_taken_over(tmp_path, monkeypatch):
    from secure_ipp.keys import private_files

    monkeypatch.setattr(private_files.secrets, "token_hex", lambda size: "00")
    (tmp_path / ".file.00.new").symlink_to(tmp_path / "trap")
    with pytest.raises(EnvironmentProblem):
        write_private(tmp_path / "file", b"secret")
    assert not (tmp_path / "trap").exists()
    assert not (tmp_path / "file").exists()
    assert (tmp_path / ".file.00.new").is_symlink()


# --- a cluster's files -------------------------------------------------------------------------------------

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
    assert len(modes) == 7
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in place.dir.iterdir())


def test_s11_a_capability_goes_to_a_file_in_no_other_way(place):
    capability = load_capability(place.client_file)
    assert capability.secret_key.text.encode() in dump_capability(capability)
    for value in (capability, capability.keys, load_server(place)):
        assert capability.secret_key.text not in f"{value!r} {value}"
