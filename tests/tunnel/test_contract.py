"""The laws that every back end keeps (`secure_ipp.tunnel.interface`), tried on real servers."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import resource
import socket
import stat
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from secure_ipp.tunnel.failures import (
    ForwardingRefused,
    HostKeyChanged,
    HostKeyUnknown,
    LoginRefused,
    NoRoute,
    NotPostQuantum,
)
from secure_ipp.tunnel.interface import Backend, Facts, Order
from tests import running
from tests.tunnel import ends, sshd
from tests.tunnel.ends import Answers, Target, Trial
from tests.tunnel.sshd import Server, User

pytestmark = [
    pytest.mark.live, pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture(scope="module", params=["openssh", "paramiko"])
def trial(request: pytest.FixtureRequest) -> Iterator[Trial]:
    module = {"openssh": "openssh", "paramiko": "paramiko_backend"}[request.param]
    if importlib.util.find_spec(f"secure_ipp.tunnel.{module}") is None:
        pytest.skip(f"no back end {request.param} yet")
    yield Trial(request.param)


@pytest.fixture(autouse=True)
def nothing_of_it_is_left(trial: Trial) -> Iterator[None]:
    """Law: after `close`, or a failed `connect`, no process, thread, socket or descriptor is left."""
    before = ends.Inventory()
    yield
    trial.end()
    before.await_nothing()


class Up:
    """A tunnel that several tests share."""

    def __init__(self, trial: Trial, server: Server, user: User) -> None:
        self.tcp, self.unix = Target(), Target(running.short_directory() / "door")
        gone = Target()
        gone.close()
        gone.port = sshd.free_port()
        self.order = trial.order(user, server, self.tcp, self.unix, gone)
        self.trial = Trial(trial.name)
        self.backend, self.facts = self.trial.connect(self.order)
        self.by_tcp, self.by_unix, self.to_nobody = (forward.local for forward in self.order.forwards)


@pytest.fixture(scope="module")
def up(trial: Trial, ssh_server: Server, ssh_user: User) -> Iterator[Up]:
    one = Up(trial, ssh_server, ssh_user)
    yield one
    one.trial.end()
    one.tcp.close()
    one.unix.close()
    assert ends.sockets_in(one.order.directory) == []


def _newcomer(known: User, text: str = "") -> User:
    """A user who has another's key and knows no host."""
    user = User()
    user.configure(text, identity=known.identity)
    return user


def _sent_a_name(server: Server, since: int) -> bool:
    """Whether anybody has told the server a user's name since its log had this length."""
    return "userauth-request" in server.log()[since:]


# --- what it carries ---


def test_facts_and_modes(up: Up, ssh_server: Server) -> None:
    assert up.backend.name == up.trial.name
    assert up.facts.host_key == ssh_server.fingerprint()
    assert up.facts.known_by == "known_hosts"
    assert "25519" in up.facts.exchange
    for forward in up.order.forwards:
        mode = forward.local.lstat().st_mode
        assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(up.order.directory.stat().st_mode) == 0o700
    assert _sent_a_name(ssh_server, 0)  # or the tests that say that none was sent could not fail


def test_tcp_and_unix_targets_through_one_login(up: Up) -> None:
    for _ in range(3):
        assert ends.carries(up.tcp, up.by_tcp)
        assert ends.carries(up.unix, up.by_unix)
    assert up.backend.lost(0.05) == ""


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_an_end_of_one_direction_leaves_the_other_open(up: Up, kind: str) -> None:
    target, local = (up.tcp, up.by_tcp) if kind == "tcp" else (up.unix, up.by_unix)
    much = random.Random(1).randbytes(3 << 20)
    for near_first in (True, False):
        with ends.through(target, local) as (near, far):
            first, second = (near, far) if near_first else (far, near)
            for sender, reader in ((first, second), (second, first)):
                sending = ends.in_thread(partial(ends.send_all, sender, much))
                assert ends.read_all(reader) == much
                sending.join()


def test_much_both_ways_at_once_unchanged(up: Up) -> None:
    size = 64 << 20
    chunks = {name: random.Random(name).randbytes(1 << 20) for name in ("near", "far")}
    with ends.through(up.tcp, up.by_tcp) as (near, far):
        def send(one: socket.socket, name: str) -> None:
            for number in range(size >> 20):
                one.sendall(number.to_bytes(4, "big") + chunks[name][4:])
            one.shutdown(socket.SHUT_WR)

        def expected(name: str) -> str:
            digest = hashlib.sha256()
            for number in range(size >> 20):
                digest.update(number.to_bytes(4, "big") + chunks[name][4:])
            return digest.hexdigest()

        found: dict[str, str] = {}

        def receive(one: socket.socket, name: str) -> None:
            digest = hashlib.sha256()
            while data := one.recv(1 << 20):
                digest.update(data)
            found[name] = digest.hexdigest()

        work = [ends.in_thread(lambda: send(near, "near")), ends.in_thread(lambda: send(far, "far")),
                ends.in_thread(lambda: receive(far, "near"))]
        receive(near, "far")
        for thread in work:
            thread.join()
    assert found == {name: expected(name) for name in chunks}


