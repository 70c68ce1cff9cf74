"""What ssh says, read: real words of OpenSSH 9.2 and of others, and any bytes at all."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.errors import SecureIppError
from secure_ipp.tunnel import failures, words

KEY = "SHA256:uVYi9SYsUn1ZE9tDxaix3AtyGRfmKbgRL39pNeLEQlg"
OTHER = "SHA256:mK8noJ8A85ZuW3Q6IObfH76mi9ha7NzRgNp6CjwI2ik"
GREETED = f"""\
OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19 27 Jan 2026
debug1: Connecting to 127.0.0.1 [127.0.0.1] port 42201.
debug1: kex: algorithm: sntrup761x25519-sha512
debug1: kex: host key algorithm: ssh-ed25519
debug1: Server host key: ssh-ed25519 {KEY}
"""
CHANGED = f"""\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
The fingerprint for the ED25519 key sent by the remote host is
{KEY}.
Offending ED25519 key in /home/u/.ssh/known_hosts:1
Host key for [127.0.0.1]:42201 has changed and you have requested strict checking.
Host key verification failed.
"""
QUESTION = f"""\
The authenticity of host '[127.0.0.1]:42201 ([127.0.0.1]:42201)' can't be established.
ED25519 key fingerprint is {KEY}.
This key is not known by any other names.
Are you sure you want to continue connecting (yes/no/[fingerprint])? """
SHOWN = f"Host key fingerprint is {KEY}\n+--[ED25519 256]--+\n|   .oo   |\n+----[SHA256]-----+\n"


def heard(text: str) -> words.Words:
    found = words.Words()
    for line in text.encode().split(b"\n"):
        found.hear(line + b"\r")
    return found


@pytest.mark.parametrize(("text", "kind"), [
    ("ssh: Could not resolve hostname no-such.invalid: Name or service not known", failures.NoRoute),
    ("ssh: connect to host 127.0.0.1 port 1: Connection refused", failures.NoRoute),
    ("ssh: connect to host 10.0.0.1 port 22: Network is unreachable", failures.NoRoute),
    ("ssh: connect to host 10.0.0.1 port 22: Connection timed out", failures.NoRoute),
    ("Connection timed out during banner exchange\nConnection to 127.0.0.1 port 42299 timed out", failures.NoRoute),
    ("kex_exchange_identification: Connection closed by remote host", failures.NoRoute),
    ("Connection closed by UNKNOWN port 65535", failures.NoRoute),
    ("Connection reset by 127.0.0.1 port 22", failures.NoRoute),
    ("nc: connect to proxy port 1: Connection refused", failures.NoRoute),
    ("jumphost loop via gw", failures.NoRoute),
    (GREETED + CHANGED, failures.HostKeyChanged),
    (GREETED + "@       WARNING: REVOKED HOST KEY DETECTED!               @\n"
     "ED25519 host key for h was revoked and you have requested strict checking.\nHost key verification failed.",
     failures.HostKeyChanged),
    (GREETED + "No ED25519 host key is known for h and you have requested strict checking.\n"
     "Host key verification failed.", failures.HostKeyUnknown),
    ("Host key verification failed.", failures.HostKeyUnknown),
    ("root@127.0.0.1: Permission denied (publickey,password).", failures.LoginRefused),
    ("Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures", failures.LoginRefused),
    ("Unable to negotiate with 127.0.0.1 port 22: no matching key exchange method found. Their offer: "
     "curve25519-sha256,kex-strict-s-v00@openssh.com", failures.NotPostQuantum),
    ("Unable to negotiate with 127.0.0.1 port 22: no matching host key type found. Their offer: ssh-dss",
     failures.NoRoute),
    ("/home/u/.ssh/config: line 3: Bad configuration option: nonsense\n/home/u/.ssh/config: terminating, 1 bad "
     "configuration options", failures.NoSsh),
    ("Bad owner or permissions on /home/u/.ssh/config", failures.NoSsh),
    ("Can't open user config file /x: No such file or directory", failures.NoSsh),
    ("unix_listener: path \"/a/b\" too long for Unix domain socket", failures.NoSsh),
    ("Warning: Identity file /x not accessible: No such file or directory.\n"
     "u@h: Permission denied (publickey).", failures.LoginRefused),
    ("", failures.NoRoute),
    ("something that nobody has heard of", failures.NoRoute),
])
def test_each_failure_is_told_apart(text: str, kind: type[SecureIppError]) -> None:
    error = heard(text).failure("u@h", post_quantum=True)
    assert type(error) is kind
    assert "u@h" in error.message or kind is failures.NoSsh
    assert error.advice


def test_facts() -> None:
    found = heard(GREETED)
    assert (found.host_key, found.exchange) == (KEY, "sntrup761x25519-sha512")
    certified = heard(f'debug1: Server host certificate: ssh-ed25519-cert-v01@openssh.com {KEY}, serial 0 ID "h" CA x')
    assert certified.host_key == KEY


def test_messages_say_what_one_needs() -> None:
    unknown = heard(GREETED + "Host key verification failed.").failure("h")
    assert KEY in unknown.message and "secure-ipp tunnel open FILE --accept-new" in unknown.advice
    way = heard(GREETED + "Host key verification failed.").failure("h", on_the_way=True)
    assert KEY in way.message and "accept-new" not in way.advice and "ssh" in way.advice
    assert "--" not in heard("u@h: Permission denied (publickey).").failure("h", on_the_way=True).advice
    assert KEY in heard(GREETED + CHANGED).failure("h").message
    offer = heard("Unable to negotiate with h port 22: no matching key exchange method found. Their offer: abc,def")
    assert "abc,def" in offer.failure("h", post_quantum=True).message
    assert type(offer.failure("h")) is failures.NoRoute
    assert "publickey,password" in heard("u@h: Permission denied (publickey,password).").failure("h").message


def test_the_last_words() -> None:
    assert heard("Connection to h closed by remote host.\nTransferred: sent 1, received 2 bytes, in 0.1 seconds\n"
                 "Bytes per second: sent 1.0, received 2.0\ndebug1: Exit status -1").last == (
        "Connection to h closed by remote host.")


def test_why_a_connection_was_not_forwarded() -> None:
    found = heard("debug1: channel 2: x\nchannel 2: open failed: administratively prohibited: open failed")
    assert found.refused == "administratively prohibited: open failed"
    assert found.silent
    found.hear(b"channel 3: open failed: connect failed: Connection refused\r\n")
    assert found.refused == "connect failed: Connection refused"


def test_a_known_server_does_not_pass_for_a_changed_one() -> None:
    """Once its key was accepted, a server's own words (a banner) choose among errors of the login alone."""
    for passed in ("debug1: SSH2_MSG_NEWKEYS received", "debug1: Authentications that can continue: publickey"):
        found = heard(GREETED + passed + "\n" + CHANGED + "u@h: Permission denied (publickey).")
        assert type(found.failure("h")) is failures.LoginRefused


