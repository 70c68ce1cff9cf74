"""The command lines of ssh: the login, a look at the host key, forwards, and the hops of a ProxyJump.  Pure.

Laws (S22, S23): always a list, with ``--`` before the host; hosts, users and ports are checked again here; what a
connection file says reaches ssh as route and as targets of forwards, and as nothing else.  Options that weaken a login
are set on each command line and so win over the user's configuration, for each hop as for the host; all else in it
(keys, agents, certificates, aliases, ProxyCommand) stays as the user has it; ciphers, too, but for the order in which
OpenSSH itself has them.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from secure_ipp import limits
from secure_ipp.errors import UsageError
from secure_ipp.keys.names import check_host
from secure_ipp.keys.strict_json import shown
from secure_ipp.tunnel.interface import Forward
from secure_ipp.tunnel.route import Route
from secure_ipp.tunnel.settings import Settings, check_route

_ALWAYS = (
    "ClearAllForwardings=yes", "ExitOnForwardFailure=yes", "ForwardAgent=no", "ForwardX11=no", "GatewayPorts=no",
    "PermitLocalCommand=no", "RemoteCommand=none", "RequestTTY=no", "Tunnel=no", "EscapeChar=none",
    "UpdateHostKeys=no", "VerifyHostKeyDNS=no", "NoHostAuthenticationForLocalhost=no", "FingerprintHash=sha256",
    "StreamLocalBindMask=0177", "StreamLocalBindUnlink=yes", "ControlPersist=no", "AddKeysToAgent=no",
    "ConnectionAttempts=1", "NumberOfPasswordPrompts=1", "BatchMode=no",
    f"ServerAliveInterval={round(limits.SSH_ALIVE_SECONDS)}",
    f"ServerAliveCountMax={round(limits.SSH_SILENT_SECONDS / limits.SSH_ALIVE_SECONDS)}",
)
# an older ssh ends with an error when it is given these, so only one that has spoken of them is
_IF_KNOWN = {
    "forkafterauthentication": "ForkAfterAuthentication=no",
    "gssapidelegatecredentials": "GSSAPIDelegateCredentials=no",
}
_ALONE = ("ControlMaster=no", "ControlPath=none")  # no other login is used, and none is offered
_UNSAFE = frozenset("\"'%$\\:\n")  # they mean something to ssh in at least one of the places where paths stand


@dataclass(frozen=True, slots=True)
class Plan:
    """What all command lines of one tunnel have in common.

    Attributes:
        program: path of ssh.
        ward: the words before a command that ties its life to its parent's; the parent's process id follows.
        route: where to log in.
        directory: the tunnel's own.
        settings: what ssh makes of the user's configuration for this route.
        identity, config: as in the order.
        hops: of the ProxyJump, in order; each with what ssh makes of the configuration for it.
        password: whether the server may ask for a password, or for anything else.
        exchanges: the only key exchanges that may be used; empty: as the user has it.
        has_aes: the processor has instructions for AES.
    """

    program: str
    ward: tuple[str, ...]
    route: Route
    directory: Path
    settings: Settings
    identity: str = ""
    config: str = ""
    hops: tuple[tuple[Route, Settings], ...] = ()
    password: bool = False
    exchanges: tuple[str, ...] = ()
    has_aes: bool = False

    @property
    def control(self) -> Path:
        """The login's own control socket; there once the login stands."""
        return self.directory / "ctl"

    @property
    def only_known(self) -> Path:
        """A list of host keys beside the user's."""
        return self.directory / "known"

    def hop_log(self, number: int) -> Path:
        """Where ssh at that hop writes what it has to say."""
        return self.directory / f"hop{number}.log"


def settings_of(program: str, config: str, route: Route, identity: str = "") -> list[str]:
    """Ask ssh what it makes of the user's configuration for a host."""
    return [program, "-G", "-N", *_config(config), *_login(route, identity), "--", route.host]


def master(plan: Plan, seconds: float, *, only: str | None = None, password: bool | None = None) -> list[str]:
    """Log in and stay; forwards are added through `Plan.control`.

    Args:
        plan: see there.
        seconds: to connect.
        only: the kind of the one host key that is let pass by asking, with no list but `Plan.only_known`; None: the
            user's own lists.
        password: in place of the plan's.
    """
    allowed = plan.password if password is None else password
    lists = [] if only is None else _private_list(plan, only)
    return [
        plan.program, *_configuration(plan), "-v", "-N", "-T", "-S", str(safe(plan.directory) / "ctl"),
        *_options("ControlMaster=yes", *lists, *_host(plan, seconds, allowed), *_carried(plan)), *_end(plan),
    ]


