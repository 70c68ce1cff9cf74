"""Whether a host's key is the right one (S23).  Pure.

Decides by the lines of known_hosts files, by what the connection file vouches for, and by what the user has said.
Laws: a revoked key is refused whatever else speaks for it; a host that known_hosts has is known by that alone, and
another key than those is never accepted; a fingerprint counts for a host that known_hosts does not have.  Lines that
cannot be read, and markers that are not known, vouch for nobody.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Self

from secure_ipp import limits
from secure_ipp.keys.strict_json import shown
from secure_ipp.tunnel.failures import HostKeyChanged, HostKeyUnknown

KnownBy = Literal["known_hosts", "file", "accepted"]
_HASHED = re.compile(r"\|1\|([A-Za-z0-9+/]{27}=)\|([A-Za-z0-9+/]{27}=)")


def fingerprint(blob: bytes) -> str:
    """Of a public key in SSH's own encoding, as OpenSSH writes it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def host_name(host: str, port: int) -> str:
    """The name of a host in known_hosts."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def kind_of(blob: bytes) -> str:
    """The kind of a public key, which is its first field.

    Raises:
        ValueError: it has none.
    """
    size = int.from_bytes(blob[:4], "big")
    if not 0 < size <= 64 or len(blob) < 4 + size:
        raise ValueError("no public key")
    return blob[4:4 + size].decode("ascii")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a known_hosts file.

    Attributes:
        marker: "", "@revoked" or "@cert-authority".
        names: patterns with commas between them, or one hashed name.
        kind: of the key.
        blob: the key, in SSH's own encoding.
    """

    marker: str
    names: str
    kind: str
    blob: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The line that a text is; None for comments and for what cannot be read."""
        if len(text) > limits.SSH_LINE_BYTES:
            return None
        words = re.split(r"[ \t]+", text.strip(" \t\r"))
        if words[0].startswith("#"):
            return None
        marker = words.pop(0) if words[0].startswith("@") else ""
        if marker not in ("", "@revoked", "@cert-authority") or len(words) < 3:
            return None
        try:
            blob = base64.b64decode(words[2], validate=True)
            if kind_of(blob) != words[1]:
                return None
        except (ValueError, binascii.Error):
            return None
        return cls(marker, words[0], words[1], blob)

    def is_about(self, name: str) -> bool:
        """Whether one of its names is, or stands for, this one."""
        if self.names.startswith("|"):
            return _is_hash_of(self.names, name)
        found = False
        for pattern in self.names.lower().split(","):
            if pattern.startswith("!"):
                if _stands_for(pattern[1:], name):
                    return False
            elif pattern and _stands_for(pattern, name):
                found = True
        return found


def _is_hash_of(text: str, name: str) -> bool:
    found = _HASHED.fullmatch(text)
    if found is None:
        return False
    salt, digest = (base64.b64decode(part) for part in found.groups())
    return hmac.compare_digest(hmac.new(salt, name.encode(), "sha1").digest(), digest)


def _stands_for(pattern: str, name: str) -> bool:
    """Whether a pattern with ``*`` and ``?`` is this name; in linear steps per star, whatever the pattern."""
    at, star, since = 0, -1, 0
    position = 0
    while position < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, since, at = at, position, at + 1
        elif at < len(pattern) and pattern[at] in ("?", name[position]):
            at, position = at + 1, position + 1
        elif star >= 0:
            since += 1
            at, position = star + 1, since
        else:
            return False
    return pattern[at:].strip("*") == ""


def hashed_name(name: str, salt: bytes) -> str:
    """A name as a hashed known_hosts file has it.

    Args:
        salt: 20 random bytes.
    """
    digest = hmac.new(salt, name.encode(), "sha1").digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def line_of(name: str, blob: bytes) -> str:
    """The line that makes a key known."""
    return f"{name} {kind_of(blob)} {base64.b64encode(blob).decode()}\n"


def read(text: str) -> tuple[Line, ...]:
    """The lines of a file that mean something."""
    return tuple(line for line in map(Line.parse, text.split("\n")) if line is not None)


@dataclass(frozen=True, slots=True)
class Vouchers:
    """What speaks for a host's key.

    Attributes:
        host: as people call it.
        name: as known_hosts does.
        lines: of the user's and the system's known_hosts files.
        plain_name: another name whose keys are accepted too, if not empty: the host's name without its port.
        fingerprints: that the connection file vouches for.
        pinned: the only one that may be, if not empty.
        accept_new: an unknown key is accepted.
        on_the_way: it is a jump host, for whose key nothing else can speak.
    """

    host: str
    name: str
    lines: tuple[Line, ...]
    plain_name: str = ""
    fingerprints: tuple[str, ...] = ()
    pinned: str = ""
    accept_new: bool = False
    on_the_way: bool = False

    @property
    def by_file_alone(self) -> bool:
        """Whether nothing but the connection file can vouch for this host."""
        return bool(self.fingerprints) and not self._known(self.name)

    def kinds(self) -> tuple[str, ...]:
        """Of the keys that are known for this host: those to ask it for first."""
        names = (self.name, self.plain_name) if self.plain_name else (self.name,)
        return tuple(dict.fromkeys(line.kind for name in names for line in self._known(name)))

    def _known(self, name: str) -> list[Line]:
        return [line for line in self.lines if not line.marker and line.is_about(name)]

    def _marked(self, marker: str) -> Iterable[Line]:
        names = [name for name in (self.name, self.plain_name) if name]
        return (line for line in self.lines if line.marker == marker and any(line.is_about(name) for name in names))

    def judge(self, blob: bytes) -> KnownBy:
        """What vouches for this key.

        Args:
            blob: the host's key, in SSH's own encoding; the host has proved that it is its own.

        Raises:
            HostKeyChanged: it is revoked, or another one than is known.
            HostKeyUnknown: nothing speaks for it or against it.
        """
        found, host = fingerprint(blob), shown(self.host)
        if any(line.blob == blob for line in self._marked("@revoked")):
            raise HostKeyChanged(f"the key of {host} ({found}) is marked as revoked; nothing was sent to it",
                                 "somebody may be between you and that host: ask its administrator")
        if self.pinned and found != self.pinned:
            raise HostKeyChanged(f"the key of {host} is {found} now, and was {self.pinned} when this tunnel began; "
                                 "nothing was sent to it", "close the tunnel, and ask the host's administrator")
        known = self._known(self.name)
        if any(line.blob == blob for line in known):
            return "known_hosts"
        if known:
            raise HostKeyChanged(
                f"the key of {host} is {found}, and known_hosts has {fingerprint(known[0].blob)}; nothing was sent to "
                "it", "somebody may be between you and that host: ask its administrator; if the host has a new key, "
                f"ssh-keygen -R '{self.name}' removes the old one",
            )
        if self.plain_name and any(line.blob == blob for line in self._known(self.plain_name)):
            return "known_hosts"
        if found in self.fingerprints:
            return "accepted" if self.accept_new else "file"
        if self.fingerprints:
            raise HostKeyChanged(
                f"the key of {host} is {found}, and the connection file vouches for {', '.join(self.fingerprints)}; "
                "nothing was sent to it", "ask whoever gave you the file",
            )
        if self.accept_new:
            return "accepted"
        authority = any(self._marked("@cert-authority"))
        accept = "secure-ipp tunnel open FILE --accept-new"
        if self.on_the_way:
            accept = "log in there once by hand, with ssh"
        raise HostKeyUnknown(
            f"the key of {host} is not known here: {found}"
            + (" (certificate authorities in known_hosts count with the ssh program only)" if authority else ""),
            f"compare the fingerprint with what the host's administrator says, then: {accept}",
        )
