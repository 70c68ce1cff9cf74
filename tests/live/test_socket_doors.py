"""A whole cluster whose doors are Unix sockets only, on a libzmq without Curve (S25).

There is no such libzmq to install, so each process of it, the clients' own as well, has one that behaves like it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

import secure_ipp as ipp
from secure_ipp.access.prover import Prover, Trial
from secure_ipp.errors import Refused, Revoked, UsageError
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.cluster_keys import load_server
from secure_ipp.wire.intruder import try_door
from tests.live.conftest import wishing_environment
from tests.running import RunningCluster, command, journal_lines, short_directory, wait_until
from tests.wire.stage import Intruder

pytestmark = pytest.mark.live


class SocketCluster(RunningCluster):
    """Every command runs on a libzmq without Curve."""

    def __init__(self) -> None:
        super().__init__(engines=2)
        self.environment = {**wishing_environment("no Curve"), "SECURE_IPP_HOME": str(self.home)}

    def run(self, command_name: str, *args: str, seconds: float = 60) -> Any:
        return command(command_name, *args, env=self.environment, seconds=seconds)

    def start(self, *args: str) -> None:
        for words in (["secure-ipp", "keys", "init", "--no-curve"],
                      ["ipcluster", "start", "--no-curve", "-n", "2", "--daemonize"]):
            done = self.run(*words)
            assert done.returncode == 0, done.stdout + done.stderr + self.logs()

    def script(self, text: str) -> subprocess.Popen[str]:
        """A client's program, without Curve like all of it."""
        return subprocess.Popen(
            [sys.executable, "-c", text, str(self.place.client_file)], env=self.environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )


@pytest.fixture(scope="module")
def sockets() -> Iterator[SocketCluster]:
    cluster = SocketCluster()
    cluster.start()
    yield cluster
    assert cluster.stop().returncode == 0
    left = sorted(path.name for path in cluster.place.runtime_path.iterdir() if path.is_socket())
    assert left == []


PROGRAM = """
import os, sys, secure_ipp, zmq
assert not zmq.has("curve")
client = secure_ipp.Client(sys.argv[1], timeout=20)
client.wait_for_engines(2, timeout=20)
print(client.way, flush=True)
assert client[:].apply_sync(lambda x: x * 2, 21) == [42, 42]
big = client[0].apply_sync(lambda data: len(data), b"x" * 5_000_000)
view = client.load_balanced_view()
results = view.map_async(lambda x: __import__("time").sleep(0.05) or x, range(60), chunksize=1)
print(big, flush=True)
sys.stdin.readline()
assert results.get(timeout=60) == list(range(60))
print(sorted(set(client[:].apply_sync(os.getpid))), client.ids, flush=True)
client.close()
"""


def test_work_goes_on_over_the_death_of_the_scheduler(sockets: SocketCluster) -> None:
    program = sockets.script(PROGRAM)
    assert program.stdin is not None and program.stdout is not None
    assert "a Unix socket, with a one-time proof: the cluster has no Curve" in program.stdout.readline()
    assert program.stdout.readline() == "5000000\n"
    before = sockets.pids()["scheduler"]
    os.kill(before, signal.SIGKILL)
    out, err = program.communicate("go\n", timeout=60)
    assert program.returncode == 0, err + sockets.logs()
    assert out.rstrip().endswith("[0, 1]")
    wait_until(lambda: sockets.pids()["scheduler"] != before)


def test_nothing_of_it_listens_at_a_port_or_has_curve(sockets: SocketCluster) -> None:
    import psutil

    status = sockets.status()
    assert (status["controller"]["client_port"], status["controller"]["engine_port"]) == (0, 0)
    for pid in sockets.pids().values():
        assert psutil.Process(pid).net_connections(kind="inet") == []
    link = (sockets.place.durable_path / "link-proofs.used").read_text().splitlines()
    assert len(link) > 2, "the link between hub and scheduler goes by proofs, too"
    with pytest.raises(UsageError):
        ipp.Client(str(sockets.place.client_file), transport="ssh")


def test_s25_a_proof_that_was_taken_stays_taken_over_a_kill_of_the_scheduler(sockets: SocketCluster) -> None:
    file = load_capability(sockets.place.client_file)
    (door,) = file.door
    trial = Prover(file.cluster_id, "client-socket").prove(file.keys, file.server_key)
    assert shown(door, trial) == zmq.EVENT_HANDSHAKE_SUCCEEDED
    before = sockets.pids()["scheduler"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: sockets.pids()["scheduler"] != before, 20)
    prover = Prover(file.cluster_id, "client-socket")
    wait_until(lambda: try_door(door, file.server_key, file.keys, 1, proves=prover) == "admitted", 20)
    assert shown(door, trial) == zmq.EVENT_HANDSHAKE_FAILED_AUTH


def shown(door: str, trial: Trial) -> int | None:
    """What comes of showing this at a door."""
    options = ((zmq.PLAIN_USERNAME, trial.proof.username), (zmq.PLAIN_PASSWORD, trial.proof.password))
    intruder = Intruder(door, None, None, options=options)
    try:
        found: int | None = intruder.event(
            zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED
        )
        return found
    finally:
        intruder.close()


def test_s17_a_revoked_key_is_cut_and_refused_and_what_happened_is_on_record(sockets: SocketCluster) -> None:
    issued = short_directory() / "ada.json"
    done = sockets.run("secure-ipp", "keys", "issue", "ada", "--shared-engines", "--out", str(issued))
    assert done.returncode == 0, done.stderr
    ada, owner = ipp.Client(str(issued), timeout=20), sockets.client()
    with ada:
        ada.wait_for_engines(2, timeout=20)
        wait_until(lambda: {client["name"] for client in sockets.status()["clients"]} >= {"ada", "owner"}, 5)
        done = sockets.run("secure-ipp", "keys", "revoke", "ada")
        assert done.returncode == 0, done.stderr
        wait_until(lambda: ada.session.closed, 5)
        assert isinstance(ada.session.receiver.error, Revoked)
    with pytest.raises(Refused, match="refused this key"):
        ipp.Client(str(issued), timeout=5)
    assert owner[:].apply_sync(int, "7") == [7, 7], "nobody else noticed"
    text = wait_until(lambda: (t := json.dumps(journal_lines(sockets.place))).count("client-socket") and t)
    assert "unknown key" in text and '"ada"' in text


def test_s33_the_servers_key_is_rotated_and_who_is_there_proves_itself_anew(sockets: SocketCluster) -> None:
    client = sockets.client()
    before = load_server(sockets.place).keys.public
    done = sockets.run("secure-ipp", "keys", "rotate", "--now")
    assert done.returncode == 0, done.stdout + done.stderr
    assert load_server(sockets.place).keys.public != before
    assert client[:].apply_sync(int, "7") == [7, 7]
    assert client.session.doors.keys[0] != before
