"""The paramiko back end beyond the contract: passwords, agents, silence, new keys under way, servers that cheat."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko.message import Message
from paramiko.packet import Packetizer

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, SecureIppError
from secure_ipp.tunnel import backends, forwarder, paramiko_identity
from secure_ipp.tunnel.failures import HostKeyChanged, LoginRefused, NoRoute, NotPostQuantum
from secure_ipp.tunnel.paramiko_session import ForwardChannel, Session
from secure_ipp.tunnel.paramiko_stream import Stream
from tests import running
from tests.tunnel import ends, faults, sshd
from tests.tunnel.ends import Answers, Target, Trial
from tests.tunnel.sshd import Server, User

pytestmark = [
    pytest.mark.live, pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture
def trial() -> Iterator[Trial]:
    before = ends.Inventory()
    one = Trial("paramiko")
    yield one
    one.end()
    before.await_nothing()


# --- passwords ---


@pytest.mark.parametrize("interactive", [False, True])
def test_a_password(trial: Trial, interactive: bool) -> None:
    options = {"password_auth": not interactive, "kbdint_auth": interactive}
    with faults.Faulty("a password", **options) as server:
        user = User()
        user.knows(server)
        order = trial.order(user, server, password=True)
        asker = Answers(assword="a password")
        trial.connect(order, asker)
        assert len(asker.asked) == 1 and user.name in asker.asked[0]
        assert server.keys == [user.public_key.split()[1]]  # the key was offered first
        for asker in (Answers(), Answers(assword="a wrong one")):
            with pytest.raises(LoginRefused):
                trial.connect(order, asker)
        trial.end()


def test_no_password_without_the_order(trial: Trial) -> None:
    with faults.Faulty("a password") as server:
        user = User()
        user.knows(server)
        asker = Answers(assword="a password")
        with pytest.raises(LoginRefused):
            trial.connect(trial.order(user, server), asker)
        assert asker.asked == [] and server.passwords == []


def test_a_user_who_does_not_answer_is_not_waited_for(trial: Trial, ssh_server: Server) -> None:
    user = User(passphrase="a long passphrase")
    user.knows(ssh_server)
    answered = threading.Event()

    class Asleep:
        def ask(self, prompt: str) -> str | None:
            answered.wait(20)
            return None

    begun = time.monotonic()
    try:
        with pytest.raises(LoginRefused, match="in time"):
            trial.connect(trial.order(user, ssh_server), Asleep(), seconds=1)
        assert time.monotonic() - begun < 3
    finally:
        answered.set()


# --- keys ---


@pytest.fixture
def agent() -> Iterator[tuple[Path, list[Path]]]:
    """A real agent with more keys than one login may offer."""
    directory = running.short_directory()
    path = directory / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL) as process:
        running.wait_until(path.exists)
        keys = [sshd.make_key(directory / f"key{number}") for number in range(7)]
        subprocess.run(["ssh-add", "-q", *map(str, keys)], env={**os.environ, "SSH_AUTH_SOCK": str(path)}, check=True)
        try:
            yield path, keys
        finally:
            process.terminate()


def _with_agent(user: User, path: Path, identity: Path | str, only: str = "no") -> None:
    user.configure(f"IdentityAgent {path}\nIdentitiesOnly {only}\nHost *\n", identity=identity)


def test_a_few_keys_are_offered_and_no_more(trial: Trial, agent: tuple[Path, list[Path]]) -> None:
    path, keys = agent
    with faults.Faulty() as server:
        user = User()
        user.knows(server)
        for identity, only, named, expected in (
            ("none", "no", "", [*keys[:limits.SSH_KEYS_TRIED]]),
            (keys[6], "no", "", [keys[6], *keys[:limits.SSH_KEYS_TRIED - 1]]),
            (keys[6], "yes", "", [keys[6]]),
            (keys[6], "no", str(user.identity), [user.identity]),
        ):
            _with_agent(user, path, identity, only)
            server.keys.clear()
            with pytest.raises(LoginRefused):
                trial.connect(trial.order(user, server, identity=named))
            offered = list(dict.fromkeys(server.keys))
            assert offered == [sshd.public(key).split()[1] for key in expected]


def test_the_agent_logs_in(trial: Trial, agent: tuple[Path, list[Path]], ssh_server: Server) -> None:
    path, keys = agent
    ssh_server.authorize(sshd.public(keys[5]))
    user = User()
    user.knows(ssh_server)
    sealed = sshd.make_key(user.directory / "sealed", passphrase="never asked for")
    keys[5].unlink()  # its public half is enough to tell the agent's key
    _with_agent(user, path, keys[5])
    trial.connect(trial.order(user, ssh_server))
    _with_agent(user, Path("/nowhere"), sealed)
    asker = Answers()
    with pytest.raises(LoginRefused, match="sealed"):
        trial.connect(trial.order(user, ssh_server), asker)
    assert len(asker.asked) == 1


def test_rsa_and_ecdsa_and_old_pem_keys(trial: Trial, ssh_server: Server) -> None:
    for kind in ("rsa", "ecdsa"):
        user = User(kind)
        user.knows(ssh_server)
        ssh_server.authorize(user.public_key)
        trial.connect(trial.order(user, ssh_server))
        words = ["-p", "-m", "PEM", "-P", "", "-N", "a phrase", "-f", str(user.identity)]
        subprocess.run(["ssh-keygen", "-q", *words], check=True, capture_output=True)
        trial.connect(trial.order(user, ssh_server), Answers(passphrase="a phrase"))


def test_every_key_that_ssh_keygen_writes_is_read(tmp_path: Path) -> None:
    """paramiko's own reader fails at half of the ecdsa keys without a comment."""
    for number in range(12):
        path = sshd.make_key(tmp_path / f"key{number}", ("ecdsa", "ed25519")[number % 2])
        key = paramiko_identity.read_key(path, Answers())
        assert key.get_base64() == sshd.public(path).split()[1]


