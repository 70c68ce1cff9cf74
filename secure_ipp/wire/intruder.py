"""Tries a door as a stranger or as a probe would, and tells what the door did (S2).

Used by the doors' self-test, by `doctor` and by the demo: it is the real door that is tried, not the gate's word.
"""

from __future__ import annotations

import time
from typing import Literal

import zmq

from secure_ipp import limits
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.wire import monitor, sockets

Verdict = Literal["admitted", "refused", "closed", "silent"]


def try_door(
    endpoint: str, server_key: CurvePublicKey, keys: KeyPair, timeout: float = limits.SELF_TEST_TIMEOUT_SECONDS
) -> Verdict:
    """One handshake with these keys, then away again.

    Args:
        endpoint: `tcp://host:port` or `ipc://path`.
        timeout: seconds.

    Returns:
        "admitted"; "refused" (the gate said no for good); "closed" (turned away for now, or nothing there);
        "silent" (no answer in time).

    Raises:
        zmq.ZMQError: no socket could be had, or the endpoint is none.
    """
    context = sockets.make_context()
    try:
        return _try(context, endpoint, server_key, keys, timeout)
    finally:
        context.destroy(linger=0)


def _try(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, server_key: CurvePublicKey, keys: KeyPair, timeout: float
) -> Verdict:
    socket = sockets.connect(context, endpoint, server_key=server_key, keys=keys)
    watch = monitor.Monitor(socket)
    try:
        socket.connect(endpoint)
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            watch.socket.poll(int(left * 1000) + 1)
            for event in watch.events():
                if event.event == monitor.HANDSHAKE_SUCCEEDED:
                    return "admitted"
                if event.event == monitor.HANDSHAKE_FAILED_AUTH:
                    return "refused"
                if event.event in (
                    monitor.DISCONNECTED, monitor.CLOSED, monitor.HANDSHAKE_FAILED_PROTOCOL,
                    monitor.HANDSHAKE_FAILED_NO_DETAIL,
                ):
                    return "closed"
        return "silent"
    finally:
        watch.close()
        socket.close(0)
