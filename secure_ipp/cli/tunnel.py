"""``secure-ipp tunnel``: open, list, close; passwords of ssh servers in the keyring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from secure_ipp.cli.options import EXIT_CODES_HELP, json_option, run_safely, show_json
from secure_ipp.cli.running import say
from secure_ipp.errors import UsageError
from secure_ipp.logs import escape

if TYPE_CHECKING:
    from secure_ipp.tunnel.first_use import Confirm
    from secure_ipp.tunnel.messages import State
    from secure_ipp.tunnel.reached import Wishes

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(epilog=EXIT_CODES_HELP)
def tunnel() -> None:
    """Tunnels over SSH to a cluster's door, shared by all your clients on this machine.

    None has to be opened by hand: a client whose file names an ssh route opens one when the door cannot be reached
    otherwise, and it ends with its last user. Opened here, it stays until it is closed.

    \b
    Examples:
      secure-ipp tunnel open ada.json
      secure-ipp tunnel list
      secure-ipp tunnel close ada.json
    """


def way_options(command: Command) -> Command:
    """How to log in: ``--ssh``, ``--identity``, ``--backend``, ``--accept-new``, ``--require-post-quantum``."""
    from typing import get_args

    from secure_ipp.tunnel.interface import BackendName

    for option in (
        click.option("--require-post-quantum", "post_quantum", is_flag=True,
                     help="Refuse a key exchange that a quantum computer could undo."),
        click.option("--accept-new", is_flag=True,
                     help="Accept (and keep in known_hosts) the ssh server's key though nobody vouches for it. Compare "
                     "the fingerprint that is shown with its administrator's."),
        click.option("--backend", type=click.Choice(get_args(BackendName)), default=None,
                     help="What logs in; the default is the program ssh, or paramiko where there is none."),
        click.option("--identity", "-i", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=None,
                     metavar="KEY", help="The private key to log in with; the default is what your ssh takes."),
        click.option("--ssh", "route", metavar="ROUTE", default="",
                     help="user@host:port; the default is the route that stands in the file."),
    ):
        command = option(command)
    return command


def wishes_of(
    who: str, *, route: str, identity: Path | None, backend: str | None, accept_new: bool, post_quantum: bool
) -> Wishes:
    """What these options say; `transport` is ssh."""
    from secure_ipp.tunnel.reached import Wishes
    from secure_ipp.tunnel.route import Route

    return Wishes(
        transport="ssh", route=Route.parse(route).text if route else "",
        identity=str(identity.absolute()) if identity else "", backend=backend or "", accept_new=accept_new,
        post_quantum=post_quantum, who=who,
    )


@tunnel.command("open", epilog=EXIT_CODES_HELP)
@run_safely
@json_option
@click.argument("file", type=click.Path(path_type=Path))
@way_options
@click.option("--yes", is_flag=True, help="Agree to the ssh route that stands in the file, without being asked.")
@click.option("--timeout", type=click.FloatRange(0.1), default=30.0, show_default=True, metavar="SECONDS")
def open_(file: Path, as_json: bool, yes: bool, timeout: float, **way: Any) -> None:
    """Open the tunnel that clients with this connection FILE use, and leave it open.

    It is tried by a handshake with the cluster's door, with the file's own key.

    \b
    Examples:
      secure-ipp tunnel open ada.json
      secure-ipp tunnel open ada.json --ssh ada@login.example.org --accept-new
      secure-ipp tunnel open ipcontroller-client.json --backend paramiko --json
    """
    from secure_ipp.keys.capability import load_capability
    from secure_ipp.keys.seen_doors import known_doors
    from secure_ipp.keys.unlocking import somebody_there
    from secure_ipp.tunnel.health import check_door
    from secure_ipp.tunnel.reach import reach

    capability = load_capability(file.expanduser())
    keys = known_doors(capability).keys
    agreed: Confirm | None = (lambda question: True) if yes else confirm if somebody_there() else None
    reached = reach(capability, wishes_of("tunnel open", **way), keys, timeout, agreed)
    lease = reached.lease
    assert lease is not None
    try:
        check_door(capability, reached, keys, timeout)
        lease.hold(held=True)
    finally:
        lease.release()
    state = lease.state
    if as_json:
        show_json(facts(lease.name, state))
        return
    accepted = ", accepted now and kept in known_hosts" if state.known_by == "accepted" else ""
    say(f"the ssh server's key is {state.host_key}{accepted}; the key exchange was {state.exchange}")
    click.echo(f"tunnel {lease.name} is open; clients with {file} use it")


@tunnel.command("list", epilog=EXIT_CODES_HELP)
@run_safely
@json_option
def list_(as_json: bool) -> None:
    """List the tunnels that you have open on this machine.

    \b
    Examples:
      secure-ipp tunnel list
      secure-ipp tunnel list --json
    """
    from secure_ipp.tunnel.listing import tunnels

    found = tunnels()
    if as_json:
        show_json([facts(name, state) for name, state in found.items()])
        return
    if not found:
        click.echo("no tunnels")
        return
    for name, state in found.items():
        one = facts(name, state)
        click.echo(escape(f"{name}  {one['state']:<10}  {one['cluster']} through {one['route']} ({one['backend']})"))
        for user in one["users"]:
            click.echo(escape(f"    used by {user}"))
        if one["held"]:
            click.echo("    held open (secure-ipp tunnel close ends it)")
        if one["reason"]:
            click.echo(escape(f"    {one['reason']}"))


@tunnel.command("close", epilog=EXIT_CODES_HELP)
@run_safely
@json_option
@click.argument("which", metavar="FILE|NAME", required=False)
@click.option("--all", "every", is_flag=True, help="All of them.")
@click.option("--now", is_flag=True, help="Even if clients use it: their tasks go on, their connections end.")
def close(which: str | None, every: bool, now: bool, as_json: bool) -> None:
    """Close a tunnel: the one that clients with this connection file use, or the one of this name in the list.

    While clients use it, it stays until the last of them is gone; --now does not wait.

    \b
    Examples:
      secure-ipp tunnel close ada.json
      secure-ipp tunnel close --all --now
    """
    from secure_ipp.tunnel import listing

    if every == (which is not None):
        raise UsageError("give a FILE, the NAME of a tunnel, or --all", "see --help")
    found = listing.tunnels()
    names = list(found) if every else _meant(str(which), found)
    closed = [{"name": name, "users": state.users} for name in names if (state := listing.close(name, now=now))]
    if as_json:
        show_json(closed)
        return
    for one in closed:
        later = f"; it ends when {len(one['users'])} users have left" if one["users"] and not now else ""
        click.echo(f"tunnel {one['name']} is closed{later}")
    if not closed:
        click.echo("no tunnel was open")


def _meant(which: str, found: dict[str, State]) -> list[str]:
    """Names of the tunnels that a file's cluster has, by the file's own route if there is one by that; or this one."""
    if which in found:
        return [which]
    path = Path(which).expanduser()
    if not path.exists():
        raise UsageError(f"{which!r} is neither a tunnel nor a file", "secure-ipp tunnel list shows what is open")
    from secure_ipp.keys.capability import read_capability

    file = read_capability(path, now=0.0)
    specs = {name: state.spec for name, state in found.items() if state.spec is not None}
    there = [name for name, one in specs.items() if one.cluster == file.cluster and set(file.door) & set(one.doors)]
    return [name for name in there if specs[name].route == file.ssh] or there


@tunnel.command("login", epilog=EXIT_CODES_HELP)
@run_safely
@click.argument("route", metavar="USER@HOST")
@click.option("--forget", is_flag=True, help="Take it out of the keyring.")
@click.option("--keyring-backend", default="", metavar="MODULE.CLASS",
              help="Use this class of the package keyring, even if it is not known to encrypt.")
def login(route: str, forget: bool, keyring_backend: str) -> None:
    """Keep the password of an ssh account in this machine's keyring, for tunnels to it.

    The password is typed, and goes nowhere else. An ssh key is the better way where you may use one.

    \b
    Examples:
      secure-ipp tunnel login ada@login.example.org
      secure-ipp tunnel login ada@login.example.org --forget
    """
    from secure_ipp.keys.keyring_store import Keyring
    from secure_ipp.keys.unlocking import DESCRIPTOR_VARIABLE, ask, from_descriptor
    from secure_ipp.tunnel.prompts import entry_of
    from secure_ipp.tunnel.route import Route

    to = Route.parse(route)
    if not to.user:
        raise UsageError("a password belongs to an account", "say user@host")
    keyring = Keyring(keyring_backend)
    if forget:
        keyring.forget(entry_of(to))
        click.echo(f"the keyring has no password of {to} any more")
        return
    password = from_descriptor(DESCRIPTOR_VARIABLE) or ask(f"password of {to}: ")
    keyring.keep(entry_of(to), password)
    click.echo(f"the password of {to} is in the keyring {keyring.name}")


def facts(name: str, state: State) -> dict[str, Any]:
    """One tunnel, for the list."""
    spec = state.spec
    return {
        "name": name, "state": state.condition, "cluster": spec.cluster if spec else "",
        "route": spec.route if spec else "", "doors": spec.doors if spec else [],
        "backend": spec.backend if spec else "", "users": state.users, "held": state.held, "pid": state.pid,
        "since": state.since, "drops": state.drops, "reason": state.reason, "host_key": state.host_key,
        "key_exchange": state.exchange, "host_key_known_by": state.known_by,
    }


def confirm(question: str) -> bool:
    """Put a question to the user."""
    return click.confirm(escape(question), err=True)