def test_a_reader_that_does_not_read_holds_up_itself_alone(up: Up) -> None:
    with ends.through(up.tcp, up.by_tcp) as (near, far):
        far.setblocking(False)
        sent, full = 0, False
        until = time.monotonic() + 10
        while not full and time.monotonic() < until:
            try:
                sent += far.send(bytes(1 << 20))
            except BlockingIOError:
                time.sleep(0.1)
                try:
                    sent += far.send(bytes(1 << 20))
                except BlockingIOError:
                    full = True
        assert full and sent < 64 << 20  # back-pressure reaches the far end
        assert ends.carries(up.unix, up.by_unix)
        far.settimeout(ends.SECONDS)
        far.shutdown(socket.SHUT_WR)
        assert len(ends.read_all(near)) == sent


def test_many_connections_at_once(up: Up) -> None:
    near = [ends.connect(up.by_tcp) for _ in range(40)]
    far = [up.tcp.accept() for _ in near]
    for number, one in enumerate(near):
        one.sendall(bytes([number]))
    assert sorted(one.recv(1)[0] for one in far) == list(range(40))
    for one in far:
        one.close()
    assert all(one.recv(1) == b"" for one in near)
    for one in near:
        one.close()


def test_nobody_listens_at_the_target(up: Up) -> None:
    with ends.connect(up.to_nobody) as near:
        assert near.recv(1) == b""
    running.wait_until(lambda: "refused" in up.backend.refusal().lower(), 5, "the server's words")
    assert ends.carries(up.tcp, up.by_tcp)
    assert up.backend.lost(0) == ""


