"""The fingerprints of this host's ssh keys, from the public halves that its ssh server keeps for everybody to read.

Nothing secret is read, and nothing is asked of the network: who stands at the host needs to trust nobody for them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from pathlib import Path

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem

HERE = "here"
DIRECTORY = Path("/etc/ssh")
_LINE = re.compile(rb"(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]{1,60} ([A-Za-z0-9+/]{16,}={0,2})(?:[ \t][^\r\n]*)?\r?\n?")


def of_this_host(directory: Path = DIRECTORY) -> list[str]:
    """The fingerprints, as ``ssh-keygen -lf`` prints them.

    Raises:
        EnvironmentProblem: there are none.
    """
    found: list[str] = []
    for path in sorted(directory.glob("ssh_host_*_key.pub")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                found.append(fingerprint(file.read(limits.SSH_KEY_BYTES)))
        except (OSError, ValueError):
            continue  # one that cannot be read is one that is not named; others do as well
    if not found:
        raise EnvironmentProblem(
            f"no public key of an ssh server is found in {directory}",
            "give the fingerprint: ssh-keyscan shows keys, ssh-keygen -lf their fingerprints; compare with the host's"
            " administrator",
            code="no-host-keys",
        )
    return found


def fingerprint(line: bytes) -> str:
    """The fingerprint of a public key as it stands in a file: type, base64, perhaps a comment.

    Raises:
        ValueError: this is none.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("this is no public key of ssh")
    try:
        key = base64.b64decode(match[1], validate=True)
    except binascii.Error:
        raise ValueError("this is no public key of ssh") from None
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
