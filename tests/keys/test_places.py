"""Where files lie: one private directory a cluster, sockets short, locks local and exclusive."""

import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, PrivateFileError, UsageError
from secure_ipp.keys import filesystem, locks, places
from secure_ipp.keys.filesystem import kind_of
from secure_ipp.keys.locks import Lock, LockHeld
from secure_ipp.keys.places import ClusterPlace, home


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "x"))
    assert home() == tmp_path / "x"
    monkeypatch.setenv("SECURE_IPP_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".secure-ipp"
    monkeypatch.setenv("SECURE_IPP_HOME", "~/here")
    assert home() == tmp_path / "here"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECURE_IPP_HOME", "relative")
    assert home().is_absolute()


def test_files_lie_in_the_clusters_directory(place):
    files = [
        place.config, place.server_key, place.issuer_key, place.registry, place.client_file, place.engine_file,
        place.log_dir, place.state_file, place.journal_dir,
    ]
    assert {path.parent for path in files} == {place.dir}
    assert len(set(files)) == len(files)
    assert place.dir == place.home / "default"
    assert place.client_file.name == "ipcontroller-client.json"
    assert place.engine_file.name == "ipcontroller-engine.json"


@pytest.mark.parametrize("name", ["..", "a/b", "", "A", "-x"])
def test_s22_a_place_has_a_name(name):
    with pytest.raises(UsageError):
        ClusterPlace(name)


def test_looking_at_places_makes_nothing(place):
    assert place.lock_file.parent == place.runtime_path == place.dir / "run"
    assert not place.home.exists()


def test_sockets_lie_in_a_private_directory(place):
    for path in (place.hub_socket(), place.control_socket()):
        assert path.parent == place.runtime_dir()
        assert len(os.fsencode(path)) <= limits.UNIX_SOCKET_PATH_BYTES
    assert stat.S_IMODE(place.runtime_dir().stat().st_mode) == 0o700
    assert place.hub_socket() != place.control_socket()


def short_runtime(place):
    """The runtime directory of a place whose own directory will not do; what is made below /tmp is removed."""
    path = place.runtime_path
    assert path.parent == Path(f"/tmp/secure-ipp-{os.geteuid()}")
    return path


def test_a_long_home_has_its_sockets_below_tmp(tmp_path):
    place = ClusterPlace("default", tmp_path / ("long" * 30))
    path = short_runtime(place)
    try:
        socket = place.hub_socket()
        assert socket.parent == path
        assert len(os.fsencode(socket)) <= limits.UNIX_SOCKET_PATH_BYTES
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert short_runtime(ClusterPlace("other", place.home)) != path
        assert short_runtime(ClusterPlace("default", place.home)) == path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def test_s29_a_home_on_a_network_file_system_has_its_locks_elsewhere(place, monkeypatch):
    monkeypatch.setattr(places, "is_local", lambda directory: False)
    assert short_runtime(place) == place.lock_file.parent


def test_s29_durable_state_lies_in_the_clusters_directory_or_below_var_tmp(place, monkeypatch):
    assert place.durable_path == place.dir / "state" == place.journal_key.parent
    assert place.durable_dir() == place.durable_path
    assert stat.S_IMODE(place.durable_path.stat().st_mode) == 0o700
    monkeypatch.setattr(places, "is_local", lambda directory: False)
    path = place.durable_path
    assert path.parent == Path(f"/var/tmp/secure-ipp-{os.geteuid()}")
    try:
        assert place.durable_dir() == path
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        path.chmod(0o755)
        with pytest.raises(PrivateFileError):
            place.durable_dir()
    finally:
        shutil.rmtree(path, ignore_errors=True)


def test_a_runtime_directory_that_others_may_enter_is_refused(place):
    place.runtime_dir().chmod(0o755)
    with pytest.raises(PrivateFileError):
        place.hub_socket()


MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /home rw shared:2 master:3 - nfs4 server:/home rw,vers=4.2
24 23 8:2 / /home/ada/local\040disk rw - xfs /dev/sdb rw
25 22 0:6 / /mnt rw - fuse.sshfs host:/ rw
26 22 0:7 / /mnt rw - tmpfs tmpfs rw
27 22 0:8 / /homestead rw - btrfs /dev/sdc rw
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/", "ext4"), ("/etc", "ext4"), ("/home", "nfs4"), ("/home/ada", "nfs4"), ("/home/ada/local disk/x", "xfs"),
        ("/homestead/x", "btrfs"), ("/homes", "ext4"), ("/mnt/x", "tmpfs"),
    ],
)
def test_s29_kinds_of_file_systems(directory, kind):
    assert kind_of(MOUNTS, directory) == kind


@given(st.text("0 -/\\4\nae", max_size=200))
def test_s29_any_text_of_mounts_gives_some_kind(text):
    assert isinstance(kind_of(text, "/a/e"), str)


def test_s29_this_very_disk_is_read(tmp_path):
    assert isinstance(filesystem.is_local(str(tmp_path)), bool)


def test_s29_a_lock_on_a_network_file_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem, "is_local", lambda directory: False)
    with pytest.raises(EnvironmentProblem, match="network file system") as caught:
        Lock(tmp_path / "d" / "lock").acquire()
    assert caught.value.code == "not-local"


def test_a_lock_is_held_by_one(tmp_path):
    one, two = Lock(tmp_path / "d" / "lock"), Lock(tmp_path / "d" / "lock")
    with one:
        assert one.held
        with pytest.raises(LockHeld):
            two.acquire()
        with pytest.raises(LockHeld):
            one.acquire()
        assert not two.held
    assert not one.held
    with two:
        assert two.held
    two.release()


def test_a_lock_is_waited_for(tmp_path):
    holder, taken = Lock(tmp_path / "d" / "lock"), threading.Event()
    holder.acquire()

    def wait():
        with Lock(tmp_path / "d" / "lock", wait=20):
            taken.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not taken.wait(0.1)
    holder.release()
    assert taken.wait(10)
    waiter.join()


def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "d" / "lock"
    code = (
        "import sys; from secure_ipp.keys.locks import Lock; "
        "lock = Lock(sys.argv[1]); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LockHeld):
            Lock(path).acquire()
        child.kill()
        child.wait(10)
        started = time.monotonic()
        with Lock(path, wait=10):
            assert time.monotonic() - started < 5
    finally:
        child.kill()
        child.wait(10)
        child.stdin.close()
        child.stdout.close()


def test_a_lock_follows_no_link(tmp_path):
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "d" / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PrivateFileError, match="symbolic link"):
        Lock(tmp_path / "d" / "lock").acquire()
    assert not (tmp_path / "elsewhere").exists()


def test_the_lock_module_needs_no_fcntl_to_be_imported():
    code = "import sys; sys.modules['fcntl'] = None; import secure_ipp.keys.places, secure_ipp.keys.capability"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert locks.Lock
