"""Rogue peers: real keys, real connections, and whatever they like to say; and honest work that must go on beside."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import zmq

from secure_ipp.audit.record import TaskRow
from secure_ipp.cluster import control
from secure_ipp.cluster.registry_change import apply
from secure_ipp.errors import SecureIppError
from secure_ipp.keys.capability import Capability, dump_capability, load_capability, sign_capability
from secure_ipp.keys.cluster_keys import load_issuer, load_server
from secure_ipp.keys.config import load_config
from secure_ipp.keys.curve import CurvePublicKey, KeyPair
from secure_ipp.keys.grants import sign_grant
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import write_private
from secure_ipp.wire import messages, sockets
from secure_ipp.wire.codec import encode_message, join_packet
from secure_ipp.wire.connection import Connection
from secure_ipp.wire.greeting import make_hello
from secure_ipp.wire.loop import Loop
from tests.running import RunningCluster, journal_lines, wait_until

PATIENT = 15.0
_HEARS = {"client": messages.ToClient, "agent": messages.ToAgent, "engine": messages.ToEngine}
_names = itertools.count(1)


def issue(
    place: ClusterPlace, rights: Sequence[str], role: Literal["client", "engine"] = "client", engines: int = 0
) -> Capability:
    """One more identity, by the primitives of the owner's commands; in force when this returns."""
    issuer, config, server = load_issuer(place), load_config(place), load_server(place).keys
    keys, name = KeyPair.generate(), f"mallory-{next(_names)}"
    grant = sign_grant(
        issuer, config.cluster_id, name=name, role=role, key=keys.public, rights=tuple(rights), now=time.time(),
        engines=engines, signing_key=HolderKey.of(keys.secret).public() if role == "client" else None,
    )
    capability = sign_capability(
        issuer, keys=keys, cluster=config.cluster, cluster_id=config.cluster_id, role=role, name=name,
        rights=tuple(rights), expires=0, server_keys=(server.public,),
        door=config.doors(config.client_port if role == "client" else config.engine_port),
    )
    write_private(place.dir / f"{name}.json", dump_capability(capability))
    assert apply(place, issuer, lambda old: old.with_grant(grant)).in_force
    return capability


def revoke(place: ClusterPlace, capability: Capability) -> None:
    """Take an identity's grant away; its key is retired."""

    def change(old: Any) -> Any:
        return old.without_grant(old.named(capability.name).id)

    assert apply(place, load_issuer(place), change).in_force


def grant_id(place: ClusterPlace, name: str) -> str:
    grants = control.ask(place, "status")["registry"]["grants"]
    return str(next(grant["id"] for grant in grants if grant["name"] == name))


