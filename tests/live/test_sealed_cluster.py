"""A cluster whose files are sealed: client, engines and the owner's commands work, for whoever has the passphrase."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import secure_ipp as ipp
from secure_ipp.keys.sealing import SealError, WrongPassphrase
from tests.attacks.canaries import Canaries, Watch
from tests.running import RunningCluster, argv, wait_until

pytestmark = pytest.mark.live

WORDS = "exactly 32 characters of it, yes"  # as the search for secrets wants them

CLIENT = """
import sys
import secure_ipp as ipp
with ipp.Client(sys.argv[1], timeout=30) as client:
    client.wait_for_engines(1, timeout=30)
    print(client.load_balanced_view().apply_sync(abs, -7), vars(client), client.session.capability)
"""


def with_passphrase(words: list[str], home: Path, *, passphrase: str = WORDS) -> subprocess.Popen[str]:
    """Start a program that finds the passphrase at a descriptor."""
    reading, writing = os.pipe()
    os.write(writing, passphrase.encode() + b"\n")
    os.close(writing)
    try:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            pass_fds=[reading],
            env={**os.environ, "SECURE_IPP_HOME": str(home), "SECURE_IPP_PASSPHRASE_FD": str(reading)},
        )
    finally:
        os.close(reading)


def done(words: list[str], home: Path, **options: Any) -> tuple[int, str, str]:
    process = with_passphrase(words, home, **options)
    out, err = process.communicate(timeout=90)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def sealed() -> Iterator[RunningCluster]:
    """A running cluster whose three files are sealed since."""
    one = RunningCluster(engines=1)
    one.start()
    try:
        for file in (one.place.client_file, one.place.engine_file, one.place.issuer_key):
            code, _, err = done(argv("secure-ipp", "keys", "seal", str(file)), one.home)
            assert code == 0, err
        yield one
    finally:
        one.stop()


def test_a_client_an_engine_host_and_the_owner_work_by_the_passphrase_alone(
    sealed: RunningCluster, tmp_path: Path
) -> None:
    """And it is in no argv and no environment meanwhile (S11)."""
    host = tmp_path / "host"
    host.mkdir(mode=0o700)
    shutil.copy(sealed.place.engine_file, host / "engine.json")
    with Watch(Canaries({"passphrase": WORDS.encode()})) as watch:
        engine = with_passphrase(argv("ipengine", "--file", str(host / "engine.json")), host)
        try:
            code, out, err = done([sys.executable, "-c", CLIENT, str(sealed.place.client_file)], sealed.home)
            assert code == 0, err
            assert out.startswith("7 ") and WORDS not in out + err
            with ipp.Client(sealed.place.client_file, passphrase=lambda: WORDS, timeout=30) as client:
                client.wait_for_engines(2, timeout=30)
                assert client[:].apply_sync(abs, -1) == [1, 1]
            code, out, err = done(
                argv("secure-ipp", "keys", "issue", "ada", "--out", str(tmp_path / "ada.json")), sealed.home
            )
            assert code == 0, err
            with ipp.Client(tmp_path / "ada.json", timeout=30) as client:
                assert client.load_balanced_view().apply_sync(abs, -2) == 2
        finally:
            engine.send_signal(signal.SIGINT)
            _, said = engine.communicate(timeout=30)
    assert engine.returncode == 0, said
    assert watch.looks > 3 and "ipengine" in " ".join(watch.programs)
    assert watch.leaks == []


def test_without_the_passphrase_nothing_works_and_nothing_waits(sealed: RunningCluster, tmp_path: Path) -> None:
    with pytest.raises(WrongPassphrase):
        ipp.Client(sealed.place.client_file, passphrase=lambda: "not the one that it is", timeout=30)
    files = sealed.place
    commands = [
        ["ipengine", "--file", str(files.engine_file)],
        ["secure-ipp", "keys", "issue", "eve", "--out", str(tmp_path / "eve.json")],
        ["secure-ipp", "keys", "revoke", "owner"],
        ["secure-ipp", "keys", "unseal", str(files.client_file)],
    ]
    for words in commands:
        result = sealed.run(*words)
        assert result.returncode == 5, (words, result.stderr)
        assert "SECURE_IPP_PASSPHRASE_FD" in result.stderr
        code, _, err = done(argv(*words), sealed.home, passphrase="something else, surely")
        assert code == 5 and "the passphrase does not open" in err, (words, err)
    assert not (tmp_path / "eve.json").exists()
    names = [grant["name"] for grant in json.loads(sealed.run("secure-ipp", "keys", "list", "--json").stdout)["grants"]]
    assert "owner" in names and "eve" not in names


def test_what_asks_nobody_goes_on_as_before(sealed: RunningCluster) -> None:
    """Showing files, looking for what is wrong, restarting the controller: none of it needs the secret."""
    shown = sealed.run("secure-ipp", "keys", "show", str(sealed.place.client_file), "--json")
    facts = json.loads(shown.stdout)
    assert (facts["sealed"], facts["made_here"]) == ("passphrase", True)
    checked = json.loads(sealed.run("secure-ipp", "doctor", "--json").stdout)
    assert not [one for one in checked["findings"] if one["check"] == "files" and one["level"] == "error"]
    assert sealed.run("secure-ipp", "status").returncode == 0


def test_results_are_the_owners_own_still(sealed: RunningCluster) -> None:
    """S19: the issuer's secret is sealed, and yet this is the user who made the cluster here."""
    before = os.environ["SECURE_IPP_HOME"]
    os.environ["SECURE_IPP_HOME"] = str(sealed.home)
    try:
        with ipp.Client(passphrase=lambda: WORDS, timeout=30) as client:
            client.wait_for_engines(1, timeout=30)
            assert client[0].apply_sync(lambda: object) is object
    finally:
        os.environ["SECURE_IPP_HOME"] = before


