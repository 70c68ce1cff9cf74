"""The back end around the ssh program, on real servers: what the contract suite does not try."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from secure_ipp import limits
from secure_ipp.tunnel import openssh
from secure_ipp.tunnel.failures import HostKeyChanged, HostKeyUnknown, LoginRefused, NoRoute, NoSsh
from secure_ipp.tunnel.interface import Facts, Forward, Order
from secure_ipp.tunnel.openssh import OpenSsh
from secure_ipp.tunnel.route import Route
from tests import running
from tests.tunnel import sshd
from tests.tunnel.faults import Faulty, silent
from tests.tunnel.sshd import Server, User

pytestmark = [
    pytest.mark.live, pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"),
]
PASSPHRASE = "correct horse battery staple 4711"


class Knows:
    """An `Asker` that gives one answer to everything."""

    def __init__(self, answer: str | None = None) -> None:
        self._answer = answer
        self.asked: list[str] = []

    def ask(self, prompt: str) -> str | None:
        self.asked.append(prompt)
        return self._answer


@pytest.fixture(autouse=True)
def nothing_of_it_is_left() -> Iterator[None]:
    threads = set(threading.enumerate())
    yield
    running.wait_until(lambda: not _ssh_processes(), 5, "ssh to be gone")
    running.wait_until(lambda: not set(threading.enumerate()) - threads, 5, "threads to be gone")


def _ssh_processes() -> list[str]:
    found = []
    for one in running.our_processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if one.name() == "ssh" or "ward.py" in " ".join(one.cmdline()):
                found.append(" ".join(one.cmdline()))
    return found


def order(user: User | None, server: Server | None, *, host: str = "", path: str = "", **more: object) -> Order:
    """An order for one forward, to the server itself where no path is said."""
    directory = running.short_directory()
    port = server.port if server else 1
    route = Route(host) if host or server is None else Route(server.host, "", server.port)
    forward = Forward(directory / "door", path=path) if path else Forward(directory / "door", "127.0.0.1", port)
    if user is not None:
        more.setdefault("config", str(user.config))
    return Order(route, (forward,), directory, **more)  # type: ignore[arg-type]


@contextlib.contextmanager
def up(one: Order, asker: Knows | None = None) -> Iterator[tuple[OpenSsh, Facts]]:
    backend = OpenSsh(one, asker or Knows())
    try:
        yield backend, backend.connect(time.monotonic() + 20)
    finally:
        backend.close()
        assert list(one.directory.iterdir()) == []


def refused(one: Order, kind: type[Exception], asker: Knows | None = None, seconds: float = 20) -> Exception:
    with pytest.raises(kind) as caught:
        OpenSsh(one, asker or Knows()).connect(time.monotonic() + seconds)
    assert type(caught.value) is kind
    assert list(one.directory.iterdir()) == []
    return caught.value


def newcomer(known: User, text: str = "") -> User:
    """With another's key, who knows no host."""
    user = User()
    user.configure(text, identity=known.identity)
    return user


