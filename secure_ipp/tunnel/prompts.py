"""Answers what ssh asks, in the process of whoever wants the tunnel: a password from the call or the keyring, else its
user is asked, at the terminal or in the notebook.  Nothing of it stands in argv, environment or a log (S11).

A stored or given password answers a prompt for a password of the host it is for, and no other prompt: one that has any
more words may be a host's on the way, which asks in the words of another.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import replace

from secure_ipp.errors import SecureIppError
from secure_ipp.keys.keyring_store import Keyring
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.keys.sealing import KeyringEntry
from secure_ipp.keys.unlocking import ask, somebody_there
from secure_ipp.logs import escape
from secure_ipp.tunnel.route import Route

_log = logging.getLogger("secure_ipp.tunnel")
_ACCOUNT_CHARS = 100  # of a `KeyringEntry`
_ACCOUNT = r"(?P<user>[^@\s()]{1,64})@(?P<host>[^@\s()']{1,253})"
# ssh's own question, and the usual one of a server at the route's end, before which ssh puts the account
_PASSWORDS = (
    re.compile(rf"{_ACCOUNT}'s password: ?"), re.compile(rf"\({_ACCOUNT}\) Password: ?"),
)


def entry_of(route: Route) -> KeyringEntry:
    """Where a route's password lies in the keyring."""
    account = f"ssh {route.text}"
    if len(account) > _ACCOUNT_CHARS:  # a name cut short might be another host's
        account = f"ssh {hashlib.sha256(route.text.encode()).hexdigest()}"
    return KeyringEntry(service="secure-ipp", account=account)


class Prompter:
    """Answers for one route.

    Args:
        password: from the call; None: there is none.
        interactive: its user may be asked.
    """

    def __init__(self, route: Route, password: Passphrase | None = None, *, interactive: bool = True) -> None:
        self._route = route
        self._password = password
        self._interactive = interactive
        self._stored_given = False

    def answer(self, prompt: str) -> str | None:
        """What to say; None: nobody knows.  `prompt` is ssh's, with words of the server in it (unverified)."""
        account = self._account(prompt)
        if account is not None:
            if self._password is not None:
                found, self._password = self._password, None  # asked again, it was wrong
                return found.text
            stored = self._from_keyring(account)
            if stored is not None:
                return stored.text
        if not (self._interactive and somebody_there()):
            return None
        try:
            return ask(escape(prompt)).text
        except SecureIppError as error:
            _log.warning("no answer to %s: %s", prompt, error.message)
            return None

    def _account(self, prompt: str) -> Route | None:
        """Whose password it asks for, if that is one at the route's end, not at a host on the way, and nothing else."""
        route = self._route
        for pattern in _PASSWORDS:
            found = pattern.fullmatch(prompt)
            if found and found["host"].lower() == route.host.lower() and route.user in ("", found["user"]):
                return replace(route, user=found["user"])  # whom the configuration names, where the route does not
        return None

    def _from_keyring(self, account: Route) -> Passphrase | None:
        if self._stored_given:
            return None
        self._stored_given = True
        try:
            found: Passphrase | None = Keyring().fetch(entry_of(account), Passphrase.of)
        except SecureIppError as error:
            _log.info("the keyring has no password: %s", error.message)
            return None
        return found
