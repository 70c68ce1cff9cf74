"""Private files as they should be: written whole, read back, replaced in one step (what must be refused: attacks/)."""

import errno
import os
import stat
import threading

import pytest

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, PrivateFileError
from secure_ipp.keys import private_files
from secure_ipp.keys.private_files import (
    AlreadyThere,
    MissingFile,
    check_private_dir,
    make_private_dir,
    read_private,
    remove_private,
    write_private,
)
from secure_ipp.keys.stale import retry_stale


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_what_is_written_is_read(tmp_path, exclusive, size):
    data = os.urandom(size)
    write_private(tmp_path / "f", data, exclusive=exclusive)
    assert read_private(tmp_path / "f", size) == data
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_mode_does_not_depend_on_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_private(tmp_path / "f", b"x")
        made = make_private_dir(tmp_path / "d")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600
    assert stat.S_IMODE(os.stat(made).st_mode) == 0o700


def test_a_new_file_is_new(tmp_path):
    write_private(tmp_path / "f", b"one")
    with pytest.raises(AlreadyThere):
        write_private(tmp_path / "f", b"two")
    assert read_private(tmp_path / "f", 10) == b"one"
    write_private(tmp_path / "f", b"two", exclusive=False)
    assert read_private(tmp_path / "f", 10) == b"two"
    assert os.listdir(tmp_path) == ["f"]


def test_a_relative_path_is_read_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_private("f", b"x")
    assert read_private("f", 10) == read_private("./f", 10) == b"x"


def test_absence_is_absence(tmp_path):
    for path in (tmp_path / "f", tmp_path / "d" / "f"):
        with pytest.raises(MissingFile):
            read_private(path, 10)
        with pytest.raises(FileNotFoundError):
            read_private(path, 10)
    with pytest.raises(MissingFile):
        write_private(tmp_path / "d" / "f", b"x")
    with pytest.raises(MissingFile):
        check_private_dir(tmp_path / "d")
    remove_private(tmp_path / "f")


def test_removed_is_removed(tmp_path):
    write_private(tmp_path / "f", b"x")
    remove_private(tmp_path / "f")
    assert os.listdir(tmp_path) == []


def test_directories_above_are_made_closed_too(tmp_path):
    made = make_private_dir(tmp_path / "a" / "b" / "c")
    assert made == str(tmp_path / "a" / "b" / "c")
    for path in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert make_private_dir(made) == made


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_private(tmp_path / "f", b"old")
    monkeypatch.setattr(private_files.os, "write", full)
    for exclusive, name in ((True, "g"), (False, "f")):
        with pytest.raises(EnvironmentProblem, match="No space left"):
            write_private(tmp_path / name, b"new", exclusive=exclusive)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["f"]
    assert read_private(tmp_path / "f", 10) == b"old"


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path):
    path, seen, failures, done = tmp_path / "f", set(), [], threading.Event()
    write_private(path, b"a" * 5000)

    def read():
        try:
            while not done.is_set():
                seen.add(read_private(path, 10_000))
        except Exception as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(40):
        write_private(path, (b"b" if turn % 2 else b"c") * 5000, exclusive=False)
    done.set()
    reader.join()
    assert failures == []
    assert seen <= {b"a" * 5000, b"b" * 5000, b"c" * 5000}


def test_a_file_being_published_has_two_names_for_a_moment(tmp_path, monkeypatch):
    write_private(tmp_path / "f", b"x")
    os.link(tmp_path / "f", tmp_path / ".f.new")
    monkeypatch.setattr(private_files.time, "sleep", lambda seconds: (tmp_path / ".f.new").unlink(missing_ok=True))
    assert read_private(tmp_path / "f", 10) == b"x"


class Stale:
    """Fails with ESTALE so often, then does what it should."""

    def __init__(self, times, then):
        self.times, self.then, self.calls = times, then, 0

    def __call__(self, *args, **options):
        self.calls += 1
        if self.calls <= self.times:
            raise OSError(errno.ESTALE, "Stale file handle")
        return self.then(*args, **options)


def test_s29_estale_is_retried(tmp_path, monkeypatch):
    write_private(tmp_path / "f", b"x")
    monkeypatch.setattr(limits, "STALE_RETRY_SECONDS", 0)
    for name in ("open", "read", "fstat"):
        monkeypatch.setattr(private_files.os, name, Stale(2, getattr(os, name)))
        assert read_private(tmp_path / "f", 10) == b"x"
        monkeypatch.undo()
        monkeypatch.setattr(limits, "STALE_RETRY_SECONDS", 0)


def test_s29_estale_is_never_absence(tmp_path, monkeypatch):
    write_private(tmp_path / "f", b"x")
    monkeypatch.setattr(limits, "STALE_RETRY_SECONDS", 0)
    monkeypatch.setattr(private_files.os, "open", Stale(10**9, os.open))
    with pytest.raises(EnvironmentProblem, match="stale") as caught:
        read_private(tmp_path / "f", 10)
    assert not isinstance(caught.value, FileNotFoundError)
    assert caught.value.code == "stale"


def test_s29_other_errors_are_not_retried():
    action = Stale(0, lambda: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no")))
    with pytest.raises(PermissionError):
        retry_stale(action, pause=lambda seconds: pytest.fail("waited"))
    assert action.calls == 1


def test_an_unreadable_disk_is_said(tmp_path, monkeypatch):
    write_private(tmp_path / "f", b"x")

    def broken(descriptor, size):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(private_files.os, "read", broken)
    with pytest.raises(EnvironmentProblem, match="Input/output error"):
        read_private(tmp_path / "f", 10)


def test_no_descriptor_is_left_open(tmp_path):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    write_private(tmp_path / "f", b"x")
    (tmp_path / "open").write_bytes(b"")
    (tmp_path / "open").chmod(0o644)
    for _ in range(5):
        read_private(tmp_path / "f", 10)
        with pytest.raises(PrivateFileError):
            read_private(tmp_path / "open", 10)
        with pytest.raises(AlreadyThere):
            write_private(tmp_path / "f", b"x")
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before
