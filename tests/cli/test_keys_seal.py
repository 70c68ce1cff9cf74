"""``secure-ipp keys seal`` and its kin: what they say, refuse and leave behind."""

import json
import os
import sys

import pytest
from click.testing import CliRunner

from secure_ipp.cli.keys import keys
from secure_ipp.keys.capability import load_capability, read_capability
from secure_ipp.keys.cluster_keys import init_cluster, load_issuer
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.unlocking import Unlocker
from tests.keys import fake_keyrings

WORDS, OTHERS = "the words of the first time", "and those of the second time"
NAMED = "tests.keys.fake_keyrings.InClear"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(fake_keyrings.InClear, "kept", {})
    place = ClusterPlace("default")
    init_cluster(place, hosts=("127.0.0.1",), bind="127.0.0.1")
    return place


def run(*words, passphrase="", new=""):
    """A command; the passphrases come through descriptors."""
    given = {}
    for variable, text in (("SECURE_IPP_PASSPHRASE_FD", passphrase), ("SECURE_IPP_NEW_PASSPHRASE_FD", new)):
        if text:
            reading, writing = os.pipe()
            os.write(writing, text.encode())
            os.close(writing)
            given[variable] = str(reading)
    result = CliRunner().invoke(keys, [str(word) for word in words], env=given)
    for text in (passphrase, new):
        assert not text or text not in result.output
    return result


def words_open(path, words=WORDS):
    return load_capability(path, unlock=Unlocker(passphrase=lambda: words))


def test_seal_reseal_and_unseal(place):
    path = place.client_file
    before, clear = path.read_bytes(), load_capability(path)
    result = run("seal", path, passphrase=WORDS)
    assert result.exit_code == 0, result.output
    assert "a passphrase opens it" in result.output and clear.public_key.fingerprint in result.output
    assert clear.secret_key.text.encode() not in path.read_bytes()
    assert words_open(path) == clear
    result = run("reseal", path, "--json", "--memory", "128", passphrase=WORDS, new=OTHERS)
    assert json.loads(result.output) == {
        "file": str(path), "key": clear.public_key.fingerprint, "sealed": "passphrase"
    }
    assert words_open(path, OTHERS) == clear
    result = run("reseal", path, "--same-passphrase", passphrase=OTHERS)
    assert result.exit_code == 0, result.output
    assert read_capability(path).sealed.memory == 128 * 1024  # never less than it was
    result = run("unseal", path, passphrase=OTHERS)
    assert result.exit_code == 0, result.output
    assert path.read_bytes() == before


def test_the_issuers_key_by_its_option(place):
    issuer = load_issuer(place)
    result = run("seal", "--issuer", passphrase=WORDS)
    assert result.exit_code == 0, result.output
    assert issuer.text not in place.issuer_key.read_text()
    assert load_issuer(place, unlock=Unlocker(passphrase=lambda: WORDS)) == issuer
    assert run("unseal", "--issuer", passphrase=WORDS).exit_code == 0
    assert load_issuer(place) == issuer


def test_to_a_recipient_and_back(place, tmp_path):
    clear = load_capability(place.client_file)
    key = tmp_path / "hers" / "recipient.key"
    made = CliRunner().invoke(keys, ["recipient", "--out", str(key)])
    word = made.stdout.strip()
    assert word.startswith("recipient:") and len(word) == len("recipient:") + 43
    assert json.loads(key.read_bytes())["secret_key"] not in made.output
    assert run("recipient", "--out", key).exit_code == 7  # nothing is overwritten
    assert run("seal", place.client_file, "--to", word).exit_code == 0
    assert run("unseal", place.client_file).exit_code == 5
    assert run("unseal", place.client_file, "--key", key).exit_code == 0
    (tmp_path / "word.txt").write_text(word + "\n")
    assert run("seal", place.client_file, "--to", tmp_path / "word.txt").exit_code == 0
    assert load_capability(place.client_file, unlock=Unlocker(recipient_key=key)) == clear


def test_the_usual_recipients_key_is_made_and_then_shown(place):
    first, second = (CliRunner().invoke(keys, ["recipient", "--json"]) for _ in range(2))
    assert json.loads(first.stdout) == json.loads(second.stdout)
    word = json.loads(first.stdout)["recipient"]
    assert run("seal", place.client_file, "--to", word).exit_code == 0
    assert load_capability(place.client_file).name == "owner"