class Rogue:
    """One end of a real link, under a key that was issued or announced.

    Args:
        role: what it says it is.
        patience: seconds to try.
    """

    def __init__(
        self, doors: Sequence[str], server_key: CurvePublicKey, keys: KeyPair, role: Any = "client",
        patience: float = 5.0,
    ) -> None:
        self.seen: list[Any] = []
        self.welcome: messages.Welcome | None = None
        self.error: SecureIppError | None = None
        self.lost: list[str] = []
        self.failed_at = 0.0  # monotonic
        self._changed = threading.Condition()
        self._loop = Loop()
        self.connection = Connection(
            self._loop, doors=doors, server_key=server_key, keys=keys, role=role,
            receives=_HEARS.get(role, messages.ToClient), handler=self, first_patience=patience, patience=patience,
        )
        self._loop.call_threadsafe(self.connection.start)
        self._thread = threading.Thread(target=self._loop.run, daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, capability: Capability, role: Any = "", **options: Any) -> Rogue:
        """Under a file's own key, at its own door, in its own role."""
        role = role or {"client": "client", "engine": "agent"}[capability.role]
        return cls(options.pop("doors", capability.door), capability.server_key, capability.keys, role, **options)

    # --- handler -------------------------------------------------------------------------------------------

    def _note(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def on_welcome(self, welcome: messages.Welcome) -> None:
        self._note(lambda: setattr(self, "welcome", welcome))

    def on_message(self, message: Any, frames: list[memoryview]) -> None:
        self._note(lambda: self.seen.append(message))

    def on_acknowledged(self, tokens: list[object]) -> None:
        """Of no interest."""

    def on_lost(self, reason: str) -> None:
        self._note(lambda: self.lost.append(reason))

    def on_failed(self, error: SecureIppError) -> None:
        self.failed_at = time.monotonic()
        self._note(lambda: setattr(self, "error", error))

    def on_closed(self) -> None:
        """Never asked for."""

    # --- for tests -----------------------------------------------------------------------------------------

    def come_in(self) -> Rogue:
        self._until(lambda: self.welcome, "a welcome")
        return self

    def say(self, *said: messages.Message, frame: bytes | None = None) -> None:
        """All in one turn."""

        def send() -> None:
            for message in said:
                self.connection.send(message, () if frame is None else (frame,))

        self._loop.call_threadsafe(send)

    def all(self, kind: type) -> list[Any]:
        with self._changed:
            return [message for message in self.seen if isinstance(message, kind)]

    def hear(self, kind: type | tuple[type, ...], which: Callable[[Any], bool] = lambda _: True) -> Any:
        """The first message of this kind that fits, waiting for it."""
        return self._until(
            lambda: next((m for m in self.seen if isinstance(m, kind) and which(m)), None), str(kind)
        )

    def refused(self) -> SecureIppError:
        """How it was put out for good, waiting for that."""
        error: SecureIppError = self._until(lambda: self.error, "a refusal")
        return error

    def _until(self, holds: Callable[[], Any], what: str) -> Any:
        with self._changed:
            found = self._changed.wait_for(holds, PATIENT)
            assert found, f"no {what}; error {self.error}, lost {self.lost}, seen {self.seen[-5:]}"
            return found

    def close(self) -> None:
        """With a goodbye, so that nobody waits for it to come back."""
        self._loop.call_threadsafe(lambda: self.connection.close("", 1.0))
        wait_until(lambda: self.connection.ended, 5.0)
        self._loop.stop()
        self._thread.join(5)
        self._loop.close()


class RawRogue:
    """A DEALER with a good key and no manners: says bytes, not messages."""

    def __init__(self, door: str, server_key: CurvePublicKey, keys: KeyPair) -> None:
        self._context = sockets.make_context()
        self.socket = sockets.connect(self._context, door, server_key=server_key, keys=keys)
        self.socket.connect(door)
        self._number = 0

    def greet(self, role: Any) -> bytes:
        self.socket.send(encode_message(make_hello(role, b"", 0)))
        return self.hear()

    def packet(self, *said: messages.Message, number: int | None = None) -> bytes:
        self._number += 1
        return join_packet(self._number if number is None else number, 0, [encode_message(m) for m in said])

    def send(self, *frames: bytes, flags: int = 0) -> None:
        self.socket.send_multipart(list(frames), flags)

    def hear(self) -> bytes:
        assert self.socket.poll(int(PATIENT * 1000), zmq.POLLIN), "no answer"
        return self.socket.recv_multipart()[0]

    def close(self) -> None:
        self.socket.close(0)
        self._context.destroy(linger=0)


class Rogues:
    """Makes rogues of a cluster, and puts them away."""

    def __init__(self, cluster: RunningCluster) -> None:
        self.cluster = cluster
        self.place = cluster.place
        self._made: list[Any] = []

    @property
    def owner(self) -> Capability:
        return load_capability(self.place.client_file)

    @property
    def host(self) -> Capability:
        return load_capability(self.place.engine_file)

    def keep(self, rogue: Any) -> Any:
        self._made.append(rogue)
        return rogue

    def of(self, capability: Capability, role: Any = "", **options: Any) -> Rogue:
        rogue: Rogue = self.keep(Rogue.of(capability, role, **options))
        return rogue

    def raw(self, capability: Capability) -> RawRogue:
        raw: RawRogue = self.keep(RawRogue(capability.door[0], capability.server_key, capability.keys))
        return raw

    def close(self) -> None:
        for rogue in self._made:
            rogue.close()
        self._made.clear()


class Trail:
    """The journal from now on, each task a record of its own."""

    def __init__(self, place: ClusterPlace) -> None:
        self._place = place
        self._after = journal_lines(place)[-1]["n"]

    def lines(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for line in journal_lines(self._place, self._after):
            tasks = [dict(zip(TaskRow.__struct_fields__, row, strict=True)) for row in line.get("tasks", ())]
            found += [{**line, "event": "task_ended", **task} for task in tasks] or [line]
        return found

    def wait(self, what: str, **details: str) -> dict[str, Any]:
        """The first record of this event with these details (each a part of its text)."""

        def fits(line: dict[str, Any]) -> bool:
            inside = {**line, **line.get("details", {})}
            named = what in (line["event"], line.get("what"))
            return named and all(text in str(inside.get(name, "")) for name, text in details.items())

        found: dict[str, Any] = wait_until(
            lambda: next((line for line in self.lines() if fits(line)), None), PATIENT, f"{what} {details}"
        )
        return found


@contextmanager
def undisturbed(cluster: RunningCluster, client: Any, engines: list[int], slowest: float = 5.0) -> Iterator[None]:
    """An honest client's work on honest engines goes on all the while, and the controller stays the same processes.

    Args:
        slowest: seconds that one round trip may take, on a busy machine.
    """
    pids, view = cluster.pids(), client[engines]
    stop, failures, times = threading.Event(), list[BaseException](), list[float]()

    def work() -> None:
        for number in itertools.count():
            begun = time.monotonic()
            try:
                assert view.apply_async(pow, 2, number % 64).get(60) == [2 ** (number % 64)] * len(engines)
            except BaseException as error:
                failures.append(error)
                return
            times.append(time.monotonic() - begun)
            if stop.wait(0.02):
                return

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    wait_until(lambda: times or failures, PATIENT)
    try:
        yield
    finally:
        done = len(times)
        wait_until(lambda: len(times) > done + 1 or failures, 60, "honest work after the attack")
        stop.set()
        worker.join(60)
    assert not failures, failures
    assert max(times) < slowest, f"an honest round trip took {max(times):.1f} s"
    assert cluster.pids() == pids, "a process of the controller was restarted"
