"""Who may come in: keys, grants and their registry, capability files.

What ``secure-ipp keys`` does at a prompt, programs do with the functions named here, which are loaded when they are
first used (PEP 562):

    from secure_ipp import keys
    keys.issue("ada", "ada.json", rights=["task"], expires="7d")
    keys.revoke("ada")

Those live above this room, in `secure_ipp.cluster.owner_keys`: a running controller must be told of each change.
Files are sealed here (docs/sealing.md):

    keys.seal("ada.json", keys.ByPassphrase(keys.Passphrase.of(ask())))
    keys.unseal("ada.json", keys.Unlocker(passphrase=ask))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secure_ipp.cluster.owner_keys import (
        abort_server_rotation,
        accept,
        approve,
        change_ways,
        describe,
        identities,
        init,
        issue,
        renew,
        request,
        revoke,
        rotate,
        rotate_server,
    )
    from secure_ipp.keys.keyring_store import Keyring
    from secure_ipp.keys.passphrases import Passphrase
    from secure_ipp.keys.recipients import RecipientPublicKey
    from secure_ipp.keys.sealed_files import ByPassphrase, InKeyring, ToRecipient, make_recipient, reseal, seal, unseal
    from secure_ipp.keys.unlocking import Unlocker

__all__ = [
    "ByPassphrase", "InKeyring", "Keyring", "Passphrase", "RecipientPublicKey", "ToRecipient", "Unlocker",
    "abort_server_rotation", "accept", "approve", "change_ways", "describe", "identities", "init", "issue",
    "make_recipient", "renew", "request", "reseal", "revoke", "rotate", "rotate_server", "seal", "unseal",
]

_OWNERS = "secure_ipp.cluster.owner_keys"
_HOMES = {
    **dict.fromkeys(
        ("ByPassphrase", "InKeyring", "ToRecipient", "make_recipient", "reseal", "seal", "unseal"),
        "secure_ipp.keys.sealed_files",
    ),
    "Keyring": "secure_ipp.keys.keyring_store", "Passphrase": "secure_ipp.keys.passphrases",
    "RecipientPublicKey": "secure_ipp.keys.recipients", "Unlocker": "secure_ipp.keys.unlocking",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, _OWNERS)), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
