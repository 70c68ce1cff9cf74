"""Proofs of heads: the controller knows its own, and nobody else can make one (S17)."""

import json

from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.audit.chain import hash_of
from secure_ipp.keys.curve import KeyPair
from secure_ipp.scheduler.heads import Heads, head_key
from secure_ipp.wire import messages

LINE = json.dumps({"n": 7, "prev": "p", "event": "checkpoint", "registry": 4}, separators=(",", ":"))


def test_a_copy_of_the_controller_knows_what_the_other_one_signed():
    server = KeyPair.generate().secret
    head = Heads(head_key(server)).came(LINE)
    claim = Heads(head_key(server)).claim("alice", messages.Seen(head.line, head.proof))
    assert claim == messages.SeenHead("alice", 7, hash_of(LINE.encode()), 4)


def test_s17_nobody_else_can_make_a_head_that_counts():
    heads = Heads(head_key(KeyPair.generate().secret))
    head = heads.came(LINE)
    higher = LINE.replace('"n":7', '"n":9')
    for line, proof in ((higher, head.proof), (LINE, b"\0" * 32),
                        (LINE, Heads(head_key(KeyPair.generate().secret)).came(LINE).proof)):
        assert heads.claim("mallory", messages.Seen(line, proof)) is None


@given(st.text(max_size=100))
def test_a_proven_text_that_is_no_line_is_no_claim(text):
    heads = Heads(b"k" * 32)
    head = heads.came(text)
    assert heads.claim("alice", messages.Seen(head.line, head.proof)) is None


def test_what_was_proven_before_the_servers_key_was_rotated_counts_while_this_scheduler_runs() -> None:
    heads = Heads(b"o" * 32)
    old = heads.came('{"n":7,"prev":"","event":"checkpoint"}')
    heads.rekey(b"n" * 32)
    assert heads.newest is not None and heads.newest.line == old.line and heads.newest.proof != old.proof
    for head in (old, heads.newest):
        assert heads.claim("ada", messages.Seen(head.line, head.proof)) == heads.claim(
            "ada", messages.Seen(old.line, old.proof)
        )
    assert heads.claim("ada", messages.Seen(old.line, b"x" * 32)) is None
    assert Heads(b"n" * 32).claim("ada", messages.Seen(old.line, old.proof)) is None
