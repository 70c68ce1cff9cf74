"""Whether a host's key is the right one: every law, and lines that nobody wrote on purpose."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.tunnel import host_keys
from secure_ipp.tunnel.failures import HostKeyChanged, HostKeyUnknown
from secure_ipp.tunnel.host_keys import Line, Vouchers


def _blob(seed: int, kind: str = "ssh-ed25519") -> bytes:
    return len(kind).to_bytes(4, "big") + kind.encode() + (32).to_bytes(4, "big") + bytes([seed]) * 32


def _text(seed: int, kind: str = "ssh-ed25519") -> str:
    return f"{kind} {base64.b64encode(_blob(seed, kind)).decode()}"


ONE, TWO = _blob(1), _blob(2)
NAME = "[login.example]:2222"


def _vouchers(*lines: str, **more: object) -> Vouchers:
    return Vouchers("login.example", NAME, host_keys.read("\n".join(lines)), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("line", [
    f"{NAME} {_text(1)}",
    f"other,{NAME} {_text(1)} a comment",
    f"[*.EXAMPLE]:2222 {_text(1)}",
    f"[login.exampl?]:* {_text(1)}",
    f"{host_keys.hashed_name(NAME, bytes(20))} {_text(1)}",
    f"@some-marker {NAME} {_text(2)}\n{NAME} {_text(1)}",
    f"{NAME} ssh-ed25519 ????\n{NAME} {_text(1)}",
])
def test_a_known_key_is_accepted(line: str) -> None:
    assert _vouchers(line).judge(ONE) == "known_hosts"


@pytest.mark.parametrize("line", [
    "", f"# {NAME} {_text(1)}", f"login.example {_text(1)}", f"!{NAME},* {_text(1)}", f"@cert-authority * {_text(1)}",
    f"@unknown {NAME} {_text(1)}", f"{NAME} ssh-rsa {_text(1).split()[1]}", f"{NAME} {_text(1)}!", f"{NAME}",
    f"{host_keys.hashed_name('login.example', bytes(20))} {_text(1)}", f"|1|x|y {_text(1)}", f"|2|{NAME} {_text(1)}",
])
def test_what_is_not_about_this_host_vouches_for_nobody(line: str) -> None:
    with pytest.raises(HostKeyUnknown, match=re.escape(host_keys.fingerprint(ONE))) as caught:
        _vouchers(line).judge(ONE)
    assert "--accept-new" in caught.value.advice


EVERYTHING = {"fingerprints": (host_keys.fingerprint(ONE),), "accept_new": True}


@pytest.mark.parametrize("line", [f"{NAME} {_text(2)}", f"{NAME} {_text(9, 'ssh-dss')}", f"@revoked * {_text(1)}",
                                  f"@revoked {NAME} {_text(1)}\n{NAME} {_text(1)}"])
def test_nothing_speaks_against_known_hosts(line: str) -> None:
    with pytest.raises(HostKeyChanged):
        _vouchers(line, **EVERYTHING).judge(ONE)


def test_a_fingerprint_counts_for_a_host_that_is_not_known() -> None:
    assert _vouchers(fingerprints=(host_keys.fingerprint(ONE),)).judge(ONE) == "file"
    with pytest.raises(HostKeyChanged):
        _vouchers(fingerprints=(host_keys.fingerprint(TWO),), accept_new=True).judge(ONE)


def test_a_pin_restricts_and_vouches_for_nobody() -> None:
    pinned = host_keys.fingerprint(TWO)
    with pytest.raises(HostKeyChanged):
        _vouchers(f"{NAME} {_text(1)}", pinned=pinned).judge(ONE)
    with pytest.raises(HostKeyUnknown):
        _vouchers(pinned=pinned).judge(TWO)


def test_the_name_without_port_can_vouch_and_cannot_contradict() -> None:
    assert _vouchers(f"login.example {_text(1)}", plain_name="login.example").judge(ONE) == "known_hosts"
    with pytest.raises(HostKeyUnknown):
        _vouchers(f"login.example {_text(2)}", plain_name="login.example").judge(ONE)
    with pytest.raises(HostKeyChanged):
        _vouchers(f"@revoked login.example {_text(1)}", plain_name="login.example", **EVERYTHING).judge(ONE)


def test_known_kinds_come_first() -> None:
    lines = (f"{NAME} {_text(1, 'ssh-rsa')}", f"@revoked {NAME} {_text(2)}", f"other {_text(3, 'x')}")
    assert _vouchers(*lines).kinds() == ("ssh-rsa",)


def test_an_authority_is_said_not_to_count() -> None:
    with pytest.raises(HostKeyUnknown, match="authorities"):
        _vouchers(f"@cert-authority * {_text(5)}").judge(ONE)


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    for line in host_keys.read(text):
        line.is_about(NAME)


WORDS = st.lists(st.sampled_from(["@revoked", "@cert-authority", "@x", NAME, "*", "!*", "|1|a|b", _text(1), _text(2),
                                  "ssh-rsa", "#", "AAAA", "", "\t", "\x00"]), max_size=6).map(" ".join)


@given(st.lists(WORDS, max_size=8))
def test_a_revoked_key_is_never_accepted(lines: list[str]) -> None:
    with pytest.raises(HostKeyChanged):
        _vouchers(*lines, f"@revoked * {_text(1)}", **EVERYTHING).judge(ONE)


@given(st.lists(WORDS, max_size=8))
def test_without_a_plain_line_nothing_is_known(lines: list[str]) -> None:
    marked = [line for line in lines if line.strip(" \t").startswith(("@", "#", "!", "|"))]
    with pytest.raises((HostKeyUnknown, HostKeyChanged)):
        _vouchers(*marked).judge(ONE)


@given(st.text("ab*?.", max_size=12), st.text("ab.", max_size=12))
def test_patterns_match_as_patterns_do(pattern: str, name: str) -> None:
    expected = re.fullmatch("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), name) is not None
    line = Line("", pattern, "ssh-ed25519", ONE)
    assert line.is_about(name) == (bool(pattern) and expected)


def test_names_are_hashed_as_the_ssh_program_does(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"{host_keys.hashed_name(NAME, b'x' * 20)} {_text(1)}\n")
    found = subprocess.run(["ssh-keygen", "-F", NAME, "-f", str(file)], capture_output=True, text=True, check=False)
    assert "found: line 1" in found.stdout
    file.write_text(f"{NAME} {_text(1)}\n")
    subprocess.run(["ssh-keygen", "-H", "-f", str(file)], capture_output=True, check=True)
    assert NAME not in file.read_text()
    assert Vouchers("h", NAME, host_keys.read(file.read_text())).judge(ONE) == "known_hosts"
