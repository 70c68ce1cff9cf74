"""Who may come in: keys, grants and their registry, capability files.

What ``secure-ipp keys`` does at a prompt, programs do with the functions named here, which are loaded when they are
first used (PEP 562):

    from secure_ipp import keys
    keys.issue("ada", "ada.json", rights=["task"], expires="7d")
    keys.revoke("ada")

They live above this room, in `secure_ipp.cluster.owner_keys`, because a running controller must be told of each change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secure_ipp.cluster.owner_keys import (
        accept,
        approve,
        describe,
        identities,
        issue,
        renew,
        request,
        revoke,
        rotate,
    )

__all__ = ["accept", "approve", "describe", "identities", "issue", "renew", "request", "revoke", "rotate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module("secure_ipp.cluster.owner_keys"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
