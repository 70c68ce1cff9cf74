"""The keyring of the operating system, as a place for a secret or a passphrase (S13).

Only back ends that are known to encrypt are taken: Secret Service, libsecret, KWallet, macOS and Windows.  Any other,
a plain-text, null or failing one above all, is refused unless its user names its class; no file can name one.  A chain
of back ends is never asked as such, for it goes on to the next: the first good one of it is.

Errors are made from the words of the back end alone: its frames hold secrets.  The package `keyring` is imported when
it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.sealing import KeyringEntry, SealError
from secure_ipp.keys.strict_json import shown

BACKEND_VARIABLE = "SECURE_IPP_KEYRING_BACKEND"  # a class to be used though it is not known; no secret
_ENCRYPTING = frozenset({
    "keyring.backends.SecretService", "keyring.backends.libsecret", "keyring.backends.kwallet",
    "keyring.backends.macOS", "keyring.backends.Windows",
})
_CHAINER = "keyring.backends.chainer"


class NoKeyring(EnvironmentProblem):
    """There is no keyring that could be used, or it does not do what it is asked."""

    code = "keyring"


class RefusedKeyring(SealError):
    """The keyring that is there does not protect what is put in it."""

    code = "keyring-refused"


class Keyring:
    """One back end.

    Args:
        named: its class as ``module.Class``, by which any may be used; "": what the variable says, else the
            system's, if it is a good one.

    Raises:
        NoKeyring: there is none.
        RefusedKeyring: there is only one that must be named.
    """

    def __init__(self, named: str = "") -> None:
        self._backend = _backend(named or os.environ.get(BACKEND_VARIABLE, ""))

    @property
    def name(self) -> str:
        """The class of the back end."""
        return _name(self._backend)

    def keep(self, entry: KeyringEntry, secret: Any) -> None:
        """Put a secret there (something with a `text`) and see that it is there.

        Raises:
            NoKeyring: it is not.
        """
        why = _trouble(lambda: self._backend.set_password(entry.service, entry.account, secret.text), secret.text)
        if not why and self._text(entry) != secret.text:
            why = "it does not give back what was put in it"
        if why:
            raise self._failed(why)

    def fetch(self, entry: KeyringEntry, kind: Callable[[str], Any]) -> Any:
        """What lies there, made into a `kind`; None if nothing does, or what does is not of this kind.

        Raises:
            NoKeyring: the keyring is locked, or fails.
        """
        text = self._text(entry)
        if isinstance(text, _Failure):
            raise self._failed(text.why)
        found = None if text is None else _made(kind, text)
        del text
        return found

    def forget(self, entry: KeyringEntry) -> None:
        """Take it away; its absence is no error.

        Raises:
            NoKeyring: the keyring is locked, or fails.
        """
        text = self._text(entry)
        there, why = isinstance(text, str), text.why if isinstance(text, _Failure) else ""
        del text
        if there:
            why = _trouble(lambda: self._backend.delete_password(entry.service, entry.account))
        if why:
            raise self._failed(why)

    def _text(self, entry: KeyringEntry) -> str | _Failure | None:
        found: list[str | None] = []
        why = _trouble(lambda: found.append(self._backend.get_password(entry.service, entry.account)))
        if not why and not isinstance(found[0], str | None):
            why = f"it answers with {shown(type(found[0]).__name__, 40)}, which is no text"
        return _Failure(why) if why else found[0]

    def _failed(self, why: str) -> NoKeyring:
        return NoKeyring(f"the keyring {self.name} failed: {why}", "unlock it in your session, or see that it runs")

    def __repr__(self) -> str:
        return f"<Keyring {self.name}>"


class _Failure:
    """Why there is no answer."""

    def __init__(self, why: str) -> None:
        self.why = why


def _trouble(act: Callable[[], object], secret: str = "") -> str:
    """What went wrong, in words, which may quote the secret and are shown without it; "" if nothing."""
    try:
        act()
    except Exception as error:  # noqa: BLE001  somebody else's code; what it raises holds the secret in its frames
        words = f"{type(error).__name__}: {error}"
        return shown(words.replace(secret, "(the secret)") if secret else words)
    return ""


def _made(kind: Callable[[str], Any], text: str) -> Any:
    """None if it cannot be made: an error would carry the text in its traceback's variables (S11)."""
    try:
        return kind(text)
    except ValueError:
        return None


def _backend(named: str) -> Any:
    try:
        import keyring
        import keyring.core
    except ImportError:
        raise NoKeyring(
            "the package keyring is not installed", "pip install 'secure-ipp[keyring]', or seal by a passphrase"
        ) from None
    found: list[Any] = []
    load = (lambda: found.append(keyring.core.load_keyring(named))) if named else (
        lambda: found.extend(_links(keyring.get_keyring()))
    )
    why = _trouble(load)
    if why:
        which = f"the keyring {shown(named, 100)}" if named else "a keyring"
        raise NoKeyring(f"{which} cannot be had: {why}", "name a back end that is there (keyring --list-backends)")
    if named:
        return found[0]
    system, *links = found
    good = next((one for one in links if type(one).__module__ in _ENCRYPTING), None)
    if good is None:
        raise RefusedKeyring(
            f"the keyring here is {_name(system)}, which is not known to encrypt what it keeps",
            "start the keyring of your desktop (gnome-keyring, KWallet), seal by a passphrase instead, or name the "
            f"back end if it shall be used all the same: --keyring-backend {_name(system)}, and "
            f"{BACKEND_VARIABLE} where the file is used",
        )
    return good


def _links(backend: Any) -> Iterable[Any]:
    """The back end, and then those of its chain, best first; or itself again, if it is no chain."""
    return (backend, *(backend.backends if type(backend).__module__ == _CHAINER else (backend,)))


def _name(backend: Any) -> str:
    kind = type(backend)
    return shown(f"{kind.__module__}.{kind.__qualname__}", 120)
