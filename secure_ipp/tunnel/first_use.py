"""The first use of an ssh route that a file names: its user sees user and host, and says yes (S23).

What was agreed to is kept, for the same cluster and the same route; files of clusters whose keys this user made on this
machine are not asked about.  It lies beside what was seen of clusters, in a private file that holds no secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from secure_ipp.errors import PolicyError
from secure_ipp.keys.capability import Capability
from secure_ipp.keys.owned import made_here
from secure_ipp.keys.places import home
from secure_ipp.keys.private_files import AlreadyThere, MissingFile, make_private_dir, read_private, write_private

Confirm = Callable[[str], bool]
_LONGEST = 1024


class RouteNotAgreed(PolicyError):
    """Nobody has said that this file's ssh route may be used."""

    code = "ssh-route"


def check_first_use(capability: Capability, confirm: Confirm | None) -> None:
    """Return if this file's route may be used; it is remembered if that was agreed to now.

    Args:
        confirm: puts a question to the user; None: nobody can be asked.

    Raises:
        RouteNotAgreed: it may not.
    """
    if made_here(capability) or _agreed(capability):
        return
    question = (
        f"The file {capability.name!r} of cluster {capability.cluster!r} asks to log in by SSH at "
        f"{capability.ssh}, with your own ssh keys. Do that, now and later?"
    )
    if confirm is None:
        raise RouteNotAgreed(
            f"the file of cluster {capability.cluster!r} asks to log in by SSH at {capability.ssh}, and nobody has "
            "agreed to that yet",
            "if you know that host: secure-ipp tunnel open FILE --yes, once; or name it in the call: "
            f"sshserver={capability.ssh!r}",
        )
    if not confirm(question):
        raise RouteNotAgreed(f"the ssh route {capability.ssh} was not agreed to", "ask whoever gave you the file")
    agree(capability)


def agree(capability: Capability) -> None:
    """Remember that this file's route may be used."""
    path = _path(capability)
    make_private_dir(path.parent)
    try:
        write_private(path, capability.ssh.encode() + b"\n")
    except AlreadyThere:
        return


def _agreed(capability: Capability) -> bool:
    try:
        return read_private(_path(capability), _LONGEST) == capability.ssh.encode() + b"\n"
    except MissingFile:
        return False


def _path(capability: Capability) -> Path:
    who = f"{capability.cluster_id} {capability.issuer_key.text} {capability.ssh}"
    return home() / "seen" / f"{hashlib.sha256(who.encode()).hexdigest()[:32]}.route"
