"""The codec: what is written is read back, and bad bytes are ProtocolErrors and nothing else."""

import typing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.errors import ProtocolError
from secure_ipp.wire import codec, messages

PEERS = ("Client", "Engine", "Agent", "Scheduler")
UNIONS = {name: getattr(messages, name) for peer in PEERS for name in (f"From{peer}", f"To{peer}")}
DECODERS = {name: codec.PacketDecoder(union) for name, union in UNIONS.items()}
KINDS = sorted({kind for union in UNIONS.values() for kind in typing.get_args(union)}, key=lambda kind: kind.__name__)


def value_of(hint):
    """A strategy for valid values of a field."""
    if typing.get_origin(hint) is typing.Annotated:
        base, meta = hint.__origin__, hint.__metadata__[0]
        if base is str:
            return st.text(
                st.characters(codec="utf-8"), min_size=meta.min_length or 0, max_size=min(meta.max_length, 20)
            )
        if base is bytes:
            return st.binary(min_size=meta.min_length or 0, max_size=min(meta.max_length, 40))
        if base is int:
            return st.integers(meta.ge, meta.le)
        if base is float:
            return st.floats(meta.ge, allow_nan=False, allow_infinity=False)
        return value_of(base)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is float:
        return st.floats(allow_nan=False)
    if hint is bool:
        return st.booleans()
    if origin is list:
        return st.lists(value_of(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(value_of(arguments[0]), value_of(arguments[1]), max_size=3)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return message_of(hint)
    assert arguments, hint
    return st.one_of(*(st.none() if a is type(None) else value_of(a) for a in arguments))


def message_of(kind):
    hints = typing.get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{name: value_of(hints[name]) for name in kind.__struct_fields__})


ANY_MESSAGE = st.sampled_from(KINDS).flatmap(message_of)


def packet_of(*sent, number=1, ack=0):
    return codec.join_packet(number, ack, [codec.encode_message(message) for message in sent])


def frames_of(*sent):
    return sum(isinstance(message, codec.BULK) for message in sent)


@given(message=ANY_MESSAGE)
@settings(max_examples=300, deadline=None)
def test_every_message_comes_back_in_its_own_direction_and_in_no_other(message):
    for name, decoder in DECODERS.items():
        packet = packet_of(message)
        if type(message) in typing.get_args(UNIONS[name]):
            assert decoder.packet(packet, frames_of(message)).messages == [message]
        else:
            with pytest.raises(ProtocolError):
                decoder.packet(packet, frames_of(message))


@given(st.binary(max_size=300), st.sampled_from(sorted(DECODERS)), st.integers(0, 3))
@settings(deadline=None)
def test_random_bytes_raise_nothing_but_protocol_errors(data, name, frames):
    for attempt in (data, b"\x93" + data, b"\x93\x01\x00\x91" + data):
        only_protocol_errors(lambda attempt=attempt: DECODERS[name].packet(attempt, frames))
        for decode in (codec.decode_hello, codec.decode_greeting_reply, codec.decode_question):
            only_protocol_errors(lambda decode=decode, attempt=attempt: decode(attempt))


@given(ANY_MESSAGE, st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_packets_raise_nothing_but_protocol_errors(message, data):
    packet = bytearray(packet_of(message))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(packet) - 1))
        match data.draw(st.sampled_from(["change", "delete", "insert", "cut"])):
            case "change":
                packet[place] = data.draw(st.integers(0, 255))
            case "delete" if len(packet) > 1:
                del packet[place]
            case "insert":
                packet[place:place] = data.draw(st.binary(min_size=1, max_size=9))
            case "cut":
                del packet[max(1, place) :]
    for decoder in DECODERS.values():
        only_protocol_errors(lambda decoder=decoder: decoder.packet(bytes(packet), frames_of(message)))


def only_protocol_errors(decode):
    try:
        decode()
    except ProtocolError:
        pass


ASK = messages.Ask(1, b"what")


