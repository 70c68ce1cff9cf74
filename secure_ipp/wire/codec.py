"""Messages to bytes and back: one packet is `[number, ack, [message, ...]]` in msgpack, then its chunks' frames.

Decides nothing but form.  Laws: a decoder accepts only its own direction's messages; trailing bytes, wrong types,
over-long fields, bodies that should be streamed and a wrong number of frames are `ProtocolError`; nothing else is
ever raised for bad bytes.  What is let in can be passed on: it is smaller than what `Link.send` takes.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from secure_ipp import limits
from secure_ipp.errors import ProtocolError
from secure_ipp.wire import messages

T = TypeVar("T")

# msgpack: array of 3, two uint64, an array32 header; what msgspec would write, but at a fixed width
_HEAD = struct.Struct(">BBQBQBI")
_ARRAY3, _UINT64, _ARRAY32 = 0x93, 0xCF, 0xDD

encode_message = msgspec.msgpack.Encoder().encode
_greeting_reply: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(messages.GreetingReply)
_hello = msgspec.msgpack.Decoder(messages.Hello)
_question: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(messages.HubQuestion)
BULK: tuple[type, ...] = (messages.Chunk, messages.EngineChunk)
_WITH_BODY: frozenset[type] = frozenset(
    (messages.Submit, messages.Direct, messages.Assign, messages.Result, messages.Outcome)
)
_DECODING_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError)


class Packet(msgspec.Struct, Generic[T], array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """What one zmq message carries; number 0 is a bare acknowledgement."""

    number: messages.Count
    ack: messages.Count
    messages: Annotated[list[T], msgspec.Meta(max_length=limits.PACKET_MESSAGES)]


def join_packet(number: int, ack: int, encoded: list[bytes]) -> bytes:
    """The first frame of a packet, from messages that are encoded already."""
    head = _HEAD.pack(_ARRAY3, _UINT64, number, _UINT64, ack, _ARRAY32, len(encoded))
    return b"".join((head, *encoded))


def is_packet(first_frame: Any) -> bool:
    """Tell a packet from a greeting reply; bytes, unverified."""
    return len(first_frame) > 1 and first_frame[0] == _ARRAY3 and first_frame[1] == _UINT64


class PacketDecoder(Generic[T]):
    """Strict decoder of one direction's packets.

    Args:
        union: the messages that may come, e.g. `messages.FromClient`.
    """

    def __init__(self, union: Any) -> None:
        self._decode = msgspec.msgpack.Decoder(Packet[union]).decode

    def packet(self, first_frame: Any, chunk_frames: int) -> Packet[T]:
        """Decode unverified bytes.

        Raises:
            ProtocolError: the bytes are not a packet of this direction.
        """
        try:
            packet: Packet[T] = self._decode(first_frame)
        except _DECODING_ERRORS as error:
            raise ProtocolError(f"a malformed packet: {str(error)[:200]}", code="malformed") from None
        announced = 0
        message: Any
        for message in packet.messages:
            kind = type(message)
            if kind in BULK:
                announced += 1
            elif kind in _WITH_BODY and sum(map(len, message.body)) > limits.INLINE_BYTES:
                raise ProtocolError("a body too large to travel in its message", code="malformed")
        if announced != chunk_frames:
            raise ProtocolError(f"{chunk_frames} bulk frames where {announced} were announced", code="malformed")
        return packet


def decode_hello(frame: Any) -> messages.Hello:
    """Decode unverified bytes; raises `ProtocolError`."""
    return _strict(_hello, frame)


def decode_greeting_reply(frame: Any) -> messages.GreetingReply:
    """Decode unverified bytes; raises `ProtocolError`."""
    reply: messages.GreetingReply = _strict(_greeting_reply, frame)
    return reply


def decode_question(frame: bytes) -> messages.HubQuestion:
    """Decode what a client asks of the hub, unverified; raises `ProtocolError`."""
    question: messages.HubQuestion = _strict(_question, frame)
    return question


def _strict(decoder: msgspec.msgpack.Decoder[T], frame: Any) -> T:
    try:
        return decoder.decode(frame)
    except _DECODING_ERRORS as error:
        raise ProtocolError(f"a malformed message: {str(error)[:200]}", code="malformed") from None
