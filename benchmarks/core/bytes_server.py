"""Takes and gives bytes over plain TCP, one thread for each connection: what ssh by itself can carry.

An order is two numbers: how many bytes follow, and how many are to come back.  `python -m core.bytes_server` prints its
port and serves until its stdin ends.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading

ORDER = struct.Struct("!QQ")
_PIECE = 1 << 20


def take(connection: socket.socket, buffer: memoryview) -> None:
    """Fill the buffer.

    Raises:
        EOFError: the connection has ended.
    """
    at = 0
    while at < len(buffer):
        came = connection.recv_into(buffer[at : at + _PIECE])
        if came == 0:
            raise EOFError
        at += came


def _serve(connection: socket.socket) -> None:
    kept = memoryview(bytearray(_PIECE))
    given = os.urandom(_PIECE)
    order = memoryview(bytearray(ORDER.size))
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                take(connection, order)
                comes, goes = ORDER.unpack(order)
                while comes:
                    piece = min(comes, _PIECE)
                    take(connection, kept[:piece])
                    comes -= piece
                while goes:
                    piece = min(goes, _PIECE)
                    connection.sendall(memoryview(given)[:piece])
                    goes -= piece
        except (EOFError, OSError):
            return


def _listen(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def main() -> None:
    """Serve until stdin ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=_listen, args=(listener,), daemon=True).start()
        sys.stdin.read()


if __name__ == "__main__":
    main()