def test_the_key_that_is_shown() -> None:
    assert heard(SHOWN).shown == ("ED25519", KEY)
    assert heard(SHOWN.replace("ED25519 256]", "ED25519-CERT]-")).shown == ("ED25519", KEY)
    assert heard(SHOWN.replace("Host key", "host key")).shown is None
    assert heard(SHOWN + SHOWN.replace(KEY, OTHER)).shown == ("ED25519", KEY)
    for told in ("Received disconnect from 127.0.0.1 port 22:2: bye", "Unable to negotiate with h port 22: x"):
        assert heard(told + "\n" + SHOWN).shown is None  # what comes after may be the server's


def test_questions() -> None:
    assert words.host_question(QUESTION) == ("ED25519", KEY)
    assert words.is_yes_or_no(QUESTION)
    assert words.is_yes_or_no("Please type 'yes', 'no' or the fingerprint: ")
    assert words.is_yes_or_no("Are you sure you want to continue connecting (yes/no)? ")
    for prompt in ("u@h's password: ", "Enter passphrase for key '/k': ", f"(u@h) {QUESTION}", "(u@h) Code: "):
        assert words.host_question(prompt) is None
    assert words.plain("(u@h) Code\x1b[31m:\r\nnow: ") == "(u@h) Code\\x1b[31m:\nnow: "


SCRAPS = st.sampled_from([
    line.encode() for line in (GREETED + CHANGED + SHOWN + QUESTION).split("\n")
] + [b"channel 0: open failed: \x1b]0;x\x07\xff", b"u@h: Permission denied (\x1b[2J).",
     b"Unable to negotiate with \xff", b"Received disconnect from h: \x1b[31m authentication failures", b"\xff\xfe",
     b"ssh: connect to host \x9b31m\r"])


@given(st.lists(st.one_of(st.binary(max_size=80), SCRAPS), max_size=12), st.booleans())
@example([b"x" * 10_000], True)
@example([b"Unable to negotiate with x: no matching key exchange method found. Their offer: " + b"\x1b[" * 999], True)
def test_any_bytes_are_one_of_the_failures(lines: list[bytes], post_quantum: bool) -> None:
    found = words.Words()
    for line in lines:
        found.hear(line)
    error = found.failure("h", post_quantum=post_quantum)
    assert type(error).code in {kind.code for kind in (*failures.FINAL, failures.NoRoute)}
    for text in (error.message, error.advice, found.refused, found.last):
        assert text.isprintable() and len(text) < 4 * limits.SSH_TOLD_CHARS + 200
    for fact in (found.host_key, *(found.shown or ())[1:]):
        assert fact == "" or re.fullmatch(words.FINGERPRINT, fact)


@given(st.text(max_size=300))
def test_any_prompt_is_read(prompt: str) -> None:
    question = words.host_question(prompt)
    assert question is None or re.fullmatch(words.FINGERPRINT, question[1])
    assert isinstance(words.is_yes_or_no(prompt), bool)
    assert all(line.isprintable() for line in words.plain(prompt).split("\n"))
