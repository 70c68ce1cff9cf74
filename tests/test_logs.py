"""The log set-up: private files, rotation, nothing forged by what is logged."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from secure_ipp import limits, logs
from secure_ipp.errors import PrivateFileError


def in_process(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args], capture_output=True, text=True, timeout=30, check=False
    )


def test_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "hub.log"
    done = in_process(
        """
        import logging, os, sys
        from secure_ipp import logs
        os.umask(0)
        logs.start("hub", sys.argv[1], "info")
        logging.getLogger("x").info("hello")
        logging.getLogger("x").warning("careful")
        """,
        str(path),
    )
    assert done.returncode == 0, done.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    assert "hello" in path.read_text()
    assert done.stderr == "hub: WARNING: careful\n"


def test_a_message_cannot_forge_a_line_or_move_a_cursor(tmp_path: Path) -> None:
    path = tmp_path / "hub.log"
    done = in_process(
        """
        import logging, sys
        from secure_ipp import logs
        logs.start("hub", sys.argv[1])
        logging.getLogger("x").warning("a\\n2026 CRITICAL forged \\x1b[2J %s", "b\\r\\u2028\\x9b")
        """,
        str(path),
    )
    (line,) = path.read_text().splitlines()
    assert "\\n2026 CRITICAL forged \\x1b[2J b\\r\\u2028\\x9b" in line
    assert "\x1b" not in done.stderr and done.stderr.count("\n") == 1


def test_an_exception_that_ends_the_process_or_a_thread_is_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "hub.log"
    done = in_process(
        """
        import sys, threading
        from secure_ipp import logs
        logs.start("hub", sys.argv[1])
        thread = threading.Thread(target=lambda: {}["in a thread"], name="reader")
        thread.start(); thread.join()
        raise RuntimeError("at the end")
        """,
        str(path),
    )
    assert done.returncode == 1
    text = path.read_text()
    assert "reader ended by KeyError" in text and "ended by RuntimeError: at the end" in text
    assert all(line.startswith(("    | ", "20")) for line in text.splitlines())


@pytest.mark.parametrize("flaw", ["open mode", "symlink", "second name", "directory"])
def test_a_log_file_that_others_could_use_is_refused(tmp_path: Path, flaw: str) -> None:
    path = tmp_path / "hub.log"
    if flaw == "directory":
        path.mkdir()
    else:
        other = tmp_path / "other"
        other.touch(mode=0o600)
        if flaw == "symlink":
            path.symlink_to(other)
        elif flaw == "second name":
            os.link(other, path)
        else:
            path.touch()
            path.chmod(0o644)
    with pytest.raises(PrivateFileError):
        logs.PrivateRotatingFile(str(path))


def test_rotation_keeps_files_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_BYTES", 2000)
    handler = logs.PrivateRotatingFile(str(tmp_path / "hub.log"))
    handler.setFormatter(logs.EscapingFormatter(logs.LINE))
    for number in range(400):
        handler.emit(logging.LogRecord("x", logging.INFO, __file__, 1, "line %d", (number,), None))
    handler.close()
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["hub.log", "hub.log.1", "hub.log.2", "hub.log.3"]
    assert all(f.stat().st_mode & 0o777 == 0o600 and f.stat().st_size <= 2000 for f in files)


def test_no_such_level() -> None:
    with pytest.raises(ValueError, match="no such log level"):
        logs.start("hub", None, "loud")
