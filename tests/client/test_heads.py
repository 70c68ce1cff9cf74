"""Heads that a client hears of: remembered, said once a session, and contradictions told once."""

import json

import pytest

from secure_ipp.client.heads import Heads, SeenFile
from secure_ipp.keys import seen
from secure_ipp.wire import messages

PROOF = b"p" * 32


def head(number, word="x", registry=1):
    return messages.Head(json.dumps({"n": number, "word": word, "registry": registry}), PROOF)


def test_the_newest_is_said():
    heads = Heads(None)
    assert heads.greeting() is None
    assert heads.came(head(3)) == ""
    assert heads.came(head(7)) == ""
    assert heads.greeting() == messages.Seen(head(7).line, PROOF)
    assert heads.known.registry == 1


@pytest.mark.parametrize(("came", "words"), [(head(4), "put back from a copy"), (head(5, "y"), "another line 5")])
def test_s17_a_contradiction_is_told_once_and_forgets_nothing(came, words):
    heads = Heads(None)
    heads.came(head(5))
    assert words in heads.came(came)
    assert heads.came(came) == ""
    assert heads.known.number == 5
    assert heads.known.line == head(5).line


def test_the_same_head_again_is_none():
    heads = Heads(None)
    heads.came(head(5))
    assert heads.came(head(5)) == ""


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "5", '{"n":"5"}', '{"n":-1}', '{"n":true}', "[" * 1000, '{"n":1,"registry":"x"}']
)
def test_what_is_no_head_is_passed_over(line):
    heads = Heads(None)
    assert heads.came(messages.Head(line, PROOF)) == ""
    assert heads.known is None


def test_a_head_without_a_proof_is_not_said():
    heads = Heads(None)
    heads.came(messages.Head(head(5).line, b""))
    assert heads.greeting() is None


def test_the_file_outlives_the_session(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    file, heads = SeenFile("A" * 22), Heads(None)
    heads.came(head(5))
    file.keep(heads.known)
    again = SeenFile("A" * 22).load()
    assert again.head == heads.known
    assert Heads(again.head).greeting() == heads.greeting()
    SeenFile("").keep(heads.known)
    assert [path.name for path in (tmp_path / "home" / "seen").glob("*.json")] == ["A" * 22 + ".json"]


def test_a_disk_that_says_no_costs_the_memory_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    (tmp_path / "home").write_text("in the way")
    file, heads = SeenFile("A" * 22), Heads(None)
    heads.came(head(5))
    assert file.load() == seen.Seen()
    file.keep(heads.known)
