"""One simulated host: a real agent link and many real engine links, with nothing behind them: `python -m core.swarm`.

The first line of stdin names the engine file and the number of engines.  Each has a session key that the agent has
announced, passes the gate, reports, and answers every task with nothing.  One JSON line on stdout for each change:
how many are registered, and why one failed.  The end of stdin is the end.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import time
from pathlib import Path
from typing import Any

from secure_ipp import limits
from secure_ipp.errors import SecureIppError
from secure_ipp.keys.capability import Capability, load_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.payload.objects import dumps
from secure_ipp.wire import messages
from secure_ipp.wire.connection import Connection
from secure_ipp.wire.loop import Loop

_NOTHING = [bytes(buffer) for buffer in dumps(None)]
_TELL_SECONDS = 0.25


class SimulatedEngine:
    """The talking half of an engine."""

    def __init__(self, host: SimulatedHost, keys: KeyPair) -> None:
        self._host = host
        self.highest = 0
        self.connection = host.connect("engine", keys, messages.ToEngine, self)

    def on_welcome(self, welcome: messages.Welcome) -> None:
        if not welcome.resumed:
            self._host.sessions += 1
            self.connection.send(
                messages.Report(
                    host=self._host.name, pid=os.getpid(), highest=self.highest, started=self.highest, live=[],
                    finished=[],
                )
            )

    def on_message(self, message: Any, frames: list[memoryview]) -> None:
        if isinstance(message, messages.Assign):
            self.highest = message.number
            now = time.time()
            self.connection.send(
                messages.Result(
                    message.number, message.owner, message.task, message.attempt, message.ticket, "ok", now, now,
                    _NOTHING, [],
                )
            )
        elif isinstance(message, messages.Registered):
            self._host.registered.add(message.id)
        elif isinstance(message, messages.Dismiss | messages.Goodbye):
            self._host.dismissed += 1
            self.connection.abandon()

    def on_acknowledged(self, tokens: list[object]) -> None:
        """Nothing is kept."""

    def on_lost(self, reason: str) -> None:
        self._host.lost += 1

    def on_failed(self, error: SecureIppError) -> None:
        self._host.failures.append(str(error)[:200])

    def on_closed(self) -> None:
        """Never asked for."""


class SimulatedHost:
    """The agent, and the loop that all share.

    Attributes:
        sessions: welcomes that were not resumptions; above the number of engines, some had to begin again.
        lost: connections that fell.
    """

    def __init__(self, capability: Capability, engines: int) -> None:
        self.name = socket.gethostname()[: limits.HOST_CHARS]
        self.registered: set[int] = set()
        self.failures: list[str] = []
        self.sessions = self.lost = self.dismissed = 0
        self._capability = capability
        self._loop = Loop()
        self._keys = {pair.public.raw: pair for pair in (KeyPair.generate() for _ in range(engines))}
        self._engines: dict[bytes, SimulatedEngine] = {}
        self._told: tuple[int, ...] = ()
        self._agent = self.connect("agent", capability.keys, messages.ToAgent, self)

    def connect(self, role: Any, keys: KeyPair, receives: Any, handler: Any) -> Connection:
        return Connection(
            self._loop, doors=self._capability.door, server_key=self._capability.server_key, keys=keys, role=role,
            receives=receives, handler=handler, first_patience=limits.AGENT_PATIENCE_SECONDS,
            patience=limits.AGENT_PATIENCE_SECONDS,
        )

    def run(self) -> None:
        """Until stdin ends."""
        self._loop.add_reader(0, self._loop.stop)
        self._loop.call_later(_TELL_SECONDS, self._tell)
        self._agent.start()
        self._loop.run()

    def _tell(self) -> None:
        self._loop.call_later(_TELL_SECONDS, self._tell)
        state = (len(self.registered), self.sessions, self.lost, self.dismissed, len(self.failures))
        if state != self._told:
            self._told = state
            names = ("registered", "sessions", "lost", "dismissed", "failed")
            said = dict(zip(names, state, strict=True)) | {"failure": self.failures[-1] if self.failures else ""}
            print(json.dumps(said), flush=True)

    # --- the agent's connection --------------------------------------------------------------------------

    def on_welcome(self, welcome: messages.Welcome) -> None:
        if not welcome.resumed:
            self._agent.send(messages.Join(self.name, os.getpid(), []))
            self._agent.send(messages.Announce(list(self._keys)))

    def on_message(self, message: Any, frames: list[memoryview]) -> None:
        if not isinstance(message, messages.Announced):
            return
        if not message.uuid:
            self.failures.append(message.reason)
        elif message.key not in self._engines:
            engine = self._engines[message.key] = SimulatedEngine(self, self._keys[message.key])
            engine.connection.start()
            self._agent.send(messages.EngineStarted(message.uuid, os.getpid()))

    def on_acknowledged(self, tokens: list[object]) -> None:
        """Nothing is kept."""

    def on_lost(self, reason: str) -> None:
        self.lost += 1

    def on_failed(self, error: SecureIppError) -> None:
        self.failures.append(f"the agent: {error}"[:200])

    def on_closed(self) -> None:
        """Never asked for."""


def main() -> None:
    with open(0, "rb", buffering=0, closefd=False) as told:  # unbuffered, since the loop watches the descriptor
        orders = json.loads(told.readline())
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    SimulatedHost(load_capability(Path(orders["file"])), int(orders["engines"])).run()


if __name__ == "__main__":
    main()
