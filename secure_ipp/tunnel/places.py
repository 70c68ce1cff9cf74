"""Where tunnels lie: a private directory for each beside this user's clusters, on a local disk, with a short path."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys import places
from secure_ipp.keys.filesystem import is_local
from secure_ipp.keys.private_files import make_private_dir

_LONGEST_NAME = 12 + 1 + 24  # the tunnel's name, and ssh's own while it makes its control socket
CONTROL = "keeper"


def root() -> Path:
    """The directory of all tunnels; made and checked: 0700, this user's.

    Raises:
        PrivateFileError: somebody else could use it.
        EnvironmentProblem: it cannot be made.
    """
    home = os.path.realpath(places.home())
    inside = Path(home) / ".tunnels"
    if len(os.fsencode(inside)) + 1 + _LONGEST_NAME <= limits.UNIX_SOCKET_PATH_BYTES and is_local(home):
        return Path(make_private_dir(inside))
    shared = Path(f"/tmp/secure-ipp-{os.geteuid()}")  # noqa: S108  made private and checked before any use
    make_private_dir(shared)
    return Path(make_private_dir(shared / f"t{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}"))


def remove(directory: Path) -> None:
    """Take away what a tunnel left; what is not there is no error.

    Raises:
        EnvironmentProblem: it cannot be.
    """
    try:
        for path in directory.iterdir():
            path.unlink(missing_ok=True)
        directory.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise EnvironmentProblem(f"{directory} cannot be cleared: {error.strerror}", "remove it by hand") from None
