"""What ssh makes of the user's configuration, as ``ssh -G`` tells it, and the hops of a ProxyJump.  Pure.

Laws: every host, user and port that comes out was checked by the rules of names (S22), whatever the configuration
says; a jump that spells none of these is an error, never passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from secure_ipp import limits
from secure_ipp.errors import UsageError
from secure_ipp.keys.names import check_host
from secure_ipp.keys.strict_json import shown
from secure_ipp.tunnel.route import Route

# wider than in a connection file: these are the user's own words, and sites have users such as name@realm
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}", re.ASCII)
_JUMP = re.compile(r"(?:ssh://)?(?:(.*)@)?(?:\[([^\[\]]*)\]|([^\[\]:@]*))(?::([1-9][0-9]{0,4}))?", re.ASCII)
_KINDS = {"ED25519": "ssh-ed25519", "RSA": "rsa", "ECDSA": "ecdsa-", "ED25519-SK": "sk-ssh-ed25519",
          "ECDSA-SK": "sk-ecdsa-", "DSA": "ssh-dss"}
# how the host is reached and judged, and in what ways one logs in; not which key that is done with
_CARRIED = (
    "addressfamily", "bindaddress", "bindinterface", "casignaturealgorithms", "certificatefile", "checkhostip",
    "ciphers", "compression", "globalknownhostsfile", "hashknownhosts", "hostkeyalgorithms", "hostkeyalias", "hostname",
    "identityagent", "ipqos", "kexalgorithms", "knownhostscommand", "macs", "port", "preferredauthentications",
    "proxycommand", "proxyusefdpass", "pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes", "rekeylimit",
    "requiredrsasize", "revokedhostkeys", "securitykeyprovider", "tcpkeepalive", "user", "userknownhostsfile",
)
_OPENSSH_FIRST = "chacha20-poly1305@openssh.com"
_FAST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
_ONE_PATH = ("certificatefile", "identityagent", "revokedhostkeys", "securitykeyprovider")


@dataclass(frozen=True, slots=True)
class Settings:
    """Words of ``ssh -G``.

    Attributes:
        words: each option, in lower case, with its value; an option that is not among them may be one that this ssh
            does not know.
    """

    words: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """From its output; of several lines of one option the first counts."""
        words: dict[str, str] = {}
        for line in text.splitlines():
            option, _, value = line.strip().partition(" ")
            words.setdefault(option.lower(), value.strip())
        return cls(words)

    @property
    def jumps(self) -> tuple[Route, ...]:
        """The hops of the ProxyJump, in the order in which they are passed.

        Raises:
            UsageError: one is not ``[user@]host[:port]``.
        """
        value = self.words.get("proxyjump", "none")
        return () if value.lower() == "none" else tuple(parse_jump(part) for part in value.split(","))

    @property
    def named(self) -> str:
        """What ssh calls the host where it asks for a password."""
        alias = self.words.get("hostkeyalias", "none")
        return self.words.get("hostname", "") if alias.lower() == "none" else alias

    def host_key_algorithms(self, kind: str) -> str:
        """Those that the user's ssh takes and that prove a plain host key of this kind, as an option's value.

        Args:
            kind: as ssh calls it for people: "ED25519", "RSA", "ECDSA", ...
        """
        begins = _KINDS.get(kind.removesuffix("-CERT"))
        if begins is None:
            return ""
        beginnings = ("ssh-rsa", "rsa-sha2-") if begins == "rsa" else (begins,)
        every = self.words.get("hostkeyalgorithms", "").split(",")
        return ",".join(name for name in every if name.startswith(beginnings) and "-cert-" not in name)

    @property
    def fast_ciphers(self) -> str:
        """What the user's ssh may use, AES-GCM first, as an option's value; "": it stays as it is.

        Where an instruction does AES, GCM takes half the processor time of the one that OpenSSH likes best.  A list
        that begins with another one was put into order by somebody.
        """
        allowed = self.words.get("ciphers", "").split(",")
        fast = [name for name in _FAST if name in allowed]
        if allowed[0] != _OPENSSH_FIRST or not fast:
            return ""
        return ",".join([*fast, *(name for name in allowed if name not in fast)])

    def without_keys(self) -> list[str]:
        """What must be said to ssh in place of the configuration, so that no key of it is offered.

        ssh adds the keys of a configuration to one that is named, and has no word against it.
        """
        found = []
        for name in _CARRIED:
            value = self.words.get(name, "")
            if value and not (name == "rekeylimit" and value == "0 0"):  # which it says and does not take
                found.append(f'{name}="{value}"' if name in _ONE_PATH and " " in value else f"{name}={value}")
        return found


def parse_jump(text: str) -> Route:
    """One hop of a ProxyJump.

    Raises:
        UsageError: it is not ``[user@]host[:port]`` with an IPv6 address in brackets.
    """
    match = _JUMP.fullmatch(text)
    if match is None:
        raise _not_a_hop(text)
    hop = Route(match[2] or match[3] or "", match[1] or "", int(match[4] or 0))
    try:
        return check_route(hop)
    except UsageError:
        raise _not_a_hop(text) from None


def check_route(route: Route) -> Route:
    """The route, unchanged, if its parts can stand in a command line.

    Raises:
        UsageError: they cannot.
    """
    check_host(route.host)
    if route.user and not _USER.fullmatch(route.user):
        raise UsageError(f"{shown(route.user, limits.NAME_CHARS)!r} is no user to log in as", "say user@host:port")
    if not 0 <= route.port <= 65535:
        raise UsageError(f"{route.port} is no port", "say user@host:port")
    return route


def _not_a_hop(text: str) -> UsageError:
    return UsageError(
        f"the ProxyJump {shown(text, 80)!r} of your ssh configuration is no [user@]host[:port]",
        "correct it, or use ProxyCommand in its place",
    )
