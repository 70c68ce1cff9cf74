"""``secure-ipp keys seal``, ``unseal``, ``reseal`` and ``recipient``: files whose secret is not in clear.

No passphrase is an option or a variable's value: it is typed, or comes through a descriptor.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from secure_ipp import limits
from secure_ipp.cli.options import cluster_options, json_option, run_safely, show_json
from secure_ipp.errors import UsageError

if TYPE_CHECKING:
    from secure_ipp.keys.places import ClusterPlace
    from secure_ipp.keys.sealed_files import Done, Way
    from secure_ipp.keys.unlocking import Unlocker

Command = TypeVar("Command", bound=Callable[..., Any])
_MIB = 1024  # KiB


def to_option(command: Command) -> Command:
    """Whom a new file is sealed to; the command gets `to`, a recipient's word or ""."""

    @click.option("--to", "recipient", default="", metavar="RECIPIENT",
                  help="Seal the file to a recipient: the word of 'keys recipient', or a file that holds it.")
    @functools.wraps(command)
    def with_word(*args: Any, recipient: str, **others: Any) -> Any:
        return command(*args, to=_word(recipient) if recipient else "", **others)

    return with_word  # type: ignore[return-value]


def _which_file(command: Command) -> Command:
    """``[FILE]`` and ``--issuer``; the command gets `path`."""

    @click.argument("file", type=click.Path(path_type=Path), required=False)
    @click.option("--issuer", is_flag=True, help="The issuer's key of the cluster (see --cluster), in place of a FILE.")
    @functools.wraps(command)
    def with_path(*args: Any, file: Path | None, issuer: bool, place: ClusterPlace, **others: Any) -> Any:
        if issuer == (file is not None):
            raise UsageError("give a FILE, or --issuer", "see --help")
        return command(*args, path=place.issuer_key if file is None else Path(os.path.expanduser(file)), **others)

    return with_path  # type: ignore[return-value]


def _opening(command: Command) -> Command:
    """How a locked file is opened; the command gets `key`."""
    text = "The recipient's key file, for what is sealed to one (default: SECURE_IPP_RECIPIENT, else recipient.key)."
    return click.option("--key", type=click.Path(path_type=Path), default=None, metavar="FILE", help=text)(command)


def _backend(command: Command) -> Command:
    """Which keyring; the command gets `keyring_backend`."""
    text = "Use this class of the package keyring, even if it is not known to encrypt."
    return click.option("--keyring-backend", default="", metavar="MODULE.CLASS", help=text)(command)


