"""How a locked file is opened (S13): who is asked, in which order, how often.

A passphrase comes from the descriptor that ``SECURE_IPP_PASSPHRASE_FD`` names (read once, one line, closed), else from
whoever sits at the terminal or the notebook.  It never comes from an argument of a command or a variable's value.
A box for a recipient is opened with the key file that ``SECURE_IPP_RECIPIENT`` names, else with recipient.key below
the home.  Where nobody can be asked that is an error which says how, never a wait.
"""

from __future__ import annotations

import getpass
import os
import select
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from secure_ipp import limits
from secure_ipp.errors import UsageError
from secure_ipp.keys.keyring_store import Keyring, NoKeyring
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.keys.places import home
from secure_ipp.keys.private_files import MissingFile
from secure_ipp.keys.recipients import RecipientKey
from secure_ipp.keys.sealing import (
    Locked,
    PassphraseBox,
    RecipientBox,
    SealError,
    Secret,
    Subject,
    WrongPassphrase,
    open_by_passphrase,
    open_by_recipient,
)

DESCRIPTOR_VARIABLE = "SECURE_IPP_PASSPHRASE_FD"
NEW_DESCRIPTOR_VARIABLE = "SECURE_IPP_NEW_PASSPHRASE_FD"
RECIPIENT_VARIABLE = "SECURE_IPP_RECIPIENT"


class NobodyToAsk(SealError):
    """A passphrase is needed, and there is no way to ask for it."""

    code = "locked"


class Unlocker:
    """Opens locked files in the ways that this process has.

    Args:
        passphrase: called for a passphrase in place of all asking.
        recipient_key: a recipient's key file in place of the usual one.
        keyring_backend: see `Keyring`.
        say: gets lines for people; None: they go to stderr.
    """

    def __init__(
        self, *, passphrase: Callable[[], str] | None = None, recipient_key: Path | None = None,
        keyring_backend: str = "", say: Callable[[str], None] | None = None,
    ) -> None:
        if passphrase is not None and not callable(passphrase):
            passphrase = None
            raise UsageError(
                "passphrase is a function that returns one, so that none stands in a program", "passphrase=getpass"
            )
        self._given = passphrase
        self._recipient_key = recipient_key
        self._keyring_backend = keyring_backend
        self._say = say or _to_stderr
        self.used: Passphrase | None = None  # what opened the last box, for whoever seals it anew

    def __call__(self, locked: Locked[Secret]) -> Secret:
        """The secret of this subject.

        Raises:
            SealError: it was not to be had.
            NoKeyring: the keyring that should have it fails.
        """
        subject, sealed, entry = locked.subject, locked.lock.sealed, locked.lock.keyring
        if isinstance(sealed, RecipientBox):
            return open_by_recipient(sealed, subject, self._recipient(subject))
        if isinstance(sealed, PassphraseBox):
            return self._by_passphrase(sealed, locked)
        assert entry is not None
        found: Secret | None = Keyring(self._keyring_backend).fetch(entry, subject.secret_of_text)
        if found is None:
            raise SealError(
                f"the keyring has no secret that belongs to {subject.what}",
                "it is kept where the file was sealed, for that user; take an unsealed copy, or have a new file made",
            )
        return found

    def _by_passphrase(self, box: PassphraseBox, locked: Locked[Secret]) -> Secret:
        subject = locked.subject
        if locked.lock.keyring is not None and self._given is None:
            try:
                return self._try(box, subject, self._remembered(locked))
            except (NoKeyring, SealError) as error:
                if not can_ask():
                    raise
                self._say(f"the keyring does not open {subject.what}: {error.message}")
        return self._asking(box, subject)

    def _remembered(self, locked: Locked[Secret]) -> Passphrase:
        assert locked.lock.keyring is not None
        found: Passphrase | None = Keyring(self._keyring_backend).fetch(locked.lock.keyring, Passphrase.of)
        if found is None:
            raise SealError("it has no passphrase for it", "type it, or seal the file anew with --remember")
        return found

    def _asking(self, box: PassphraseBox, subject: Subject[Secret]) -> Secret:
        for left in reversed(range(limits.PASSPHRASE_TRIES)):
            passphrase, again = self._passphrase(subject)
            try:
                return self._try(box, subject, passphrase)
            except WrongPassphrase as error:
                if not again or not left:
                    raise
                self._say(f"{error.message}; {left} more {'tries' if left > 1 else 'try'}")
        raise AssertionError("the last try raises")

    def _try(self, box: PassphraseBox, subject: Subject[Secret], passphrase: Passphrase) -> Secret:
        with _told_if_long(lambda: self._say(f"opening {subject.what} ({box.memory // 1024} MiB of Argon2id) ...")):
            secret = open_by_passphrase(box, subject, passphrase)
        self.used = passphrase
        return secret

    def _passphrase(self, subject: Subject[Secret]) -> tuple[Passphrase, bool]:
        """The passphrase, and whether one may be asked for again."""
        if self._given is not None:
            return Passphrase.of(self._given()), False
        found = from_descriptor(DESCRIPTOR_VARIABLE)
        if found is not None:
            return found, False
        return ask(f"passphrase of {subject.what}: "), True

    def _recipient(self, subject: Subject[Secret]) -> RecipientKey:
        from secure_ipp.keys.key_files import read_recipient_key

        path = self._recipient_key or recipient_path()
        try:
            return read_recipient_key(path, self)
        except MissingFile:
            raise SealError(
                f"{subject.what} is sealed to a recipient, whose key file {path} is not there",
                f"name the key file: {RECIPIENT_VARIABLE}=/path/to/recipient.key, or unseal --key FILE",
                code="locked",
            ) from None


