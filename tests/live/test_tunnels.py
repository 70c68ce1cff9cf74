"""Work through real ssh servers: by itself, by name, shared, dropped, killed; with each back end (S22 to S25)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import psutil
import pytest

import secure_ipp as ipp
from secure_ipp.errors import Refused
from secure_ipp.tunnel import listing, places
from secure_ipp.tunnel.failures import DoorSilent, ForwardingRefused, HostKeyUnknown, LoginRefused, NoRoute
from tests import running
from tests.live.test_two_hosts import Hosts, hosts, needs_namespaces, on, run, told  # noqa: F401  a fixture
from tests.running import RunningCluster, wait_until
from tests.tunnel.faults import Faulty
from tests.tunnel.sshd import Server, User, free_port, need_sshd

pytestmark = pytest.mark.live
BACKENDS = ("openssh", "paramiko")


@dataclass
class Login:
    """A user, and the ssh server that lets it in."""

    user: User
    server: Server

    @property
    def route(self) -> str:
        return f"{self.user.name}@{self.server.host}:{self.server.port}"


@pytest.fixture(scope="module")
def everybody() -> Iterator[Login]:
    user = User()
    with Server(authorized=[user.public_key]) as server:
        user.knows(server)
        yield Login(user, server)


@pytest.fixture
def login(everybody: Login, monkeypatch: pytest.MonkeyPatch) -> Iterator[Login]:
    """The server that all these tests share, and at the end no tunnel."""
    monkeypatch.setenv("SECURE_IPP_SSH_CONFIG", str(everybody.user.config))
    everybody.user.configure()
    yield everybody
    wait_until(lambda: not listing.tunnels(), 15, "tunnels are gone")
    wait_until(lambda: not ssh_processes(), 5, "ssh processes are gone")


def ssh_processes() -> list[psutil.Process]:
    """ssh clients and keepers that this run has started."""
    found = []
    for process in running.our_processes():
        try:
            line = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if line and (Path(line[0]).name in ("ssh", "ssh:") or "secure_ipp.tunnel.keeper" in line):
            found.append(process)
    return found


def through(cluster: RunningCluster, login: Login, backend: str = "openssh", **options: Any) -> Any:
    options = {"timeout": 30, "sshserver": login.route, "paramiko": backend == "paramiko", **options}
    return ipp.Client(str(cluster.place.client_file), **options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_that_a_client_does_goes_through_an_ssh_server(
    cluster: RunningCluster, login: Login, backend: str
) -> None:
    array = numpy.arange(2_000_000.0)
    with through(cluster, login, backend) as client:
        assert "SSH tunnel, Curve inside" in client.way
        client.wait_for_engines(2, timeout=20)
        (state,) = listing.tunnels().values()
        assert (state.condition, state.spec.backend) == ("up", backend)  # type: ignore[union-attr]
        assert state.host_key == login.server.fingerprint() and state.known_by == "known_hosts" and state.exchange
        view = client[:]
        assert len(set(view.apply_sync(os.getpid))) == 2
        view["array"] = array
        assert [part.sum() for part in view["array"]] == [array.sum()] * 2
        assert client.load_balanced_view().map_sync(lambda x: x * x, range(500)) == [x * x for x in range(500)]


def test_several_clients_share_a_tunnel_and_the_last_one_ends_it(cluster: RunningCluster, login: Login) -> None:
    first, second = through(cluster, login), through(cluster, login)
    (state,) = listing.tunnels().values()
    assert len(state.users) == 2 and all(user.startswith("client owner") for user in state.users)
    assert len([one for one in ssh_processes() if Path(one.cmdline()[0]).name == "ssh"]) <= 1
    first.close()
    assert second[0].apply_sync(lambda: 7) == 7
    second.close()
    wait_until(lambda: not ssh_processes(), 5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_s25_a_dropped_ssh_connection_loses_no_task(cluster: RunningCluster, login: Login, backend: str) -> None:
    with through(cluster, login, backend) as client:
        view = client.load_balanced_view()
        results = view.map_async(_slowly, range(150), chunksize=1)
        wait_until(lambda: results.progress > 10, 20)
        login.server.drop()
        wait_until(lambda: results.progress > 60, 30)
        login.server.drop()
        assert results.get(timeout=60) == list(range(150))
        (state,) = listing.tunnels().values()
        assert state.drops == 2


def test_after_a_large_transfer_was_cut_the_next_one_is_whole(cluster: RunningCluster, login: Login) -> None:
    array = numpy.random.default_rng(1).integers(0, 256, 40_000_000, dtype=numpy.uint8)
    with through(cluster, login) as client:
        pushed = client[0].push({"large": array}, block=False)
        login.server.drop()
        pushed.get(timeout=60)
        assert (client[0].pull("large", block=True) == array).all()


def test_a_keeper_that_is_killed_is_followed_by_another(cluster: RunningCluster, login: Login) -> None:
    with through(cluster, login) as client:
        (before,) = listing.tunnels().values()
        os.kill(before.pid, signal.SIGKILL)
        assert client.load_balanced_view().map_sync(lambda x: x + 1, range(50)) == list(range(1, 51))
        (after,) = listing.tunnels().values()
        assert after.pid != before.pid


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_client_that_is_killed_leaves_no_tunnel(cluster: RunningCluster, login: Login, backend: str) -> None:
    program = (
        "import sys, secure_ipp as ipp\n"
        "client = ipp.Client(sys.argv[1], sshserver=sys.argv[2], paramiko=sys.argv[3] == 'paramiko', timeout=30)\n"
        "print('connected', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(cluster.place.client_file), login.route, backend],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "connected\n"
        assert ssh_processes()
        process.kill()
    wait_until(lambda: not ssh_processes(), 5)
    assert not listing.tunnels()


def test_a_server_that_comes_back_with_another_key_is_refused(
    cluster: RunningCluster, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S23: even if known_hosts now vouches for the new key: the tunnel's own is pinned."""
    user = User()
    monkeypatch.setenv("SECURE_IPP_SSH_CONFIG", str(user.config))
    server = Server(authorized=[user.public_key]).start()
    try:
        user.knows(server)
        with through(cluster, Login(user, server)) as client:
            assert client[0].apply_sync(lambda: 1) == 1
            server.kill()
            server.new_host_key()
            user.forgets()
            user.knows(server)
            server.start()
            wait_until(lambda: not listing.tunnels(), 20, "the tunnel is given up")
            began = time.monotonic()
            with pytest.raises(ipp.SecureIppError, match=r"host key|another key"):
                client[0].apply_sync(lambda: 2)
            assert time.monotonic() - began < 5
    finally:
        server.stop()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_password_opens_a_tunnel_and_stands_nowhere(
    cluster: RunningCluster, login: Login, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S11: from the call, and from the keyring; it is kept for when the tunnel falls."""
    user = User()
    monkeypatch.setenv("SECURE_IPP_SSH_CONFIG", str(user.config))
    secret = "sesame-" + os.urandom(8).hex()
    with Faulty(password=secret) as server:
        user.knows(server)  # type: ignore[arg-type]
        with pytest.raises(LoginRefused):
            through(cluster, Login(user, server), backend, timeout=10, password="wrong")  # type: ignore[arg-type]
        with through(cluster, Login(user, server), backend, password=secret) as client:  # type: ignore[arg-type]
            assert client[0].apply_sync(lambda: 5) == 5
            assert secret not in everything_of_processes()
            assert [one for one in server.passwords if one] == ["wrong", secret]  # ssh says "" for no answer
        wait_until(lambda: not listing.tunnels(), 10)
        place = running.short_directory() / "keyring.json"
        monkeypatch.setenv("SECURE_IPP_KEYRING_BACKEND", "keyrings_of_tests.InFile")
        monkeypatch.setenv("KEYRING_OF_TESTS", str(place))
        monkeypatch.setenv("PYTHONPATH", f"{running.ROOT / 'tests' / 'tunnel'}:{os.environ['PYTHONPATH']}")
        monkeypatch.syspath_prepend(str(running.ROOT / "tests" / "tunnel"))
        route = Login(user, server).route  # type: ignore[arg-type]
        reading, writing = os.pipe()
        os.write(writing, f"{secret}\n".encode())
        os.close(writing)
        kept = subprocess.run(
            running.argv("secure-ipp", "tunnel", "login", route), pass_fds=[reading], capture_output=True, text=True,
            env={**os.environ, "SECURE_IPP_PASSPHRASE_FD": str(reading)}, timeout=60, check=False,
            stdin=subprocess.DEVNULL,
        )
        os.close(reading)
        assert kept.returncode == 0, kept.stderr
        with through(cluster, Login(user, server), backend) as client:  # type: ignore[arg-type]
            assert client[0].apply_sync(lambda: 6) == 6
        forgotten = cluster.run("secure-ipp", "tunnel", "login", route, "--forget")
        assert forgotten.returncode == 0, forgotten.stderr
        with pytest.raises(LoginRefused):
            through(cluster, Login(user, server), backend, timeout=10)  # type: ignore[arg-type]


def everything_of_processes() -> str:
    """Command lines and environments of all that this run has started."""
    found = []
    for process in running.our_processes():
        for name in ("cmdline", "environ"):
            try:
                found.append(Path(f"/proc/{process.pid}/{name}").read_bytes().decode("utf-8", "replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue
    assert found
    return "".join(found)


# --- errors, apart from each other, in time --------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_thing_that_goes_wrong_has_an_error_of_its_own(
    cluster: RunningCluster, login: Login, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, known = User(), User()
    with Server(authorized=[known.public_key], lines=["AllowTcpForwarding no"]) as denying:
        known.knows(denying)
        known.knows(login.server)
        cases: list[tuple[type[Exception], Login, User]] = [
            (NoRoute, Login(known, _nobody()), known),
            (HostKeyUnknown, Login(stranger, login.server), stranger),
            (LoginRefused, Login(known, login.server), known),
            (ForwardingRefused, Login(known, denying), known),
        ]
        for error, one, user in cases:
            monkeypatch.setenv("SECURE_IPP_SSH_CONFIG", str(user.config))
            began = time.monotonic()
            with pytest.raises(error) as caught:
                through(cluster, one, backend, timeout=15)
            assert time.monotonic() - began < 12, error
            assert caught.value.advice, error  # type: ignore[attr-defined]
            if error is HostKeyUnknown:
                assert login.server.fingerprint() in str(caught.value)
                assert "--accept-new" in str(caught.value)
            wait_until(lambda: not listing.tunnels(), 10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_door_that_is_silent_and_a_key_that_is_refused(login: Login, backend: str) -> None:
    own = RunningCluster(engines=0)
    try:
        own.start()
        issued = own.run("secure-ipp", "keys", "issue", "ada", "--expires", "1d", "--shared-engines", "--out",
                         str(own.home / "ada.json"))
        assert issued.returncode == 0, issued.stderr
        assert own.run("secure-ipp", "keys", "revoke", "ada").returncode == 0
        with pytest.raises(Refused) as refused:
            ipp.Client(str(own.home / "ada.json"), sshserver=login.route, paramiko=backend == "paramiko", timeout=15)
        assert refused.value.code == "key-refused"
        assert own.stop().returncode == 0
        with pytest.raises(DoorSilent):
            through(own, login, backend, timeout=3)
    finally:
        own.stop()


def _nobody() -> Server:
    server = Server()
    server.port = free_port()
    return server


# --- the command ------------------------------------------------------------------------------------------


def test_a_tunnel_that_was_opened_by_hand_stays_until_it_is_closed(cluster: RunningCluster, login: Login) -> None:
    file = str(cluster.place.client_file)
    done = cluster.run("secure-ipp", "tunnel", "open", file, "--ssh", login.route, "--json")
    assert done.returncode == 0, done.stderr
    one = json.loads(done.stdout)
    assert (one["state"], one["route"], one["host_key"]) == ("up", login.route, login.server.fingerprint())
    with through(cluster, login) as client:
        assert client[0].apply_sync(lambda: 3) == 3
        (listed,) = json.loads(cluster.run("secure-ipp", "tunnel", "list", "--json").stdout)
        assert listed["held"] and len(listed["users"]) == 1 and listed["name"] == one["name"]
    (listed,) = json.loads(cluster.run("secure-ipp", "tunnel", "list", "--json").stdout)
    assert listed["users"] == []
    shown = cluster.run("secure-ipp", "tunnel", "list").stdout
    assert one["name"] in shown and "held open" in shown
    closed = cluster.run("secure-ipp", "tunnel", "close", file)
    assert closed.returncode == 0 and one["name"] in closed.stdout
    wait_until(lambda: not ssh_processes(), 5)
    assert cluster.run("secure-ipp", "tunnel", "list").stdout == "no tunnels\n"
    assert list(places.root().glob("*/")) == []


def test_s23_an_unknown_key_is_accepted_by_name_only(
    cluster: RunningCluster, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = User()
    monkeypatch.setenv("SECURE_IPP_SSH_CONFIG", str(stranger.config))
    login.server.authorize(stranger.public_key)
    file = str(cluster.place.client_file)
    words = ("secure-ipp", "tunnel", "open", file, "--ssh", login.route)
    refused = cluster.run(*words)
    assert refused.returncode == 5
    assert login.server.fingerprint() in refused.stderr and "--accept-new" in refused.stderr
    assert stranger.known_hosts.read_text() == ""
    accepted = cluster.run(*words, "--accept-new")
    assert accepted.returncode == 0, accepted.stderr
    assert login.server.fingerprint() in accepted.stderr and "accepted" in accepted.stderr
    assert stranger.known_hosts.read_text()
    assert cluster.run("secure-ipp", "tunnel", "close", file).returncode == 0
    with through(cluster, login) as client:  # it is known from now on
        assert client[0].apply_sync(lambda: 1) == 1


def test_engines_join_through_an_ssh_server(login: Login) -> None:
    own = RunningCluster(engines=0)
    process = None
    try:
        own.start()
        process = subprocess.Popen(
            running.argv("ipengine", "--file", str(own.place.engine_file), "-n", "2", "--ssh", login.route),
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "SECURE_IPP_HOME": str(running.short_directory())},
        )
        assert process.stderr is not None
        for line in process.stderr:
            if "Ctrl-C stops them" in line:
                break
        else:
            pytest.fail("the engines ended: " + own.logs())
        client = own.client()
        client.wait_for_engines(2, timeout=20)
        before = sorted(client[:].apply_sync(os.getpid))
        login.server.drop()  # the tunnel of agent and engines
        assert sorted(client[:].apply_sync(os.getpid)) == before
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        own.stop()
    wait_until(lambda: not ssh_processes(), 5)


# --- by itself -------------------------------------------------------------------------------------------


class ServerOn(Server):
    """An ssh server of another host."""

    def __init__(self, namespace: str, address: str, **options: Any) -> None:
        super().__init__(**options)
        self.lines.append(f"ListenAddress {address}")
        self._namespace, self.host = namespace, address

    def start(self) -> ServerOn:
        place = self.directory / "sshd"
        place.write_text(f"#!/bin/sh\nexec ip netns exec {self._namespace} {need_sshd()} \"$@\"\n")
        place.chmod(0o700)
        self._program = str(place)
        super().start()
        return self

    def _answers(self) -> bool:
        return "Server listening on" in self.log()

    def kill(self) -> None:
        for process in reversed(self.processes()):
            running.end_process(process.pid)
        if self._process is not None:
            self._process.wait()
        self._process = None

    stop = kill


ALONE = """
import json, sys
import secure_ipp as ipp

with ipp.Client(sys.argv[1], timeout=20) as client:
    client.wait_for_engines(1, timeout=20)
    print(json.dumps([client.way, client[0].apply_sync(lambda: 7)]))
"""


@needs_namespaces
@pytest.mark.parametrize("backend", BACKENDS)
def test_where_the_door_cannot_be_reached_the_way_is_found_by_itself(
    hosts: Hosts, request: pytest.FixtureRequest, backend: str  # noqa: F811
) -> None:
    """The controller listens on its own loopback; a collaborator has an ssh account there, and a file that says so."""
    user, own = User(), RunningCluster(engines=1)
    request.addfinalizer(own.stop)
    server = ServerOn(hosts.controller, "10.77.2.1", authorized=[user.public_key])
    server.start()
    request.addfinalizer(server.stop)
    route = f"{user.name}@10.77.2.1:{server.port}"
    user.configure()
    init = argv_of("keys", "init", "--bind", "127.0.0.1", "--host", "127.0.0.1", "--json")
    told(run(hosts.controller, own.home, init))
    started = run(hosts.controller, own.home, running.argv("ipcluster", "start", "--curve", "-n", "1", "--daemonize"))
    assert started.returncode == 0, started.stderr
    ada = running.short_directory() / "ada.json"
    issued = run(hosts.controller, own.home, argv_of(
        "keys", "issue", "ada", "--expires", "1d", "--shared-engines", "--ssh", route, "--ssh-host-key",
        server.fingerprint(), "--out", str(ada),
    ))
    assert issued.returncode == 0, issued.stderr
    home = ada.parent / "nothing"
    environment = {**os.environ, "SECURE_IPP_SSH_CONFIG": str(user.config)}
    if backend == "paramiko":  # as on a machine without the program
        environment["PATH"] = str(running.short_directory()) + ":" + _without_ssh()
    words = [sys.executable, "-c", ALONE, str(ada)]
    asked = run(hosts.collaborator, home, words, environment)
    assert asked.returncode != 0 and "agreed" in asked.stderr
    opened = run(hosts.collaborator, home, argv_of("tunnel", "open", str(ada), "--yes", "--json"), environment)
    assert opened.returncode == 0, opened.stderr
    assert json.loads(opened.stdout)["backend"] == backend
    assert json.loads(opened.stdout)["host_key_known_by"] == "file"
    way, seven = told(run(hosts.collaborator, home, words, environment))
    assert seven == 7
    assert "SSH tunnel, Curve inside: the door cannot be reached from here" in way
    closed = run(hosts.collaborator, home, argv_of("tunnel", "close", str(ada)), environment)
    assert closed.returncode == 0, closed.stderr
    way, seven = told(run(hosts.collaborator, home, words, environment))  # and without one that is open already
    assert seven == 7
    way, seven = told(run(hosts.controller, home, words, environment))  # where the door answers, there is no tunnel
    assert (way, seven) == ("by Curve: the door answers here", 7)
    wait_until(lambda: not ssh_processes(), 5)


def argv_of(*words: str) -> list[str]:
    return running.argv("secure-ipp", *words)


def _without_ssh() -> str:
    """A PATH on which there is everything but ssh."""
    import shutil

    place = running.short_directory()
    for name in ("ip", "python3", "sh", "env"):
        found = shutil.which(name)
        if found:
            (place / name).symlink_to(found)
    return str(place)


def _slowly(x: int) -> int:
    import time

    time.sleep(0.04)
    return x


def test_the_example_finds_its_way(cluster: RunningCluster, login: Login) -> None:
    done = subprocess.run(
        [sys.executable, str(running.ROOT / "examples/through_ssh.py"), str(cluster.place.client_file), login.route],
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("reached by an SSH tunnel, Curve inside: ") and "pi is about 3.1" in done.stdout


def test_the_doctor_tries_the_route_of_a_file(cluster: RunningCluster, login: Login) -> None:
    file = running.short_directory() / "ada.json"
    name = f"ada{os.getpid()}"
    issued = cluster.run("secure-ipp", "keys", "issue", name, "--expires", "1d", "--shared-engines", "--ssh",
                         login.route, "--out", str(file))
    assert issued.returncode == 0, issued.stderr
    found = json.loads(cluster.run("secure-ipp", "doctor", str(file), "--json").stdout)
    (route,) = [one for one in found["findings"] if one["check"] == "route"]
    assert route["level"] == "ok" and login.server.fingerprint() in route["text"]
    login.server.kill()
    try:
        found = json.loads(cluster.run("secure-ipp", "doctor", str(file), "--json").stdout)
        (route,) = [one for one in found["findings"] if one["check"] == "route"]
        assert route["level"] == "error" and "cannot be reached" in route["text"] and route["advice"]
    finally:
        login.server.start()
        cluster.run("secure-ipp", "keys", "revoke", name)
