"""A scheduler of the tests' own: real doors, a real agent and real engines, and no policy at all."""

from __future__ import annotations

import collections
import itertools
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec

from secure_ipp import limits
from secure_ipp.access.gate import Gate
from secure_ipp.access.table import Admission, GateTable
from secure_ipp.errors import SecureIppError
from secure_ipp.keys.capability import Capability, sign_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.payload import calls
from secure_ipp.payload.body import Assembly, as_body
from secure_ipp.payload.objects import loads
from secure_ipp.wire import messages, sockets
from secure_ipp.wire.door import Door
from secure_ipp.wire.loop import Loop

SECONDS = 20.0
ROOT = str(Path(__file__).resolve().parents[2])


class RemoteFailure(Exception):
    """A task ended with an error."""

    def __init__(self, result: messages.Result) -> None:
        assert result.error is not None
        super().__init__(f"{result.error.ename}: {result.error.evalue}")
        self.ename = result.error.ename
        self.evalue = result.error.evalue
        self.traceback = "".join(result.error.traceback)


class Stage:
    """The scheduler's place, played by a test."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.keys = KeyPair.generate()
        self.join_keys = KeyPair.generate()
        self.admitted: dict[tuple[str, bytes], Admission] = {
            ("engine", self.join_keys.public.raw): Admission("agent-id", "agent", "engines")
        }
        self.gate = Gate(lambda event: None)
        self.loop = Loop()
        self.gate.run_in_thread(sockets.zap_socket(self.loop.context))
        self._publish()
        self.incarnation = os.urandom(16)
        self.port = 0
        self.door: Door | None = None
        self.open_door()
        self.agent_session: Any = None
        self.sessions: dict[str, Any] = {}
        self.inbox: queue.Queue[tuple[str, Any, bytes]] = queue.Queue()
        self.aside: list[tuple[str, Any, bytes]] = []
        self.numbers: dict[str, itertools.count[int]] = collections.defaultdict(lambda: itertools.count(1))
        self._uuids = (f"engine-{i}" for i in itertools.count())
        self.uuid_of: dict[bytes, str] = {}
        self.welcome_engines = True
        self.sent: set[tuple[str, bytes]] = set()
        self.process: subprocess.Popen[bytes] | None = None
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._beat()
        self.thread = threading.Thread(target=self.loop.run, daemon=True)
        self.thread.start()

    # --- the door --------------------------------------------------------------------------------------------

    def open_door(self) -> None:
        for port in [self.port] if self.port else range(limits.PORT_FIRST + os.getpid() % 5000, limits.PORT_LAST):
            try:
                self.door = Door(
                    self.loop, gate=self.gate, domain="engine", endpoints=[f"tcp://127.0.0.1:{port}"], keys=self.keys,
                    cluster="stage", receives={"agent": messages.FromAgent, "engine": messages.FromEngine},
                    handler=self, incarnation=self.incarnation,
                )
            except SecureIppError:
                if self.port:
                    raise
                continue
            self.port = port
            return

    def restart(self) -> None:
        """As if the scheduler had died and come back, knowing the keys and nothing else."""

        assert self.door is not None
        self.in_loop(self.door.close)
        self.sessions.clear()
        self.sent.clear()
        self.reopen()

    def reopen(self) -> None:
        """Open the door again, in another incarnation; libzmq gives the port free a little after its close."""
        self.incarnation = os.urandom(16)
        until = time.monotonic() + SECONDS
        while True:
            try:
                self.in_loop(self.open_door)
                return
            except SecureIppError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def _publish(self) -> None:
        self.gate.replace(GateTable(dict(self.admitted)))
        self.gate.heard(time.monotonic())

    def _beat(self) -> None:
        self.gate.heard(time.monotonic())
        self.loop.call_later(0.5, self._beat)

    def in_loop(self, call: Callable[[], Any]) -> Any:
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(call())
            except Exception as error:
                done.set_exception(error)

        self.loop.call_threadsafe(run)
        return done.result(SECONDS)

    # --- the door's handler ----------------------------------------------------------------------------------

    def on_open(self, session: Any) -> None:
        if session.role == "agent":
            self.agent_session = session
        else:
            self.sessions[session.user] = session

    def on_message(self, session: Any, message: Any, frame: Any | None) -> None:
        data = bytes(frame.buffer) if frame is not None else b""
        if isinstance(message, messages.Announce):
            for key in message.keys:
                uuid = self.uuid_of.setdefault(key, next(self._uuids))
                self.admitted["engine", key] = Admission(uuid, "engine", "session")
                self._publish()
                session.send(messages.Announced(key, uuid))
        if isinstance(message, messages.Report) and self.welcome_engines:
            session.send(messages.Registered(int(session.user.rpartition("-")[2]), session.user))
        self.inbox.put((session.user, message, data))

    def on_acknowledged(self, session: Any, tokens: list[object]) -> None:
        pass

    def on_resumed(self, session: Any) -> None:
        self.inbox.put((session.user, "resumed", b""))

    def on_lost(self, session: Any) -> None:
        self.inbox.put((session.user, "lost", b""))

    def on_gone(self, session: Any, reason: str) -> None:
        self.inbox.put((session.user, "gone", b""))

    def on_incident(self, event: str, details: dict[str, str]) -> None:
        self.inbox.put(("", ("incident", event, details), b""))

    # --- the agent -------------------------------------------------------------------------------------------

    def capability(self, **changes: Any) -> Capability:
        values: dict[str, Any] = {
            "cluster": "stage", "cluster_id": "a" * 22, "role": "engine", "name": "engines", "rights": ("join",),
            "expires": 0, "server_keys": (self.keys.public,), "door": (f"tcp://127.0.0.1:{self.port}",),
        }  # fmt: skip
        return sign_capability(IssuerKey.generate(), keys=self.join_keys, **{**values, **changes})

    def start_agent(self, engines: int = 1, environment: dict[str, str] | None = None, **changes: Any) -> None:
        reading, writing = os.pipe()
        told = {
            "capability": self.capability().as_dict(), "engines": engines, "work_dir": str(self.tmp_path),
            "ready_fd": writing, "log_level": "DEBUG", **changes,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "secure_ipp.engine.agent"], stdin=subprocess.PIPE, pass_fds=(writing,),
            env={**os.environ, "PYTHONPATH": ROOT, **(environment or {})},
        )
        os.close(writing)
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(told) + b"\n")
        self.process.stdin.close()

        def listen() -> None:
            with os.fdopen(reading, "rb") as lines:
                for line in lines:
                    self.events.put(msgspec.json.decode(line))

        threading.Thread(target=listen, daemon=True).start()

    def up(self, engines: int = 1, **changes: Any) -> list[str]:
        """Start an agent and wait for its engines; their uuids in the order of their ids."""
        self.start_agent(engines, **changes)
        assert self.event()["event"] == "joined"
        return [event["uuid"] for event in sorted((self.event() for _ in range(engines)), key=lambda e: e["id"])]

    def event(self) -> dict[str, Any]:
        event = self.events.get(timeout=SECONDS)
        return event

    # --- talking ---------------------------------------------------------------------------------------------

    def say(self, uuid: str, message: messages.Message, frame: Any | None = None) -> None:
        self.in_loop(lambda: self.sessions[uuid].send(message, frame))

    def tell_agent(self, message: messages.Message) -> None:
        self.in_loop(lambda: self.agent_session.send(message))

    def wait_for(self, wanted: type | Callable[[Any], bool], uuid: str | None = None) -> tuple[Any, bytes]:
        """The next message of a kind; others are put aside, in order."""
        test = (lambda message: isinstance(message, wanted)) if isinstance(wanted, type) else wanted
        for index, (sender, message, data) in enumerate(self.aside):
            if test(message) and uuid in (None, sender):
                del self.aside[index]
                return message, data
        until = time.monotonic() + SECONDS
        while True:
            sender, message, data = self.inbox.get(timeout=max(0.01, until - time.monotonic()))
            if test(message) and uuid in (None, sender):
                return message, data
            self.aside.append((sender, message, data))

    def drop_seen(self) -> None:
        self.aside.clear()
        while not self.inbox.empty():
            self.inbox.get()

    def assign(self, uuid: str, call: calls.PackedCall, *, owner: str = "owner", send_function: bool = True) -> int:
        """Give a task; returns its number."""
        number = next(self.numbers[uuid])
        if call.digest and send_function and (uuid, call.digest) not in self.sent:
            self.sent.add((uuid, call.digest))
            self.say(uuid, messages.EngineFunction(owner, call.digest, call.code))
        body, sizes, stream = as_body(call.buffers)
        self.say(
            uuid,
            messages.Assign(number, owner, f"task-{number}", 1, b"t", call.kind, call.digest, body, sizes),
        )
        if stream is not None:
            under_way = 0
            for offset, piece in stream.pieces():
                while under_way + piece.nbytes > limits.STREAM_CREDIT_BYTES:
                    under_way -= self.wait_for(messages.EngineCredit, uuid)[0].bytes
                self.say(uuid, messages.EngineChunk(number, offset), bytes(piece))
                under_way += piece.nbytes
        return number

    def result(self, uuid: str, number: int) -> messages.Result:
        message, _ = self.wait_for(lambda m: isinstance(m, messages.Result) and m.number == number, uuid)
        assert isinstance(message, messages.Result)
        return message

    def value(self, uuid: str, number: int) -> Any:
        """What a task returned; its large result is fetched."""
        result = self.result(uuid, number)
        if result.status != "ok":
            raise RemoteFailure(result)
        buffers: list[Any] = list(result.body)
        if result.sizes:
            assembly = Assembly(result.sizes)
            self.say(uuid, messages.EnginePull(number))
            while not assembly.complete:
                chunk, data = self.wait_for(messages.EngineChunk, uuid)
                assembly.add(chunk.offset, data)
                self.say(uuid, messages.EngineCredit(number, len(data)))
            buffers = assembly.buffers()
        self.say(uuid, messages.Kept([number]))
        return loads(buffers, trust="any")

    def apply(self, uuid: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.value(uuid, self.assign(uuid, calls.pack_call(function, args, kwargs)))

    def execute(self, uuid: str, code: str, **flags: Any) -> messages.Result:
        return self.result(uuid, self.assign(uuid, calls.pack_execute(code, **flags)))

    def output(self, number: int) -> str:
        """Everything that was written by a task so far, and seen here."""
        while not self.inbox.empty():
            self.aside.append(self.inbox.get())
        return "".join(m.text for _, m, _ in self.aside if isinstance(m, messages.EngineOutput) and m.number == number)

    # --- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.door is not None:
            self.in_loop(self.door.close)
        self.loop.stop()
        self.thread.join(SECONDS)
        self.gate.stop()
        self.loop.close()
