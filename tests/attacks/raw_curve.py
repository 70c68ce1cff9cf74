"""A CurveZMQ client from scratch, which says what no libzmq would: for attacks on what a door believes.

Test code only: correct, slow, and careless about timing.  Follows RFC 23/ZMTP 3.0 and RFC 26/CurveZMQ; the boxes are
NaCl's crypto_box (X25519, XSalsa20, Poly1305), with the parts that `cryptography` lacks in NumPy.
"""

import os
import socket
import struct

import numpy
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.poly1305 import Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_MASK = 0xFFFFFFFF
_QUARTERS = (
    (0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11),
    (0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14),
)


def _rounds(state):
    x = list(state)
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            for target, first, second, shift in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)):
                total = (x[first] + x[second]) & _MASK
                x[target] = x[target] ^ ((total << shift | total >> (32 - shift)) & _MASK)
    return x


def _state(key, block):
    k, n = struct.unpack("<8I", key), struct.unpack("<4I", block)
    return [_SIGMA[0], *k[:4], _SIGMA[1], *n, _SIGMA[2], *k[4:], _SIGMA[3]]


def _hsalsa20(key, nonce):
    x = _rounds(_state(key, nonce))
    return struct.pack("<8I", *(x[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))


def _stream(key, nonce, length):
    """Each word of the state is an array with one element for each block."""
    blocks = (length + 63) // 64
    state = [
        numpy.full(blocks, word, numpy.uint64)
        for word in _state(_hsalsa20(key, nonce[:16]), nonce[16:] + b"\0" * 8)
    ]
    state[8] = numpy.arange(blocks, dtype=numpy.uint64)  # the counter's lower half
    words = numpy.stack([(a + b) & _MASK for a, b in zip(_rounds(state), state, strict=True)], axis=1)
    return words.astype("<u4").tobytes()[:length]


def _xor(text, stream):
    return (numpy.frombuffer(text, numpy.uint8) ^ numpy.frombuffer(stream, numpy.uint8)).tobytes()


def shared_key(secret, public):
    """What both ends of a box compute, from raw keys."""
    secret_key = X25519PrivateKey.from_private_bytes(secret)
    return _hsalsa20(secret_key.exchange(X25519PublicKey.from_public_bytes(public)), b"\0" * 16)


def seal(key, nonce, text):
    """crypto_box_afternm: the authenticator, then the ciphertext."""
    stream = _stream(key, nonce, 32 + len(text))
    cipher = _xor(text, stream[32:])
    return Poly1305.generate_tag(stream[:32], cipher) + cipher


def unseal(key, nonce, box):
    """crypto_box_open_afternm."""
    stream = _stream(key, nonce, 32 + len(box) - 16)
    Poly1305.verify_tag(stream[:32], box[16:], box[:16])
    return _xor(box[16:], stream[32:])


def key_pair():
    """A fresh (public, secret) of raw bytes."""
    key = X25519PrivateKey.generate()
    return (
        key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
        key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()),
    )


def properties(*pairs):
    """ZMTP metadata: in this order, names repeated if they are."""
    return b"".join(
        bytes([len(name)]) + name + struct.pack(">I", len(value)) + value for name, value in pairs
    )


DEALER = (b"Socket-Type", b"DEALER")
NO_IDENTITY = (b"Identity", b"")


class RawCurve:
    """One connection, its handshake done.

    Args:
        metadata: (name, value) pairs for the INITIATE command, as they are.
        vouch_for: the secret key that vouches, if not the client's own.
    """

    def __init__(self, port, server_key, public, secret, metadata=(DEALER, NO_IDENTITY), vouch_for=None):
        self._nonce = 0
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.settimeout(5)
        self._socket.sendall(b"\xff" + b"\0" * 8 + b"\x7f\x03\x00CURVE" + b"\0" * 15 + b"\0" + b"\0" * 31)
        self._read(64)
        transient_public, transient_secret = key_pair()
        to_server = shared_key(transient_secret, server_key)
        nonce = self._next_nonce()
        signature = seal(to_server, b"CurveZMQHELLO---" + nonce, b"\0" * 64)
        self._command(b"\x05HELLO\x01\x00" + b"\0" * 72 + transient_public + nonce + signature)
        welcome = self._receive_frame()
        assert welcome.startswith(b"\x07WELCOME"), welcome[:20]
        opened = unseal(to_server, b"WELCOME-" + welcome[8:24], welcome[24:])
        server_transient, cookie = opened[:32], opened[32:]
        self._key = shared_key(transient_secret, server_transient)
        vouch_nonce = os.urandom(16)
        vouch_key = shared_key(secret if vouch_for is None else vouch_for, server_transient)
        vouch = seal(vouch_key, b"VOUCH---" + vouch_nonce, transient_public + server_key)
        nonce = self._next_nonce()
        inside = public + vouch_nonce + vouch + properties(*metadata)
        self._command(
            b"\x08INITIATE" + cookie + nonce + seal(self._key, b"CurveZMQINITIATE" + nonce, inside)
        )
        self.answer = self._receive_frame()  # READY, or ERROR; raises ConnectionError if the door hangs up

    @property
    def ready(self):
        """Whether the gate let it in."""
        return self.answer.startswith(b"\x05READY")

    def say(self, *frames):
        """One message."""
        for index, frame in enumerate(frames):
            self.say_frame(frame, more=index < len(frames) - 1)

    def say_frame(self, frame, *, more):
        """One frame of a message, which need not end."""
        nonce = self._next_nonce()
        box = seal(self._key, b"CurveZMQMESSAGEC" + nonce, bytes([int(more)]) + frame)
        self._frame(b"\x07MESSAGE" + nonce + box, flags=0)

    def hear(self):
        """One frame; raises ConnectionError when the connection has fallen."""
        while True:
            frame = self._receive_frame()
            if frame.startswith(b"\x07MESSAGE"):
                opened = unseal(self._key, b"CurveZMQMESSAGES" + frame[8:16], frame[16:])
                if not opened[0] & 2:
                    return opened[1:]

    def close(self):
        self._socket.close()

    def reset(self):
        """Close with RST instead of FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def is_cut(self, timeout=5.0):
        """Whether the connection falls within `timeout` seconds."""
        self._socket.settimeout(timeout)
        try:
            while self._socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def _next_nonce(self):
        self._nonce += 1
        return struct.pack(">Q", self._nonce)

    def _command(self, body):
        self._frame(body, flags=4)

    def _frame(self, body, *, flags):
        head = struct.pack(">BB", flags, len(body)) if len(body) < 256 else struct.pack(">BQ", flags | 2, len(body))
        self._socket.sendall(head + body)

    def _receive_frame(self):
        flags = self._read(1)[0]
        length = struct.unpack(">Q", self._read(8))[0] if flags & 2 else self._read(1)[0]
        return self._read(length)

    def _read(self, count):
        data = b""
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise ConnectionError("the door hung up")
            data += piece
        return data
