"""The package as a whole: its names, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import secure_ipp

LIGHT = """
import sys
import secure_ipp
heavy = {"zmq", "IPython", "numpy", "msgspec", "cloudpickle", "cryptography", "asyncio"} & set(sys.modules)
assert not heavy, heavy
assert secure_ipp.__version__ and secure_ipp.version_info[0] == int(secure_ipp.__version__.split(".")[0])
"""

CLIENT = """
import sys
import secure_ipp
secure_ipp.Client
heavy = {"IPython", "numpy", "tqdm", "ipykernel"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("program", [LIGHT, CLIENT])
def test_importing_loads_nothing_that_is_not_needed(program):
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", list(secure_ipp.__all__))
def test_every_exported_name_is_there(name):
    assert getattr(secure_ipp, name) is not None
    assert name in dir(secure_ipp)


def test_what_is_not_there_is_said_so():
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = secure_ipp.no_such_thing
