"""What a socket's monitor tells, as typed events in order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import zmq

ACCEPTED = int(zmq.EVENT_ACCEPTED)
CLOSED = int(zmq.EVENT_CLOSED)
CONNECTED = int(zmq.EVENT_CONNECTED)
DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
HANDSHAKE_SUCCEEDED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
HANDSHAKE_FAILED_AUTH = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
HANDSHAKE_FAILED_PROTOCOL = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
HANDSHAKE_FAILED_NO_DETAIL = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
_ALL = (
    ACCEPTED | CLOSED | CONNECTED | DISCONNECTED | HANDSHAKE_SUCCEEDED | HANDSHAKE_FAILED_AUTH
    | HANDSHAKE_FAILED_PROTOCOL | HANDSHAKE_FAILED_NO_DETAIL
)


@dataclass(frozen=True, slots=True)
class SocketEvent:
    """`value` is a descriptor, an errno or a ZAP status code, as the event has it."""

    event: int
    value: int


class Monitor:
    """The monitor of one socket; to be closed before it."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._watched = socket
        self.socket: zmq.Socket[bytes] = socket.get_monitor_socket(_ALL)

    def events(self) -> Iterator[SocketEvent]:
        """All that happened since the last call; never waits."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            event, value = struct.unpack_from("=HI", frames[0])
            yield SocketEvent(event, value)

    def close(self) -> None:
        for _ in self.events():
            """Nothing may be left: libzmq would wait for room for one more event, and this thread for libzmq."""
        if not self._watched.closed:
            self._watched.disable_monitor()
        self.socket.close(0)
