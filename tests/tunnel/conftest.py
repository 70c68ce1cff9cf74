"""One ssh server and one user for all tests of tunnels; a test that changes either makes its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tunnel.sshd import Server, User


@pytest.fixture(scope="session")
def ssh_user() -> User:
    """A user whom `ssh_server` lets in and who knows it; not to be changed."""
    return User()


@pytest.fixture(scope="session")
def ssh_server(ssh_user: User) -> Iterator[Server]:
    """A server with keys of three kinds that lets `ssh_user` in and forwards; not to be changed, stopped or slowed."""
    with Server(("ed25519", "ecdsa", "rsa"), authorized=[ssh_user.public_key]) as server:
        ssh_user.knows(server)
        yield server
