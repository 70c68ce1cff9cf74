"""Impostors and eavesdroppers on the way over SSH (S23), and what sshtunnel would do by itself (S24).

Each attack on S23 is made on both back ends.
"""

from __future__ import annotations

import logging
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from secure_ipp.errors import EnvironmentProblem
from secure_ipp.tunnel.failures import HostKeyChanged, HostKeyUnknown, LoginRefused
from tests import running
from tests.tunnel import ends, faults, sshd
from tests.tunnel.conftest import ssh_server, ssh_user  # noqa: F401  fixtures of the tests of tunnels
from tests.tunnel.ends import Answers, Target, Trial
from tests.tunnel.sshd import Server, User

pytestmark = pytest.mark.live


@pytest.fixture(params=["openssh", "paramiko"])
def trial(request: pytest.FixtureRequest) -> Iterator[Trial]:
    one = Trial(request.param)
    yield one
    one.end()


@pytest.fixture
def by_paramiko() -> Iterator[Trial]:
    one = Trial("paramiko")
    yield one
    one.end()


def test_s23_an_impostor_learns_nothing(trial: Trial) -> None:
    """Not a name, not a key, not a password, whatever else speaks for it."""
    with faults.Faulty("a password") as impostor:
        user, asker = User(), Answers(assword="a password", onnect="yes")
        user.knows(impostor, key=user.public_key)
        for more in ({}, {"fingerprints": (impostor.fingerprint(),)}, {"accept_new": True}):
            with pytest.raises(HostKeyChanged):
                trial.connect(trial.order(user, impostor, password=True, **more), asker)
        user.forgets()
        with pytest.raises(HostKeyUnknown):
            trial.connect(trial.order(user, impostor, password=True), asker)
        assert (impostor.users, impostor.keys, impostor.passwords, asker.asked) == ([], [], [], [])
        user.knows(impostor)
        trial.connect(trial.order(user, impostor, password=True), asker)
        assert impostor.passwords == ["a password"]  # or the above could not fail
        trial.end()


def test_s23_no_password_goes_to_a_host_that_only_a_file_vouches_for(trial: Trial) -> None:
    with faults.Faulty("a password") as server:
        user, asker = User(), Answers(assword="a password")
        with pytest.raises(LoginRefused) as caught:
            trial.connect(trial.order(user, server, password=True, fingerprints=(server.fingerprint(),)), asker)
        assert "password" in str(caught.value)
        assert server.passwords == [] and asker.asked == []


def test_s23_no_agent_is_forwarded(trial: Trial, ssh_server: Server, ssh_user: User) -> None:  # noqa: F811
    user = User()
    user.configure("ForwardAgent yes\nForwardX11 yes\n", identity=ssh_user.identity)
    user.knows(ssh_server)
    since = len(ssh_server.log())
    trial.connect(trial.order(user, ssh_server))
    said = ssh_server.log()[since:]
    assert "Accepted publickey" in said
    assert "auth-agent-req" not in said and "x11-req" not in said


def test_s23_local_ends_are_the_users_alone_under_any_umask(trial: Trial, ssh_server: Server,  # noqa: F811
                                                            ssh_user: User) -> None:  # noqa: F811
    target = Target()
    order = trial.order(ssh_user, ssh_server, target)
    before = os.umask(0)
    try:
        trial.connect(order)
    finally:
        os.umask(before)
    assert stat.S_IMODE(order.forwards[0].local.stat().st_mode) == 0o600
    target.close()


# --- what sshtunnel would do ---


def _bound() -> set[tuple[str, int]]:
    """Addresses at which this process listens."""
    return {tuple(one.laddr) for one in psutil.Process().net_connections("inet") if one.status == psutil.CONN_LISTEN}


def test_s24_no_port_is_bound_and_nothing_is_logged(by_paramiko: Trial, ssh_server: Server,  # noqa: F811
                                                    ssh_user: User, capfd: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    target = Target()
    bound, handlers = _bound(), {name: _handlers(name) for name in ("", "paramiko.transport", "py.warnings")}
    shown = warnings.showwarning
    order = by_paramiko.order(ssh_user, ssh_server, target)
    by_paramiko.connect(order)
    assert ends.carries(target, order.forwards[0].local)
    assert _bound() == bound
    assert {name: _handlers(name) for name in handlers} == handlers
    assert warnings.showwarning is shown
    by_paramiko.end()
    assert capfd.readouterr() == ("", "")
    target.close()


def _handlers(name: str) -> list[logging.Handler]:
    return list(logging.getLogger(name).handlers)


def test_s24_keys_that_lie_about_are_not_sprayed(by_paramiko: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    home = running.short_directory()
    (home / ".ssh").mkdir(mode=0o700)
    for kind in ("rsa", "ecdsa", "ed25519"):
        sshd.make_key(home / ".ssh" / f"id_{kind}", kind)
    monkeypatch.setenv("HOME", str(home))
    with faults.Faulty() as server:
        user = User()
        user.knows(server)
        for more in ({}, {"identity": str(user.identity)}):
            server.keys.clear()
            with pytest.raises(LoginRefused):
                by_paramiko.connect(by_paramiko.order(user, server, **more))
            assert set(server.keys) == {user.public_key.split()[1]}


def test_s24_a_session_whose_key_was_not_verified_is_not_used(by_paramiko: Trial, ssh_server: Server,  # noqa: F811
                                                              ssh_user: User) -> None:  # noqa: F811
    """The verified key is handed over, and looked at again; sshtunnel itself connects nowhere."""
    import paramiko
    import sshtunnel

    from secure_ipp.tunnel.forwarder import Forwarder

    order = by_paramiko.order(ssh_user, ssh_server)
    backend, _ = by_paramiko.connect(order)
    session = backend._way.last  # type: ignore[attr-defined]
    other = paramiko.PKey.from_path(sshd.make_key(Path(order.directory) / "key"))
    forwarder = Forwarder(session, other, order.forwards)
    with pytest.raises(EnvironmentProblem):
        forwarder.listen()
    assert ends.sockets_in(order.directory) == []
    with pytest.raises(sshtunnel.BaseSSHTunnelForwarderError):
        forwarder._get_transport()
    with pytest.raises(sshtunnel.BaseSSHTunnelForwarderError):
        forwarder._make_ssh_forward_server_class(("127.0.0.1", 1))


def test_s24_no_password_stands_in_a_repr(by_paramiko: Trial) -> None:
    with faults.Faulty("correct horse") as server:
        user = User()
        user.knows(server)
        order = by_paramiko.order(user, server, password=True)
        backend, _ = by_paramiko.connect(order, Answers(assword="correct horse"))
        parts = [backend, backend._forwarder, backend._way, backend._way.last, order]  # type: ignore[attr-defined]
        assert "horse" not in repr(parts) + " ".join(map(str, parts))
        assert "horse" not in repr([vars(one) for one in parts if hasattr(one, "__dict__")])
        by_paramiko.end()
