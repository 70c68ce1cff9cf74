"""Fixtures for mistakes on purpose: somebody else who must not notice, and processes that are not what they should."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.live.mistakes import check_undisturbed
from tests.running import RunningCluster, short_directory

# Makes a process of ours another one than it is, before it runs: Python imports this file by itself.
SITE = """
import os
wish = os.environ.get("SECURE_IPP_TEST_WISH", "")
if wish == "another Python":
    import platform
    platform.python_version = lambda: "3.99.1"
elif wish == "another package":
    import secure_ipp._version
    secure_ipp._version.__version__ = "99.9"
elif wish == "another protocol":
    from secure_ipp import limits
    limits.PROTOCOL = 99
elif wish == "little patience":
    from secure_ipp import limits
    limits.AGENT_PATIENCE_SECONDS = 2.0
elif wish == "quick loss":
    from secure_ipp import limits
    limits.HEARTBEAT_SECONDS, limits.HEARTBEAT_TIMEOUT_SECONDS, limits.RESUME_SECONDS = 0.3, 1.0, 0.5
elif wish == "no Curve":  # a libzmq that was built without: whatever touches Curve fails
    import errno, zmq
    has, options = zmq.has, {int(value) for name, value in vars(zmq).items() if name.startswith("CURVE_")}
    zmq.has = lambda what: what != "curve" and has(what)
    def without(method):
        def call(socket, option, *rest, **more):
            if int(option) in options:
                raise zmq.ZMQError(errno.EINVAL)
            return method(socket, option, *rest, **more)
        return call
    for name in ("set", "get", "setsockopt", "getsockopt"):
        setattr(zmq.Socket, name, without(getattr(zmq.Socket, name)))
    def none(*_):
        raise zmq.ZMQError(errno.ENOTSUP)
    zmq.curve_keypair = zmq.curve_public = none
elif wish == "little room":
    from secure_ipp import limits
    limits.BODY_BYTES = 1 << 20
"""


def wishing_environment(wish: str) -> dict[str, str]:
    """The environment of a process that is to be another one than it is."""
    site = short_directory()
    (site / "sitecustomize.py").write_text(SITE)
    return {
        **os.environ, "SECURE_IPP_TEST_WISH": wish,
        "PYTHONPATH": os.pathsep.join([str(site), os.environ["PYTHONPATH"]]),
    }


@pytest.fixture
def wishing() -> Callable[[str], dict[str, str]]:
    """Makes the environment of a process that is to be another one than it is."""
    return wishing_environment


@pytest.fixture(scope="session")
def bystander(cluster: RunningCluster) -> Any:
    """A client that makes no mistakes."""
    client = cluster.client()
    client.wait_for_engines(2, timeout=20)
    return client


@pytest.fixture
def undisturbed(bystander: Any) -> Iterator[None]:
    pids = bystander[:].apply_sync(os.getpid)
    yield
    check_undisturbed(bystander, pids)