def greeting(local: Path) -> bytes:
    """Of the ssh server at a forward's end."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(10)
        one.connect(str(local))
        return one.recv(4)


# --- what of the user's configuration counts ---


def test_what_the_user_has_cannot_weaken_or_hinder_a_login(ssh_server: Server, ssh_user: User) -> None:
    """S23: no agent forwarding, no forwards or commands of the user's, nothing that outlives us, no unchecked host."""
    mine = sshd.free_port()
    witness = running.short_directory() / "ran"
    user = newcomer(ssh_user, "\n".join((
        "Host *", f"LocalForward 127.0.0.1:{mine} 127.0.0.1:1", f"RemoteForward 127.0.0.1:{mine} 127.0.0.1:1",
        "ForwardAgent yes", "ForwardX11 yes", "BatchMode no", "RemoteCommand touch /nowhere", "RequestTTY force",
        "PermitLocalCommand yes", f"LocalCommand touch {witness}", "ControlMaster auto", "ControlPersist yes",
        f"ControlPath {running.short_directory()}/mine", "ForkAfterAuthentication yes", "LogLevel QUIET",
        "StrictHostKeyChecking no", "NoHostAuthenticationForLocalhost yes", "FingerprintHash md5", "VisualHostKey yes",
        "UpdateHostKeys yes", "NumberOfPasswordPrompts 9", "StreamLocalBindMask 0000",
    )))
    refused(order(user, ssh_server), HostKeyUnknown)
    user.knows(ssh_server)
    before = user.known_hosts.read_text()
    since = len(ssh_server.log())
    one = order(user, ssh_server)
    with up(one) as (backend, facts):
        assert facts.host_key == ssh_server.fingerprint()
        assert greeting(one.forwards[0].local) == b"SSH-"
        assert stat.S_IMODE(one.forwards[0].local.stat().st_mode) == 0o600
        assert stat.S_IMODE((one.directory / "ctl").stat().st_mode) == 0o600
        assert not witness.exists()
        assert backend.lost(0) == ""
        said = ssh_server.log()[since:]
        assert "direct-tcpip" in said  # it does tell what was asked of it
        assert not [word for word in ("tcpip-forward", "auth-agent-req", "server_input_channel_open: ctype session",
                                      "session_input_channel_req") if word in said]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", mine), 1)
        assert not _has_terminal(backend)
    assert user.known_hosts.read_text() == before


def _has_terminal(backend: OpenSsh) -> bool:
    return psutil.Process(_pid(backend)).terminal() is not None


def _pid(backend: OpenSsh) -> int:
    assert backend._process is not None and backend._process._process is not None
    return backend._process._process.pid


def test_a_name_of_the_configuration(ssh_server: Server, ssh_user: User) -> None:
    user = newcomer(ssh_user)
    user.configure(user.alias("login", ssh_server, "HostKeyAlias theirs"), identity=ssh_user.identity)
    user.knows(ssh_server, name="theirs")
    with up(order(user, None, host="login")) as (_, facts):
        assert facts.known_by == "known_hosts"
    user.forgets()
    said = refused(order(user, None, host="login"), HostKeyUnknown)
    assert ssh_server.fingerprint() in str(said)
    # the name is kept where a key is named, for which the configuration is said anew
    user.knows(ssh_server, name="theirs")
    with up(order(user, None, host="login", identity=str(ssh_user.identity))) as (_, facts):
        assert facts.known_by == "known_hosts"


def test_a_configuration_that_ssh_does_not_take(ssh_server: Server, ssh_user: User) -> None:
    user = newcomer(ssh_user, "Nonsense yes")
    assert "nonsense" in str(refused(order(user, ssh_server), NoSsh)).lower()


