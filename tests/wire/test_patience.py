"""A connection that finds no door: it keeps trying, no longer than its patience, and says what is wrong."""

import contextlib
import socket
import threading
import time

import pytest

from secure_ipp import limits
from secure_ipp.errors import ControllerUnreachable, Refused
from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages
from secure_ipp.wire.codec import encode_message


class Squatter:
    """A plain TCP server on loopback that says what it likes to whoever comes."""

    def __init__(self, words=b"", close=False):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.came = 0
        self._words, self._close, self._open = words, close, []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.came += 1
                self._open.append(peer)
                with contextlib.suppress(OSError):
                    peer.sendall(self._words)
                    if self._close:
                        peer.close()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        for one in (*self._open, self._listener):
            one.close()


def nowhere():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def failure_within(peer, seconds):
    began = time.monotonic()
    error = peer.start().failure()
    assert time.monotonic() - began < seconds
    return error


def test_nothing_listens(stage):
    door = stage.door()
    peer = stage.peer(door, doors=[nowhere()], first_patience=0.6)
    began = time.monotonic()
    error = failure_within(peer, 3)
    assert time.monotonic() - began > 0.3, "it gave up before its patience was over"
    assert isinstance(error, ControllerUnreachable) and isinstance(error, TimeoutError)
    assert "nothing listens there" in error.message and "ipcluster" in error.advice


@pytest.mark.parametrize("words", [
    b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff" * 64, b"\0" * 5000,
    b"\xff\0\0\0\0\0\0\0\x01\x7f", b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL" + b"\0" * 48 + b"\x04\x19\x05READY",
    b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0CURVE" + b"\0" * 47 + b"\x04\xc8\x07WELCOME" + b"\0" * 192,
    b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01CURVE" + b"\0" * 47 + b"\x06" + b"\xff" * 8,
], ids=lambda words: repr(words[:12]))
@pytest.mark.parametrize("close", [False, True])
def test_something_else_listens(stage, words, close):
    squatter = stage._keep(Squatter(words, close))
    error = failure_within(stage.peer(stage.door(), doors=[squatter.endpoint], first_patience=0.3), 3)
    assert isinstance(error, ControllerUnreachable)
    assert squatter.came >= 1


def test_another_server_key(stage):
    door = stage.door()
    peer = stage.peer(door, server_key=KeyPair.generate().public, first_patience=0.5)
    error = failure_within(peer, 3)
    assert isinstance(error, ControllerUnreachable)
    assert "server key" in error.message
    assert door.record.all("gate") == []


def test_a_refused_key_ends_it_at_once(stage):
    door = stage.door()
    error = failure_within(stage.peer(door, keys=KeyPair.generate(), first_patience=60), 3)
    assert isinstance(error, Refused) and error.code == "key-refused" and "new connection file" in error.advice


def test_a_key_that_is_not_known_yet_keeps_trying_and_comes_in(stage):
    engine = KeyPair.generate()
    door = stage.door(domain="engine", receives={"engine": messages.FromEngine})
    peer = stage.peer(door, keys=engine, role="engine", receives=messages.ToEngine).start()
    door.record.wait("gate", 1)
    door.admit(("engine", engine.public, "e1", "engine"))
    peer.record.wait("welcome")
    assert door.record.all("gate")[0] == ("gate", "300")


def test_a_controller_of_another_version_says_so(stage, monkeypatch):
    door = stage.door()
    monkeypatch.setattr(limits, "PROTOCOL", 2)
    intruder = stage.intruder(door)
    intruder.greet(protocol=1)
    assert b"version" in intruder.hear()[0]
    assert intruder.is_cut()


def test_a_door_that_admits_but_never_answers(stage):
    door = stage.door()
    blocked = threading.Event()
    door.loop.call_threadsafe(lambda: blocked.wait(10))
    error = failure_within(stage.peer(door, first_patience=0.5), 3)
    blocked.set()
    assert "says nothing" in error.message


