"""Attacks on doors by what a peer says of itself: metadata, routing ids, greetings (S4, S5)."""


import pytest

from secure_ipp import limits
from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages
from secure_ipp.wire.codec import encode_message
from tests.attacks.doors import ASK, packet, raw_welcome
from tests.attacks.raw_curve import DEALER, NO_IDENTITY
from tests.wire.stage import hello

CLAIMED = "it claimed a routing id"


# --- S4: what a peer says of itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("claims", [
    [(b"User-Id", b"alice"), (b"Role", b"engine"), (b"Grant", b"owner")],
    [(b"user-id", b"alice"), (b"USER-ID", b"alice")],
    [(b"Peer-Address", b"10.0.0.1"), (b"__fd", b"0")],
    [(b"User-Id", b""), (b"Role", b"\xff\xfe")],
], ids=lambda claims: claims[0][0].decode())
def test_s4_metadata_of_the_peer_is_not_believed(siege, claims):
    door = siege.door()
    raw = siege.raw(door, *claims)
    assert isinstance(raw_welcome(raw), messages.Welcome)
    session = door.record.wait("open", 2)[1][1]
    assert (session.user, session.role, session.grant, session.address) == (
        "mallory", "client", "label-of-mallory", "127.0.0.1"
    )
    raw.say(packet(1, 0, ASK))
    assert door.record.wait("message")[0][1] == "mallory"
    siege.assert_undisturbed()


def test_s4_libzmqs_own_metadata_option_supplies_nothing_either(siege):
    door = siege.door()
    attacker = siege.attacker(door, options=[(95, b"X-User-Id:alice")])  # ZMQ_METADATA takes names with X- only
    attacker.welcome()
    assert door.record.wait("open", 2)[1][1].user == "mallory"


def test_s4_another_socket_type_gets_no_answer(siege):
    door = siege.door()
    for kind in (b"ROUTER", b"PUB", b"", b"nonsense"):
        try:
            raw = siege.raw(door, metadata=((b"Socket-Type", kind), NO_IDENTITY))
            raw.say(packet(1, 0, ASK))
        except OSError:
            pass
    siege.assert_undisturbed()


def test_s4_metadata_that_is_left_out_or_broken_ends_nothing(siege):
    """A missing property raises in pyzmq; it must not raise in the door."""
    door = siege.door()
    bare = siege.raw(door, metadata=(DEALER,))
    assert isinstance(raw_welcome(bare), messages.Welcome)
    for metadata in ((), ((b"Identity", b""),)):
        try:
            siege.raw(door, metadata=metadata).say(encode_message(hello()))
        except OSError:
            pass
    siege.assert_undisturbed()


# --- S5: routing ids and greetings ------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", [b"mallory", b"x", b"y" * 255, b"abcde"])
def test_s5_a_claimed_routing_id_is_refused_and_put_on_record(siege, identity):
    door = siege.door()
    attacker = siege.attacker(door, identity=identity)
    attacker.greet()
    assert b"claimed-routing-id" in attacker.hear()[0]
    assert attacker.is_cut()
    assert CLAIMED in door.reasons() and len(door.record.all("open")) == 1
    siege.assert_undisturbed()


@pytest.mark.parametrize("claims", [
    [(b"Identity", b"\0\x01\x02\x03\x04")],
    [NO_IDENTITY, (b"Identity", b"\0\x01\x02\x03\x04")],
    [NO_IDENTITY, (b"Identity", b"five5")],
    [NO_IDENTITY, (b"Identity", b"\0")],
], ids=repr)
def test_s5_an_id_that_looks_like_libzmqs_own_is_refused_even_if_it_is_hidden(siege, claims):
    door = siege.door()
    raw = siege.raw(door, metadata=(DEALER, *claims))
    reply = raw_welcome(raw)
    assert isinstance(reply, messages.Refusal) and reply.code == "claimed-routing-id"
    assert raw.is_cut()
    siege.assert_undisturbed()


@pytest.mark.parametrize("hidden", [False, True])
def test_s5_claiming_the_id_of_a_live_session_hears_and_disturbs_nothing(siege, monkeypatch, hidden):
    monkeypatch.setattr(limits, "HELLO_SECONDS", 0.5)
    door = siege.door()
    alices_id = door.record.wait("open")[0][1].routing_id
    metadata = (DEALER, NO_IDENTITY, (b"Identity", alices_id)) if hidden else (DEALER, (b"Identity", alices_id))
    raw = siege.raw(door, metadata=metadata)
    raw.say(encode_message(hello()))
    raw.say(packet(1, 0, messages.Goodbye("not alice")))
    siege.assert_undisturbed()
    assert raw.is_cut()
    assert len(door.record.all("open")) == 1 and door.record.all("gone") == []
    siege.assert_undisturbed()


