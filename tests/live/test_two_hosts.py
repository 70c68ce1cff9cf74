"""The controller on one host, engines on a second, a collaborator on a third; files copied between them.

The hosts are network namespaces that the test makes and removes (three of them, two cables, no way to the real
network), and again two addresses of loopback for machines where namespaces cannot be had.  Laws shown: a copied file
is all that is needed; over the cable nothing but Curve with a known key comes in; a collaborator unpickles plain data
only, unless told otherwise (S1, S3, S8, S12, S19, S25).
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest

import secure_ipp as ipp
from secure_ipp.errors import PolicyError
from tests.running import RunningCluster, argv, gone, journal_lines, short_directory, wait_until

pytestmark = pytest.mark.live

needs_namespaces = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None,
    reason="network namespaces are made by root, with iproute2",
)

# What the collaborator runs: a file and how far to trust what comes back, to a line of JSON.
COLLABORATOR = """
import ipaddress, json, os, sys
import numpy
import secure_ipp as ipp

found = {}
with ipp.Client(sys.argv[1], timeout=20) as client:
    client.wait_for_engines(2, timeout=20)
    view = client[:]
    found["pids"] = view.apply_sync(os.getpid)
    found["plain"] = view.apply_sync(lambda: {"text": "é", "numbers": [1, 2.5], "nothing": None})
    view["small"] = numpy.arange(6).reshape(2, 3)
    view["large"] = numpy.arange(300_000.0)
    found["small"] = client[0].pull("small", block=True).tolist()
    large = view.apply_sync(lambda: large * 2)
    found["large"] = [part.sum() for part in large]
    found["squares"] = client.load_balanced_view().map_sync(lambda x: x * x, range(20))
    try:
        client[0].apply_sync(ipaddress.IPv4Address, 7)
    except ipp.SecureIppError as error:
        found["object"] = [error.code, str(error)]
    found["after"] = client[0].apply_sync(lambda: 1)
with ipp.Client(sys.argv[1], timeout=20, results="any") as client:
    found["any"] = str(client[0].apply_sync(ipaddress.IPv4Address, 7))
print(json.dumps(found))
"""

# What somebody with a cable but without a file can do at a door: one try of each kind.
STRANGER = """
import json, sys
import zmq
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire.intruder import try_door

client, engine = load_capability(sys.argv[1]), load_capability(sys.argv[2])

def of_another_mechanism(door, username=b""):
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    if username:
        socket.plain_username, socket.plain_password = username, b"let me in"
    events = socket.get_monitor_socket(zmq.EVENT_ALL & ~zmq.EVENT_CONNECTED & ~zmq.EVENT_CONNECT_DELAYED)
    socket.connect(door)
    socket.send(b"hello")
    kind = int.from_bytes(events.recv_multipart()[0][:2], sys.byteorder) if events.poll(8000) else 0
    answered = bool(socket.poll(100))
    context.destroy(linger=0)
    admitted = kind == zmq.EVENT_HANDSHAKE_SUCCEEDED or answered
    return "silent" if not kind else "admitted" if admitted else "refused"

found = {}
for name, file, others in (("client", client, engine), ("engine", engine, client)):
    stranger = KeyPair.generate()
    (door,) = [door for door in file.door if sys.argv[3] in door]
    found[name] = {
        "its own key": try_door(door, file.server_key, file.keys),
        "an unknown key": try_door(door, file.server_key, stranger, 2),
        "the other file's key": try_door(door, file.server_key, others.keys, 2),
        "another server's key": try_door(door, stranger.public, file.keys, 2),
        "no security": of_another_mechanism(door),
        "a password": of_another_mechanism(door, b"admin"),
    }
print(json.dumps(found))
"""

IMPATIENT = """
import json, sys, time
import secure_ipp as ipp

begun = time.monotonic()
try:
    ipp.Client(sys.argv[1], timeout=float(sys.argv[2]))
except TimeoutError as error:
    print(json.dumps({"seconds": time.monotonic() - begun, "code": error.code, "said": str(error)}))
"""

COUNT = """
import json
import secure_ipp as ipp

with ipp.Client(timeout=20) as client:
    client.wait_for_engines(2, timeout=20)
    print(json.dumps(client[:].apply_sync(lambda: 7)))
