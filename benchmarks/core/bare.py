"""The ceiling: a plain Python ROUTER/ROUTER loop with Curve, and echoing engines; no tasks, no ids, no promises.

    python -m core.bare router      keys and ports travel over stdin and stdout, one JSON line each
    python -m core.bare engine

A message of a client is [target, kind, data...]: an empty target is any engine, in turn.  Kinds: `t` a task, answered
by its number alone; `c` a chunk that is kept, and acknowledged; `p` ask for one chunk of what is kept.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import zmq

TASK, CHUNK, PULL = b"t", b"c", b"p"
CHUNK_BYTES = 1 << 20
_DRAIN = 256  # messages taken from one socket before the other has its turn


def curve_client(context: Any, keys: dict[str, str]) -> Any:
    """A DEALER towards the router."""
    socket = context.socket(zmq.DEALER)
    public, secret = zmq.curve_keypair()
    socket.setsockopt(zmq.LINGER, 0)
    socket.set_hwm(0)
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.curve_serverkey = keys["public"].encode()
    return socket


def _bound(context: Any, keys: dict[str, str]) -> tuple[Any, int]:
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.set_hwm(0)
    socket.curve_server = True
    socket.curve_secretkey, socket.curve_publickey = keys["secret"].encode(), keys["public"].encode()
    return socket, socket.bind_to_random_port("tcp://127.0.0.1")


def router(keys: dict[str, str]) -> None:
    """Pass messages on, one for one."""
    context = zmq.Context()
    (clients, front), (engines, back) = _bound(context, keys), _bound(context, keys)
    print(json.dumps({"clients": front, "engines": back}), flush=True)
    names: list[bytes] = []
    poller = zmq.Poller()
    for source in (clients, engines, sys.stdin.fileno()):
        poller.register(source, zmq.POLLIN)
    turn = 0
    while True:
        ready = dict(poller.poll())
        if sys.stdin.fileno() in ready:
            return  # whoever started this is gone, or has had enough
        for _ in range(_DRAIN if clients in ready else 0):
            try:
                client, target, *rest = clients.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            name = target.bytes
            if not name:
                turn = (turn + 1) % len(names)
                name = names[turn]
            engines.send_multipart([name, client, *rest], copy=False)
        for _ in range(_DRAIN if engines in ready else 0):
            try:
                name, client, *rest = engines.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            if rest:
                clients.send_multipart([client, *rest], copy=False)
            else:
                names.append(name.bytes)
                print(json.dumps({"engine": len(names)}), flush=True)


def engine(orders: dict[str, str]) -> None:
    """Answer."""
    socket = curve_client(zmq.Context(), orders)
    socket.setsockopt(zmq.IDENTITY, orders["name"].encode())
    socket.connect(f"tcp://127.0.0.1:{orders['port']}")
    socket.send(b"")  # here I am
    kept: Any = b""
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    while True:
        if sys.stdin.fileno() in dict(poller.poll()):
            return
        for _ in range(_DRAIN):
            try:
                client, kind, *data = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            if kind.bytes == TASK:
                socket.send_multipart([client, data[0]], copy=False)
            elif kind.bytes == CHUNK:
                if len(data[0]) >= len(kept):  # the last one of an array is shorter
                    kept = data[0]
                socket.send_multipart([client, b"k"], copy=False)
            else:
                socket.send_multipart([client, kept], copy=False)


def main() -> None:
    orders = json.loads(sys.stdin.readline())
    (router if sys.argv[1] == "router" else engine)(orders)


if __name__ == "__main__":
    main()