def _ways(command: Command) -> Command:
    """How a file is locked; the command gets `way`, a function of what opens and what is found to the `Way`."""
    for option in reversed((
        click.option("--to", "recipient", default="", metavar="RECIPIENT",
                     help="Seal to a recipient: the word that 'keys recipient' printed, or a file that holds it."),
        click.option("--keyring", is_flag=True, help="Keep the secret in the keyring of this machine instead."),
        click.option("--remember", is_flag=True, help="Seal by a passphrase, and keep that in the keyring too."),
        click.option("--memory", type=click.IntRange(limits.SEAL_MEMORY_KIB // _MIB,
                                                     limits.SEAL_MOST_MEMORY_KIB // _MIB),
                     default=limits.SEAL_MEMORY_KIB // _MIB, show_default=True, metavar="MIB",
                     help="Memory that each try of a passphrase costs."),
        click.option("--passes", type=click.IntRange(limits.SEAL_PASSES, limits.SEAL_MOST_PASSES),
                     default=limits.SEAL_PASSES, show_default=True, help="Passes over that memory."),
    )):
        command = option(command)
    return command


@click.command(
    name="seal",
    epilog="""\b
Examples:
  secure-ipp keys seal ipcontroller-client.json             (asks for a passphrase, twice)
  secure-ipp keys seal ada.json --to recipient:l1Kq...      (only that recipient's key file opens it)
  secure-ipp keys seal ipcontroller-client.json --keyring   (this desktop's keyring keeps the secret)
  secure-ipp keys seal --issuer --cluster lab               (the key that issues and revokes)
  SECURE_IPP_PASSPHRASE_FD=3 secure-ipp keys seal FILE 3< <(pass show lab)
""",
)
@run_safely
@cluster_options
@json_option
@_which_file
@_ways
@_backend
def seal(path: Path, as_json: bool, keyring_backend: str, **ways: Any) -> None:
    """Replace the secret key in FILE by one that is sealed.

    FILE is a connection file, or a recipient's key. Everything else in it stays in clear, and its signature
    stays good. Whoever uses it is asked for the passphrase (Client(...) in a terminal or a notebook, ipengine).

    What a disk keeps of bytes that were replaced is beyond any program's reach: if the file lay there in clear for
    long, have a new one made, and revoke the old one.
    """
    from secure_ipp.keys import sealed_files

    found = sealed_files.read_secret_file(path)
    if found.locked is not None:
        raise UsageError(f"{path} is sealed already", "seal it anew: secure-ipp keys reseal", code="sealed-already")
    way = _way(found.subject.what, keyring_backend=keyring_backend, **ways)
    _tell(sealed_files.seal(path, way), as_json)


@click.command(
    name="unseal",
    epilog="""\b
Examples:
  secure-ipp keys unseal ipcontroller-client.json
  secure-ipp keys unseal ada.json --key ~/recipient.key
""",
)
@run_safely
@cluster_options
@json_option
@_which_file
@_opening
@_backend
def unseal(path: Path, as_json: bool, key: Path | None, keyring_backend: str) -> None:
    """Put the secret key back in FILE, in clear; the keyring forgets what it has of it."""
    from secure_ipp.keys import sealed_files

    done = sealed_files.unseal(path, _unlocker(key, keyring_backend), keyring_backend=keyring_backend)
    _tell(done, as_json)


@click.command(
    name="reseal",
    epilog="""\b
Examples:
  secure-ipp keys reseal ipcontroller-client.json                                (another passphrase)
  secure-ipp keys reseal ipcontroller-client.json --same-passphrase --memory 256   (a higher cost)
  secure-ipp keys reseal ada.json --to recipient:l1Kq...
  SECURE_IPP_PASSPHRASE_FD=3 SECURE_IPP_NEW_PASSPHRASE_FD=4 secure-ipp keys reseal FILE 3<OLD 4<NEW
""",
)
@run_safely
@cluster_options
@json_option
@_which_file
@_opening
@_ways
@click.option("--same-passphrase", is_flag=True, help="Seal by the passphrase that opened it.")
@_backend
def reseal(
    path: Path, as_json: bool, key: Path | None, keyring_backend: str, same_passphrase: bool, **ways: Any
) -> None:
    """Seal FILE anew: by another passphrase, to another recipient, at another cost.

    Its secret is never on the disk. The cost never becomes less than it was.
    """
    from secure_ipp.keys import sealed_files, unlocking

    found = sealed_files.read_secret_file(path)
    unlocker = _unlocker(key, keyring_backend)

    class Later:
        """Asks for the new passphrase when the old one has opened the file."""

        def close(self, secret: Any, subject: Any) -> Any:
            way = _way(
                subject.what, keyring_backend=keyring_backend, found=found, variable=unlocking.NEW_DESCRIPTOR_VARIABLE,
                used=unlocker if same_passphrase else None, **ways,
            )
            return way.close(secret, subject)

    _tell(sealed_files.reseal(path, unlocker, Later(), keyring_backend=keyring_backend), as_json)


@click.command(
    name="recipient",
    epilog="""\b
Examples:
  secure-ipp keys recipient                         (makes recipient.key below the home, or shows its word)
  secure-ipp keys recipient --out ~/recipient.key
""",
)
@run_safely
@json_option
@click.option("--out", type=click.Path(path_type=Path), default=None, metavar="FILE", help="The private file to make.")
def recipient(as_json: bool, out: Path | None) -> None:
    """Make a key that others can seal files to, and print the word that they need for it.

    The word is public. The file is private: seal it too, if you like.
    """
    from secure_ipp.keys import key_files, sealed_files, unlocking

    path = Path(os.path.expanduser(out)) if out is not None else unlocking.recipient_path()
    known = out is None and path.exists()
    public = key_files.read_recipient_file(path).public_key if known else sealed_files.make_recipient(path)
    if as_json:
        show_json({"file": str(path), "recipient": public.word, "fingerprint": public.fingerprint})
        return
    click.echo(public.word)
    click.echo(f"{'the' if known else 'made the'} private half is {path}; fingerprint {public.fingerprint}", err=True)


def _way(
    what: str, *, recipient: str, keyring: bool, remember: bool, memory: int, passes: int, keyring_backend: str,
    found: Any = None, variable: str = "", used: Unlocker | None = None,
) -> Way:
    """What the options ask for; a new passphrase is asked for here.

    Raises:
        UsageError: they do not go together, or the passphrase will not do.
    """
    from secure_ipp.keys import sealed_files, unlocking
    from secure_ipp.keys.keyring_store import Keyring
    from secure_ipp.keys.recipients import RecipientPublicKey
    from secure_ipp.keys.sealing import Cost

    if bool(recipient) + keyring + (remember or used is not None) > 1:
        raise UsageError("--to, --keyring and a passphrase are three ways to seal", "choose one")
    if keyring_backend and not (keyring or remember or found is not None):
        raise UsageError("--keyring-backend goes with --keyring or --remember", "see --help")
    if recipient:
        return sealed_files.ToRecipient(RecipientPublicKey.of_word(_word(recipient)))
    if keyring:
        return sealed_files.InKeyring(Keyring(keyring_backend))
    try:
        cost = Cost(memory * _MIB, passes)
    except ValueError as error:
        raise UsageError(f"this cost cannot be: {error}", "choose less memory or fewer passes") from None
    store = Keyring(keyring_backend) if remember else None
    if found is not None:
        cost = sealed_files.at_least(cost, found)
    if used is not None:
        if used.used is None:
            raise UsageError("no passphrase opened the file, so there is none to keep", "leave --same-passphrase out")
        return sealed_files.ByPassphrase(used.used, cost, store)
    passphrase = unlocking.new_passphrase(what, variable=variable or unlocking.DESCRIPTOR_VARIABLE)
    return sealed_files.ByPassphrase(passphrase, cost, store)


def _word(given: str) -> str:
    """The word itself, or the first line of the file that holds it."""
    if given.startswith("recipient:") or not os.path.isfile(os.path.expanduser(given)):
        return given
    with open(os.path.expanduser(given), encoding="utf-8", errors="replace") as file:
        return file.readline(200).strip()


def _unlocker(key: Path | None, keyring_backend: str) -> Unlocker:
    from secure_ipp.keys.unlocking import Unlocker

    path = None if key is None else Path(os.path.expanduser(key))
    return Unlocker(recipient_key=path, keyring_backend=keyring_backend, say=lambda line: click.echo(line, err=True))


def _tell(done: Done, as_json: bool) -> None:
    by = done.lock.by if done.lock is not None else "no"
    facts: dict[str, Any] = {"file": str(done.path), "key": done.subject.public.fingerprint, "sealed": by}
    if done.lock is not None and done.lock.keyring is not None:
        facts["keyring"] = done.lock.keyring.account
    if as_json:
        show_json(facts)
    elif by == "no":
        click.echo(f"{done.path}: the secret of key {facts['key']} stands in it in clear again")
    else:
        where = {"passphrase": "a passphrase opens it", "recipient": "the recipient's key file opens it",
                 "keyring": "the keyring of this machine has the secret, and nothing else has"}[by]
        kept = " (and the keyring has that)" if by == "passphrase" and "keyring" in facts else ""
        click.echo(f"{done.path}: sealed, key {facts['key']}; {where}{kept}")
