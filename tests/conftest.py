"""Fixtures for all tests: a home of one's own, a running cluster, and proof that nothing is left at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import running


def pytest_configure(config: pytest.Config) -> None:
    running.mark_this_run()
    hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow, and nothing is wrong
    hypothesis.settings.load_profile("any machine")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `SECURE_IPP_HOME`, 0700."""
    path = running.short_directory()
    monkeypatch.setenv("SECURE_IPP_HOME", str(path))
    return path


@pytest.fixture
def own_tmp(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory of this test's own, in which throw-away homes are made."""
    path = running.short_directory()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return path


@pytest.fixture(scope="session")
def cluster() -> Iterator[running.RunningCluster]:
    """A running cluster with two engines, started by the real commands and shared by the session.

    Its keys lie in the session's home, so that clients know it for this user's own. Whoever kills parts of a cluster
    starts one of their own: `running.RunningCluster`.
    """
    import os

    one = running.RunningCluster(engines=2, home=Path(os.environ["SECURE_IPP_HOME"]))
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """At the end of the run no process that it started is left, and no test directory."""
    yield
    try:
        running.wait_until(lambda: not running.our_processes(), 5.0)
    except TimeoutError:
        left = [(process.pid, " ".join(process.cmdline())) for process in running.our_processes()]
        for pid, _ in left:
            running.end_process(pid)
        pytest.fail(f"left behind: {left}")
    finally:
        running.remove_directories()