"""


@dataclass(frozen=True)
class Hosts:
    """Names of the namespaces."""

    controller: str
    engines: str
    collaborator: str


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True, text=True)


def namespaces() -> set[str]:
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in listed.splitlines()}


CABLES = (("engines", "10.77.1.1", "10.77.1.2"), ("collaborator", "10.77.2.1", "10.77.2.2"))


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Three hosts; the controller's has a cable to each of the others, and those have none to one another."""
    tag = f"sipp-{secrets.token_hex(3)}"
    made = Hosts(f"{tag}-controller", f"{tag}-engines", f"{tag}-collaborator")
    names = [made.controller, made.engines, made.collaborator]
    try:
        try:
            ip("netns", "add", names[0])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine makes no network namespaces: {error.stderr.strip()}")
        for name in names[1:]:
            ip("netns", "add", name)
        for name in names:
            ip("-n", name, "link", "set", "lo", "up")
        for role, near, far in CABLES:
            other = getattr(made, role)
            ip("-n", made.controller, "link", "add", role, "type", "veth", "peer", "name", "cable", "netns", other)
            ip("-n", made.controller, "address", "add", f"{near}/24", "dev", role)
            ip("-n", other, "address", "add", f"{far}/24", "dev", "cable")
            ip("-n", made.controller, "link", "set", role, "up")
            ip("-n", other, "link", "set", "cable", "up")
        yield made
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        assert not namespaces() & set(names)


def on(host: str, words: list[str]) -> list[str]:
    """The command line that runs `words` on a host; the process that runs it becomes the command itself."""
    return ["ip", "netns", "exec", host, *words] if host else words


def run(
    host: str, home: Path, words: list[str], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        on(host, words), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
        env={**(environment or os.environ), "SECURE_IPP_HOME": str(home)},
    )


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def copied(file: Path) -> Path:
    """A copy of a file in a directory that plays another host's; nothing else of the cluster lies there."""
    return Path(shutil.copy(file, short_directory() / file.name))


class EnginesElsewhere:
    """`ipengine --file` in the foreground, on a host that has a copy of the engine file and nothing else."""

    def __init__(self, host: str, file: Path, engines: int, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            on(host, argv("ipengine", "--file", str(file), "-n", str(engines))), stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**(environment or os.environ), "SECURE_IPP_HOME": str(file.parent / "nothing")},
        )
        assert self.process.stderr is not None
        self.said = ""
        for line in self.process.stderr:
            self.said += line
            if "Ctrl-C stops them" in line:
                return
        self.process.wait()
        pytest.fail(f"the engines ended: {self.said}")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)
        return self.process.returncode


@pytest.fixture
def own(request: pytest.FixtureRequest) -> RunningCluster:
    one = RunningCluster(engines=0)
    request.addfinalizer(one.stop)
    return one


@needs_namespaces
def test_three_hosts_with_copied_files(hosts: Hosts, own: RunningCluster, request: pytest.FixtureRequest) -> None:
    near = [address for _, address, _ in CABLES]
    init = argv("secure-ipp", "keys", "init", "--json", *(word for address in near for word in ("--host", address)))
    made = told(run(hosts.controller, own.home, init))
    assert [door.rpartition(":")[0] for door in made["client_door"]] == ["tcp://127.0.0.1", *(
        f"tcp://{address}" for address in near
    )]
    started = run(hosts.controller, own.home, argv("ipcontroller", "--daemonize"))
    assert started.returncode == 0, started.stderr
    engine_file, client_file = copied(own.place.engine_file), copied(own.place.client_file)
    engines = EnginesElsewhere(hosts.engines, engine_file, 2)
    request.addfinalizer(engines.stop)

    found = told(run(hosts.collaborator, client_file.parent / "nothing", [
        sys.executable, "-c", COLLABORATOR, str(client_file)
    ]))
    there = os.stat(f"/run/netns/{hosts.engines}").st_ino
    assert [os.stat(f"/proc/{pid}/ns/net").st_ino for pid in found["pids"]] == [there, there]
    check_collaborator(found)

    # the engines' host has a cable to the controller and neither file's place; it is where strangers try the doors
    tried = told(run(hosts.engines, client_file.parent / "nothing", [
        sys.executable, "-c", STRANGER, str(client_file), str(engine_file), near[0]
    ]))
    check_doors(tried)
    records = str(journal_lines(own.place))
    assert all(far in records for _, _, far in CABLES)
    status = told(run(hosts.controller, own.home, argv("secure-ipp", "status", "--json")))
    assert len(status["engines"]) == 2  # nothing was disturbed
    assert engines.stop() == 0
    assert gone(found["pids"], 2.0)


