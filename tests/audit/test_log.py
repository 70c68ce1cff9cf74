"""The audit log's file: private, whole lines, rotated, an error that is said and passes."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
from pathlib import Path

import pytest

from secure_ipp.audit.log import AuditLog
from secure_ipp.audit.record import HubStarted, SchedulerLeft
from secure_ipp.errors import EnvironmentProblem, PrivateFileError


def event(number: int) -> HubStarted:
    return HubStarted(at=float(number), pid=number, cluster="c")


def read(path: Path) -> list[int]:
    return [json.loads(text)["pid"] for text in path.read_text().splitlines()]


def test_made_private_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    before = os.umask(0)
    try:
        log = AuditLog(str(path))
        log.write([event(1), event(2)])
        log.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = AuditLog(str(path))
    again.write([event(3)])
    again.write([])
    again.close()
    again.close()
    assert read(path) == [1, 2, 3]


def test_rotation_keeps_so_many_files_all_private(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog(str(path), max_bytes=150, files=2)
    for number in range(10):
        log.write([event(number)])
    log.close()
    assert sorted(os.listdir(tmp_path)) == ["audit.log", "audit.log.1", "audit.log.2"]
    kept = [number for name in ("audit.log.2", "audit.log.1", "audit.log") for number in read(tmp_path / name)]
    assert kept == list(range(10))[-len(kept) :]
    assert len(kept) >= 3
    assert all(stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600 for name in os.listdir(tmp_path))


def test_rotation_with_nothing_kept_starts_anew(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "audit.log"), max_bytes=100, files=0)
    for number in range(5):
        log.write([event(number)])
    log.close()
    assert os.listdir(tmp_path) == ["audit.log"]
    assert read(tmp_path / "audit.log")[-1] == 4


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    victim.chmod(0o600)
    (tmp_path / "audit.log").symlink_to(victim)
    with pytest.raises(EnvironmentProblem):
        AuditLog(str(tmp_path / "audit.log")).open()
    assert victim.read_text() == ""


@pytest.mark.parametrize("mode", [0o620, 0o604, 0o666])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "audit.log"
    path.write_text("")
    path.chmod(mode)
    with pytest.raises(PrivateFileError):
        AuditLog(str(path)).open()


def test_a_second_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text("")
    path.chmod(0o600)
    os.link(path, tmp_path / "other")
    with pytest.raises(PrivateFileError, match="second name"):
        AuditLog(str(path)).open()


def test_a_fifo_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    os.mkfifo(path, 0o600)
    with pytest.raises((PrivateFileError, EnvironmentProblem)):
        AuditLog(str(path)).open()
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(PrivateFileError, match="regular"):
            AuditLog(str(path)).open()
    finally:
        os.close(reader)


def test_a_missing_directory_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        AuditLog(str(tmp_path / "none" / "audit.log")).open()
    assert caught.value.code == "audit-log"
    assert caught.value.advice


def test_a_full_disk_leaves_no_torn_line_and_passes(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for the full disk: the kernel takes a part of the batch, then refuses (S21)."""
    path = tmp_path / "audit.log"
    log = AuditLog(str(path))
    log.write([event(1)])
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 500, limit[1]))
        with pytest.raises(EnvironmentProblem):
            log.write([SchedulerLeft(at=0.0, reason="x" * 1000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert read(path) == [1]
    log.write([event(2)])
    log.close()
    assert read(path) == [1, 2]
