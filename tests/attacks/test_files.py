"""Attacks on private files (S9): modes, owners, links, other kinds of files."""

import os
import socket

import pytest

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, PrivateFileError, SecureIppError
from secure_ipp.keys.ancestors import check_ancestors
from secure_ipp.keys.locks import Lock
from secure_ipp.keys.private_files import (
    AlreadyThere,
    check_private_dir,
    make_private_dir,
    read_private,
    remove_private,
    write_private,
)

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def file(tmp_path):
    write_private(tmp_path / "file", b"secret")
    return tmp_path / "file"


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

    monkeypatch.setattr(private_files.os, "urandom", bytes)
    (tmp_path / f".file.{'00' * 8}.new").symlink_to(tmp_path / "trap")
    with pytest.raises(EnvironmentProblem):
        write_private(tmp_path / "file", b"secret")
    assert not (tmp_path / "trap").exists()
    assert not (tmp_path / "file").exists()
    assert os.listdir(tmp_path) == [f".file.{'00' * 8}.new"]
