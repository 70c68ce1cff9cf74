"""More strangers than a scheduler has descriptors, or faster than its gate answers (S3, S7): no guest notices."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from secure_ipp.keys.config import load_config
from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import sockets
from tests.attacks.rogue import Rogues, Trail, undisturbed
from tests.running import RunningCluster, argv, wait_until

pytestmark = pytest.mark.live
DESCRIPTORS = 512


@pytest.fixture(scope="module")
def town() -> Iterator[RunningCluster]:
    """A controller that has few descriptors, as where an administrator allows no more."""
    cluster = RunningCluster(engines=1)
    made = cluster.run("secure-ipp", "keys", "init", "--bind", "127.0.0.1", "--host", "127.0.0.1")
    assert made.returncode == 0, made.stderr
    done = subprocess.run(
        argv("ipcluster", "start", "-n", "1", "--daemonize"), stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        env={**os.environ, "SECURE_IPP_HOME": str(cluster.home)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)),
    )
    assert done.returncode == 0, done.stderr
    yield cluster
    cluster.stop()


def test_s7_more_silent_connections_than_descriptors_keep_nobody_out(town: RunningCluster) -> None:
    client, trail, rogues = town.client(), Trail(town.place), Rogues(town)
    client.wait_for_engines(1, timeout=30)
    config = load_config(town.place)
    with undisturbed(town, client, [0]), contextlib.ExitStack() as held:
        for number in range(2 * DESCRIPTORS):
            port = (config.client_port, config.engine_port)[number % 2]
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            if number % 100 == 0:
                rogues.of(rogues.owner).come_in()
        trail.wait("silent", address="127.0.0.1")
        rogues.of(rogues.owner).come_in()
        rogues.of(rogues.host).come_in()
        rogues.close()
    assert len([line for line in trail.lines() if line.get("what") == "silent"]) < DESCRIPTORS // 4


def test_s3_a_flood_of_unknown_keys_keeps_no_known_one_out(town: RunningCluster) -> None:
    """Real handshakes, as fast as two threads can, at the real door."""
    client, trail, rogues = town.client(), Trail(town.place), Rogues(town)
    client.wait_for_engines(1, timeout=30)
    owner, stop, tried = rogues.owner, threading.Event(), list[int]()

    def knock() -> None:
        context = sockets.make_context()
        while not stop.is_set():
            knocking = []
            for _ in range(20):
                one = sockets.connect(context, owner.door[0], server_key=owner.server_key, keys=KeyPair.generate())
                one.connect(owner.door[0])
                knocking.append(one)
            stop.wait(0.05)
            for one in knocking:
                one.close(0)
            tried.append(len(knocking))
        context.destroy(linger=0)

    threads = [threading.Thread(target=knock, daemon=True) for _ in range(2)]
    with undisturbed(town, client, [0]):
        for thread in threads:
            thread.start()
        wait_until(lambda: sum(tried) > 400, 30)
        for _ in range(5):
            rogues.of(owner, patience=10.0).come_in()
        stop.set()
        for thread in threads:
            thread.join(10)
        rogues.close()
    trail.wait("gate", door="client", reason="unknown key")
    assert len([line for line in trail.lines() if line.get("what") == "gate"]) < sum(tried) // 4
