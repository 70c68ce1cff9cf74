"""A journal that has just begun."""

import shutil
import tempfile
from pathlib import Path

import pytest

from secure_ipp.keys.issuer import IssuerKey
from tests.audit.journals import begin


@pytest.fixture
def quick(tmp_path):
    """A directory in memory where there is one: thousands of syncs would take minutes on a disk that others use."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def issuer():
    return IssuerKey.generate()


@pytest.fixture
def place(quick, issuer):
    return begin(quick / "home", issuer)