def test_no_ssh(ssh_server: Server, ssh_user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    refused(order(ssh_user, ssh_server), NoSsh)


# --- through other hosts ---


@pytest.fixture(scope="module")
def chain(ssh_server: Server, ssh_user: User) -> Iterator[tuple[Server, Server]]:
    """Two more servers behind the first."""
    with Server(authorized=[ssh_user.public_key]) as second, Server(authorized=[ssh_user.public_key]) as third:
        yield second, third


def _names(user: User, *servers: Server) -> str:
    names = ("first", "second", "third")
    return "".join(
        user.alias(name, server, *([f"ProxyJump {before}"] if before else []))
        for name, before, server in zip(names, ("", *names), servers, strict=False)
    )


def test_hops_lead_on_as_in_the_configuration(chain: tuple[Server, Server], ssh_server: Server, ssh_user: User) -> None:
    """The third is behind the second, which is behind the first: ssh itself would go so, with weaker options."""
    user = newcomer(ssh_user)
    user.configure("Host first second\nStrictHostKeyChecking no\nForwardAgent yes\n" + _names(user, ssh_server, *chain),
                   identity=ssh_user.identity)
    for server in (*chain, ssh_server):
        said = refused(order(user, None, host="third"), HostKeyUnknown)
        user.knows(server)
        assert (ssh_server.fingerprint() if server is not ssh_server else "jump host") in str(said)
    with up(order(user, None, host="third")) as (backend, facts):
        assert facts.host_key == chain[1].fingerprint()
        hops = [one for one in psutil.Process(_pid(backend)).children(recursive=True) if one.name() == "ssh"]
        assert len(hops) == 2
        os.kill(_pid(backend), signal.SIGKILL)
        assert backend.lost(5)
        assert running.gone([one.pid for one in hops])


def test_a_hop_is_told_apart(chain: tuple[Server, Server], ssh_server: Server, ssh_user: User) -> None:
    user = newcomer(ssh_user)
    names = _names(user, ssh_server, chain[0])
    user.configure(names, identity=ssh_user.identity)
    user.knows(ssh_server, key=ssh_user.public_key)
    user.knows(chain[0])
    assert "jump host first" in str(refused(order(user, None, host="second"), HostKeyChanged))
    user.forgets()
    user.knows(ssh_server)
    user.knows(chain[0])
    user.configure("Host first\nIdentityFile none\n" + names.replace("Host first\n", "Host first\nPort 1\n"),
                   identity=ssh_user.identity)
    assert "jump host first" in str(refused(order(user, None, host="second"), NoRoute))
    user.configure("Host first\nUser nobody-of-this-name\n" + names, identity=ssh_user.identity)
    assert "jump host" in str(refused(order(user, None, host="second"), LoginRefused))
    user.configure("Host second\nProxyJump -oProxyCommand=x\n" + names, identity=ssh_user.identity)
    refused(order(user, None, host="second"), NoSsh)


def test_hops_in_a_circle(ssh_user: User) -> None:
    user = newcomer(ssh_user, "Host a\nProxyJump b\nHost b\nProxyJump c\nHost c\nProxyJump a")
    assert "jump hosts" in str(refused(order(user, None, host="a"), NoSsh))


def test_a_question_on_the_way_is_not_the_hosts(chain: tuple[Server, Server], ssh_server: Server,
                                                ssh_user: User) -> None:
    """S23: the user's own ProxyCommand runs an ssh of its own, which asks about its own host's key."""
    user, way = newcomer(ssh_user), newcomer(ssh_user)
    way.configure(f"Host *\nUserKnownHostsFile {user.known_hosts}\n" + way.alias("first", ssh_server),
                  identity=ssh_user.identity)
    command = f"ssh -F {way.config} -W %h:%p first"
    user.configure(user.alias("second", chain[0], f"ProxyCommand {command}"), identity=ssh_user.identity)
    for more in ({"accept_new": True}, {"fingerprints": (ssh_server.fingerprint(), chain[0].fingerprint())}):
        assert "a host on the way" in str(refused(order(user, None, host="second", **more), HostKeyUnknown))
        assert user.known_hosts.read_text() == ""
    user.knows(ssh_server)
    with up(order(user, None, host="second", fingerprints=(chain[0].fingerprint(),))) as (_, facts):
        assert (facts.host_key, facts.known_by) == (chain[0].fingerprint(), "file")


def test_what_a_hop_asks_is_said_to_be_asked_on_the_way(chain: tuple[Server, Server], ssh_server: Server,
                                                        ssh_user: User) -> None:
    """A stored password answers the host's own prompt, so none of a hop's may look like it."""
    sealed = User(passphrase=PASSPHRASE)
    ssh_server.authorize(sealed.public_key)
    user = newcomer(ssh_user)
    names = _names(user, ssh_server, chain[0])
    user.configure(f"Host first\nIdentityFile {sealed.identity}\n{names}", identity="none")
    user.knows(ssh_server)
    user.knows(chain[0])
    asker = Knows(PASSPHRASE)
    with up(order(user, None, host="second", identity=str(ssh_user.identity)), asker):
        assert len(asker.asked) == 1
        assert str(sealed.identity) in asker.asked[0] and asker.asked[0].startswith("(on the way to second) ")


# --- host keys ---


def test_a_host_certificate(ssh_user: User) -> None:
    """@cert-authority is ssh's to judge; a certificate's key can be pinned."""
    with Server(authorized=[ssh_user.public_key]) as server:
        authority = sshd.make_key(server.directory / "authority")
        subprocess.run(["ssh-keygen", "-q", "-s", str(authority), "-I", "h", "-h", "-n", "127.0.0.1",
                        f"{server.key_path()}.pub"], check=True, capture_output=True)
        server.stop()
        server.lines.append(f"HostCertificate {server.key_path()}-cert.pub")
        server.start()
        user = newcomer(ssh_user)
        user.knows(server, marker="@cert-authority", key=sshd.public(authority), name="127.0.0.1,[127.0.0.1]:*")
        for pinned in ("", server.fingerprint()):
            with up(order(user, server, pinned=pinned)) as (_, facts):
                assert (facts.host_key, facts.known_by) == (
                    server.fingerprint(), "known_hosts")
        user.forgets()
        user.knows(server, marker="@cert-authority", key=ssh_user.public_key, name="127.0.0.1,[127.0.0.1]:*")
        refused(order(user, server), HostKeyUnknown)
        with up(order(user, server, fingerprints=(server.fingerprint(),))) as (_, facts):
            assert facts.known_by == "file"


def test_a_vouched_key_of_another_kind_is_found(ssh_user: User) -> None:
    with Server(("ed25519", "rsa"), authorized=[ssh_user.public_key]) as server:
        user = newcomer(ssh_user)
        one = order(user, server, fingerprints=(server.fingerprint("rsa"),))
        with up(one) as (_, facts):
            assert (facts.host_key, facts.known_by) == (server.fingerprint("rsa"), "file")
        user.knows(server, kind="rsa", marker="@revoked", name="*")
        refused(order(user, server, fingerprints=(server.fingerprint("rsa"),)), HostKeyUnknown)


def test_what_was_pinned_must_be_vouched_for_still(ssh_server: Server, ssh_user: User) -> None:
    user = newcomer(ssh_user)
    pin = {"pinned": ssh_server.fingerprint()}
    refused(order(user, ssh_server, **pin), HostKeyUnknown)
    with up(order(user, ssh_server, fingerprints=(ssh_server.fingerprint(),), **pin)) as (_, facts):
        assert facts.known_by == "file"
    assert user.known_hosts.read_text() == ""
    with up(order(user, ssh_server, accept_new=True, **pin)) as (_, facts):
        assert facts.known_by == "accepted"
    assert user.known_hosts.read_text() != ""
    user.knows(ssh_server, marker="@revoked", name="*")
    refused(order(user, ssh_server, **pin), HostKeyChanged)


def test_an_accepted_key_is_kept_as_the_user_keeps_them(ssh_server: Server, ssh_user: User) -> None:
    user = newcomer(ssh_user, "HashKnownHosts yes")
    with up(order(user, ssh_server, accept_new=True)) as (_, facts):
        assert facts.known_by == "accepted"
    assert user.known_hosts.read_text().startswith("|1|")
    with up(order(user, ssh_server)) as (_, facts):
        assert facts.known_by == "known_hosts"


# --- secrets ---


def test_a_passphrase_passes_by_the_asker_alone(ssh_server: Server) -> None:
    """S11: it is in no command line and no environment, while it is asked for and while the login stands."""
    user = User(passphrase=PASSPHRASE)
    user.knows(ssh_server)
    ssh_server.authorize(user.public_key)
    seen: list[str] = []

    class Looks(Knows):
        def ask(self, prompt: str) -> str | None:
            seen.extend(_everything_public())
            return super().ask(prompt)

    asker = Looks(PASSPHRASE)
    one = order(user, ssh_server)
    with up(one, asker):
        seen.extend(_everything_public())
        assert not [name for name in one.directory.iterdir()
                    if name.is_file() and PASSPHRASE in name.read_text(errors="replace")]
        assert stat.S_IMODE((one.directory / "askpass").stat().st_mode) == 0o700
        assert stat.S_IMODE((one.directory / "ask").stat().st_mode) == 0o600
    assert len(asker.asked) == 1 and asker.asked[0].startswith("Enter passphrase for key ")
    assert any("askpass.py" in text for text in seen)  # it did look while the question was open
    assert not [text for text in seen if PASSPHRASE in text]


def _everything_public() -> list[str]:
    """Command lines and environments of all other processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                found.append((process / name).read_bytes().decode(errors="replace").replace("\0", " "))
    return found


def test_a_wrong_passphrase_and_none(ssh_server: Server) -> None:
    user = User(passphrase=PASSPHRASE)
    user.knows(ssh_server)
    ssh_server.authorize(user.public_key)
    for asker in (Knows("wrong"), Knows(None)):
        refused(order(user, ssh_server), LoginRefused, asker)
        assert len(asker.asked) == 1


def test_a_password_is_for_a_host_that_is_known_here() -> None:
    """S23: it is not sent to one that the connection file alone vouches for, nor unless it was allowed."""
    user = User()
    with Faulty("opensesame") as server:
        one = {"password": True, "config": str(user.config)}
        asker = Knows("opensesame")
        refused(_order_for(server, fingerprints=(server.fingerprint(),), **one), LoginRefused, asker)
        assert asker.asked == [] and server.passwords == [] and server.users != []
        user.knows(server)  # type: ignore[arg-type]
        refused(_order_for(server, config=str(user.config)), LoginRefused, asker)
        assert asker.asked == []
        with up(_order_for(server, **one), asker):
            assert server.passwords == ["opensesame"]
            assert f"@{server.host}" in asker.asked[0] and "assword:" in asker.asked[0]
            assert not [text for text in _everything_public() if "opensesame" in text]
        # by the name that the user has for it; once by each of the two ways in which this server takes it
        user.configure(user.alias("gate", server))
        wrong = Knows("wrong")
        refused(order(user, None, host="gate", password=True), LoginRefused, wrong)
        assert wrong.asked == [f"({user.name}@gate) Password:", f"{user.name}@gate's password: "]
        assert server.passwords[1:] == ["wrong", "wrong"]


def _order_for(server: Faulty, **more: object) -> Order:
    return order(None, server, **more)  # type: ignore[arg-type]


def test_a_question_that_nobody_answers_does_not_outlast_the_time(ssh_server: Server) -> None:
    user = User(passphrase=PASSPHRASE)
    user.knows(ssh_server)
    ssh_server.authorize(user.public_key)
    done = threading.Event()

    class Waits(Knows):
        def ask(self, prompt: str) -> str | None:
            done.wait(30)
            return "too late"

    begun = time.monotonic()
    refused(order(user, ssh_server), NoRoute, Waits(), seconds=1.5)
    assert time.monotonic() - begun < 5
    done.set()


# --- how it ends ---


def test_a_login_that_dies_is_told_with_its_reason(ssh_user: User) -> None:
    with Server(authorized=[ssh_user.public_key]) as server:
        user = newcomer(ssh_user)
        user.knows(server)
        with up(order(user, server)) as (backend, _):
            began = time.monotonic()
            server.drop()
            assert "clos" in backend.lost(10).lower()
            assert time.monotonic() - began < 5


def _hold(one: Order, pipe: object) -> None:
    """A holder of a tunnel, to be killed."""
    backend = OpenSsh(one, Knows())
    backend.connect(time.monotonic() + 20)
    pipe.send([_pid(backend), *(c.pid for c in psutil.Process().children(recursive=True))])
    time.sleep(60)


def test_a_holder_that_is_killed_leaves_no_ssh(chain: tuple[Server, Server], ssh_server: Server,
                                               ssh_user: User) -> None:
    user = newcomer(ssh_user)
    user.configure(_names(user, ssh_server, chain[0]), identity=ssh_user.identity)
    user.knows(ssh_server)
    user.knows(chain[0])
    ours, theirs = multiprocessing.Pipe()
    holder = multiprocessing.get_context("fork").Process(target=_hold, args=(order(user, None, host="second"), theirs))
    holder.start()
    assert ours.poll(20)
    pids = ours.recv()
    assert len(set(pids)) == 2  # ssh and the hop's
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert running.gone(pids)


@pytest.mark.parametrize("step", ["_prepare", "_start", "_forward"])
def test_an_interrupt_leaves_nothing(ssh_server: Server, ssh_user: User, step: str,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(OpenSsh):
        pass

    def then_interrupt(self: OpenSsh, *args: object) -> object:
        getattr(OpenSsh, step)(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Interrupted, step, then_interrupt, raising=False)
    one = order(ssh_user, ssh_server)
    with pytest.raises(KeyboardInterrupt):
        Interrupted(one, Knows()).connect(time.monotonic() + 20)
    assert list(one.directory.iterdir()) == []


def test_a_close_ends_a_connect_under_way(ssh_user: User) -> None:
    with silent() as port:
        one = Order(Route("127.0.0.1", "", port), (Forward(running.short_directory() / "door", "127.0.0.1", 1),),
                    running.short_directory(), config=str(ssh_user.config))
        backend = OpenSsh(one, Knows())
        failed: list[BaseException] = []

        def connect() -> None:
            try:
                backend.connect(time.monotonic() + 20)
            except NoRoute as error:
                failed.append(error)

        connecting = threading.Thread(target=connect)
        connecting.start()
        running.wait_until(_ssh_processes, 10, "ssh")
        backend.close()
        connecting.join(5)
        assert len(failed) == 1 and not connecting.is_alive()
        assert list(one.directory.iterdir()) == []
        assert backend.lost(0) and type(refused(one, NoRoute, seconds=0.2)) is NoRoute
        with pytest.raises(NoRoute):
            backend.connect(time.monotonic() + 20)


def test_a_directory_whose_sockets_would_be_too_long(ssh_server: Server, ssh_user: User) -> None:
    directory = running.short_directory() / ("x" * limits.SSH_PATH_BYTES)
    directory.mkdir(mode=0o700)
    one = Order(Route("127.0.0.1", "", ssh_server.port), (Forward(directory / "d", "127.0.0.1", 1),), directory)
    refused(one, NoSsh)


def test_no_post_quantum_exchange_here(ssh_server: Server, ssh_user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ssh that knows none says so itself; what was negotiated is looked at again."""
    from secure_ipp.tunnel.failures import NotPostQuantum

    with up(order(ssh_user, ssh_server, post_quantum=True)) as (_, facts):
        assert "sntrup" in facts.exchange or "mlkem" in facts.exchange
    old = running.short_directory() / "ssh"
    old.write_text('#!/bin/sh\n[ "$1" = -Q ] && { echo curve25519-sha256; exit; }\nexec /usr/bin/ssh "$@"\n')
    old.chmod(0o700)
    monkeypatch.setattr(openssh.shutil, "which", lambda name: str(old))
    refused(order(ssh_user, ssh_server, post_quantum=True), NotPostQuantum)


# --- how fast ---


@pytest.mark.parametrize("ciphers", ["", "Ciphers aes256-ctr,aes128-gcm@openssh.com"])
def test_the_faster_cipher_is_used_unless_the_user_has_put_them_in_order(
    ssh_server: Server, ssh_user: User, monkeypatch: pytest.MonkeyPatch, ciphers: str
) -> None:
    monkeypatch.setattr(openssh, "has_aes", lambda: True)
    user = newcomer(ssh_user, ciphers)
    user.knows(ssh_server)
    before = ssh_server.log().count("cipher:")
    with up(order(user, ssh_server)):
        said = ssh_server.log().split("cipher:")[before + 1].split()[0]
    assert said == ("aes256-ctr" if ciphers else "aes128-gcm@openssh.com")
