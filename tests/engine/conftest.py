"""Real engines for live tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, str]]:
    """One engine shared by the tests of a module, which leave it usable."""
    made = Stage(tmp_path_factory.mktemp("stage"))
    (uuid,) = made.up(1)
    yield made, uuid
    made.close()
