"""Whether a tunnel leads to its door."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest

from secure_ipp.errors import SecureIppError
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.tunnel.health import check_door
from secure_ipp.tunnel.reach import Reached


def test_many_addresses_that_nobody_answers_at_take_no_longer_than_one(home: Path) -> None:
    place = ClusterPlace("lab")
    init_cluster(place, hosts=["127.0.0.1"])
    capability = load_capability(place.client_file)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        doors = []
        for number in range(8):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(home / f"d{number}"))
            listener.listen()
            doors.append(f"ipc://{home}/d{number}")
        with pytest.raises(SecureIppError):
            check_door(capability, Reached(tuple(doors), False, "", None), capability.server_keys, 0.8)
    assert time.monotonic() - began < 4