def test_a_key_that_is_not_there_or_no_key(trial: Trial, ssh_server: Server, ssh_user: User, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key")
    for path in ("none", "key"):
        with pytest.raises(LoginRefused, match=path):
            trial.connect(trial.order(ssh_user, ssh_server, identity=str(tmp_path / path)))


# --- host keys ---


def test_the_kind_of_key_that_the_file_vouches_for_is_found(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    user = User()
    user.configure(identity=ssh_user.identity)
    for kind in ssh_server.kinds:
        facts = trial.connect(trial.order(user, ssh_server, fingerprints=(ssh_server.fingerprint(kind),)))[1]
        assert (facts.host_key, facts.known_by) == (ssh_server.fingerprint(kind), "file")
    with pytest.raises(HostKeyChanged):
        trial.connect(trial.order(user, ssh_server, fingerprints=(sshd.fingerprint(user.public_key),)))


def test_known_hosts_that_cannot_be_read_are_not_taken_for_empty(trial: Trial, ssh_server: Server) -> None:
    user = User()
    user.known_hosts.unlink()
    user.known_hosts.mkdir()
    with pytest.raises(EnvironmentProblem, match="known_hosts"):
        trial.connect(trial.order(user, ssh_server, fingerprints=(ssh_server.fingerprint(),)))


def test_a_torn_last_line_stays_by_itself(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    user = User()
    user.configure("HashKnownHosts yes", identity=ssh_user.identity)
    user.known_hosts.write_text("# no end")
    trial.connect(trial.order(user, ssh_server, accept_new=True))
    first, second = user.known_hosts.read_text().splitlines()
    assert first == "# no end" and second.startswith("|1|")
    assert trial.connect(trial.order(user, ssh_server))[1].known_by == "known_hosts"


# --- key exchanges ---


class _Login(paramiko.ServerInterface):
    def check_auth_publickey(self, username: str, key: Any) -> int:
        return int(paramiko.AUTH_SUCCESSFUL)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"


class Odd:
    """A server by paramiko: one connection, whose transport the test may abuse."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self._path = sshd.make_key(running.short_directory() / "key")
        self._socket = socket.create_server((self.host, 0))
        self.port = int(self._socket.getsockname()[1])
        self.name = f"[{self.host}]:{self.port}"
        self.transport: Any = None
        self.exchanges: tuple[str, ...] = ()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def host_key(self, kind: str = "") -> str:
        return sshd.public(self._path)

    def _serve(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        transport = paramiko.Transport(connection)
        transport.set_log_channel("secure_ipp.tunnel.paramiko")
        if self.exchanges:
            transport.get_security_options().kex = self.exchanges
        transport.add_server_key(paramiko.PKey.from_path(self._path))
        self.transport = transport
        try:
            transport.start_server(server=_Login())
        except (paramiko.SSHException, EOFError):
            pass

    def __enter__(self) -> Odd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)
        if self.transport is not None:
            self.transport.close()
            self.transport.join(5)
            self.transport.packetizer.complete_handshake()  # paramiko leaves its timer running
            self.transport.sock.close()


def test_a_post_quantum_exchange(trial: Trial) -> None:
    user = User()
    with Odd() as server:
        user.knows(server)
        facts = trial.connect(trial.order(user, server, post_quantum=True))[1]
        assert facts.exchange == "mlkem768x25519-sha256"
        trial.end()


def test_a_paramiko_without_post_quantum_exchanges_says_so(trial: Trial, ssh_server: Server, ssh_user: User,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "can_be_post_quantum", False)
    with pytest.raises(NotPostQuantum, match="this paramiko") as caught:
        trial.connect(trial.order(ssh_user, ssh_server, post_quantum=True))
    assert "openssh" in caught.value.advice


def test_what_cheating_servers_send_ends_the_connection(trial: Trial) -> None:
    """More than the window, answers that nobody asked for, text that is none: an end, and not a thread that hangs."""
    data = Message()
    data.add_byte(b"\x5e")
    for word in (b"", b"\x00" * 4):
        user = User()
        with Odd() as server:
            user.knows(server)
            backend, _ = trial.connect(trial.order(user, server))
            answer = Message()
            answer.add_byte(b"\x5b")  # a channel that nobody wanted, cut short
            answer.add_bytes(word)
            server.transport._send_user_message(answer)
            request = Message()
            request.add_byte(b"\x5a")  # CHANNEL_OPEN without a body
            server.transport._send_user_message(request)
            channel = Message()
            channel.add_byte(b"\x5e")  # data for a channel that is not there
            channel.add_int(77)
            server.transport._send_user_message(channel)
            assert backend.lost(5)
            trial.end()


def test_a_channel_window_binds_the_server() -> None:
    channel = ForwardChannel(1)
    message = Message()
    message.add_string(bytes(limits.SSH_CHANNEL_WINDOW_BYTES // 2 + 1))
    message.rewind()
    channel._feed(message)
    message.rewind()
    with pytest.raises(paramiko.SSHException, match="more than it may"):
        channel._feed(message)


def test_a_packet_has_a_bound() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(0.1)
        stream = Stream(near)
        for size in (-1, limits.SSH_PACKET_BYTES + 2000, 1 << 31):
            with pytest.raises(paramiko.SSHException):
                stream.read_all(size)
        far.sendall(b"x" * (limits.SSH_LINE_BYTES + 10))
        with pytest.raises((paramiko.SSHException, TimeoutError)):
            stream.readline(0.5)


@pytest.mark.parametrize("ours", [True, False])
def test_new_keys_under_way(trial: Trial, ssh_user: User, monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    """Keys are exchanged anew in mid-transfer, while connections come and go, and nothing is lost."""
    if ours:
        monkeypatch.setattr(Packetizer, "REKEY_BYTES", 4 << 20)
    with Server(authorized=[ssh_user.public_key], lines=[] if ours else ["RekeyLimit 4M"]) as server:
        user = User()
        user.configure(identity=ssh_user.identity)
        user.knows(server)
        _much_under_new_keys(trial, server, user, monkeypatch)


def _much_under_new_keys(trial: Trial, server: Server, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[bytes] = []
    judge = Session._verify_key
    monkeypatch.setattr(Session, "_verify_key", lambda self, key, sig: (judge(self, key, sig), judged.append(key)))
    target = Target()
    order = trial.order(user, server, target)
    backend, _ = trial.connect(order)
    local = order.forwards[0].local
    much = random.Random(3).randbytes(16 << 20)
    with ends.through(target, local) as (near, far):
        sending = [ends.in_thread(partial(ends.send_all, one, much)) for one in (near, far)]
        found: list[bytes] = []
        reading = ends.in_thread(lambda: found.append(ends.read_all(far)))
        assert ends.read_all(near) == much
        for thread in (*sending, reading):
            thread.join()
        assert found == [much]
    assert len(judged) > 3
    for _ in range(30):
        assert ends.carries(target, local)
    assert backend.lost(0) == ""
    trial.end()
    target.close()


def test_another_host_key_under_way_ends_it(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """S23: each exchange of keys is judged; one that was accepted by name accepts no second."""
    user = User()
    other = sshd.make_key(user.directory / "other")
    with Odd() as server:
        backend, facts = trial.connect(trial.order(user, server, accept_new=True))
        assert facts.known_by == "accepted"
        server.transport.server_key_dict = {"ssh-ed25519": paramiko.PKey.from_path(other)}
        server.transport.packetizer._trigger_rekey()
        server.transport._send_user_message(_ignored())
        assert backend.lost(5)
        trial.end()


def _ignored() -> Message:
    message = Message()
    message.add_byte(b"\x02")
    message.add_string(b"")
    return message


# --- silence and loss ---


def test_silence_is_noticed_and_a_quiet_tunnel_stands(trial: Trial, ssh_user: User,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SSH_ALIVE_SECONDS", 0.2)
    monkeypatch.setattr(limits, "SSH_SILENT_SECONDS", 1.0)
    monkeypatch.setattr(limits, "SSH_WATCH_SECONDS", 0.1)
    with Server(authorized=[ssh_user.public_key]) as server:
        user = User()
        user.configure(identity=ssh_user.identity)
        user.knows(server)
        target = Target()
        order = trial.order(user, server, target)
        backend, _ = trial.connect(order)
        assert backend.lost(1.5) == ""  # nothing passes, and the server answers
        with ends.through(target, order.forwards[0].local) as (near, far):
            near.sendall(b"x")
            assert far.recv(1) == b"x"
            sessions = server.sessions()
            for one in sessions:
                one.send_signal(signal.SIGSTOP)
            try:
                assert "nothing came" in backend.lost(5)
                assert near.recv(1) == b""
            finally:
                for one in sessions:
                    one.send_signal(signal.SIGCONT)
        trial.end()
        target.close()


def test_a_server_that_says_goodbye(trial: Trial) -> None:
    user = User()
    with Odd() as server:
        user.knows(server)
        backend, _ = trial.connect(trial.order(user, server))
        goodbye = Message()
        goodbye.add_byte(b"\x01")
        goodbye.add_int(11)
        goodbye.add_string(b"closing\x1b[31m for the night")
        goodbye.add_string(b"")
        server.transport._send_user_message(goodbye)
        said = backend.lost(5)
        assert "for the night" in said and "\x1b" not in said
        trial.end()


def test_a_hop_that_dies_ends_what_leads_through_it(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    with Server(authorized=[ssh_user.public_key]) as first, Server(authorized=[ssh_user.public_key]) as second:
        user = User()
        for one in (first, second, ssh_server):
            user.knows(one)
        user.configure(user.alias("first", first) + user.alias("second", second)
                       + user.alias("last", ssh_server, "ProxyJump first,second"), identity=ssh_user.identity)
        target = Target()
        order = trial.order(user, None, target, host="last")
        backend, facts = trial.connect(order)
        assert facts.host_key == ssh_server.fingerprint()
        assert ends.carries(target, order.forwards[0].local)
        first.kill()
        assert backend.lost(5)
        trial.end()
        target.close()
        with pytest.raises(NoRoute):
            trial.connect(trial.order(user, None, target, host="last"))


# --- what it rests on ---


_WITHOUT = """
import sys, time
from pathlib import Path
sys.modules[sys.argv[1]] = None
from secure_ipp.tunnel import interface, paramiko_backend, route
order = interface.Order(route.Route("localhost"), (), Path("/nowhere"))
try:
    paramiko_backend.Paramiko(order, None).connect(time.monotonic() + 1)
except Exception as error:
    print(error.code, error.advice)
"""


@pytest.mark.parametrize("package", ["paramiko", "sshtunnel"])
def test_without_its_packages_it_says_how_to_get_them(package: str) -> None:
    found = subprocess.run([sys.executable, "-c", _WITHOUT, package], capture_output=True, text=True, check=True)
    assert found.stdout == "no-ssh pip install 'secure-ipp[ssh]'\n"


def test_importing_the_back_end_imports_neither_package() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import sys, secure_ipp.tunnel.paramiko_backend;"
         " print([name for name in ('paramiko', 'sshtunnel') if name in sys.modules])"],
        capture_output=True, text=True, check=True,
    )
    assert found.stdout == "[]\n"


def test_a_local_end_that_cannot_be_made(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    target = Target()
    order = trial.order(ssh_user, ssh_server, target, target)
    order.forwards[1].local.mkdir()
    with pytest.raises(EnvironmentProblem):
        trial.connect(order)
    assert ends.sockets_in(order.directory) == []
    for gone in (order.directory / "not" / "there", order.directory / ("x" * 120)):
        with pytest.raises(EnvironmentProblem):
            trial.connect(replace(order, forwards=(replace(order.forwards[0], local=gone),)))
    target.close()


def test_a_socket_that_an_earlier_tunnel_left_is_replaced(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    target = Target()
    order = trial.order(ssh_user, ssh_server, target)
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(order.forwards[0].local))
    trial.connect(order)
    assert ends.carries(target, order.forwards[0].local)
    trial.end()
    target.close()


def test_more_connections_than_a_forward_takes_are_turned_away(trial: Trial, ssh_server: Server, ssh_user: User,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SSH_CHANNELS", 2)
    target = Target()
    order = trial.order(ssh_user, ssh_server, target)
    trial.connect(order)
    local = order.forwards[0].local
    with ends.through(target, local), ends.through(target, local), ends.connect(local) as third:
        assert third.recv(1) == b""
    running.wait_until(lambda: not [one for one in threading.enumerate() if one.name == "tunnel-in"], 5)
    assert ends.carries(target, local)
    trial.end()
    target.close()


def test_sshtunnel_is_what_listens() -> None:
    import sshtunnel

    assert issubclass(forwarder.Forwarder, sshtunnel.SSHTunnelForwarder)


@pytest.mark.parametrize("stuck", ["silent", "asking"])
def test_close_ends_a_connect_under_way(trial: Trial, ssh_server: Server, stuck: str) -> None:
    user = User(passphrase="a long passphrase")
    user.knows(ssh_server)
    waiting, answered = threading.Event(), threading.Event()

    class Asleep:
        def ask(self, prompt: str) -> str | None:
            waiting.set()
            answered.wait(20)
            return None

    with faults.silent(b"SSH-2.0-x\r\n") as port:
        order = trial.order(user, ssh_server)
        if stuck == "silent":
            order = replace(order, route=replace(order.route, port=port))
        backend = backends.make("paramiko", order, Asleep())
        ended: list[type[BaseException]] = []

        def connect() -> None:
            try:
                backend.connect(time.monotonic() + 20)
            except SecureIppError as error:
                ended.append(type(error))

        connecting = ends.in_thread(connect)
        if stuck == "asking":
            assert waiting.wait(10)
        else:
            running.wait_until(lambda: any(one.name.startswith("Thread-") for one in threading.enumerate()), 5)
        backend.close()
        connecting.join(5)
        assert not connecting.is_alive() and len(ended) == 1
        with pytest.raises(NoRoute):
            backend.connect(time.monotonic() + 5)
        answered.set()


def test_a_host_on_the_way_is_asked_for_by_another_name(trial: Trial, ssh_server: Server, ssh_user: User) -> None:
    """S23: what is stored for the last host answers no question of another one's."""
    with faults.Faulty("a password") as first:
        user = User()
        user.knows(first)
        user.knows(ssh_server)
        user.configure(user.alias("hop", first) + user.alias("last", ssh_server, "ProxyJump hop"))
        asker = Answers()
        with pytest.raises(LoginRefused):
            trial.connect(trial.order(user, None, host="last", password=True), asker)
        assert asker.asked == [f"the host on the way {user.name}@127.0.0.1:{first.port}'s password: "]
        asker = Answers()
        user.configure(user.alias("last", first))
        with pytest.raises(LoginRefused):
            trial.connect(trial.order(user, None, host="last", password=True), asker)
        assert asker.asked == [f"{user.name}@last's password: "]