def test_a_door_that_wakes_up_is_found(stage):
    door = stage.door()
    proxy = stage.proxy(door)
    proxy.stall()
    peer = stage.peer(door, doors=[proxy.endpoint]).start()
    time.sleep(0.2)
    assert peer.record.all("welcome") == []
    proxy.flow()
    peer.record.wait("welcome")


def test_a_busy_door_is_waited_for_and_not_made_busier(stage):
    door = stage.door()
    proxy = stage.proxy(door)
    proxy.stall()
    peer = stage.peer(door, doors=[proxy.endpoint], first_patience=60).start()
    time.sleep(3.0)  # longer than two first tries
    proxy.flow()
    peer.record.wait("welcome")
    assert proxy.accepted == 1


def test_a_door_that_is_behind_with_reading_takes_nobody_for_silent(stage, monkeypatch):
    monkeypatch.setattr(limits, "HELLO_SECONDS", 0.3)
    door = stage.door()
    monkeypatch.setattr("secure_ipp.wire.door._READ_BATCH", 0)  # there is always more to read
    peer = stage.peer(door, first_patience=60).start()
    time.sleep(1.5)
    assert door.record.all("incident") == []
    monkeypatch.undo()
    peer.record.wait("welcome")
    assert door.record.all("incident") == []


def test_several_doors_are_tried_in_turn(stage):
    door = stage.door()
    squatter = stage._keep(Squatter(b"HTTP/1.1 400 Bad Request\r\n\r\n", close=True))
    peer = stage.peer(door, doors=[nowhere(), squatter.endpoint, door.endpoint], first_patience=5)
    began = time.monotonic()
    peer.start().record.wait("welcome")
    assert squatter.came == 1 and time.monotonic() - began < 3


def test_a_silent_squatter_at_the_first_address_does_not_hide_the_second(stage):
    door = stage.door()
    squatter = stage._keep(Squatter())
    peer = stage.peer(door, doors=[squatter.endpoint, door.endpoint], first_patience=10).start()
    peer.record.wait("welcome", timeout=5)


def test_patience_after_a_loss_is_its_own(stage):
    door = stage.door()
    proxy = stage.proxy(door)
    peer = stage.peer(door, doors=[proxy.endpoint], first_patience=60, patience=0.5).start()
    peer.record.wait("welcome")
    proxy.deafen()
    proxy.cut()
    peer.record.wait("lost")
    assert isinstance(peer.failure(timeout=3), ControllerUnreachable)


def test_a_door_that_welcomes_and_drops_is_not_hammered(stage):
    door = stage.door()
    proxy = stage.proxy(door)
    peer = stage.peer(door, doors=[proxy.endpoint])
    peer.on_welcome = lambda welcome: proxy.cut()
    peer.start()
    time.sleep(1.0)
    assert 3 <= proxy.accepted <= 25


@pytest.mark.parametrize("words", [
    [b""], [b"\x93garbage"], [b"\x93\xcf" + b"\xff" * 40], [b"x", b"y"], [b"\x91" * 5000],
    [encode_message(messages.Ask(1, b""))],
    [encode_message(messages.Welcome(b"s" * 16, False, 0, b"i" * 16, "c", "0", "3"))],
    [encode_message(messages.Welcome(b"s" * 16, True, 2**62, b"i" * 16, "c", "0", "3"))],
], ids=lambda words: repr(words[0][:12]))
def test_a_door_that_breaks_the_protocol_is_left_and_tried_anew(stage, words):
    door = stage.door()
    peer = stage.peer(door).start()
    session = door.record.wait("open")[0][1]
    peer.record.wait("welcome")
    door.call(lambda: door.socket.send_multipart([session.routing_id, *words]))
    peer.record.wait("lost")
    peer.record.wait("welcome", 2)
    assert [resumed for _, resumed in peer.record.all("welcome")] == [False, False]
    peer.ask(1)
    peer.record.wait("message")
