"""What docs/sealing.md says is run: its commands, its fields, its Python."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from secure_ipp import limits
from secure_ipp.cli.keys import keys
from secure_ipp.keys.capability import load_capability, read_capability
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.sealed_files import ByPassphrase, ToRecipient, make_recipient, sealed_capability
from tests.keys import fake_keyrings

TEXT = (Path(__file__).parents[2] / "docs" / "sealing.md").read_text()
WORDS = "what the reader would type"


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A reader's directory, with a client file in it."""
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SECURE_IPP_KEYRING_BACKEND", "tests.keys.fake_keyrings.InClear")
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(fake_keyrings.InClear, "kept", {})
    place = ClusterPlace("default")
    init_cluster(place, hosts=("127.0.0.1",), bind="127.0.0.1")
    (tmp_path / "ipcontroller-client.json").write_bytes(place.client_file.read_bytes())
    (tmp_path / "ipcontroller-client.json").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands():
    """Each ``secure-ipp keys`` command of the fenced blocks and of the text between them."""
    fenced = [line for block in re.findall(r"```\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
    found = [line for line in fenced if line.startswith("secure-ipp keys ")]
    return found + re.findall(r"`(secure-ipp keys (?:reseal|unseal) FILE)`", TEXT)


def test_every_command_of_the_page_does_what_it_says(reader):
    file, word = "ipcontroller-client.json", ""
    clear = load_capability(file)
    for line in commands():
        words = shlex.split(line.replace("FILE", file).replace("recipient:l1KqG0...", word or "recipient:l1KqG0..."))
        environment = {}
        for variable in ("SECURE_IPP_PASSPHRASE_FD", "SECURE_IPP_NEW_PASSPHRASE_FD"):
            reading, writing = os.pipe()
            os.write(writing, WORDS.encode())
            os.close(writing)
            environment[variable] = str(reading)
        if "--keyring" in words:
            Path(file).write_bytes(clear.to_file())
        result = CliRunner().invoke(keys, words[2:], env=environment)
        assert result.exit_code == 0, (line, result.output)
        if words[2] == "recipient":
            word = result.stdout.strip()
    assert len(commands()) == 7 and word


def test_the_fields_of_the_page_are_those_of_the_files(reader):
    clear = load_capability("ipcontroller-client.json")
    block = re.search(r"```json\n(.*?)```", TEXT, re.S)[1]
    shown = [json.loads("{" + part + "}") for part in block.split("\n\n")]
    public = make_recipient(reader / "recipient.key")
    real = [
        json.loads(sealed_capability(clear, way).to_file())["sealed"]
        for way in (ByPassphrase(Passphrase.of(WORDS)), ToRecipient(public))
    ]
    for told, found in zip(shown, real, strict=False):
        assert list(told["sealed"]) == list(found)
        for name, value in told["sealed"].items():
            size = re.fullmatch(r"<(\d+) bytes>", str(value))
            assert len(found[name]) == (int(size[1]) * 4 + 2) // 3 if size else found[name] == value
    account = clear.subject.entry("secret").account
    assert shown[2]["keyring"]["account"].replace("<fingerprint>", clear.public_key.fingerprint) == account


def test_the_bounds_of_the_page_are_those_of_the_program():
    flat = " ".join(TEXT.split())
    assert (limits.SEAL_MEMORY_KIB, limits.SEAL_MOST_MEMORY_KIB) == (64 * 1024, 1024 * 1024)
    assert (limits.SEAL_MOST_WORK_KIB, limits.SEAL_MOST_LANES) == (4 * 1024 * 1024, 4)
    assert "from 64 MiB to 1 GiB" in flat and "times passes up to 4 GiB" in flat
    assert f"{limits.SEAL_PASSES} to {limits.SEAL_MOST_PASSES} passes, 1 to {limits.SEAL_MOST_LANES} lanes" in flat
    assert limits.NEW_PASSPHRASE_CHARS == 12 and "Twelve characters" in flat
    assert limits.PASSPHRASE_TRIES == 3 and "at most three times" in flat


def test_the_python_of_the_page_runs(reader, monkeypatch):
    (reader / "ada.json").write_bytes((reader / "ipcontroller-client.json").read_bytes())
    (reader / "ada.json").chmod(0o600)
    code = re.search(r"```python\n(.*?)```", TEXT, re.S)[1]
    monkeypatch.setenv("SECURE_IPP_RECIPIENT", str(reader / "recipient.key"))
    exec(code, {"ask": lambda: WORDS})
    assert read_capability("ada.json").locked.lock.by == "keyring"
    assert load_capability("ada.json").name == "owner"