def test_a_cluster_is_started_from_sealed_files_and_asks_before_it_starts_anything() -> None:
    one = RunningCluster(engines=1)
    assert one.run("secure-ipp", "keys", "init", "--bind", "127.0.0.1", "--host", "127.0.0.1").returncode == 0
    code, _, err = done(argv("secure-ipp", "keys", "seal", str(one.place.engine_file)), one.home)
    assert code == 0, err
    start = argv("ipcluster", "start", "--curve", "-n", "1", "--daemonize")
    try:
        refused = one.run("ipcluster", "start", "--curve", "-n", "1", "--daemonize")
        assert refused.returncode == 5 and "passphrase" in refused.stderr
        assert one.run("secure-ipp", "status").returncode == 4
        code, out, err = done(start, one.home)
        assert code == 0, out + err
        with ipp.Client(one.place.client_file, timeout=30) as client:
            wait_until(lambda: len(client.ids) == 1, 30)
    finally:
        one.stop()


def test_a_sealed_dict_is_opened_like_a_file(sealed: RunningCluster) -> None:
    contents = json.loads(sealed.place.client_file.read_text())
    with pytest.raises(SealError):
        ipp.Client(contents, timeout=30)
    with ipp.Client(contents, passphrase=lambda: WORDS, timeout=30) as client:
        assert client.load_balanced_view().apply_sync(abs, -3) == 3


def test_a_sealed_holder_hands_on_and_is_renewed_without_a_secret_in_clear(
    sealed: RunningCluster, tmp_path: Path
) -> None:
    """The child is sealed to somebody from its first byte; the holder's own file stays sealed when it is renewed."""
    key, child, mine = tmp_path / "recipient.key", tmp_path / "child.json", tmp_path / "ben.json"
    word = sealed.run("secure-ipp", "keys", "recipient", "--out", str(key)).stdout.strip()
    code, _, err = done(argv("secure-ipp", "keys", "issue", "ben", "--expires", "2d", "--shared-engines", "--out",
                             str(mine)), sealed.home)
    assert code == 0, err
    assert done(argv("secure-ipp", "keys", "seal", str(mine)), sealed.home)[0] == 0
    code, _, err = done(argv("secure-ipp", "keys", "attenuate", str(mine), "--rights", "task", "--expires", "1h",
                             "--to", word, "--out", str(child)), sealed.home)
    assert code == 0, err
    assert "secret_key" not in child.read_text()
    os.environ["SECURE_IPP_RECIPIENT"] = str(key)
    try:
        with ipp.Client(child, timeout=30) as client:
            assert client.load_balanced_view().apply_sync(abs, -4) == 4
    finally:
        del os.environ["SECURE_IPP_RECIPIENT"]
    answer = tmp_path / "ben.answer"
    renew = argv("secure-ipp", "keys", "renew", "ben", "--expires", "9d", "--out", str(answer))
    code, _, err = done(renew, sealed.home)
    assert code == 0, err
    before = json.loads(mine.read_text())
    code, _, err = done(argv("secure-ipp", "keys", "accept", str(answer), "--out", str(mine)), sealed.home)
    assert code == 0, err
    after = json.loads(mine.read_text())
    assert after["expires"] > before["expires"] and "secret_key" not in after
    assert after["sealed"]["box"] != before["sealed"]["box"]
    with ipp.Client(mine, passphrase=lambda: WORDS, timeout=30) as client:
        assert client.load_balanced_view().apply_sync(abs, -5) == 5