@pytest.mark.parametrize("first", [
    [packet(1, 0, ASK)], [packet(0, 0)], [b""], [b"garbage"], [b"\x91" * 100_000],
    [encode_message(ASK)], [encode_message(hello()), b"more"], [b"", encode_message(hello())],
    [encode_message(hello()) + b"\0"], [encode_message(messages.Welcome(b"", False, 0, b"", "c", "0", "3"))],
    [encode_message(messages.Refusal("code", "reason"))], [b"x"] * 1000,
], ids=lambda frames: f"{len(frames)}-{frames[0][:8].hex()}")
def test_s5_a_first_message_other_than_a_hello_is_cut(siege, first):
    door = siege.door()
    attacker = siege.attacker(door)
    attacker.say(*first)
    assert attacker.is_cut()
    assert len(door.record.all("open")) == 1 and len(door.record.all("incident")) == 1
    siege.assert_undisturbed()


@pytest.mark.parametrize("changes", [
    {"role": "engine"}, {"role": "agent"}, {"role": "scheduler"}, {"role": "probe"}, {"protocol": 0},
    {"protocol": limits.PROTOCOL + 1},
])
def test_s5_a_hello_of_another_role_or_version_is_refused(siege, changes):
    door = siege.door()
    attacker = siege.attacker(door)
    attacker.greet(**changes)
    assert b"refusal" in attacker.hear()[0]
    assert attacker.is_cut()
    assert len(door.record.all("open")) == 1
    siege.assert_undisturbed()


def test_s5_a_probes_key_opens_no_session(siege, monkeypatch):
    monkeypatch.setattr(limits, "HELLO_SECONDS", 0.5)
    probe = KeyPair.generate()
    door = siege.door(("client", probe.public, "probe", "probe"))
    for role in ("probe", "client"):
        attacker = siege.attacker(door, keys=probe)
        attacker.greet(role)
        attacker.say(packet(1, 0, ASK))
        assert attacker.is_cut()
    assert len(door.record.all("open")) == 1 and door.record.all("message") == []
    siege.assert_undisturbed()


def test_s5_a_second_hello_is_cut(siege):
    door = siege.door()
    attacker = siege.attacker(door)
    attacker.welcome()
    attacker.greet()
    assert attacker.is_cut()
    assert door.record.wait("gone")[0][1].user == "mallory"
    siege.assert_undisturbed()


def test_s5_a_refused_peer_cannot_try_again_on_the_same_connection(siege):
    door = siege.door()
    attacker = siege.attacker(door)
    attacker.greet("engine")
    for _ in range(50):
        attacker.greet()
    assert attacker.is_cut()
    assert len(door.record.all("open")) == 1 and len(door.record.all("incident")) == 1
    siege.assert_undisturbed()


def test_s5_another_users_session_cannot_be_resumed(siege):
    door = siege.door()
    alices = door.record.wait("open")[0][1]
    attacker = siege.attacker(door)
    attacker.greet(resume=alices.token)
    assert b"identity" in attacker.hear()[0]
    assert attacker.is_cut()
    assert door.record.all("resumed") == []
    siege.assert_undisturbed()


def test_s5_an_unknown_session_token_gives_a_new_session_not_somebodys(siege):
    door = siege.door()
    attacker = siege.attacker(door)
    attacker.greet(resume=b"\0" * 16, received=99)
    assert b"welcome" in attacker.hear()[0]
    assert door.record.wait("open", 2)[1][1].token != b"\0" * 16


def test_s5_resuming_ones_own_live_session_moves_it_and_cuts_the_old_connection(siege):
    door = siege.door()
    first = siege.attacker(door)
    token = first.welcome()
    second = siege.attacker(door)
    second.greet(resume=token)
    assert b"welcome" in second.hear()[0]
    first.say(packet(1, 0, ASK))  # too late: this connection is nobody's any more
    assert first.is_cut()
    second.say(packet(1, 0, ASK))
    assert second.hear() is not None
    assert door.record.all("incident") == [] and len(door.record.all("open")) == 2
    siege.assert_undisturbed()


def test_s5_a_resume_that_claims_what_was_never_sent_is_cut(siege):
    door = siege.door()
    first = siege.attacker(door)
    token = first.welcome()
    second = siege.attacker(door)
    second.greet(resume=token, received=5)
    assert second.is_cut()
    first.say(packet(1, 0, ASK))
    assert first.hear() is not None, "the session itself was harmed by a resume that failed"
    siege.assert_undisturbed()