def refuse(locked: Locked[Secret]) -> Secret:
    """An `Unlock` that asks nobody.

    Raises:
        NobodyToAsk: always.
    """
    raise NobodyToAsk(f"{locked.subject.what} is sealed", "open it where somebody can be asked")


def recipient_path() -> Path:
    """Where a recipient's key file is looked for."""
    given = os.environ.get(RECIPIENT_VARIABLE, "")
    return Path(os.path.expanduser(given)) if given else home() / "recipient.key"


# --- passphrases ----------------------------------------------------------------------------------------


def new_passphrase(what: str, *, variable: str = DESCRIPTOR_VARIABLE) -> Passphrase:
    """A passphrase to seal with: from the descriptor, or typed twice.

    Raises:
        UsageError: it is too short, or was not typed the same twice.
        NobodyToAsk: there is neither.
    """
    found = from_descriptor(variable)
    if found is not None:
        return found.check_new()
    first = ask(f"new passphrase for {what}: ", variable=variable).check_new()
    if ask("once more: ", variable=variable) != first:
        raise UsageError("the two passphrases differ", "try again", code="passphrase")
    return first


def from_descriptor(variable: str) -> Passphrase | None:
    """The first line of the descriptor that this variable names; None if it names none.

    It is read once: the descriptor is closed and the variable taken away, for the number may soon be another file's.

    Raises:
        UsageError: it is no open descriptor, or what it gives is no passphrase.
    """
    number = os.environ.pop(variable, "")
    if not number:
        return None
    if not (number.isascii() and number.isdecimal() and len(number) < 7 and int(number) not in (1, 2)):
        raise UsageError(f"{variable} is the number of a descriptor that is open for reading", f"{variable}=3 3<FILE")
    line = _first_line(int(number))
    text = "" if isinstance(line, str) else _decoded(line)
    why = line if isinstance(line, str) else "" if text else "is no line of UTF-8 text"
    found = Passphrase(text) if not why else None
    del line, text
    if found is None:
        raise UsageError(f"what descriptor {number} of {variable} gives {why}", "let it give one line, the passphrase")
    return found.checked()


def can_ask() -> bool:
    """Whether there is a way to ask for a passphrase: a descriptor, a terminal or a notebook."""
    return bool(os.environ.get(DESCRIPTOR_VARIABLE)) or somebody_there()


def ask(prompt: str, *, variable: str = DESCRIPTOR_VARIABLE) -> Passphrase:
    """Ask at the terminal, or through the notebook's front end; nothing is echoed.

    Raises:
        NobodyToAsk: there is nobody.
        UsageError: what was typed is no passphrase.
    """
    if not somebody_there():
        raise NobodyToAsk(
            f"a passphrase is needed ({prompt.rstrip(': ')}), and there is no terminal to ask at",
            f"name an open descriptor that gives it: {variable}=3 COMMAND 3<FILE (or 3< <(a program))",
        )
    text: str | None = None
    why = "nothing was typed"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            text = getpass.getpass(prompt)
    except (EOFError, getpass.GetPassWarning, NotImplementedError) as error:  # the last: a kernel without a front end
        why = f"it could not be asked for ({type(error).__name__})"
    if text is None:
        raise NobodyToAsk(
            f"a passphrase is needed, and {why}", f"name an open descriptor that gives it, in {variable}"
        )
    found = Passphrase(text)
    del text
    return found.checked()


def somebody_there() -> bool:
    ipython = sys.modules.get("IPython")
    if ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None:
        return True
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # it is closed
        return False


def _first_line(descriptor: int) -> bytearray | str:
    """The bytes before the first line's end; or, as text, what is wrong."""
    data = bytearray()
    most = 4 * limits.PASSPHRASE_CHARS + 2
    try:
        while b"\n" not in data and len(data) < most:
            try:
                piece = os.read(descriptor, most - len(data))
            except BlockingIOError:  # whoever made it does not want to wait; we do, as for any other
                waiting = select.poll()
                waiting.register(descriptor, select.POLLIN)
                waiting.poll()
                continue
            if not piece:
                break
            data += piece
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    finally:
        _close(descriptor)
    line = data.partition(b"\n")[0]
    return line if len(line) < most - 1 else "is longer than a passphrase may be"


def _close(descriptor: int) -> None:
    """Close it; the number of stdin stays taken, lest the next file that is opened become stdin."""
    try:
        if descriptor == 0:
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.close(nothing)
        else:
            os.close(descriptor)
    except OSError:
        return  # it was never open, which the read has said


def _decoded(line: bytearray) -> str:
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        return ""


@contextmanager
def _told_if_long(tell: Callable[[], None]) -> Iterator[None]:
    """Say so when what is within takes long; Argon2id lets other threads run."""
    timer = threading.Timer(limits.SEAL_TOLD_SECONDS, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
