"""Ports that cannot be had, in words."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from secure_ipp.cluster.doors import endpoint
from secure_ipp.cluster.ports import check_free
from secure_ipp.errors import EnvironmentProblem


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


@pytest.mark.parametrize("bind", ["127.0.0.1", "*"])
def test_a_port_in_use_is_named_with_its_holder(taken: int, bind: str) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        check_free(taken, "client", bind)
    assert caught.value.code == "port-in-use"
    assert f"port {taken}" in caught.value.message and f"process {os.getpid()}" in caught.value.message
    assert "--client-port" in caught.value.advice


def test_a_free_port_is_free_again_afterwards(taken: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    for _ in range(2):
        check_free(free, "engine", "127.0.0.1")


@pytest.mark.parametrize("bind", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine(bind: str) -> None:
    with pytest.raises(EnvironmentProblem, match="no address of this machine"):
        check_free(20123, "client", bind)


def test_ipv6_stands_in_brackets() -> None:
    assert endpoint("::1", 5) == "tcp://[::1]:5" and endpoint("*", 5) == "tcp://*:5"
