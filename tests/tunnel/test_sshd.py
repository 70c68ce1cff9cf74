"""The servers that the tests of tunnels rest on do what they say."""

from __future__ import annotations

import subprocess

from tests.tunnel import sshd


def _login(user: sshd.User, server: sshd.Server, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", str(user.config), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", *options, "-p",
         str(server.port), "--", server.host, "echo", "in"],
        capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL,
    )


def test_the_user_gets_in(ssh_server: sshd.Server, ssh_user: sshd.User) -> None:
    done = _login(ssh_user, ssh_server)
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr + ssh_server.log()


def test_known_hosts_is_all_that_counts() -> None:
    user, other = sshd.User(), sshd.make_key(sshd.running.short_directory() / "key")
    with sshd.Server(authorized=[user.public_key]) as server:
        assert "Host key verification failed" in _login(user, server).stderr
        user.knows(server, plain=False)
        assert _login(user, server).returncode == 0
        user.forgets()
        user.knows(server, key=sshd.public(other))
        assert "HAS CHANGED" in _login(user, server).stderr
        user.forgets()
        user.knows(server, marker="@revoked")
        assert "REVOKED" in _login(user, server).stderr


def test_a_stopped_server_is_gone() -> None:
    user = sshd.User()
    server = sshd.Server(authorized=[user.public_key]).start()
    user.knows(server)
    with subprocess.Popen(["ssh", "-F", str(user.config), "-N", "-p", str(server.port), server.host],
                          stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as client:
        sshd.running.wait_until(lambda: "Accepted publickey" in server.log(), what="a login")
        pids = [one.pid for one in server.processes()]
        assert len(pids) > 1
        server.stop()
        assert client.wait(10) != 0
    assert sshd.running.gone(pids)
    server.start()
    server.stop()
