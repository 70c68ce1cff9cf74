"""Tries a door as a stranger or as a probe would, and tells what the door did (S2).

Used by the doors' self-test, by `doctor` and by the demo: it is the real door that is tried, not the gate's word.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import zmq

from secure_ipp import limits
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.wire import monitor, sockets

if TYPE_CHECKING:
    from secure_ipp.access.prover import Prover, Trial

Verdict = Literal["admitted", "refused", "closed", "silent"]


def try_door(
    endpoint: str, server_key: CurvePublicKey, keys: KeyPair, timeout: float = limits.SELF_TEST_TIMEOUT_SECONDS, *,
    proves: Prover | None = None, spoilt: bool = False,
) -> Verdict:
    """One handshake with these keys, then away again.

    Args:
        endpoint: `tcp://host:port` or `ipc://path`.
        timeout: seconds.
        proves: proves the key in place of Curve, at an address that is a Unix socket (S25).
        spoilt: with a proof that does not hold, as of somebody who knows the public key alone.

    Returns:
        "admitted"; "refused" (the gate said no for good); "closed" (turned away for now, or nothing there);
        "silent" (no answer in time).

    Raises:
        zmq.ZMQError: no socket could be had, or the endpoint is none.
        EnvironmentProblem: Curve is needed, and this libzmq has none.
    """
    trial = proves.prove(keys, server_key) if proves is not None and endpoint.startswith("ipc:") else None
    if trial is not None and spoilt:
        trial = trial.spoilt()
    context = sockets.make_context()
    try:
        return _try(context, endpoint, server_key, keys, timeout, trial)
    finally:
        context.destroy(linger=0)


def _try(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, server_key: CurvePublicKey, keys: KeyPair, timeout: float,
    trial: Trial | None,
) -> Verdict:
    socket = sockets.connect(context, endpoint, server_key=server_key, keys=keys, trial=trial)
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
