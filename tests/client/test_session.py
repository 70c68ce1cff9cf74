"""Sessions and clients at their edges: no controller, wrong arguments, forks."""

from __future__ import annotations

import os
import socket
import time

import pytest

from secure_ipp.client.client import Client
from secure_ipp.client.connecting import trust_of
from secure_ipp.errors import CapabilityError, ControllerUnreachable, SecureIppError, UsageError
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.places import ClusterPlace


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o700)
    before = os.environ.get("SECURE_IPP_HOME")
    os.environ["SECURE_IPP_HOME"] = str(home)
    made = ClusterPlace("default")
    init_cluster(made, hosts=["127.0.0.1"])
    yield made
    if before is None:
        del os.environ["SECURE_IPP_HOME"]
    else:
        os.environ["SECURE_IPP_HOME"] = before


def test_without_a_controller_there_is_an_error_within_the_time_given(place):
    started = time.monotonic()
    with pytest.raises(ControllerUnreachable):
        Client(str(place.client_file), timeout=0.5)
    assert time.monotonic() - started < 4


def test_a_listener_that_says_nothing_does_not_hang_it(place):
    capability = load_capability(place.client_file)
    port = int(capability.door[0].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        started = time.monotonic()
        with pytest.raises(ControllerUnreachable):
            Client(str(place.client_file), timeout=0.5)
        assert time.monotonic() - started < 4


def test_no_thread_is_left_after_a_failure(place):
    import threading

    with pytest.raises(ControllerUnreachable):
        Client(timeout=0.2)
    assert "secure-ipp-client" not in [thread.name for thread in threading.enumerate()]


def test_an_interrupt_leaves_no_thread_and_no_way(place, monkeypatch):
    import signal
    import threading
    from dataclasses import dataclass, field

    from secure_ipp.client import client as clients

    @dataclass
    class Way:
        doors: tuple[str, ...] = ("tcp://127.0.0.1:9",)
        said: str = "by a way that leads nowhere"
        released: threading.Event = field(default_factory=threading.Event)

        def prover(self, capability):
            return None

        def explain(self, error):
            return error

        def watch(self, *_):
            signal.setitimer(signal.ITIMER_REAL, 0.05)

        def release(self):
            self.released.set()

    def interrupt(*_):
        raise KeyboardInterrupt

    way, before = Way(), signal.signal(signal.SIGALRM, interrupt)
    monkeypatch.setattr(clients, "reach_door", lambda *_, **__: (way, 30.0))
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            Client(str(place.client_file))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert caught.traceback  # which holds the client, as a notebook's does
    assert way.released.wait(5)
    assert "secure-ipp-client" not in [thread.name for thread in threading.enumerate()]


def test_an_engine_file_is_not_a_clients(place):
    with pytest.raises(CapabilityError):
        Client(str(place.engine_file))


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(SecureIppError, match="nowhere"):
        Client(str(tmp_path / "nowhere.json"))


@pytest.mark.parametrize("option", [{"sshkey": "k"}, {"password": "x"}, {"paramiko": True}])
def test_words_about_ssh_without_an_ssh_server_are_refused_by_name(place, option):
    with pytest.raises(UsageError, match=next(iter(option))):
        Client(str(place.client_file), **option)


@pytest.mark.parametrize("option", [{"sshserver": "-oProxyCommand=x"}, {"transport": "ssh"}, {"transport": "plain"}])
def test_ways_that_cannot_be_are_refused(place, option):
    with pytest.raises(UsageError):
        Client(str(place.client_file), **option)


@pytest.mark.parametrize("option", [{"timeout": 0}, {"profile_dir": "/x"}, {"results": "all"}, {"connection_info": 5}])
def test_wrong_arguments_are_refused(place, option):
    with pytest.raises(UsageError):
        Client(**option)


def test_results_of_ones_own_cluster_are_trusted_and_of_others_not(place, tmp_path):
    capability = load_capability(place.client_file)
    assert trust_of(capability, None) == "any"
    assert trust_of(capability, "data") == "data"
    tmp_path.chmod(0o700)
    other = ClusterPlace("default", tmp_path)
    init_cluster(other, hosts=["127.0.0.1"])
    foreign = load_capability(other.client_file)
    assert trust_of(foreign, None) == "data"
    assert trust_of(foreign, "any") == "any"
