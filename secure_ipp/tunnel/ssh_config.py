"""What the user's ssh configuration says of the hosts on a route, as far as the paramiko back end follows it.

HostName, User, Port, IdentityFile, IdentitiesOnly, IdentityAgent, UserKnownHostsFile, GlobalKnownHostsFile,
HostKeyAlias, HashKnownHosts, ProxyJump, and Include at the head of a file count.  No command in it is ever run:
``Match exec`` matches nothing, and where a ProxyCommand (or an Include that this does not follow) would be needed the
route is refused, and the ssh program named.
"""

from __future__ import annotations

import getpass
import glob
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from paramiko.config import SSHConfig
from paramiko.ssh_exception import CouldNotCanonicalize

from secure_ipp import limits
from secure_ipp.errors import UsageError
from secure_ipp.keys.strict_json import shown
from secure_ipp.tunnel import host_keys
from secure_ipp.tunnel.failures import NoSsh
from secure_ipp.tunnel.route import Route

USER_CONFIG, SYSTEM_CONFIG = "~/.ssh/config", "/etc/ssh/ssh_config"
USER_KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
USUAL_KEYS = ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519")
WITH_SSH = "say --backend openssh: the ssh program follows the whole of your configuration"
_MATCHED = ("canonical", "final", "all", "host", "originalhost", "user", "localuser")


@dataclass(frozen=True, slots=True)
class Hop:
    """One ssh server on the way.

    Attributes:
        called: as the route or the configuration calls it.
        host, port: to connect to.
        user: to log in as.
        name: in known_hosts.
        plain_name: its name there without the port, if it has another one with it.
        user_known_hosts: files; a new key goes into the first.
        system_known_hosts: files.
        hash_names: whether a new key's name is hashed.
        identities: private keys to try, in order.
        named: whether the configuration names those (or they are the usual ones).
        agent: path of the agent's socket; "" for none.
        only_these: agent keys count only if they are among `identities`.
    """

    called: str
    host: str
    port: int
    user: str
    name: str
    plain_name: str
    user_known_hosts: tuple[Path, ...]
    system_known_hosts: tuple[Path, ...]
    hash_names: bool
    identities: tuple[Path, ...]
    named: bool
    agent: str
    only_these: bool

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.user}@{self.host}:{self.port}"


class _Quiet(SSHConfig):  # type: ignore[misc]
    """A configuration that runs nothing: what it does not know, or would have to run a command for, does not match."""

    def _does_match(self, match_list: list[dict[str, Any]], *rest: Any) -> Any:
        if any(one["type"] not in _MATCHED for one in match_list):
            return False
        return super()._does_match(match_list, *rest)


def hops(route: Route, config: str = "") -> tuple[Hop, ...]:
    """The servers that this route leads through, in the order in which they are logged in to.

    Args:
        config: path of a configuration other than the user's and the system's; "none": none at all.

    Raises:
        UsageError: the configuration cannot be read, or goes in circles.
        NoSsh: it wants what this back end cannot do.
    """
    parsed = _Quiet()
    if config != "none":
        for path in [config] if config else [USER_CONFIG, SYSTEM_CONFIG]:
            file = Path(path).expanduser()
            if not config and not file.exists():
                continue
            try:
                parsed.parse(_lines(file))
            except (OSError, ValueError, paramiko.SSHException) as error:
                raise UsageError(f"the ssh configuration {file} cannot be read: {shown(str(error))}",
                                 WITH_SSH) from None
    found = tuple(_hops(parsed, route, ()))
    if len(found) > limits.SSH_HOPS:
        raise UsageError(f"the way to {route} leads over more than {limits.SSH_HOPS} hosts",
                         "look at the ProxyJump in your ssh configuration")
    return found


def _hops(config: SSHConfig, route: Route, behind: tuple[str, ...]) -> Iterator[Hop]:
    if route.text in behind or len(behind) >= limits.SSH_HOPS:
        raise UsageError(f"the ProxyJump of {route} goes in circles, or over more than {limits.SSH_HOPS} hosts",
                         "look at your ssh configuration")
    try:
        options = config.lookup(route.host)
    except (paramiko.SSHException, CouldNotCanonicalize, KeyError, ValueError) as error:
        raise UsageError(f"the ssh configuration cannot be followed for {route}: {shown(str(error))}",
                         WITH_SSH) from None
    jumps = options.get("proxyjump", "none")
    if jumps.lower() != "none":
        yield from _jumps(config, jumps, (*behind, route.text))
    elif options.get("proxycommand"):
        raise NoSsh(f"your ssh configuration has a ProxyCommand for {route}, which this back end does not run",
                    WITH_SSH)
    yield _hop(route, options)


