"""Which back ends there are, and which one is taken where none was named: the ssh program where there is one."""

from __future__ import annotations

import importlib.util
import shutil
from typing import get_args

from secure_ipp.errors import UsageError
from secure_ipp.tunnel.failures import NoSsh
from secure_ipp.tunnel.interface import Asker, Backend, BackendName, Order

NAMES: tuple[BackendName, ...] = get_args(BackendName)


def choose(named: str = "") -> BackendName:
    """The back end of this name, or the best that there is.

    Raises:
        UsageError: there is none of this name.
        NoSsh: it, or any, cannot be had here.
    """
    if named and named not in NAMES:
        raise UsageError(f"there is no back end {named!r}", f"say {' or '.join(NAMES)}")
    there: dict[str, bool] = {
        "openssh": shutil.which("ssh") is not None,
        "paramiko": all(importlib.util.find_spec(name) is not None for name in ("paramiko", "sshtunnel")),
    }
    found = [name for name in NAMES if there[name] and named in ("", name)]
    if not found:
        lacking = {"openssh": "the program ssh", "paramiko": "the packages paramiko and sshtunnel"}
        raise NoSsh(
            f"{' and '.join(lacking[name] for name in NAMES if named in ('', name))} cannot be found here",
            "install OpenSSH's client, or: pip install 'secure-ipp[ssh]'",
        )
    return found[0]


def make(name: BackendName, order: Order, asker: Asker) -> Backend:
    """A back end for one login."""
    if name == "openssh":
        from secure_ipp.tunnel.openssh import OpenSsh

        return OpenSsh(order, asker)
    from secure_ipp.tunnel.paramiko_backend import Paramiko

    return Paramiko(order, asker)