def test_more_descriptors_than_select_can_count(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    """S24: select() ends at 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip("this user may not open so many")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    taken: list[int] = []
    target = Target()
    try:
        taken += [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        order = trial.order(ssh_user, ssh_server, target)
        trial.connect(order)
        assert ends.carries(target, order.forwards[0].local)
    finally:
        trial.end()
        for one in taken:
            os.close(one)
        target.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_through_another_host(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    with Server(authorized=[ssh_user.public_key]) as inner:
        user = _newcomer(ssh_user)
        config = user.alias("first", ssh_server) + user.alias("inner", inner, "ProxyJump first")
        user.configure(config, identity=ssh_user.identity)
        target = Target()
        since = len(ssh_server.log())
        user.knows(inner)
        with pytest.raises((HostKeyUnknown, NoRoute)):  # each host's key is judged, the first one's too
            trial.connect(trial.order(user, None, target, host="inner"))
        assert not _sent_a_name(ssh_server, since)
        with pytest.raises(HostKeyUnknown, match="by hand"):  # what is accepted is the key of the route's end
            trial.connect(trial.order(user, None, target, host="inner", accept_new=True))
        assert not _sent_a_name(ssh_server, since) and ssh_server.name not in user.known_hosts.read_text()
        user.knows(ssh_server)
        order = trial.order(user, None, target, host="inner")
        _, facts = trial.connect(order)
        assert facts.host_key == inner.fingerprint()
        assert ends.carries(target, order.forwards[0].local)
        assert "direct-tcpip" in ssh_server.log()[since:] and "direct-tcpip" in inner.log()
        trial.end()
        target.close()


# --- whom it trusts ---


def test_an_unknown_key(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    user = _newcomer(ssh_user)
    since = len(ssh_server.log())
    with pytest.raises(HostKeyUnknown) as caught:
        trial.connect(trial.order(user, ssh_server))
    assert ssh_server.fingerprint() in caught.value.message
    assert "secure-ipp tunnel open FILE --accept-new" in caught.value.advice
    assert not _sent_a_name(ssh_server, since)
    assert user.known_hosts.read_text() == ""


def test_a_changed_key(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    user = _newcomer(ssh_user)
    user.knows(ssh_server, key=ssh_user.public_key)
    since = len(ssh_server.log())
    for more in ({}, {"fingerprints": (ssh_server.fingerprint(),)}, {"accept_new": True},
                 {"pinned": ssh_server.fingerprint()}):
        with pytest.raises(HostKeyChanged):
            trial.connect(trial.order(user, ssh_server, **more))
    assert not _sent_a_name(ssh_server, since)


def test_a_revoked_key(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    user = _newcomer(ssh_user)
    user.knows(ssh_server)
    user.knows(ssh_server, marker="@revoked", name="*")
    since = len(ssh_server.log())
    for more in ({}, {"fingerprints": (ssh_server.fingerprint(),), "accept_new": True}):
        with pytest.raises(HostKeyChanged):
            trial.connect(trial.order(user, ssh_server, **more))
    assert not _sent_a_name(ssh_server, since)


def test_a_hashed_name(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    user = _newcomer(ssh_user)
    user.knows(ssh_server, key=ssh_user.public_key, name="[127.0.0.1]:1")
    user.knows(ssh_server, plain=False)
    assert trial.connect(trial.order(user, ssh_server))[1].known_by == "known_hosts"


def test_the_kind_of_key_that_is_known_is_asked_for(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    for kind in ("rsa", "ecdsa"):
        user = _newcomer(ssh_user)
        user.knows(ssh_server, kind=kind)
        facts = trial.connect(trial.order(user, ssh_server))[1]
        assert (facts.host_key, facts.known_by) == (ssh_server.fingerprint(kind), "known_hosts")


def test_a_key_that_the_file_vouches_for(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    user = _newcomer(ssh_user)
    other = sshd.fingerprint(ssh_user.public_key)
    order = trial.order(user, ssh_server, fingerprints=(other, ssh_server.fingerprint()))
    facts = trial.connect(order)[1]
    assert (facts.host_key, facts.known_by) == (ssh_server.fingerprint(), "file")
    since = len(ssh_server.log())
    with pytest.raises((HostKeyChanged, HostKeyUnknown)):
        trial.connect(trial.order(user, ssh_server, fingerprints=(other,)))
    with pytest.raises((HostKeyChanged, HostKeyUnknown)):  # a word for any key is none against the file's
        trial.connect(trial.order(user, ssh_server, fingerprints=(other,), accept_new=True))
    assert not _sent_a_name(ssh_server, since)
    assert user.known_hosts.read_text() == ""
    order = trial.order(user, ssh_server, fingerprints=(ssh_server.fingerprint(),), accept_new=True)
    assert trial.connect(order)[1].known_by == "accepted"
    assert ssh_server.name in user.known_hosts.read_text()


def test_a_pinned_key(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    trial.connect(trial.order(ssh_user, ssh_server, pinned=ssh_server.fingerprint()))
    since = len(ssh_server.log())
    with pytest.raises(HostKeyChanged):
        trial.connect(trial.order(ssh_user, ssh_server, pinned=sshd.fingerprint(ssh_user.public_key)))
    assert not _sent_a_name(ssh_server, since)


def test_a_new_key_is_accepted_by_name_and_kept(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    user = _newcomer(ssh_user)
    user.known_hosts.unlink()
    facts = trial.connect(trial.order(user, ssh_server, accept_new=True))[1]
    assert facts.known_by == "accepted"
    assert stat.S_IMODE(user.known_hosts.stat().st_mode) == 0o600
    assert trial.connect(trial.order(user, ssh_server))[1].known_by == "known_hosts"


# --- who logs in ---


def test_a_wrong_key(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    stranger = User()
    stranger.knows(ssh_server)
    with pytest.raises(LoginRefused) as caught:
        trial.connect(trial.order(stranger, ssh_server))
    assert caught.value.advice


def test_the_key_that_is_named_is_the_only_one(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    stranger = User()
    since = len(ssh_server.log())
    with pytest.raises(LoginRefused):
        trial.connect(trial.order(ssh_user, ssh_server, identity=str(stranger.identity)))
    assert "Accepted" not in ssh_server.log()[since:]
    stranger.knows(ssh_server)
    trial.connect(trial.order(stranger, ssh_server, identity=str(ssh_user.identity)))


def test_a_sealed_key(trial: Trial, ssh_server: Server) -> None:
    user = User(passphrase="a long passphrase")
    user.knows(ssh_server)
    ssh_server.authorize(user.public_key)
    asker = Answers(passphrase="a long passphrase")
    trial.connect(trial.order(user, ssh_server, identity=str(user.identity)), asker)
    assert len(asker.asked) == 1 and str(user.identity) in asker.asked[0]
    with pytest.raises(LoginRefused):
        trial.connect(trial.order(user, ssh_server, identity=str(user.identity)))


# --- what it says when it cannot ---


def test_nobody_answers(trial: Trial, ssh_user: User) -> None:
    server = Server()
    with pytest.raises(NoRoute):
        trial.connect(trial.order(ssh_user, server))


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 no\r\n" * 3])
def test_a_server_that_falls_silent(trial: Trial, ssh_user: User, greeting: bytes) -> None:
    from tests.tunnel import faults

    with faults.silent(greeting) as port:
        server = Server()
        server.port = port
        begun = time.monotonic()
        with pytest.raises(NoRoute):
            trial.connect(trial.order(ssh_user, server), seconds=1.0)
        assert time.monotonic() - begun < 3


def test_weak_algorithms(trial: Trial, ssh_user: User) -> None:
    with Server(lines=["KexAlgorithms diffie-hellman-group1-sha1"], authorized=[ssh_user.public_key]) as server:
        user = _newcomer(ssh_user)
        user.knows(server)
        with pytest.raises(NoRoute):
            trial.connect(trial.order(user, server))


def test_not_post_quantum(trial: Trial, ssh_user: User) -> None:
    with Server(lines=["KexAlgorithms curve25519-sha256,ecdh-sha2-nistp256"],
                authorized=[ssh_user.public_key]) as server:
        user = _newcomer(ssh_user)
        user.knows(server)
        with pytest.raises(NotPostQuantum) as caught:
            trial.connect(trial.order(user, server, post_quantum=True))
        assert caught.value.advice
        assert not _sent_a_name(server, 0)
        assert "curve25519" in trial.connect(trial.order(user, server))[1].exchange
        trial.end()


def test_not_post_quantum_on_the_way(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    with Server(lines=["KexAlgorithms curve25519-sha256"], authorized=[ssh_user.public_key]) as jump:
        user = _newcomer(ssh_user)
        config = user.alias("inner", ssh_server, f"ProxyJump {jump.host}:{jump.port}")
        user.configure(config, identity=ssh_user.identity)
        user.knows(jump)
        user.knows(ssh_server)
        with pytest.raises(NotPostQuantum):
            trial.connect(trial.order(user, None, host="inner", post_quantum=True))
        assert not _sent_a_name(jump, 0)
        trial.connect(trial.order(user, None, host="inner"))
        trial.end()


@pytest.mark.parametrize("line", ["AllowTcpForwarding no", "AllowStreamLocalForwarding no"])
def test_forwarding_denied(trial: Trial, ssh_user: User, line: str) -> None:
    target = Target() if "Tcp" in line else Target(running.short_directory() / "door")
    with Server(lines=[f"Match User {ssh_user.name}", line], authorized=[ssh_user.public_key]) as server:
        user = _newcomer(ssh_user)
        user.knows(server)
        order = trial.order(user, server, target)
        try:
            backend, _ = trial.connect(order)
            with ends.connect(order.forwards[0].local) as near:
                assert near.recv(1) == b""
            running.wait_until(backend.refusal, 5, "the server's words")
            assert backend.lost(0) == ""
        except ForwardingRefused:  # said at once is as good
            pass
        trial.end()
    target.close()


# --- how it ends ---


def _lost_own(trial: Trial, known: User, server: Server, target: Target) -> tuple[Order, Backend, Facts]:
    user = _newcomer(known)
    user.knows(server)
    order = trial.order(user, server, target)
    backend, facts = trial.connect(order)
    return order, backend, facts


def test_a_server_that_dies_in_mid_transfer(trial: Trial, ssh_user: User) -> None:
    server, target = Server(authorized=[ssh_user.public_key]).start(), Target()
    try:
        order, backend, _ = _lost_own(trial, ssh_user, server, target)
        with ends.through(target, order.forwards[0].local) as (near, far):
            ended: list[str] = []

            def push() -> None:
                try:
                    while True:
                        near.sendall(bytes(1 << 20))
                except OSError as error:
                    ended.append(type(error).__name__)

            pushing = ends.in_thread(push)
            far.recv(1 << 20)
            assert backend.lost(0) == ""
            server.kill()
            begun = time.monotonic()
            assert backend.lost(10)
            assert time.monotonic() - begun < 5
            backend.close()
            pushing.join(10)
            assert ended
    finally:
        server.kill()
        target.close()


def test_close_ends_it_in_mid_transfer_and_twice(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    target = Target()
    order = trial.order(ssh_user, ssh_server, target)
    backend, _ = trial.connect(order)
    with ends.through(target, order.forwards[0].local) as (near, _):
        near.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                near.send(bytes(1 << 20))  # until both directions wait for somebody
        begun = time.monotonic()
        backend.close()
        backend.close()
        assert time.monotonic() - begun < 5
        near.settimeout(ends.SECONDS)
        with pytest.raises(OSError):
            while True:
                near.sendall(b"x")
    assert backend.lost(0) != ""
    assert isinstance(backend.refusal(), str)
    assert ends.sockets_in(order.directory) == []
    with pytest.raises(OSError):
        ends.connect(Path(order.forwards[0].local))
    target.close()


def test_close_before_connect(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    from secure_ipp.tunnel import backends

    backends.make(trial.name, trial.order(ssh_user, ssh_server), Answers()).close()
