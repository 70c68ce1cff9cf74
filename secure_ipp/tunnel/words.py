"""What ssh says, read: lines of ``ssh -v`` become facts and failures, questions become what they ask.  Pure.

Laws: any bytes are taken and none raises; text from a server is escaped and cut.  Nothing that lets a host in rests on
a line that its server could have written before its key was verified: that a key is accepted is told by ssh's question
(`host_question`), or by its usual words without any of a server's before them (`Words.shown`); that a login stands is
told by its control socket.  Other lines only choose among errors, and name what was negotiated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from secure_ipp import limits
from secure_ipp.errors import SecureIppError
from secure_ipp.logs import escape
from secure_ipp.tunnel import failures

BY_HAND = "see whether ssh gets there by hand: ssh -v"
FINGERPRINT = r"SHA256:[A-Za-z0-9+/]{43}"
_QUESTION = re.compile(rf"^([A-Z0-9-]+) key fingerprint is ({FINGERPRINT})\.$", re.MULTILINE)
_OTHER_QUESTIONS = ("continue connecting (yes/no)? ", "or the fingerprint: ", "(yes/no/[fingerprint])? ")
_HOST_KEY = re.compile(rf"debug1: Server host (?:key|certificate): \S+ ({FINGERPRINT})(?:,.*)?")
_EXCHANGE = re.compile(r"debug1: kex: algorithm: (\S+)")
_SHOWN = re.compile(rf"Host key fingerprint is ({FINGERPRINT})")
_SHOWN_KIND = re.compile(r"\+-*\[([A-Z0-9-]+)(?: \d+)?\]-*\+")
_ACCOUNTS = ("Transferred: ", "Bytes per second: ")
_PASSED = ("debug1: SSH2_MSG_NEWKEYS received", "debug1: Authentications that can continue:")
_CHANNEL = re.compile(r"channel \d+: open failed: (.+)")
_OFFER = re.compile(r"Unable to negotiate .*no matching key exchange method found\. Their offer: (.*)")
_SERVERS_OWN = re.compile(r"Received disconnect from|Unable to negotiate|Disconnected from|Connection |[a-z_]+: ")

# the first that fits a line says what kind of failure it is
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("changed", re.compile(r".*(?:REMOTE HOST IDENT|REVOKED HOST KEY|host key for .* was revoked|Host key for .* has "
                           r"changed|host key for IP address .* differs)", re.IGNORECASE)),
    ("unknown", re.compile(r"No \S+ host key is known for |Host key verification failed\.")),
    ("exchange", _OFFER),
    ("login", re.compile(r"\S+: Permission denied \(|Received disconnect from .*authentication fail|"
                         r"Too many authentication failures", re.IGNORECASE)),
    ("ssh", re.compile(r".*Bad configuration option|.*Bad owner or permissions on|.*terminating, \d+ bad |"
                       r"Can't open user config file|.*unix_listener: |command-line: line \d+: |unknown option|"
                       r"command-line line \d+: |usage: ssh |Identity file .* not accessible|"
                       r".*: error while loading shared libraries")),
    ("route", re.compile(r"ssh: Could not resolve|ssh: connect to host |Connection timed out|Connection to .* timed |"
                         r"(?:kex|ssh)_exchange_identification: |banner exchange: |Connection (?:closed|reset) by|"
                         r"ssh_dispatch_run_fatal: |Unable to negotiate |Received disconnect from |jumphost loop|"
                         r"Timeout, server |client_loop: |Bad remote protocol version|packet_write_wait: |"
                         r"Protocol major versions|stdio forwarding failed|.*: Connection refused$")),
)
_ON_THE_WAY = {
    "unknown": "compare the fingerprint with what its owner says, and log in there by hand once, with ssh",
    "login": "see what your ssh configuration has for it (User, IdentityFile)",
}
_BEFORE_THE_LOGIN = ("changed", "unknown", "exchange")


def host_question(prompt: str) -> tuple[str, str] | None:
    """The kind and the fingerprint of the host key that ssh asks about; None: it asks something else."""
    found = _QUESTION.search(prompt) if prompt.startswith("The authenticity of host ") else None
    return (found[1], found[2]) if found else None


def is_yes_or_no(prompt: str) -> bool:
    """Whether ssh asks to go on in spite of something; no answer but "no" is given to that."""
    return prompt.endswith(_OTHER_QUESTIONS)


def plain(prompt: str) -> str:
    """A prompt that can be shown: several lines perhaps, no control sequences."""
    return "\n".join(escape(line) for line in prompt.replace("\r", "").split("\n"))


@dataclass(slots=True)
class Words:
    """What one ssh process has said so far.

    Attributes:
        host_key: fingerprint of the server's key, as reported.
        exchange: the key exchange, as reported.
        shown: kind and fingerprint of the host key that was accepted, by the words of `command.look`.
        refused: why a connection was last not forwarded.
        last: the last line that was not for debugging.
    """

    host_key: str = ""
    exchange: str = ""
    shown: tuple[str, str] | None = None
    refused: str = ""
    last: str = ""
    _fingerprint: str = ""
    _sealed: bool = False
    _passed: bool = False
    _found: dict[str, str] = field(default_factory=dict)

    def hear(self, line: bytes) -> None:
        """One line of it, unverified bytes."""
        text = line[: limits.SSH_WORDS_BYTES].decode("utf-8", "replace").rstrip("\r\n")
        if text.startswith("debug"):
            self._facts(text)
            return
        self._look(text)
        channel = _CHANNEL.fullmatch(text)
        if channel is not None:
            self.refused = told(channel[1])
            return
        if text and not text.startswith(_ACCOUNTS):
            self.last = told(text)
        for kind, pattern in _KINDS:
            if pattern.match(text):
                if not (self._passed and kind in _BEFORE_THE_LOGIN):
                    self._found.setdefault(kind, text)
                return

    def _facts(self, text: str) -> None:
        if text.startswith(_PASSED):
            self._passed = True
        elif not self.host_key and (found := _HOST_KEY.fullmatch(text)):
            self.host_key = found[1]
        elif not self.exchange and (found := _EXCHANGE.fullmatch(text)):
            self.exchange = found[1]

    def _look(self, text: str) -> None:
        if self._sealed:
            return
        self._sealed = _SERVERS_OWN.match(text) is not None
        if found := _SHOWN.fullmatch(text):
            self._fingerprint = found[1]
        elif self._fingerprint and self.shown is None and (found := _SHOWN_KIND.fullmatch(text)):
            self.shown = found[1].removesuffix("-CERT"), self._fingerprint

    @property
    def silent(self) -> bool:
        """Whether nothing was said that is a failure."""
        return not self._found

    def failure(self, where: str, *, post_quantum: bool = False, on_the_way: bool = False) -> SecureIppError:
        """Why it ended.

        Args:
            where: the host in question, for people.
            post_quantum: only key exchanges that are were to be used.
            on_the_way: it is not the host that was asked for but one that leads there, which is the user's own matter.
        """
        for kind, _ in _KINDS:
            if kind in self._found:
                error = self._failure(kind, self._found[kind], where, post_quantum)
                if on_the_way and kind in _ON_THE_WAY:
                    error.advice = _ON_THE_WAY[kind]
                return error
        reason = f": {self.last}" if self.last else ""
        return failures.NoRoute(f"ssh to {where} ended{reason}", BY_HAND)

    def _failure(self, kind: str, text: str, where: str, post_quantum: bool) -> SecureIppError:
        if kind == "changed":
            return changed(where, self.host_key)
        if kind == "unknown":
            return unknown(where, self.host_key)
        if kind == "login":
            methods = re.search(r"Permission denied \(([a-z0-9,@.-]*)\)", text)
            by = f" (it takes: {told(methods[1])})" if methods else f": {told(text)}"
            return failures.LoginRefused(
                f"{where} did not let you in{by}",
                "see which key, user or password it wants; --identity (sshkey=) names a key, "
                "and a password is asked for at a terminal, unless the connection file alone vouches for that host",
            )
        if kind == "exchange" and post_quantum:
            return not_post_quantum(where, told(text.rpartition("Their offer: ")[2]))
        if kind == "ssh":
            return failures.NoSsh(f"ssh cannot do what is needed: {told(text)}", "correct your ssh configuration")
        return failures.NoRoute(f"{where} cannot be reached: {told(text)}", BY_HAND)


def told(text: str) -> str:
    """Words from outside, for a message."""
    return escape(text[: limits.SSH_TOLD_CHARS])


def unknown(where: str, fingerprint: str, *, vouched: bool = False) -> failures.HostKeyUnknown:
    """Nobody knows this key.

    Args:
        where: the host.
        fingerprint: of its key, if it is known.
        vouched: the connection file has fingerprints, and this is none of them.
    """
    has = f"; it has {fingerprint}" if fingerprint else ""
    if vouched:
        return failures.HostKeyUnknown(
            f"the host key of {where} is not known here{has}, which is none of those that the connection file names",
            "ask whoever gave you the file",
        )
    return failures.HostKeyUnknown(
        f"the host key of {where} is not known here{has}",
        "compare the fingerprint with what the host's owner says, then: secure-ipp tunnel open FILE --accept-new",
    )


def changed(where: str, fingerprint: str) -> failures.HostKeyChanged:
    """Another key than is known, or a revoked one."""
    has = f" (it has {fingerprint})" if fingerprint else ""
    return failures.HostKeyChanged(
        f"the host key of {where} is not the one that is known here, or was revoked{has}; nothing was sent",
        "somebody may be in between: ask the host's owner, and only then correct your known_hosts",
    )


def not_post_quantum(where: str, offer: str) -> failures.NotPostQuantum:
    """No key exchange that withstands a quantum computer."""
    return failures.NotPostQuantum(
        f"{where} offers no post-quantum key exchange; it offers: {offer or 'nothing'}",
        "its OpenSSH must be 8.5 or newer; or do without require_post_quantum",
    )
