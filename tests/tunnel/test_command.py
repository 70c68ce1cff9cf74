"""The command lines of ssh: what is always in them, and that nothing gets into them that was not meant (S22, S23)."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secure_ipp.errors import UsageError
from secure_ipp.tunnel import command
from secure_ipp.tunnel.interface import Forward
from secure_ipp.tunnel.route import Route
from secure_ipp.tunnel.settings import Settings, parse_jump

DIRECTORY = Path("/run/user/1000/t")
WARD = ("/usr/bin/python3", "-I", "-S", "/lib/ward.py")
NOTHING = Settings({})
# what a shell, ssh's own expansion or an option would make something of
NASTY = st.text(st.sampled_from("ab1.-_@:[]/%'\"$`\\;|&<>(){}*? \n\t~=,hp\0é"), max_size=24)


def plan(host: str = "login.example.org", user: str = "", port: int = 0, **more: object) -> command.Plan:
    return command.Plan("/usr/bin/ssh", WARD, Route(host, user, port), DIRECTORY,
                        **{"settings": NOTHING, **more})  # type: ignore[arg-type]


def options(argv: list[str]) -> list[str]:
    return [argv[place + 1] for place, word in enumerate(argv) if word == "-o"]


def value(argv: list[str], name: str) -> str:
    """Of the option, as ssh takes it: the first counts."""
    return next(text.partition("=")[2] for text in options(argv) if text.lower().startswith(f"{name.lower()}="))


def unpercent(text: str, **tokens: str) -> str:
    """As ssh replaces tokens in a ProxyCommand; one that it does not know is an error there."""
    found, place = "", 0
    while place < len(text):
        if text[place] == "%":
            found += {"%": "%", **tokens}[text[place + 1]]
            place += 1
        else:
            found += text[place]
        place += 1
    return found


STRICT = {
    "ClearAllForwardings": "yes", "ForwardAgent": "no", "ForwardX11": "no", "PermitLocalCommand": "no",
    "RemoteCommand": "none", "RequestTTY": "no", "Tunnel": "no", "UpdateHostKeys": "no", "VerifyHostKeyDNS": "no",
    "NoHostAuthenticationForLocalhost": "no", "PasswordAuthentication": "no", "KbdInteractiveAuthentication": "no",
    "ExitOnForwardFailure": "yes", "NumberOfPasswordPrompts": "1", "ControlPersist": "no",
}


@pytest.mark.parametrize("make", [command.master, command.look])
def test_a_login_is_strict_whatever_the_user_has(make: object) -> None:
    argv = make(plan("h", "u", 2222), 9.6)  # type: ignore[operator]
    assert argv[0] == "/usr/bin/ssh"
    for name, expected in STRICT.items():
        assert value(argv, name) == expected
    assert value(argv, "StrictHostKeyChecking") == "ask"  # the back end is asked, and nobody else
    assert value(argv, "ConnectTimeout") == "10"
    assert argv[-6:] == ["-l", "u", "-p", "2222", "--", "h"]
    assert "-F" not in argv


def test_each_option_is_set_once() -> None:
    for argv in (command.master(plan(), 5), command.look(plan(), 5), command.master(plan(), 5, only="ED25519")):
        names = [text.partition("=")[0].lower() for text in options(argv)]
        assert len(names) == len(set(names))


def test_the_login_takes_a_control_socket_and_the_look_takes_none() -> None:
    argv = command.master(plan(), 5)
    assert argv[argv.index("-S") + 1] == "/run/user/1000/t/ctl" and value(argv, "ControlMaster") == "yes"
    looking = command.look(plan(), 5)
    assert value(looking, "ControlPath") == "none" and "-S" not in looking
    assert value(looking, "PreferredAuthentications") == "none"
    assert value(looking, "LogLevel") == "INFO" and "-v" not in looking


def test_only_an_ssh_that_knows_an_option_is_given_it() -> None:
    old, new = plan(), plan(settings=Settings.parse("forkafterauthentication yes\nknownhostscommand /x\n"))
    given_to_old = options(command.master(old, 5, only="RSA"))
    assert not [text for text in given_to_old if text.startswith(("Fork", "KnownHostsC"))]
    assert value(command.master(new, 5), "ForkAfterAuthentication") == "no"
    assert value(command.master(new, 5, only="RSA"), "KnownHostsCommand") == "none"


def test_one_key_alone_is_asked_for_by_its_kind() -> None:
    known = Settings.parse(
        "hostkeyalgorithms ssh-ed25519-cert-v01@openssh.com,ssh-ed25519,rsa-sha2-512-cert-v01@openssh.com,rsa-sha2-512,"
        "sk-ssh-ed25519@openssh.com,ecdsa-sha2-nistp256\n"
    )
    for kind, algorithms in {"RSA": "rsa-sha2-512", "ED25519": "ssh-ed25519", "ECDSA": "ecdsa-sha2-nistp256",
                             "ED25519-SK": "sk-ssh-ed25519@openssh.com", "RSA-CERT": "rsa-sha2-512"}.items():
        argv = command.master(plan(settings=known), 5, only=kind)
        assert value(argv, "HostKeyAlgorithms") == algorithms
        assert value(argv, "UserKnownHostsFile") == '"/run/user/1000/t/known"'
        assert value(argv, "GlobalKnownHostsFile") == "/dev/null"
    assert known.host_key_algorithms("SOMETHING") == ""


CIPHERS = "ciphers chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com\n"
REORDERED = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr"


@pytest.mark.parametrize("make", [command.master, command.look])
def test_of_the_ciphers_that_the_user_allows_the_faster_ones_go_first(make: object) -> None:
    settings = Settings.parse(CIPHERS)
    argv = make(plan(settings=settings, has_aes=True, identity="/k"), 5)  # type: ignore[operator]
    assert value(argv, "Ciphers") == REORDERED
    slow = make(plan(settings=settings), 5)  # type: ignore[operator]  no instruction for them
    assert not [text for text in options(slow) if text.startswith("Ciphers=")]


@pytest.mark.parametrize("allowed", [
    "aes256-ctr,chacha20-poly1305@openssh.com,aes128-gcm@openssh.com",  # somebody's own order
    "chacha20-poly1305@openssh.com,aes128-ctr",  # somebody's own choice
    "chacha20-poly1305@openssh.com", "",
])
def test_no_cipher_is_allowed_and_no_order_undone_that_the_user_has_made(allowed: str) -> None:
    settings = Settings.parse(f"ciphers {allowed}\n") if allowed else NOTHING
    argv = command.master(plan(settings=settings, has_aes=True), 5)
    assert not [text for text in options(argv) if text.startswith("Ciphers=")]


def test_a_cipher_that_the_user_has_taken_out_stays_out() -> None:
    settings = Settings.parse(CIPHERS.replace("aes128-gcm@openssh.com,", ""))
    argv = command.master(plan(settings=settings, has_aes=True), 5)
    assert value(argv, "Ciphers") == "aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr"


def test_the_ciphers_of_a_hop_are_its_own() -> None:
    hop = (Route("hop.example.org"), Settings.parse(CIPHERS))
    line = command.proxy_command(plan(hops=(hop,), has_aes=True), 5)
    assert f"Ciphers={REORDERED}" in line
    assert "Ciphers" not in command.proxy_command(plan(hops=(hop,)), 5)


def test_passwords_are_allowed_by_name() -> None:
    allowed = command.master(plan(password=True), 5)
    assert not [text for text in options(allowed) if text.startswith(("PasswordAuth", "KbdInter"))]
    assert value(command.master(plan(password=True), 5, password=False), "PasswordAuthentication") == "no"
    assert value(command.look(plan(password=True), 5), "KbdInteractiveAuthentication") == "no"


def test_a_key_that_is_named_stands_alone() -> None:
    known = Settings.parse("user u\nhostname 127.0.0.1\nidentityfile ~/.ssh/other\nuserknownhostsfile /a /b\n"
                           "rekeylimit 0 0\ncertificatefile /a b\nlocalforward 1 2\nproxyjump none\n")
    argv = command.master(plan(settings=known, identity="/keys/100%", config="/c"), 5)
    assert argv[1:3] == ["-F", "none"]
    assert argv[argv.index("-i") + 1] == "/keys/100%%" and value(argv, "IdentitiesOnly") == "yes"
    assert value(argv, "userknownhostsfile") == "/a /b" and value(argv, "hostname") == "127.0.0.1"
    assert value(argv, "certificatefile") == '"/a b"'
    assert not [text for text in options(argv) if "other" in text or text.lower().startswith(("localf", "rekey"))]


def test_a_forward() -> None:
    local = DIRECTORY / "0.door"
    begins = ["/usr/bin/ssh", "-F", "none", "-S", "/run/user/1000/t/ctl", "-O", "forward", "-L"]
    for one, target in (
        (Forward(local, "10.0.0.1", 5000), "10.0.0.1:5000"), (Forward(local, "fe80::1", 5000), "[fe80::1]:5000"),
        (Forward(local, path="/home/u/run/client.door"), "/home/u/run/client.door"),
    ):
        assert command.forward(plan("h"), one) == [*begins, f"{local}:{target}", "--", "h"]


@pytest.mark.parametrize("one", [
    Forward(DIRECTORY / "a", path="relative"), Forward(DIRECTORY / "a", path="/a:b"),
    Forward(DIRECTORY / "a:1", path="/a"), Forward(DIRECTORY / "a", path="/${HOME}/x"),
    Forward(DIRECTORY / "a", path="/%h"), Forward(DIRECTORY / "a", path="/a\nb"),
    Forward(DIRECTORY / "a", "-oProxyCommand=x", 1), Forward(DIRECTORY / "a", "h:1:2", 1),
    Forward(DIRECTORY / "a", "h", 0), Forward(DIRECTORY / "a", "h", 65536), Forward(DIRECTORY / "a"),
])
def test_a_forward_that_would_mean_something_else(one: Forward) -> None:
    with pytest.raises(UsageError):
        command.forward(plan(), one)


@given(NASTY, NASTY, st.integers(-1, 70000))
@example("-oProxyCommand=x", "", 0)
@example("h", "-oProxyCommand=x", 22)
def test_no_host_or_user_becomes_an_option_or_another_word(host: str, user: str, port: int) -> None:
    """S22: a route is refused, or stands in the command line as the words that it must be."""
    try:
        argv = command.master(plan(host, user, port), 5)
    except UsageError:
        return
    plain = command.master(plan("h", "u" if user else "", 1 if port else 0), 5)
    assert len(argv) == len(plain)
    assert argv[-2:] == ["--", host] and not host.startswith("-")
    assert [word for word in argv if word not in (host, user, str(port))] == [
        word for word in plain if word not in ("h", "u", "1")
    ]


@given(NASTY)
@example("a@b@host:22")
@example("ssh://u@[::1]:22")
@example("x;y")
@example("-h")
def test_a_jump_is_a_plain_host_or_an_error(text: str) -> None:
    try:
        hop = parse_jump(text)
    except UsageError:
        return
    assert hop.host and not set(hop.host + hop.user) & set("%'\"$`\\;|&<>(){}*? \n\t~=,/\0[]")
    assert not hop.host.startswith("-") and not hop.user.startswith("-")


def test_hops_nest_and_each_is_strict() -> None:
    """Each hop's ssh is started by the next one's, through a shell: what it gets is what was meant, at each depth."""
    hops = tuple((Route(f"hop{number}", "u", 2200 + number), NOTHING) for number in range(4))
    one = plan("end", hops=hops, config="/home/o'brien/100% mine", password=True)
    argv = command.master(one, 5)
    for number in reversed(range(4)):
        words = shlex.split(unpercent(value(argv, "ProxyCommand"), h="target", p="22"))
        assert value(argv, "ProxyUseFdpass") == "no"
        assert words[:6] == [*WARD, "0", "/usr/bin/ssh"]
        assert words[words.index("-F") + 1] == "/home/o'brien/100% mine"
        assert words[words.index("-E") + 1] == f"/run/user/1000/t/hop{number}.log"
        assert words[-8:] == ["-l", "u", "-p", str(2200 + number), "-W", "[target]:22", "--", f"hop{number}"]
        assert value(words, "StrictHostKeyChecking") == "yes" and value(words, "ControlPath") == "none"
        for name in STRICT:
            if not name.startswith(("Password", "Kbd")):
                assert value(words, name) == STRICT[name]
        argv = words
    assert not [text for text in options(argv) if text.startswith("ProxyCommand")]  # the first one's, the user may have


@given(st.lists(st.tuples(NASTY, NASTY, st.integers(0, 70000)), min_size=1, max_size=3))
def test_no_hop_adds_a_word_to_the_shell(hops: list[tuple[str, str, int]]) -> None:
    try:
        text = command.proxy_command(plan(hops=tuple((Route(*hop), NOTHING) for hop in hops)), 5)
    except UsageError:
        return
    for number, (host, user, port) in reversed(list(enumerate(hops))):
        words = shlex.split(unpercent(text, h="t", p="1"))
        assert words[-2:] == ["--", host]
        if user:
            assert words[words.index("-l") + 1] == user
        if port:
            assert words[words.index("-p") + 1] == str(port)
        assert words.count("--") == 1 and words.count("-W") == 1
        text = value(words, "ProxyCommand") if number else ""


@pytest.mark.parametrize("path", ["relative", "/a'b", '/a"b', "/a%h", "/a$b", "/a:b", "/a\\b", "/a\nb", "/\x1b[31m"])
def test_a_directory_that_ssh_would_take_for_something_else(path: str) -> None:
    one = command.Plan("/usr/bin/ssh", WARD, Route("h"), Path(path), NOTHING)
    with pytest.raises(UsageError):
        command.master(one, 5)


def test_the_words_of_a_configuration() -> None:
    found = Settings.parse("user root\nproxyjump u@[127.0.0.1]:42,v@[::1],w\nUser other\n\nlonely\n")
    assert found.words["user"] == "root" and found.words["lonely"] == ""
    assert found.jumps == (Route("127.0.0.1", "u", 42), Route("::1", "v"), Route("w"))
    assert Settings.parse("proxyjump none\n").jumps == () and NOTHING.jumps == ()
    with pytest.raises(UsageError):
        _ = Settings.parse("proxyjump good,-bad\n").jumps


def test_asking_for_the_configuration() -> None:
    argv = command.settings_of("/usr/bin/ssh", "none", Route("h", "u", 3), "/k")
    assert argv == ["/usr/bin/ssh", "-G", "-N", "-F", "none", "-l", "u", "-p", "3", "-i", "/k",
                    "-o", "IdentitiesOnly=yes", "--", "h"]
