"""What somebody on the wire sees: nothing of what is said, nor of who says it to whom (Curve, end to end)."""

import base64
import os
import socket

import pytest

from secure_ipp import limits
from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages

TEXT = "canary-of-the-north-sea-0123456789"
BINARY = os.urandom(48)


def forms(secret):
    """How a secret could stand on the wire, whole or in a tell-tale part."""
    raw = secret.encode() if isinstance(secret, str) else secret
    for piece in (raw, raw[: len(raw) // 2], raw[len(raw) // 2 :]):
        yield piece
        yield piece[::-1]
        yield piece.hex().encode()
        yield piece.hex().upper().encode()
        for shift in range(3):  # base64 depends on where a piece begins
            tail = piece[shift:]
            encoded = base64.b64encode(tail[: len(tail) // 3 * 3])
            yield encoded
            yield encoded.translate(bytes.maketrans(b"+/", b"-_"))
    if isinstance(secret, str):
        yield secret.encode("utf-16-le")


def seen(recorded, secret):
    return [form for form in forms(secret) if len(form) >= 8 and form in recorded]


def play_back(recorded, port):
    with socket.create_connection(("127.0.0.1", port)) as replay:
        replay.settimeout(5)
        try:
            replay.sendall(recorded)
            while replay.recv(65536):
                pass
        except OSError:
            pass


@pytest.fixture
def recording(stage):
    """Both directions of a whole session, resumed once, with every canary in it."""
    door = stage.door()
    proxy = stage.proxy(door)
    proxy.recording = True
    peer = stage.peer(door, doors=[proxy.endpoint])
    body = TEXT.encode() + BINARY

    def say(connection):
        connection.send(messages.Ask(1, body))
        connection.send(messages.Submit(TEXT, "execute", b"", [body, BINARY], [], 0.0, label=TEXT))
        connection.send(messages.Chunk(TEXT, 0), [memoryview(body * 10_000)])
        connection.send(messages.Chunk("large", 0), [memoryview(bytes(500_000) + body)])

    peer.on_new_session = say
    peer.start()
    peer.record.wait("message", 3)
    session = door.sessions[0]
    door.call(lambda: session.send(messages.Notice("info", TEXT)))
    peer.record.wait("message", 4)
    proxy.cut()
    peer.record.wait("welcome", 2)
    peer.ask(2, body)
    peer.record.wait("message", 5)
    return stage, door, peer, session, bytes(proxy.sent_up), bytes(proxy.sent_down)


def test_the_search_finds_what_is_there():
    """The proof that these tests can fail."""
    for found in (TEXT.encode(), BINARY.hex().encode(), base64.b64encode(b"xy" + BINARY), TEXT.encode("utf-16-le")):
        assert seen(b"before" + found + b"after", TEXT) or seen(b"before" + found + b"after", BINARY)
    assert not seen(os.urandom(100_000), TEXT)


def test_nothing_that_is_said_can_be_read_on_the_wire(recording):
    _, _, peer, session, up, down = recording
    assert len(up) > 1_000_000 and len(down) > 1_000_000, "the canaries did not travel through the recorder"
    heard = [message for _, message, _ in peer.record.all("message")]
    assert heard[0].body == TEXT.encode() + BINARY, "the canaries did not arrive"
    for recorded in (up, down):
        for secret in (TEXT, BINARY, session.token, b"execute", b"welcome", b"notice"):
            assert seen(recorded, secret) == [] if len(secret) > 10 else secret not in recorded


def test_no_key_stands_on_the_wire(recording):
    """Secret halves never; of the public ones, neither the server's nor the client's is sent in the clear."""
    stage, door, _, _, up, down = recording
    for recorded in (up, down):
        for pair in (stage.keys, door.server):
            assert seen(recorded, pair.secret.raw) == []
            assert seen(recorded, pair.public.raw) == []


def test_who_it_is_and_who_serves_cannot_be_read_on_the_wire(recording):
    _, _, _, session, up, down = recording
    for recorded in (up, down):
        for name in (session.user, session.grant, session.hello.host, session.hello.python, "User-Id"):
            assert len(name) < 4 or name.encode() not in recorded


def test_the_same_words_never_look_the_same_twice(recording):
    """Sixteen bytes of cipher that come twice would tell of words that come twice: a nonce was used again."""
    *_, up, down = recording
    for recorded in (up, down):
        windows = [recorded[at : at + 16] for at in range(5_000, min(len(recorded), 400_000) - 16, 16)]
        assert len(set(windows)) == len(windows)


def test_a_recording_played_back_opens_nothing(recording):
    _, door, _, _, up, _ = recording
    before = len(door.record.all("open")), len(door.record.all("message")), len(door.record.all("gate"))
    play_back(up, door.port)
    assert (len(door.record.all("open")), len(door.record.all("message")), len(door.record.all("gate"))) == before
    assert door.serving


def test_a_changed_byte_on_the_way_ends_the_connection_and_nothing_false_arrives(stage, monkeypatch):
    """libzmq now and then takes the failed check for back pressure and merely stops reading; heartbeats end that."""
    monkeypatch.setattr(limits, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(limits, "HEARTBEAT_TIMEOUT_SECONDS", 0.6)
    door = stage.door()
    proxy = stage.proxy(door)
    peer = stage.peer(door, doors=[proxy.endpoint], keys=stage.keys).start()
    peer.record.wait("welcome")
    proxy.damage_next = True
    peer.ask(1, TEXT.encode())
    door.record.wait("message")
    assert [message for _, _, message, _ in door.record.all("message")] == [messages.Ask(1, TEXT.encode())]
    assert len(peer.record.wait("welcome", 2)) == 2, "the damaged connection went on"


def test_another_pair_hears_nothing_of_it(recording):
    """Recorded bytes towards another door with another key lead nowhere."""
    stage, _, _, _, up, _ = recording
    other = stage.door(server=KeyPair.generate())
    play_back(up, other.port)
    assert other.record.all("gate") == [] and other.record.all("open") == []
