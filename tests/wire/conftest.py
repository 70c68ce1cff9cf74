"""Ends of links that are closed when the test is over."""

import pytest

from secure_ipp.keys.curve import KeyPair
from tests.wire.stage import DoorSide, Intruder, Peer, Proxy


class Stage:
    """Makes doors, peers, proxies and intruders; closes them last made first."""

    def __init__(self):
        self._made = []
        self.keys = KeyPair.generate()

    def _keep(self, thing):
        self._made.append(thing)
        return thing

    def door(self, *guests, **options):
        """A door that knows `keys` as the client `alice`, and the guests."""
        known = [("client", self.keys.public, "alice", "client"), *guests]
        return self._keep(DoorSide(known, **options)).start()

    def peer(self, door, *, doors=None, server_key=None, keys=None, **options):
        doors = doors or [door.endpoint]
        server_key = server_key or door.server.public
        return self._keep(Peer(doors, server_key, keys or self.keys, **options))

    def proxy(self, door):
        return self._keep(Proxy(door.port))

    def intruder(self, door, *, keys=None, server_key=None, **options):
        server_key = server_key or door.server.public
        return self._keep(Intruder(door.endpoint, server_key, keys or self.keys, **options))

    def close(self):
        errors = []
        for thing in reversed(self._made):
            try:
                thing.close()
            except AssertionError as error:
                errors.append(error)
        assert not errors, errors


@pytest.fixture
def stage():
    stage = Stage()
    yield stage
    stage.close()
