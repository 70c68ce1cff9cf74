"""The bare router as a peer: what Curve and one Python process in the middle allow at best."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from core import bare
from core.peer import NotOffered, Peer

_WINDOW = 1000  # tasks under way
_CHUNKS = 4  # chunks of one engine under way: as many MiB
_WAIT_MS = 20_000


class Router(Peer):
    """A router process, engine processes, and a socket here."""

    name = "router"

    def start(self, engines: int) -> None:
        public, secret = (key.decode() for key in zmq.curve_keypair())
        self._children: list[subprocess.Popen[bytes]] = []
        self._keys = {"public": public, "secret": secret}
        middle = self._child("router", self._keys)
        assert middle.stdout is not None
        self._ports = json.loads(middle.stdout.readline())
        for number in range(engines):
            self._child("engine", {"public": public, "name": f"engine-{number}", "port": str(self._ports["engines"])})
        for _ in range(engines):
            json.loads(middle.stdout.readline())
        self._connect(engines)

    def _child(self, what: str, orders: dict[str, str]) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-m", "core.bare", what], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if what == "router" else subprocess.DEVNULL,
        )
        self._children.append(child)
        assert child.stdin is not None
        child.stdin.write(json.dumps(orders).encode() + b"\n")
        child.stdin.flush()
        return child

    def _connect(self, engines: int) -> None:
        self._targets = [f"engine-{number}".encode() for number in range(engines)]
        self._sizes = dict.fromkeys(self._targets, 0)
        self._context = zmq.Context()
        self._socket = bare.curve_client(self._context, self._keys)
        self._socket.connect(f"tcp://127.0.0.1:{self._ports['clients']}")

    def stop(self) -> None:
        self.leave()
        for child in self._children:
            assert child.stdin is not None
            child.stdin.close()
        for child in self._children:
            child.wait()
            if child.stdout is not None:
                child.stdout.close()

    def another(self) -> Router:
        second = Router()
        second._keys, second._ports = self._keys, self._ports
        second._connect(self.engines)
        return second

    def leave(self) -> None:
        self._socket.close(0)
        self._context.term()

    def _answer(self) -> list[Any]:
        if not self._socket.poll(_WAIT_MS):
            raise TimeoutError("the bare router does not answer")
        return list(self._socket.recv_multipart(copy=False))

    # --- tasks -------------------------------------------------------------------------------------------

    def map(self, f: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        socket, under_way = self._socket, 0
        for number, item in enumerate(items):
            if under_way >= _WINDOW:
                self._answer()
                under_way -= 1
            payload = [item] if isinstance(item, bytes) else []
            socket.send_multipart([b"", bare.TASK, b"%d" % number, *payload], copy=False)
            under_way += 1
        for _ in range(under_way):
            self._answer()
        return [None] * len(items)

    def call(self, f: Callable[..., Any], *arguments: Any) -> Any:
        if arguments:
            raise NotOffered("tasks that do something")
        self._socket.send_multipart([b"", bare.TASK, b"0"])
        return self._answer()

    def call_on(self, engine: int, f: Callable[..., Any], *arguments: Any) -> Any:
        self._socket.send_multipart([self._targets[engine], bare.TASK, b"0"])
        return self._answer()

    def call_all(self, f: Callable[..., Any], *arguments: Any) -> Any:
        for target in self._targets:
            self._socket.send_multipart([target, bare.TASK, b"0"])
        return [self._answer() for _ in self._targets]

    # --- bulk: chunks of 1 MiB ---------------------------------------------------------------------------

    def push(self, engine: int, value: Any) -> None:
        self._push([self._targets[engine]], value)

    def push_all(self, value: Any) -> None:
        self._push(self._targets, value)

    def _push(self, targets: list[bytes], value: Any) -> None:
        view = memoryview(value).cast("B")
        under_way = 0
        for offset in range(0, len(view), bare.CHUNK_BYTES):
            for target in targets:
                if under_way >= _CHUNKS * len(targets):
                    self._answer()
                    under_way -= 1
                piece = view[offset : offset + bare.CHUNK_BYTES]
                self._socket.send_multipart([target, bare.CHUNK, piece], copy=False)
                under_way += 1
        for _ in range(under_way):
            self._answer()
        for target in targets:
            self._sizes[target] = len(view)

    def pull(self, engine: int) -> Any:
        target = self._targets[engine]
        total = self._sizes[target]
        whole = bytearray(total)
        asked = taken = 0
        while taken < total:
            while asked < total and asked - taken < _CHUNKS * bare.CHUNK_BYTES:
                self._socket.send_multipart([target, bare.PULL])
                asked += bare.CHUNK_BYTES
            piece = self._answer()[0].buffer
            size = min(len(piece), total - taken)
            whole[taken : taken + size] = piece[:size]
            taken += size
        return whole

    def is_controller(self, command: str) -> bool:
        return "core.bare router" in command