def _jumps(config: SSHConfig, jumps: str, behind: tuple[str, ...]) -> Iterator[Hop]:
    """The hosts of a ProxyJump: the first is reached as the configuration says, the others through the one before."""
    for number, jump in enumerate(jumps.split(",")):
        route = _jump(jump.strip())
        found = list(_hops(config, route, behind))
        yield from found if number == 0 else found[-1:]


def _jump(text: str) -> Route:
    text = text.removeprefix("ssh://")
    found = re.fullmatch(r"(?:([^@\[\]]+)@)?(?:\[([0-9A-Fa-f:.%]+)\]|([^:@\[\]/]+))(?::(\d{1,5}))?/?", text)
    if found is None or not 0 <= int(found[4] or 0) <= 65535:
        raise UsageError(f"{shown(text, 80)!r} in a ProxyJump is no host", "look at your ssh configuration")
    return Route(found[2] or found[3], found[1] or "", int(found[4] or 0))


def _hop(route: Route, options: dict[str, Any]) -> Hop:
    host = options.get("hostname", route.host)
    try:
        port = route.port or int(options.get("port", 22))
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise UsageError(f"the ssh configuration has no usable Port for {route}", "look at it")
    user = route.user or options.get("user") or getpass.getuser()
    words = {"%%": "%", "%d": os.path.expanduser("~"), "%u": getpass.getuser(), "%h": host, "%n": route.host,
             "%p": str(port), "%r": user}
    alias = options.get("hostkeyalias", "").lower()
    name = alias or host_keys.host_name(host, port)
    agent = options.get("identityagent", "SSH_AUTH_SOCK").strip('"')
    if agent == "SSH_AUTH_SOCK":
        agent = os.environ.get("SSH_AUTH_SOCK", "")
    elif agent.startswith("$"):
        agent = os.environ.get(agent[1:].strip("{}"), "")
    agent = "" if agent.lower() == "none" else _path(agent, words)
    named = options.get("identityfile", [])
    return Hop(
        called=route.host, host=host, port=port, user=user, name=name,
        plain_name="" if alias or port == 22 else host_keys.host_name(host, 22),
        user_known_hosts=_paths(options.get("userknownhostsfile", USER_KNOWN_HOSTS), words),
        system_known_hosts=_paths(options.get("globalknownhostsfile", SYSTEM_KNOWN_HOSTS), words),
        hash_names=options.get("hashknownhosts", "no").lower() == "yes",
        identities=tuple(Path(_path(one, words)) for one in named or USUAL_KEYS if one.lower() != "none"),
        named=bool(named), agent=agent, only_these=options.get("identitiesonly", "no").lower() == "yes",
    )


def _path(text: str, words: dict[str, str]) -> str:
    text = re.sub(r"%.", lambda found: words.get(found[0], found[0]), text.strip().strip('"'))
    return os.path.expanduser(text) if text else ""


def _paths(text: str, words: dict[str, str]) -> tuple[Path, ...]:
    try:
        names = shlex.split(text)
    except ValueError:
        names = text.split()
    return tuple(Path(_path(one, words)) for one in names if one.lower() != "none")


def _lines(path: Path, depth: int = 0) -> list[str]:
    """The lines of a configuration, with those in place that it includes before its first Host or Match.

    Raises:
        OSError, ValueError: it cannot be read.
        NoSsh: it includes a file for some hosts only.
    """
    with path.open("rb") as file:
        text = file.read(limits.SSH_FILE_BYTES + 1)
    if len(text) > limits.SSH_FILE_BYTES or depth > limits.SSH_HOPS:
        raise ValueError("it is too long, or includes itself")
    found: list[str] = []
    head = True
    for line in text.decode("utf-8", "replace").split("\n"):
        word, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if word.lower() in ("host", "match"):
            head = False
        if word.lower() != "include":
            found.append(line)
        elif not head:
            raise NoSsh(f"{path} includes files for some hosts, which this back end does not follow", WITH_SSH)
        else:
            for pattern in shlex.split(rest):
                base = Path("/etc/ssh" if str(path).startswith("/etc/ssh/") else "~/.ssh").expanduser()
                for name in sorted(glob.glob(str(base / Path(pattern).expanduser()))):
                    found += [*_lines(Path(name), depth + 1), "Host *"]
    return found