def test_into_a_keyring_that_is_named_and_out_again(place):
    before = place.client_file.read_bytes()
    result = run("seal", place.client_file, "--keyring", "--keyring-backend", NAMED, "--json")
    assert json.loads(result.output)["sealed"] == "keyring"
    assert list(fake_keyrings.InClear.kept.values()) == [json.loads(before)["secret_key"]]
    assert run("unseal", place.client_file, "--keyring-backend", NAMED).exit_code == 0
    assert place.client_file.read_bytes() == before
    result = run("seal", place.client_file, "--remember", "--keyring-backend", NAMED, passphrase=WORDS)
    assert "the keyring has that" in result.output
    assert list(fake_keyrings.InClear.kept.values()) == [WORDS]


@pytest.mark.parametrize(("words", "code", "said"), [
    (["seal"], 2, "FILE, or --issuer"),
    (["seal", "FILE", "--issuer"], 2, "FILE, or --issuer"),
    (["seal", "nowhere.json"], 7, "is not there"),
    (["seal", "FILE"], 5, "no terminal to ask at"),
    (["seal", "FILE", "--to", "somebody"], 2, "a recipient is named by"),
    (["seal", "FILE", "--to", "recipient:x", "--keyring"], 2, "choose one"),
    (["seal", "FILE", "--keyring", "--remember"], 2, "choose one"),
    (["seal", "FILE", "--keyring-backend", NAMED], 2, "goes with"),
    (["seal", "FILE", "--memory", "1"], 2, "64<=x"),
    (["seal", "FILE", "--memory", "1024", "--passes", "16"], 2, "this cost cannot be"),
    (["seal", "FILE", "--keyring", "--keyring-backend", "no.Such"], 7, "cannot be had"),
    (["unseal", "FILE"], 2, "is not sealed"),
    (["reseal", "FILE"], 2, "is not sealed"),
    (["seal", "SERVER"], 2, "doors' key"),
])
def test_what_cannot_be_is_refused_with_words_and_changes_nothing(place, words, code, said):
    before = place.client_file.read_bytes()
    files = {"FILE": str(place.client_file), "SERVER": str(place.server_key)}
    result = run(*[files.get(word, word) for word in words])
    assert result.exit_code == code, result.output
    assert said in result.output
    assert place.client_file.read_bytes() == before


def test_a_wrong_or_a_weak_passphrase_changes_nothing(place):
    before = place.client_file.read_bytes()
    assert run("seal", place.client_file, passphrase="short").exit_code == 2
    assert place.client_file.read_bytes() == before
    run("seal", place.client_file, passphrase=WORDS)
    before = place.client_file.read_bytes()
    for words in (["unseal"], ["reseal"], ["reseal", "--same-passphrase"]):
        assert run(*words, place.client_file, passphrase=OTHERS, new=WORDS).exit_code == 5
        assert place.client_file.read_bytes() == before
    assert run("reseal", place.client_file, passphrase=WORDS, new="short").exit_code == 2
    assert run("seal", place.client_file, passphrase=WORDS).exit_code == 2
    assert place.client_file.read_bytes() == before


def test_show_says_how_a_file_is_sealed_and_asks_nobody(place):
    assert json.loads(run("show", place.client_file, "--json").output)["sealed"] == "no"
    run("seal", place.client_file, passphrase=WORDS)
    facts = json.loads(run("show", place.client_file, "--json").output)
    assert (facts["sealed"], facts["name"], facts["made_here"]) == ("passphrase", "owner", True)


@pytest.mark.parametrize("words", [
    ["issue", "ada", "--out", "FILE"], ["rotate", "owner", "--out", "FILE"], ["rotate", "engines", "--out", "FILE"],
])
def test_a_new_file_may_be_sealed_from_its_first_byte(place, tmp_path, words, monkeypatch):
    word = json.loads(run("recipient", "--json").stdout)["recipient"]
    out, written = tmp_path / "new.json", []
    real = os.write
    monkeypatch.setattr(os, "write", lambda number, data: written.append(bytes(data)) or real(number, data))
    result = run(*[str(out) if one == "FILE" else one for one in words], "--to", word)
    assert result.exit_code == 0, result.output
    assert read_capability(out).locked.lock.by == "recipient"
    secret = load_capability(out).secret_key
    assert written and not any(secret.text.encode() in data or secret.raw in data for data in written)


def test_what_is_no_recipient_makes_no_identity(place, tmp_path):
    result = run("issue", "ada", "--to", "somebody", "--out", tmp_path / "ada.json")
    assert result.exit_code == 2 and "a recipient is named by" in result.output
    assert "ada" not in run("list").output
    assert not (tmp_path / "ada.json").exists()


def test_each_command_teaches():
    for name in ("seal", "unseal", "reseal", "recipient"):
        text = CliRunner().invoke(keys, [name, "--help"]).output
        assert "Examples:" in text and f"secure-ipp keys {name}" in text
