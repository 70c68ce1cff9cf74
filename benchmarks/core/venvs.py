"""A venv for each peer that is not ours, with the same interpreter and the same pyzmq.

A peer that cannot be installed is `Unavailable`, with pip's own last words; nothing stands in for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from core.roster import PEERS

PLACE = Path(__file__).parent.parent / ".venvs"
INSTALL_SECONDS = 600.0


class Unavailable(Exception):
    """This peer cannot be measured here."""


def interpreter(name: str, *, install: bool = True) -> str:
    """The Python that this peer runs in.

    Raises:
        Unavailable: it is not installed, and cannot or must not be.
    """
    requirements = PEERS[name].requirements
    if not requirements:
        return sys.executable
    wanted = "\n".join((*requirements, f"pyzmq=={version('pyzmq')}", sys.version))
    place = PLACE / name
    python, stamp = place / "bin" / "python", place / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    if not install:
        raise Unavailable("not installed")
    print(f"installing {name} in {place} ...", file=sys.stderr, flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(place)])
    constraint = place / "constraints.txt"
    constraint.write_text(f"pyzmq=={version('pyzmq')}\n")
    _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", str(constraint),
          *requirements])
    stamp.write_text(wanted)
    return str(python)


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_SECONDS, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"not installed within {INSTALL_SECONDS:.0f} s") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise Unavailable(f"does not install: {last[:200]}")