def look(plan: Plan, seconds: float, *, kind: str = "") -> list[str]:
    """Have ssh show the host key that it accepts by the user's own lists, and log in by no method at all.

    Args:
        plan: see there.
        seconds: to connect.
        kind: the only kind of host key that the server is to show, if not empty.

    It speaks at its usual level: a server can put words of its own into the lines of a higher one before its key was
    verified, and these decide.
    """
    return [
        plan.program, *_configuration(plan), "-N", "-T",
        *_options("LogLevel=INFO", "VisualHostKey=yes", "PreferredAuthentications=none", *_ALONE,
                  *_of_kind(plan, kind), *_host(plan, seconds, False), *_carried(plan)), *_end(plan),
    ]


def forward(plan: Plan, one: Forward) -> list[str]:
    """Have the login forward a local socket.

    Raises:
        UsageError: a path or host in it cannot be said to ssh.
    """
    if one.path:
        target = safe(Path(one.path)).as_posix()
    elif 0 < one.port <= 65535:
        host = check_host(one.host)
        target = f"[{host}]:{one.port}" if ":" in host else f"{host}:{one.port}"
    else:
        raise UsageError(f"{one.port} is no port to forward to", "see the door in the connection file")
    words = ["-S", str(safe(plan.directory) / "ctl"), "-O", "forward", "-L", f"{safe(one.local)}:{target}"]
    return [plan.program, "-F", "none", *words, "--", check_host(plan.route.host)]


def proxy_command(plan: Plan, seconds: float) -> str:
    """The ProxyCommand that goes through the plan's hops; "" if there are none.

    ssh's own processes for a ProxyJump do not get the options of the command line, so they are started by this one.
    """
    command = ""
    for number, (hop, settings) in enumerate(plan.hops):
        options = [*_ALONE, "StrictHostKeyChecking=yes", *_strict(plan, settings, seconds, plan.password)]
        options += _exchanges(plan)
        if command:
            options += [f"ProxyCommand={command}", "ProxyUseFdpass=no"]
        words = [
            *plan.ward, "0", plan.program, *_config(plan.config), "-v", "-T", "-E",
            str(safe(plan.hop_log(number))), *_options(*options), *_login(check_route(hop)),
        ]
        # ssh replaces the two of the last hop's target, in each nesting its own
        command = f"{shlex.join(words).replace('%', '%%')} -W '[%h]:%p' -- {shlex.quote(hop.host)}"
    return command


def safe(path: Path) -> Path:
    """The path, if it means to ssh what it says.

    Raises:
        UsageError: it does not.
    """
    text = str(path)
    if not path.is_absolute() or not text.isprintable() or _UNSAFE & set(text):
        raise UsageError(
            f"{shown(text, 120)!r} cannot be said to ssh", "use an absolute path without quotes, ':', '%', '$' and '\\'"
        )
    return path


def _host(plan: Plan, seconds: float, password: bool) -> list[str]:
    options = ["StrictHostKeyChecking=ask", *_strict(plan, plan.settings, seconds, password)]
    proxy = proxy_command(plan, seconds)
    if proxy:
        options += [f"ProxyCommand={proxy}", "ProxyUseFdpass=no"]
    return options + _exchanges(plan)


def _exchanges(plan: Plan) -> list[str]:
    return [f"KexAlgorithms={','.join(plan.exchanges)}"] if plan.exchanges else []


def _strict(plan: Plan, settings: Settings, seconds: float, password: bool) -> list[str]:
    options = [*_ALWAYS, f"ConnectTimeout={max(1, min(round(seconds), limits.SSH_CONNECT_SECONDS))}"]
    options += [option for name, option in _IF_KNOWN.items() if name in settings.words]
    if plan.has_aes and settings.fast_ciphers:
        options.append(f"Ciphers={settings.fast_ciphers}")
    if not password:
        options += ["PasswordAuthentication=no", "KbdInteractiveAuthentication=no"]
    return options


def _private_list(plan: Plan, kind: str) -> list[str]:
    options = [f'UserKnownHostsFile="{safe(plan.only_known)}"', "GlobalKnownHostsFile=/dev/null"]
    options += _of_kind(plan, kind)
    if "knownhostscommand" in plan.settings.words:
        options.append("KnownHostsCommand=none")
    return options


def _of_kind(plan: Plan, kind: str) -> list[str]:
    algorithms = plan.settings.host_key_algorithms(kind)
    return [f"HostKeyAlgorithms={algorithms}"] if algorithms else []


def _end(plan: Plan) -> list[str]:
    return [*_login(check_route(plan.route), plan.identity), "--", plan.route.host]


def _configuration(plan: Plan) -> list[str]:
    return ["-F", "none"] if plan.identity else _config(plan.config)


def _carried(plan: Plan) -> list[str]:
    return plan.settings.without_keys() if plan.identity else []


def _config(path: str) -> list[str]:
    return ["-F", path] if path else []


def _login(route: Route, identity: str = "") -> list[str]:
    check_route(route)
    words = ["-l", route.user] if route.user else []
    words += ["-p", str(route.port)] if route.port else []
    words += ["-i", identity.replace("%", "%%"), "-o", "IdentitiesOnly=yes"] if identity else []
    return words


def _options(*options: str) -> list[str]:
    return [word for option in options for word in ("-o", option)]
