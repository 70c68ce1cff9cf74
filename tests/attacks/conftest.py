"""A door under siege, closed when the test is over."""

import pytest

from tests.attacks.doors import Siege
from tests.wire.conftest import Stage


@pytest.fixture
def siege():
    siege = Siege()
    yield siege
    siege.close()


@pytest.fixture
def stage():
    stage = Stage()
    yield stage
    stage.close()
