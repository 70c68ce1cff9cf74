"""Where an agent's engines come from: forked by a template, or spawned by exec where that cannot be.

Both tell one `Family` of births and deaths; engines get their keys through a socket of their own, never through
argv, environment or the template.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from typing import Protocol

import msgspec

from secure_ipp.engine.bootstrap import Lines, TemplateEvent, TemplateOrder, send_line
from secure_ipp.wire.loop import Loop

log = logging.getLogger("secure_ipp.engine")
_POLL_SECONDS = 0.1  # how often spawned engines are asked whether they still run
_END_SECONDS = 2.0  # a template whose socket has ended kills its children and goes


class Family(Protocol):
    """Told of engines' processes, in the loop's thread."""

    def on_running(self, uuid: str, pid: int) -> None:
        """The process is there."""

    def on_exited(self, uuid: str, status: int, reason: str) -> None:
        """The process is gone."""

    def on_refused(self, uuid: str, reason: str) -> None:
        """This nursery cannot make it."""


class Nursery(Protocol):
    """Makes engines."""

    def start(self, uuid: str, engine_socket: socket.socket, page: int) -> None:
        """Make one; its bootstrap waits in the socket's other end."""

    def signal(self, uuid: str, signum: int) -> None:
        """Signal its process, if it is there."""

    def close(self) -> None:
        """End; all engines of it end too."""


def _command(module: str, *arguments: int) -> list[str]:
    return [sys.executable, "-P", "-m", module, *map(str, arguments), str(os.getpid())]


class TemplateNursery:
    """Engines forked from a warm process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._channel = ours
        self._lines = Lines(ours)
        self._process = subprocess.Popen(
            _command("secure_ipp.engine.template", theirs.fileno()), stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        self._alive: set[str] = set()
        self._ended = False

    def join(self, loop: Loop, family: Family, preload: list[str]) -> None:
        """Begin to listen."""
        self._loop = loop
        self._family = family
        self._channel.setblocking(False)
        loop.add_reader(self._channel.fileno(), self._listen)
        if preload:
            self._order(TemplateOrder("preload", modules=preload))

    @property
    def usable(self) -> bool:
        return not self._ended

    def start(self, uuid: str, engine_socket: socket.socket, page: int) -> None:
        self._alive.add(uuid)
        self._order(TemplateOrder("fork", uuid), (engine_socket.fileno(), page))

    def signal(self, uuid: str, signum: int) -> None:
        if uuid in self._alive:
            self._order(TemplateOrder("signal", uuid, signum))

    def close(self) -> None:
        if not self._ended:
            self._ended = True
            self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _order(self, order: TemplateOrder, descriptors: tuple[int, ...] = ()) -> None:
        self._channel.setblocking(True)
        send_line(self._channel, order, descriptors)
        self._channel.setblocking(False)

    def _listen(self) -> None:
        for line in self._lines.read():
            event = msgspec.json.decode(line, type=TemplateEvent)
            if event.event == "forked":
                self._family.on_running(event.uuid, event.pid)
            elif event.event == "exited":
                self._alive.discard(event.uuid)
                self._family.on_exited(event.uuid, event.status, "")
            elif event.event == "refused":
                self._alive.discard(event.uuid)
                self._family.on_refused(event.uuid, event.reason)
        if self._lines.ended and not self._ended:
            self._ended = True
            self._loop.remove_reader(self._channel.fileno())
            alive, self._alive = self._alive, set()
            for uuid in alive:
                self._family.on_exited(uuid, -signal.SIGKILL, "the template that it was forked from died")


class SpawnNursery:
    """Engines started by exec, each on its own."""

    def __init__(self, loop: Loop, family: Family) -> None:
        self._loop = loop
        self._family = family
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._polling = False

    def start(self, uuid: str, engine_socket: socket.socket, page: int) -> None:
        descriptors = (engine_socket.fileno(), page)
        process = subprocess.Popen(
            _command("secure_ipp.engine.process", *descriptors), stdin=subprocess.DEVNULL, pass_fds=descriptors
        )
        self._processes[uuid] = process
        self._loop.call_later(0.0, lambda: self._family.on_running(uuid, process.pid))
        if not self._polling:
            self._polling = True
            self._loop.call_later(_POLL_SECONDS, self._poll)

    def signal(self, uuid: str, signum: int) -> None:
        process = self._processes.get(uuid)
        if process is not None:
            process.send_signal(signum)

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()

    def _poll(self) -> None:
        for uuid, process in list(self._processes.items()):
            status = process.poll()
            if status is not None:
                del self._processes[uuid]
                self._family.on_exited(uuid, status, "")
        self._polling = bool(self._processes)
        if self._polling:
            self._loop.call_later(_POLL_SECONDS, self._poll)
