"""Cutting hits the connection that was meant, or nobody (S7)."""

import os
import socket
import sys
import tempfile

import pytest

from secure_ipp import limits
from secure_ipp.wire.cutting import Connections


class Pairs:
    """Accepted TCP connections on loopback."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = []

    def make(self, source="127.0.0.1"):
        near = socket.create_connection(self._listener.getsockname(), source_address=(source, 0))
        accepted, _ = self._listener.accept()
        self._open += [near, accepted]
        return near, accepted

    def close(self):
        for one in (*self._open, self._listener):
            one.close()


@pytest.fixture
def pairs():
    pairs = Pairs()
    yield pairs
    pairs.close()


def is_open(near):
    near.setblocking(False)
    try:
        return near.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_s7_a_cut_hits_its_connection_and_no_other(pairs):
    connections = Connections()
    (near, accepted), (other, other_accepted) = pairs.make(), pairs.make()
    connections.add(accepted.fileno(), 0.0)
    connections.add(other_accepted.fileno(), 0.0)
    assert connections.find(accepted.fileno()).cut()
    near.settimeout(5)
    assert near.recv(1) == b""
    assert is_open(other)


def test_s7_an_innocent_who_got_the_same_descriptor_is_not_cut(pairs):
    connections = Connections()
    _, accepted = pairs.make()
    descriptor = accepted.fileno()
    connections.add(descriptor, 0.0)
    guilty = connections.find(descriptor)
    innocent, innocent_accepted = pairs.make()
    accepted.close()
    os.dup2(innocent_accepted.fileno(), descriptor)
    try:
        assert not guilty.cut()
        connections.add(descriptor, 1.0)
        assert not guilty.cut()
        assert is_open(innocent)
        assert connections.find(descriptor).cut()
        assert not is_open(innocent)
    finally:
        os.close(descriptor)


def test_a_descriptor_that_is_no_socket_any_more_is_let_alone_and_none_leaks(pairs):
    connections = Connections()
    _, accepted = pairs.make()
    connections.add(accepted.fileno(), 0.0)
    known = connections.find(accepted.fileno())
    descriptor = accepted.detach()
    with tempfile.TemporaryFile() as other:
        os.dup2(other.fileno(), descriptor)
    before = lowest_free()
    for _ in range(5):
        assert not known.cut()
        connections.add(descriptor, 0.0)
    assert connections.find(descriptor) is None
    assert lowest_free() == before
    os.close(descriptor)
    connections.add(descriptor, 0.0)
    assert connections.find(descriptor) is None and not known.cut()


def lowest_free():
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor


def test_s7_silent_connections_are_overdue_once_and_greeted_ones_never(pairs):
    connections = Connections()
    descriptors = [pairs.make()[1].fileno() for _ in range(3)]
    for since, descriptor in enumerate(descriptors):
        connections.add(descriptor, float(since))
    connections.greeted(descriptors[1])
    assert connections.overdue(limits.HELLO_SECONDS) == []
    late = limits.HELLO_SECONDS + 2.5
    assert [c.descriptor for c in connections.overdue(late)] == [descriptors[0], descriptors[2]]
    assert connections.overdue(late + 1) == []
    assert connections.find(descriptors[0]) is not None


def test_s7_half_open_connections_are_bounded_per_source_and_in_total_oldest_first(pairs, monkeypatch):
    connections = Connections()
    monkeypatch.setattr(limits, "HALF_OPEN_PER_SOURCE", 3)
    descriptors = [pairs.make()[1].fileno() for _ in range(5)]
    for number, descriptor in enumerate(descriptors):
        assert connections.crowded == (number > 3)
        connections.add(descriptor, 0.0)
    assert connections.crowded
    assert [c.descriptor for c in connections.overdue(0.0)] == descriptors[:2]
    assert not connections.crowded
    monkeypatch.setattr(limits, "HALF_OPEN_TOTAL", 1)
    assert [c.descriptor for c in connections.overdue(0.0)] == descriptors[2:4]


@pytest.mark.skipif(sys.platform != "linux", reason="one address on loopback only")
def test_s7_a_crowd_from_one_source_costs_another_source_nothing(pairs, monkeypatch):
    connections = Connections()
    monkeypatch.setattr(limits, "HALF_OPEN_PER_SOURCE", 2)
    _, oldest = pairs.make("127.0.0.2")
    connections.add(oldest.fileno(), 0.0)
    descriptors = [pairs.make()[1].fileno() for _ in range(4)]
    for descriptor in descriptors:
        connections.add(descriptor, 0.0)
    assert [c.descriptor for c in connections.overdue(0.0)] == descriptors[:2]
    connections.greeted(descriptors[2])
    assert [c.descriptor for c in connections.overdue(limits.HELLO_SECONDS + 1)] == [oldest.fileno(), descriptors[3]]


def test_s7_strangers_at_two_doors_leave_a_third_of_the_descriptors_to_others(pairs, monkeypatch):
    monkeypatch.setattr("secure_ipp.wire.cutting.resource.getrlimit", lambda _: (16, 16))
    connections = Connections()
    descriptors = [pairs.make()[1].fileno() for _ in range(5)]
    for number, descriptor in enumerate(descriptors):
        assert connections.crowded == (number > 3)  # three quarters of a door's, from one source
        connections.add(descriptor, 0.0)
    assert [c.descriptor for c in connections.overdue(0.0)] == descriptors[:2]


def test_a_descriptor_accepted_anew_starts_anew(pairs):
    connections = Connections()
    _, accepted = pairs.make()
    descriptor = accepted.fileno()
    connections.add(descriptor, 0.0)
    connections.greeted(descriptor)
    connections.remove(descriptor)
    assert connections.find(descriptor) is None
    connections.add(descriptor, 100.0)
    assert connections.overdue(101.0) == []
    assert len(connections.overdue(200.0)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not say")
def test_the_kernel_tells_how_much_came_of_a_peer(pairs):
    connections = Connections()
    near, accepted = pairs.make()
    connections.add(accepted.fileno(), 0.0)
    near.sendall(b"x" * 5000)
    assert connections.find(accepted.fileno()).received_bytes() == 5000
    accepted.recv(5000, socket.MSG_WAITALL)
    assert connections.find(accepted.fileno()).received_bytes() == 5000


def test_a_unix_socket_can_be_cut_too():
    with tempfile.TemporaryDirectory() as directory:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(directory + "/s")
        listener.listen()
        near = socket.socket(socket.AF_UNIX)
        near.connect(directory + "/s")
        accepted, _ = listener.accept()
        connections = Connections()
        connections.add(accepted.fileno(), 0.0)
        known = connections.find(accepted.fileno())
        assert known.source == "local" and known.received_bytes() == 0
        assert known.cut()
        assert near.recv(1) == b""
        for one in (near, accepted, listener):
            one.close()
