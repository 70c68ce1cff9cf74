"""Which tunnels this user has open, and ending them: for the command."""

from __future__ import annotations

import socket
from pathlib import Path

from secure_ipp import limits
from secure_ipp.errors import SecureIppError
from secure_ipp.keys.locks import Lock
from secure_ipp.tunnel import places
from secure_ipp.tunnel.lease import reach_keeper
from secure_ipp.tunnel.messages import Close, FromKeeper, Hold, Lines, Look, State, send


def tunnels() -> dict[str, State]:
    """All that are open, by name; what keepers that were killed have left is taken away."""
    found = {}
    for directory in sorted(path for path in places.root().iterdir() if path.is_dir()):
        state = look(directory.name)
        if state is not None:
            found[directory.name] = state
        else:
            _clear(directory)
    return found


def look(name: str) -> State | None:
    """How the tunnel of this name is; None: there is none."""
    return _ask(name, Look())


def close(name: str, *, now: bool) -> State | None:
    """End the tunnel of this name: when its last user leaves, or now.

    Returns:
        How it was; None: there is none.
    """
    state = _ask(name, Hold(held=False))
    if state is not None and now:
        _ask(name, Close())
    return state


def _ask(name: str, message: Look | Hold | Close) -> State | None:
    connection = reach_keeper(places.root() / name)
    if connection is None:
        return None
    with connection:
        if not send(connection, message):
            return None
        return None if isinstance(message, Close) else _state(connection)


def _state(connection: socket.socket) -> State | None:
    connection.settimeout(limits.TUNNEL_START_SECONDS)
    lines = Lines(FromKeeper)
    try:
        while data := connection.recv(65536):
            for message in lines.take(data):
                if isinstance(message, State):
                    return message
    except OSError:
        return None
    return None


def _clear(directory: Path) -> None:
    try:
        with Lock(directory.with_suffix(".lock")):
            if reach_keeper(directory) is None:
                places.remove(directory)
    except SecureIppError:
        return  # somebody is about to open it