def check_collaborator(found: dict[str, Any]) -> None:
    assert found["plain"] == [{"text": "é", "numbers": [1, 2.5], "nothing": None}] * 2
    assert found["small"] == [[0, 1, 2], [3, 4, 5]]
    assert found["large"] == [299_999.0 * 300_000] * 2
    assert found["squares"] == [x * x for x in range(20)]
    code, text = found["object"]
    assert code == "untrusted-result" and "ipaddress.IPv4Address" in text and 'results="any"' in text
    assert found["after"] == 1
    assert found["any"] == "0.0.0.7"


def check_doors(tried: dict[str, dict[str, str]]) -> None:
    for door, verdicts in tried.items():
        assert verdicts.pop("its own key") == "admitted", (door, verdicts)
        assert verdicts.pop("no security") == verdicts.pop("a password") == "refused", (door, verdicts)
        assert "admitted" not in verdicts.values(), (door, verdicts)
    assert tried["client"]["an unknown key"] == "refused"  # at the engine door it may be "not known yet"


def test_two_addresses_of_loopback_and_a_restart(own: RunningCluster, request: pytest.FixtureRequest) -> None:
    """The same without namespaces; and copied files stay good when the controller is started anew."""
    made = told(own.run("secure-ipp", "keys", "init", "--bind", "127.0.0.2", "--host", "127.0.0.2", "--json"))
    assert all(door.startswith("tcp://127.0.0.2:") for door in made["client_door"] + made["engine_door"])
    engine_file, client_file = copied(own.place.engine_file), copied(own.place.client_file)
    for _ in range(2):
        started = own.run("ipcontroller", "--daemonize")
        assert started.returncode == 0, started.stderr
        engines = EnginesElsewhere("", engine_file, 1)
        request.addfinalizer(engines.stop)
        with ipp.Client(str(client_file), timeout=20) as client:
            client.wait_for_engines(1, timeout=20)
            assert client[0].apply_sync(numpy.arange, 4).tolist() == [0, 1, 2, 3]
            with pytest.raises(PolicyError, match=r'ipaddress\.IPv4Address(.|\n)*results="any"'):
                client[0].apply_sync(ipaddress.IPv4Address, 7)
        assert own.stop().returncode == 0
        assert engines.process.wait(10) == 0  # they were told that it is over


@needs_namespaces
def test_a_host_that_swallows_everything_is_an_error_in_time(hosts: Hosts, own: RunningCluster) -> None:
    """Its address is there and answers nothing, so that not even a refusal comes back."""
    told(run(hosts.controller, own.home, argv("secure-ipp", "keys", "init", "--host", "10.77.2.9", "--json")))
    ip("-n", hosts.collaborator, "neighbour", "add", "10.77.2.9", "lladdr", "02:00:00:00:00:09", "dev", "cable")
    file = copied(own.place.client_file)
    waited = told(run(hosts.collaborator, file.parent / "nothing", [sys.executable, "-c", IMPATIENT, str(file), "2"]))
    assert waited["seconds"] < 3.0 and waited["code"] == "unreachable", waited
    assert "10.77.2.9" in waited["said"] and "ipcluster list" in waited["said"]


@needs_namespaces
def test_a_cable_that_is_pulled_for_longer_than_a_session_lasts(
    hosts: Hosts, own: RunningCluster, wishing: Callable[[str], dict[str, str]], request: pytest.FixtureRequest
) -> None:
    """The engines are given up, their host is not: when the cable is back, it has fresh ones."""
    quick = wishing("quick loss")
    told(run(hosts.controller, own.home, argv("secure-ipp", "keys", "init", "--host", CABLES[0][1], "--json")))
    started = run(hosts.controller, own.home, argv("ipcontroller", "--daemonize"), quick)
    assert started.returncode == 0, started.stderr
    engines = EnginesElsewhere(hosts.engines, copied(own.place.engine_file), 2, quick)
    request.addfinalizer(engines.stop)
    before = {engine["pid"] for engine in own.status()["engines"]}
    assert len(before) == 2
    ip("-n", hosts.controller, "link", "set", "engines", "down")
    wait_until(lambda: not own.status()["engines"], 15, "the engines are given up")
    ip("-n", hosts.controller, "link", "set", "engines", "up")
    fresh = wait_until(lambda: {
        engine["pid"] for engine in own.status()["engines"] if engine["pid"] not in before
    }, 20, "fresh engines are there")
    wait_until(lambda: len(own.status()["engines"]) == 2, 10)
    assert gone(list(before), 5.0) and not fresh & before
    done = run(hosts.controller, own.home, [sys.executable, "-c", COUNT])
    assert told(done) == [7, 7], done.stderr
    assert engines.stop() == 0
