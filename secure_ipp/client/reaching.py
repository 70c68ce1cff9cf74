"""How a client gets to its door: straight on, as long as nothing speaks for another way; else as `tunnel.reach` finds.

The tunnel's code is loaded only when it is needed.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from secure_ipp.client.progress import is_interactive
from secure_ipp.client.terminal import line
from secure_ipp.errors import UsageError
from secure_ipp.keys.capability import Capability
from secure_ipp.keys.curve import CurvePublicKey
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.keys.unlocking import somebody_there
from secure_ipp.tunnel.ways import is_straight
from secure_ipp.wire.sockets import has_curve

if TYPE_CHECKING:
    from secure_ipp.tunnel.reached import Reached

log = logging.getLogger("secure_ipp.client")


def reach_door(
    capability: Capability, server_keys: Sequence[CurvePublicKey], timeout: float, *, transport: str | None,
    sshserver: str | None, sshkey: str | None, password: Passphrase | None, paramiko: bool | None,
    require_post_quantum: bool,
) -> tuple[Reached | None, float]:
    """The way to the door, and what is left of the time; None: straight to the addresses of the file, with Curve.

    Raises:
        SecureIppError: there is no way, or it is weaker than what was asked for.
    """
    route = sshserver or ("" if transport == "direct" else capability.ssh)
    about_ssh = {"sshkey": sshkey, "password": password, "paramiko": paramiko}
    if not route and any(about_ssh.values()):
        named = ", ".join(name for name, value in about_ssh.items() if value)
        raise UsageError(f"{named}: there is no ssh server to use it with", "name one: sshserver='user@host'")
    if is_straight(capability.tcp_doors, has_curve=has_curve(), route=route, transport=transport or ""):
        return None, timeout
    from secure_ipp.tunnel.reach import reach
    from secure_ipp.tunnel.reached import Wishes

    wishes = Wishes(
        transport=transport or "", route=sshserver or "", identity=sshkey or "", password=password,
        backend="paramiko" if paramiko else "", post_quantum=require_post_quantum,
        who=f"client {capability.name}",
    )
    began = time.monotonic()
    reached = reach(capability, wishes, server_keys, timeout, _confirm if somebody_there() else None)
    try:
        said = f"cluster {capability.cluster!r} is reached {line(reached.said)}"
        log.info("%s", said)
        if reached.lease is not None and (is_interactive() or sys.stderr.isatty()):
            print(said, file=sys.stderr)
    except BaseException:
        reached.release()
        raise
    return reached, max(min(1.0, timeout), timeout - (time.monotonic() - began))


def _confirm(question: str) -> bool:
    return input(f"{line(question)} [y/N] ").strip().lower() in ("y", "yes")
