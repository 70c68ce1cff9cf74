"""A controller, engines and a client that share nothing but two copied files: on loopback addresses, and as hosts.

Network namespaces are hosts as far as the network is concerned: addresses and interfaces of their own, and nothing else
between them than what the veth pairs carry. They need root and iproute2.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import RunningCluster, argv, short_directory

pytestmark = pytest.mark.live

ASK = """
    import json, os, sys
    import secure_ipp as ipp
    with ipp.Client(sys.argv[1], timeout=20) as client:
        client.wait_for_engines(int(sys.argv[2]), timeout=30)
        pids = client[:].apply_sync(os.getpid)
        total = sum(client.load_balanced_view().map_sync(lambda n: n * n, range(100)))
        print(json.dumps({"pids": pids, "total": total, "door": True}))
"""


class Hosts:
    """Network namespaces on one bridge: 10.231.77.1, .2, .3."""

    def __init__(self, count: int) -> None:
        mark = uuid.uuid4().hex[:5]
        self.names = [f"sipp{mark}{number}" for number in range(count)]
        self.addresses = [f"10.231.77.{number + 1}" for number in range(count)]

    def make(self) -> None:
        first = self.names[0]
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", first, "link", "add", "bridge0", "type", "bridge")
        ip("-n", first, "addr", "add", f"{self.addresses[0]}/24", "dev", "bridge0")
        ip("-n", first, "link", "set", "bridge0", "up")
        for number, name in enumerate(self.names[1:], start=1):
            ip("-n", first, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", first, "link", "set", f"port{number}", "master", "bridge0", "up")
            ip("-n", name, "addr", "add", f"{self.addresses[number]}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def on(self, number: int, line: list[str]) -> list[str]:
        return ["ip", "netns", "exec", self.names[number], *line]


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], capture_output=True, check=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    found = Hosts(3)
    try:
        found.make()
    except subprocess.CalledProcessError as error:
        found.remove()
        pytest.skip(f"this machine makes no network namespaces: {error.stderr.decode()[:200]}")
    yield found
    found.remove()


def copied(file: Path) -> Path:
    """A copy as `scp -p` would make it, in a private directory of another home."""
    copy = short_directory() / file.name
    copy.touch(mode=0o600)
    copy.write_bytes(file.read_bytes())
    return copy


def elsewhere() -> dict[str, str]:
    """The environment of a host where no keys were made."""
    return {**os.environ, "SECURE_IPP_HOME": str(short_directory())}


def ask(line: list[str], client_file: Path, engines: int, *before: str) -> dict[str, object]:
    done = subprocess.run(
        [*before, *line, str(client_file), str(engines)], capture_output=True, text=True, timeout=60, env=elsewhere(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def until(process: subprocess.Popen[str], word: str) -> None:
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if word in line:
            return
    pytest.fail(f"ended without saying {word!r}: {seen}")


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.wait(20)
    process.communicate()


def test_copied_files_between_loopback_addresses() -> None:
    own = RunningCluster(engines=1)
    made = own.run("secure-ipp", "keys", "init", "--host", "127.0.0.2", "--bind", "127.0.0.2", "--json")
    assert made.returncode == 0, made.stderr
    assert all("127.0.0.2" in door for door in json.loads(made.stdout)["client_door"])
    own.start()
    joined = subprocess.Popen(
        argv("ipengine", "-n", "2", "--file", str(copied(own.place.engine_file))), stderr=subprocess.PIPE, text=True,
        stdin=subprocess.DEVNULL, env=elsewhere(), start_new_session=True,
    )
    try:
        until(joined, "engines are ready")
        answer = ask(python(ASK), copied(own.place.client_file), 3)
        assert len(set(answer["pids"])) == 3 and answer["total"] == 328350  # type: ignore[call-overload]
    finally:
        end(joined)
        own.stop()


def test_copied_files_between_three_hosts(hosts: Hosts) -> None:
    own = RunningCluster(engines=0)
    made = own.run("secure-ipp", "keys", "init", "--host", hosts.addresses[0], "--json")
    assert made.returncode == 0, made.stderr
    environment = {**os.environ, "SECURE_IPP_HOME": str(own.home)}
    started: list[subprocess.Popen[str]] = []

    def start(number: int, line: list[str], env: dict[str, str], word: str) -> None:
        process = subprocess.Popen(
            hosts.on(number, line), stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=env,
            start_new_session=True,
        )
        started.append(process)
        until(process, word)

    try:
        start(0, argv("ipcontroller"), environment, "Ctrl-C stops it")
        engine_file = copied(own.place.engine_file)
        start(1, argv("ipengine", "-n", "2", "--file", str(engine_file)), elsewhere(), "engines are ready")
        answer = ask(hosts.on(2, python(ASK)), copied(own.place.client_file), 2)
        assert len(set(answer["pids"])) == 2 and answer["total"] == 328350  # type: ignore[call-overload]
        records = own.place.log_dir.joinpath("audit.log").read_text()
        assert hosts.addresses[1] in records and hosts.addresses[2] in records
    finally:
        for process in reversed(started):
            end(process)
        own.stop()


def test_a_controller_that_cannot_be_reached_is_an_error_in_time(hosts: Hosts) -> None:
    own = RunningCluster(engines=0)
    assert own.run("secure-ipp", "keys", "init", "--host", hosts.addresses[0]).returncode == 0
    code = """
        import sys, secure_ipp as ipp
        try:
            ipp.Client(sys.argv[1], timeout=3)
        except TimeoutError as error:
            print("in time:", error)
    """
    begun = time.monotonic()
    done = subprocess.run(
        hosts.on(2, [*python(code), str(copied(own.place.client_file))]), capture_output=True, text=True, timeout=30,
        env=elsewhere(), check=False,
    )
    assert "in time:" in done.stdout, done.stdout + done.stderr
    assert time.monotonic() - begun < 8