@pytest.mark.parametrize("packet", [
    b"", b"\x93", packet_of(ASK) + b"\0", packet_of(ASK)[:-1], packet_of(ASK, ASK)[:-1],
    b"\x93\x01\x00\xdd\xff\xff\xff\xff", b"\x93\x01\x00\xc6\xff\xff\xff\xff", b"\x91" * 100_000,
    b"\x93\x01\x00\x91\x93\xa3ask\x01" + b"\x91" * 100_000, b"\x93\xff\x00\x90", b"\x93\x01\xff\x90",
    b"\x94\x01\x00\x90\x00", b"\x92\x01\x00", b"\x93\x01\x00\x81\x01\x02",
], ids=lambda packet: packet[:12].hex())
def test_malformed_packets_are_refused(packet):
    with pytest.raises(ProtocolError):
        DECODERS["FromClient"].packet(packet, 0)


@pytest.mark.parametrize("message", [
    messages.Ask(1, b"x" * (limits.FRAME_BYTES + 1)),
    messages.Goodbye("x" * (limits.TEXT_CHARS + 1)),
    messages.Attach(["x" * (limits.TASK_ID_CHARS + 1)]),
    messages.Attach([""]),
    messages.Attach(["t"] * (limits.TASKS_NAMED + 1)),
    messages.Function(b"d" * 33, b""),
    messages.Function(b"d" * 32, b"c" * (limits.FUNCTION_BYTES + 1)),
    messages.Signal(1, [], 65),
    messages.Signal(1, [-1], 2),
    messages.Submit("t", "apply", b"", [b"x" * limits.INLINE_BYTES, b"x"], [], 0.0),
    messages.Submit("t", "apply", b"", [b""] * (limits.BUFFERS + 1), [], 0.0),
    messages.Submit("t", "apply", b"", [], [limits.BODY_BYTES + 1], 0.0),
    messages.Submit("t", "apply", b"", [], [], 0.0, retries=limits.RETRIES + 1),
    messages.Submit("t", "apply", b"", [], [], 0.0, timeout=-1.0),
], ids=lambda message: type(message).__name__)
def test_fields_beyond_their_bounds_are_refused(message):
    with pytest.raises(ProtocolError):
        DECODERS["FromClient"].packet(packet_of(message), 0)


def test_an_unknown_tag_a_missing_field_and_one_too_many_are_refused():
    for raw in (["exec", 1], ["ask", 1], ["ask", 1, b"", 1], ["ask"], []):
        packet = codec.join_packet(1, 0, [msgspec.msgpack.encode(raw)])
        with pytest.raises(ProtocolError):
            DECODERS["FromClient"].packet(packet, 0)


def test_more_messages_than_a_packet_may_hold_are_refused():
    few = [ASK] * limits.PACKET_MESSAGES
    assert len(DECODERS["FromClient"].packet(packet_of(*few), 0).messages) == len(few)
    with pytest.raises(ProtocolError):
        DECODERS["FromClient"].packet(packet_of(*few, ASK), 0)


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_a_number_of_bulk_frames_that_was_not_announced_is_refused(frames):
    chunks = [messages.Chunk("t", 0), ASK, messages.Chunk("t", 1)]
    assert len(DECODERS["FromClient"].packet(packet_of(*chunks), 2).messages) == 3
    with pytest.raises(ProtocolError):
        DECODERS["FromClient"].packet(packet_of(*chunks), frames)


def test_a_greeting_reply_is_never_taken_for_a_packet_nor_the_other_way_round():
    welcome = messages.Welcome(b"s" * 16, False, 0, b"i" * 16, "c", "0", "3")
    for reply in (welcome, messages.Refusal("code", "reason")):
        encoded = codec.encode_message(reply)
        assert not codec.is_packet(encoded)
        assert codec.decode_greeting_reply(encoded) == reply
    assert codec.is_packet(packet_of(ASK))
    assert not codec.is_packet(b"") and not codec.is_packet(b"\x93")
    with pytest.raises(ProtocolError):
        codec.decode_greeting_reply(packet_of(ASK))


def test_whatever_may_come_in_can_be_sent_on():
    """Else a peer could make this process raise at the sending end, long after its message was let in."""
    from secure_ipp.wire.link import Link

    body = [b"x" * limits.INLINE_BYTES]
    Link(DECODERS["ToEngine"]).send(
        messages.Assign(1, "u" * 64, "t" * 64, 1, b"t" * 16, "apply", b"d" * 32, body, [])
    )
    Link(DECODERS["ToClient"]).send(messages.Answer(1, b"x" * limits.FRAME_BYTES))
