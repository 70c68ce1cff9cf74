"""When the registry is read again, and when what was read is not believed (S10)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from secure_ipp.errors import CapabilityError, SecureIppError
from secure_ipp.hub.grants import LiveGrants
from secure_ipp.hub.registry_watch import RegistryWatch
from tests.hub.engines import client, live


class File:
    """A registry's file, and what verification makes of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reads = 0
        self.content: LiveGrants | Exception = live(client("alice", "task"))
        self.watch = RegistryWatch(str(path), self.load)
        self.replace(self.content)

    def load(self) -> LiveGrants:
        self.reads += 1
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    def replace(self, content: LiveGrants | Exception) -> None:
        self.content = content
        new = self.path.with_suffix(".new")
        new.write_text(str(os.urandom(8)))
        os.replace(new, self.path)


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "registry")


def test_first_poll_reads_and_later_ones_only_what_changed(file: File) -> None:
    assert file.watch.poll() == file.content
    assert file.watch.poll() is None
    assert file.watch.poll() is None
    assert file.reads == 1


def test_a_replaced_file_is_read(file: File) -> None:
    file.watch.poll()
    new = live(client("alice", "task"), client("bob", "task"), version=2)
    file.replace(new)
    assert file.watch.poll() == new
    assert file.watch.poll() is None


def test_the_same_content_again_is_no_news(file: File) -> None:
    file.watch.poll()
    file.replace(live(client("alice", "task")))
    assert file.watch.poll() is None
    assert file.reads == 2


@pytest.mark.parametrize("error", [CapabilityError("forged"), PermissionError(13, "denied"), CapabilityError()])
def test_what_cannot_be_read_or_verified_is_said_once_and_tried_again(file: File, error: Exception) -> None:
    first = file.watch.poll()
    file.replace(error)
    assert isinstance(file.watch.poll(), SecureIppError)
    assert file.watch.poll() is None
    file.content = first  # type: ignore[assignment]  # the disk is back; the file was never touched
    assert file.watch.poll() == first
    assert file.watch.poll() is None


def test_a_file_that_is_gone_is_a_problem(file: File) -> None:
    file.watch.poll()
    os.unlink(file.path)
    file.content = FileNotFoundError(2, "No such file or directory")
    assert isinstance(file.watch.poll(), SecureIppError)


def test_an_older_registry_is_not_believed(file: File) -> None:
    file.replace(live(client("alice", "task"), version=5))
    assert isinstance(file.watch.poll(), LiveGrants)
    file.replace(live(client("alice", "task"), client("revoked", "task"), version=4))
    problem = file.watch.poll()
    assert isinstance(problem, SecureIppError)
    assert problem.code == "registry-rollback"
    file.replace(live(client("alice", "task"), version=6))
    assert isinstance(file.watch.poll(), LiveGrants)


def test_other_content_under_the_same_version_is_not_believed(file: File) -> None:
    file.watch.poll()
    file.replace(live(client("mallory", "admin")))
    problem = file.watch.poll()
    assert isinstance(problem, SecureIppError)
    assert problem.code == "registry-fork"
