"""What the paramiko back end takes from an ssh configuration, and what it never does."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_ipp.errors import UsageError
from secure_ipp.tunnel import ssh_config
from secure_ipp.tunnel.failures import NoSsh
from secure_ipp.tunnel.route import Route


def _hops(tmp_path: Path, text: str, route: str = "login") -> tuple[ssh_config.Hop, ...]:
    file = tmp_path / "config"
    file.write_text(text)
    return ssh_config.hops(Route.parse(route), str(file))


def test_the_first_value_counts_and_the_route_before_all(tmp_path: Path) -> None:
    text = "Host log*\n HostName Login.Example\n Port 2200\n User anna\nHost *\n User other\n Port 1\n"
    one, = _hops(tmp_path, text)
    assert (one.host, one.port, one.user, one.called) == ("Login.Example", 2200, "anna", "login")
    assert (one.name, one.plain_name) == ("[login.example]:2200", "login.example")
    one, = _hops(tmp_path, text, "bert@login:22")
    assert (one.port, one.user, one.name, one.plain_name) == (22, "bert", "login.example", "")


def test_files_and_their_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    one, = _hops(tmp_path, 'UserKnownHostsFile ~/kh %d/kh-%p "/a b/%h"\nGlobalKnownHostsFile none\n'
                 "IdentityFile ~/k1\nIdentityFile /k/%r\nUser u\nHostKeyAlias Group\nIdentitiesOnly yes\n")
    assert list(map(str, one.user_known_hosts)) == ["/home/x/kh", "/home/x/kh-22", "/a b/login"]
    assert one.system_known_hosts == ()
    assert list(map(str, one.identities)) == ["/home/x/k1", "/k/u"]
    assert (one.name, one.only_these, one.named, one.agent) == ("group", True, True, "/run/agent")
    one, = _hops(tmp_path, "IdentityAgent none\n")
    assert (one.agent, one.named, len(one.identities)) == ("", False, 3)
    assert one.user_known_hosts[0] == Path("/home/x/.ssh/known_hosts")
    one, = ssh_config.hops(Route("h"), "none")
    assert (one.host, one.port, one.user) == ("h", 22, getpass.getuser())


def test_jumps_in_their_order(tmp_path: Path) -> None:
    text = "Host login\n ProxyJump u@one:2201,two\nHost one\n ProxyJump zero\nHost two\n Port 2202\n ProxyJump never\n"
    assert [hop.text.split("@")[1] for hop in _hops(tmp_path, text)] == ["zero:22", "one:2201", "two:2202", "login:22"]
    assert _hops(tmp_path, text)[1].user == "u"
    assert len(_hops(tmp_path, "Host login\n ProxyJump none\nHost *\n ProxyJump x\n")) == 1
    one, _ = _hops(tmp_path, "Host login\n ProxyJump ssh://a@[::1]:22/\n")
    assert (one.host, one.user, one.name) == ("::1", "a", "::1")


@pytest.mark.parametrize("text", ["Host *\n ProxyJump login\n", "Host login\n ProxyJump b\nHost b\n ProxyJump login\n",
                                  "ProxyJump a b\n", "ProxyJump a:99999\n", "Port x\n", "Port 0\n", "ProxyJump ,\n",
                                  "CanonicalizeHostname yes\n", "nonsense\n", "Include config\n"])
def test_what_cannot_be_followed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").symlink_to(tmp_path)
    with pytest.raises(UsageError):
        _hops(tmp_path, text)


def test_no_command_is_ever_run(tmp_path: Path) -> None:
    """S22: a configuration is data."""
    ran = tmp_path / "ran"
    for negated in ("", "!"):
        one, = _hops(tmp_path, f'Match {negated}exec "touch {ran}"\n User evil\nMatch tagged x\n User evil\nHost *\n'
                     " User good\n")
        assert one.user == "good"
    with pytest.raises(NoSsh, match="ProxyCommand") as caught:
        _hops(tmp_path, f"ProxyCommand touch {ran}\n")
    assert "openssh" in caught.value.advice
    assert not ran.exists()


def test_included_files_count_where_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh" / "d").mkdir(parents=True)
    (tmp_path / ".ssh" / "d" / "a").write_text("Host login\n User anna\n")
    one, = _hops(tmp_path, "Include d/*\nPort 7\nUser late\n")
    assert (one.user, one.port) == ("anna", 7)
    with pytest.raises(NoSsh, match="includes"):
        _hops(tmp_path, "Host x\n Include d/*\n")


WORDS = [
    "Host", "Match", "host", "user", "all", "exec", "!exec", "final", "canonical", "login", "*", "!login", "Port", "22",
    "-1", "x", "ProxyJump", "a,b", "none", "@", "u@h:1", "[::1]:2", "ProxyCommand", "IdentityFile", "%d/%h%%", "~",
    "UserKnownHostsFile", "\"", "'", "=", "CanonicalizeHostname", "yes", "CanonicalDomains", "HostName", "%h", "User",
    "IdentityAgent", "$X", "HostKeyAlias", "Include", "/nowhere/*", "\\", "#", "\x00", "ä", "LocalForward",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join), max_size=8).map("\n".join))
def test_any_configuration_is_followed_or_refused(tmp_path: Path, text: str) -> None:
    try:
        found = _hops(tmp_path, text.replace("yes", "always") if "Canonicalize" in text else text)
    except (UsageError, NoSsh):
        return
    assert found and all(0 < hop.port < 65536 and hop.host and hop.name for hop in found)
