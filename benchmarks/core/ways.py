"""Ways to an engine, or to a bare server, through SSH: each can be called, pushed to and pulled from."""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import secure_ipp as ipp
from core import bytes_server, venvs
from core.figure import timed
from core.ipyparallel_ssh import random_bytes, trips
from core.session import Hung
from secure_ipp.client import client as client_module
from secure_ipp.tunnel.reach import Reached

_ROOT = Path(__file__).parent.parent
_START_SECONDS = 90.0
_CONNECT_SECONDS = 60.0


class Way:
    """One way; it is open once it is made, and closed in the end."""

    def trips(self, seconds: float, most: int) -> list[float]:
        """Milliseconds of each of many calls that do nothing, one after the other."""
        raise NotImplementedError

    def push(self, size: int) -> float:
        """Seconds to bring so many bytes there."""
        raise NotImplementedError

    def pull(self, size: int) -> float:
        """Seconds to bring back what was pushed last, or as much."""
        raise NotImplementedError

    def close(self) -> None:
        """Never raises."""


class Ours(Way):
    """Our client, by whatever way it is told to take."""

    def __init__(self, client: Any) -> None:
        self._client = client
        client.wait_for_engines(1, timeout=_CONNECT_SECONDS)
        self._view = client[0]

    @classmethod
    def straight(cls, file: str) -> Ours:
        return cls(ipp.Client(file, timeout=_CONNECT_SECONDS))

    @classmethod
    def through(cls, file: str, route: str, *, paramiko: bool) -> Ours:
        """By a tunnel of our own."""
        return cls(ipp.Client(file, timeout=_CONNECT_SECONDS, sshserver=route, paramiko=paramiko))

    @classmethod
    def by_hand(cls, file: str, port: int) -> Ours:
        """By a forward that somebody else has made; the files of users name no such door."""
        reached = Reached((f"tcp://127.0.0.1:{port}",), False, "by a forward made by hand", None)
        with mock.patch.object(client_module, "reach_door", lambda *_, **__: (reached, _CONNECT_SECONDS)):
            return cls(ipp.Client(file, timeout=_CONNECT_SECONDS))

    def trips(self, seconds: float, most: int) -> list[float]:
        return trips(self._view, seconds, most)

    def push(self, size: int) -> float:
        array = random_bytes(size)
        return timed(lambda: self._view.push({"pushed": array}, block=True))

    def pull(self, size: int) -> float:
        kept: list[Any] = []
        seconds = timed(lambda: kept.append(self._view.pull("pushed", block=True)))
        if len(kept[0]) != size:
            raise AssertionError("another array came back")
        return seconds

    def close(self) -> None:
        self._client.close()


class Bare(Way):
    """Plain bytes to a plain server."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), _CONNECT_SECONDS)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._byte = memoryview(bytearray(1))

    def _order(self, goes: Any, comes: memoryview) -> None:
        self._connection.sendall(bytes_server.ORDER.pack(len(goes), len(comes)))
        self._connection.sendall(goes)
        bytes_server.take(self._connection, comes)

    def trips(self, seconds: float, most: int) -> list[float]:
        return trips(self, seconds, most)

    def apply_sync(self, _: Callable[..., Any]) -> None:
        """A byte there, and a byte back."""
        self._order(b"", self._byte)

    def push(self, size: int) -> float:
        array = random_bytes(size).data
        return timed(lambda: self._order(array, self._byte))

    def pull(self, size: int) -> float:
        buffer = memoryview(bytearray(size))
        return timed(lambda: self._order(b"", buffer))

    def close(self) -> None:
        self._connection.close()


class IPyParallel(Way):
    """ipyparallel's own ``sshserver=``, in its own interpreter.

    Args:
        programs: goes first in its PATH: the ssh that it is to use.
        most: seconds for one order.
    """

    def __init__(self, programs: Path, log: Path, most: float) -> None:
        python = venvs.interpreter("ipyparallel")
        path = os.pathsep.join([str(programs), str(Path(python).parent), os.environ.get("PATH", "")])
        self._most = most
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [python, "-m", "core.ipyparallel_ssh", "bench"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, cwd=_ROOT, env={**os.environ, "PATH": path}, start_new_session=True,
            )
        try:
            self._answer(_START_SECONDS)
        except BaseException:
            self.close()
            raise

    def _answer(self, seconds: float) -> Any:
        pipe = self._process.stdout
        assert pipe is not None
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise Hung(f"no answer within {seconds:.0f} s")
        line = pipe.readline()  # it comes whole, in one write
        if not line:
            said = self._log.read_text(errors="replace").strip().splitlines() or ["no reason given"]
            raise Hung(f"its process has ended: {said[-1][:200]}")
        return json.loads(line)

    def _order(self, line: str, seconds: float = 0.0) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Hung("its process has ended") from None
        return self._answer(self._most + seconds)

    def trips(self, seconds: float, most: int) -> list[float]:
        found: list[float] = self._order(f"calls {seconds} {most}", seconds)
        return found

    def push(self, size: int) -> float:
        return float(self._order(f"push {size}"))

    def pull(self, size: int) -> float:
        return float(self._order(f"pull {size}"))

    def close(self) -> None:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        try:
            process.wait(self._most)
        except subprocess.TimeoutExpired:
            print("ipyparallel does not end; killed", file=sys.stderr)
            process.kill()
            process.wait()
        process.stdout.close()


def noop_once(way: Way) -> None:
    """Have what is made at the first call made."""
    way.trips(1.0, 20)


