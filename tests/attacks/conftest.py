"""A door under siege, closed when the test is over."""

import pytest

from tests.attacks.doors import Siege


@pytest.fixture
def siege():
    siege = Siege()
    yield siege
    siege.close()
