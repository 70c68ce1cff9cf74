"""The OS keyring: which back ends are taken, that it is asked back, and a real Secret Service."""

import json
import os
import shutil
import subprocess
import sys

import keyring
import keyring.backends.fail
import keyring.backends.null
import pytest

from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys.capability import load_capability, parse_capability, read_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.keyring_store import BACKEND_VARIABLE, Keyring, NoKeyring, RefusedKeyring
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.keys.private_files import write_private
from secure_ipp.keys.sealed_files import ByPassphrase, InKeyring, ToRecipient, open_to_renew, reseal, seal, unseal
from secure_ipp.keys.sealing import SealError, WrongPassphrase, open_by_recipient
from secure_ipp.keys.unlocking import DESCRIPTOR_VARIABLE, NobodyToAsk, Unlocker
from tests.keys import fake_keyrings
from tests.keys.fake_keyrings import InClear
from tests.keys.test_capability import GOOD, HOLDER, make, shown_with_variables
from tests.keys.test_sealed_files import FIRST

NAMED = "tests.keys.fake_keyrings.InClear"
WORDS = "kept by the keyring for me"


@pytest.fixture
def path(tmp_path):
    write_private(tmp_path / "file.json", GOOD.to_file())
    return tmp_path / "file.json"


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    for variable in (BACKEND_VARIABLE, DESCRIPTOR_VARIABLE, "PYTHON_KEYRING_BACKEND"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(InClear, "kept", {})
    monkeypatch.setattr(keyring.core, "_keyring_backend", None)


def here(monkeypatch, backend):
    """Make this the back end that the system has."""
    monkeypatch.setattr(keyring.core, "_keyring_backend", backend)


class Trusted(InClear):
    """As a back end that is known to encrypt."""


Trusted.__module__ = "keyring.backends.SecretService"


# --- which back ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "backend", [keyring.backends.null.Keyring(), keyring.backends.fail.Keyring(), InClear(), fake_keyrings.Chain()]
)
def test_s13_a_back_end_that_does_not_encrypt_is_refused(monkeypatch, path, backend):
    here(monkeypatch, backend)
    before = path.read_bytes()
    with pytest.raises(RefusedKeyring, match="not known to encrypt") as caught:
        seal(path, InKeyring(Keyring()))
    assert "--keyring-backend" in caught.value.advice
    assert path.read_bytes() == before


def test_s13_a_chain_is_refused_if_all_its_links_are_and_never_asked_itself(monkeypatch, path):
    monkeypatch.setattr(fake_keyrings.Chain, "backends", [InClear(), keyring.backends.null.Keyring()])
    here(monkeypatch, fake_keyrings.Chain())
    with pytest.raises(RefusedKeyring):
        Keyring()
    monkeypatch.setattr(fake_keyrings.Chain, "backends", [InClear(), Trusted()])
    assert Keyring().name == "keyring.backends.SecretService.Trusted"
    seal(path, InKeyring(Keyring()))
    assert load_capability(path) == GOOD


def test_s13_any_back_end_may_be_named(monkeypatch, path):
    assert Keyring(NAMED).name == NAMED
    seal(path, InKeyring(Keyring(NAMED)))
    here(monkeypatch, keyring.backends.fail.Keyring())
    with pytest.raises(RefusedKeyring):
        load_capability(path)
    monkeypatch.setenv(BACKEND_VARIABLE, NAMED)
    assert load_capability(path) == GOOD


@pytest.mark.parametrize("name", ["nowhere.Class", "os.nothing", "x", "tests.keys.fake_keyrings.Absent", "\x1b[2J.x"])
def test_a_back_end_that_is_not_there_is_an_error(name):
    with pytest.raises(NoKeyring) as caught:
        Keyring(name)
    assert "\x1b" not in str(caught.value)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(NoKeyring, match="is not installed") as caught:
        Keyring()
    assert "pip install" in caught.value.advice


# --- keeping --------------------------------------------------------------------------------------------


def test_the_file_names_the_entry_and_has_no_secret(path):
    seal(path, InKeyring(Keyring(NAMED)))
    plain = json.loads(path.read_bytes())
    account = f"secret.capability.{HOLDER.public.fingerprint}"
    assert plain["keyring"] == {"service": "secure-ipp", "account": account}
    assert "secret_key" not in plain and "sealed" not in plain
    assert InClear.kept == {("secure-ipp", account): HOLDER.secret.text}
    assert read_capability(path).locked.lock.by == "keyring"


@pytest.mark.parametrize("kind", ["Forgetful", "Lying", "Broken"])
def test_s13_no_secret_is_forgotten_before_the_keyring_gave_it_back(path, kind):
    before = path.read_bytes()
    with pytest.raises(NoKeyring) as caught:
        seal(path, InKeyring(Keyring(f"tests.keys.fake_keyrings.{kind}")))
    assert path.read_bytes() == before
    assert "\x1b" not in str(caught.value)
    assert HOLDER.secret.text not in shown_with_variables(caught.value)


@pytest.mark.parametrize("answer", ["A" * 43, KeyPair.generate().secret.text, "", "x", "secret\n", "é" * 43])
def test_s13_an_answer_that_is_not_the_files_secret_is_an_error(path, monkeypatch, answer):
    seal(path, InKeyring(Keyring(NAMED)))
    monkeypatch.setattr(fake_keyrings.Lying, "answer", answer)
    monkeypatch.setenv(BACKEND_VARIABLE, "tests.keys.fake_keyrings.Lying")
    with pytest.raises(SealError, match="no secret that belongs to") as caught:
        load_capability(path)
    if len(answer) > 2:
        assert answer not in shown_with_variables(caught.value)


def test_an_entry_that_is_gone_and_a_keyring_that_fails_are_errors(path, monkeypatch):
    seal(path, InKeyring(Keyring(NAMED)))
    monkeypatch.setenv(BACKEND_VARIABLE, "tests.keys.fake_keyrings.Broken")
    with pytest.raises(EnvironmentProblem, match="the bus is gone"):
        load_capability(path)
    InClear.kept.clear()
    monkeypatch.setenv(BACKEND_VARIABLE, NAMED)
    with pytest.raises(SealError, match="no secret"):
        load_capability(path)


def test_unsealing_takes_the_entry_away(path):
    before = path.read_bytes()
    seal(path, InKeyring(Keyring(NAMED)))
    unseal(path, Unlocker(keyring_backend=NAMED), keyring_backend=NAMED)
    assert path.read_bytes() == before
    assert InClear.kept == {}


def test_an_entry_that_cannot_be_taken_away_is_said_and_the_file_is_done(path, monkeypatch):
    seal(path, InKeyring(Keyring(NAMED)))
    with pytest.raises(NoKeyring, match="the file is done"):
        unseal(path, Unlocker(keyring_backend=NAMED), keyring_backend="tests.keys.fake_keyrings.Broken")
    assert load_capability(path) == GOOD


def test_sealing_anew_moves_the_secret_out_of_the_keyring_and_back(path):
    seal(path, InKeyring(Keyring(NAMED)))
    reseal(path, Unlocker(keyring_backend=NAMED), ToRecipient(FIRST.public()), keyring_backend=NAMED)
    assert InClear.kept == {}

    def by_key(locked):
        return open_by_recipient(locked.lock.sealed, locked.subject, FIRST)

    assert load_capability(path, unlock=by_key) == GOOD
    reseal(path, by_key, InKeyring(Keyring(NAMED)), keyring_backend=NAMED)
    assert list(InClear.kept.values()) == [HOLDER.secret.text]
    assert load_capability(path, unlock=Unlocker(keyring_backend=NAMED)) == GOOD


def test_a_renewed_file_names_the_same_entry(path):
    seal(path, InKeyring(Keyring(NAMED)))
    text = open_to_renew(path, Unlocker(keyring_backend=NAMED)).to_file(make(expires=2**39))
    assert HOLDER.secret.text.encode() not in text
    assert parse_capability(text, unlock=Unlocker(keyring_backend=NAMED)).expires == 2**39


# --- a remembered passphrase ----------------------------------------------------------------------------


def test_a_remembered_passphrase_opens_without_asking(path, monkeypatch):
    seal(path, ByPassphrase(Passphrase.of(WORDS), remember=Keyring(NAMED)))
    plain = json.loads(path.read_bytes())
    assert plain["keyring"]["account"].startswith("passphrase.capability.")
    assert list(InClear.kept.values()) == [WORDS]
    monkeypatch.setenv(BACKEND_VARIABLE, NAMED)
    assert load_capability(path) == GOOD


def test_where_the_keyring_does_not_have_it_its_user_is_asked(path, monkeypatch, capsys):
    seal(path, ByPassphrase(Passphrase.of(WORDS), remember=Keyring(NAMED)))
    monkeypatch.setenv(BACKEND_VARIABLE, NAMED)
    for broken in ("gone", "wrong", "refused"):
        if broken == "gone":
            InClear.kept.clear()
        elif broken == "wrong":
            monkeypatch.setattr(fake_keyrings.Lying, "answer", "another passphrase")
            monkeypatch.setenv(BACKEND_VARIABLE, "tests.keys.fake_keyrings.Lying")
        else:
            monkeypatch.delenv(BACKEND_VARIABLE)
            here(monkeypatch, keyring.backends.fail.Keyring())
        with pytest.raises((SealError, WrongPassphrase, RefusedKeyring)):
            load_capability(path)
        reading, writing = os.pipe()
        os.write(writing, WORDS.encode())
        os.close(writing)
        monkeypatch.setenv(DESCRIPTOR_VARIABLE, str(reading))
        assert load_capability(path) == GOOD
        assert "the keyring does not open" in capsys.readouterr().err


def test_a_wrong_answer_is_not_shown(path, monkeypatch):
    seal(path, ByPassphrase(Passphrase.of(WORDS), remember=Keyring(NAMED)))
    monkeypatch.setattr(fake_keyrings.Lying, "answer", "somebody's other secret")
    monkeypatch.setenv(BACKEND_VARIABLE, "tests.keys.fake_keyrings.Lying")
    with pytest.raises(WrongPassphrase) as caught:
        load_capability(path)
    assert "other secret" not in shown_with_variables(caught.value)
    assert not isinstance(caught.value, NobodyToAsk)


# --- a real Secret Service ------------------------------------------------------------------------------

TOOLS = ("dbus-run-session", "gnome-keyring-daemon")
IN_A_SESSION = """
printf 'the login password' | gnome-keyring-daemon --unlock --components=secrets >/dev/null || exit 90
exec "$@"
"""
USES_IT = """
import json, pathlib, sys
from secure_ipp.cli.main import secure_ipp as command
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.keyring_store import Keyring

def run(*words):
    try:
        command(["keys", *words])
    except SystemExit as end:
        assert end.code in (0, None), words

path = sys.argv[1]
before = pathlib.Path(path).read_bytes()
secret = json.loads(before)["secret_key"]
print("backend", Keyring().name)
run("seal", path, "--keyring")
print("in the file", secret in pathlib.Path(path).read_text())
print("opened", load_capability(path).secret_key.text == secret)
run("unseal", path)
print("as before", pathlib.Path(path).read_bytes() == before)
run("seal", path, "--remember")
print("in the file", secret in pathlib.Path(path).read_text())
print("opened", load_capability(path).secret_key.text == secret)
run("unseal", path)
import keyring
print("left", keyring.get_password("secure-ipp", "secret.capability." + load_capability(path).public_key.fingerprint))
"""


def test_s13_a_real_secret_service_keeps_the_secret(path, tmp_path):
    """gnome-keyring on a bus of its own, with a home of its own; what lies on its disk is encrypted."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        assert "SECURE_IPP_TEST_TOOLS" not in os.environ, f"{missing} should have been installed"
        pytest.skip(f"needs {', '.join(missing)}")
    for name in ("home", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DBUS_", "XDG_"))},
        "HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }
    reading, writing = os.pipe()
    os.write(writing, WORDS.encode() + b"\n")
    os.close(writing)
    try:
        done = subprocess.run(
            ["dbus-run-session", "--", "sh", "-c", IN_A_SESSION, "sh", sys.executable, "-c", USES_IT, str(path)],
            env={**environment, DESCRIPTOR_VARIABLE: str(reading)}, capture_output=True, text=True, timeout=100,
            pass_fds=[reading], check=False, stdin=subprocess.DEVNULL,
        )
    finally:
        os.close(reading)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if line.split()[0] in ("backend", "in", "opened", "as", "left")]
    assert said == [
        "backend keyring.backends.SecretService.Keyring", "in the file False", "opened True", "as before True",
        "in the file False", "opened True", "left None",
    ]
    keyrings = [one for one in (tmp_path / "home").rglob("*.keyring") if one.is_file()]
    assert keyrings
    for one in keyrings:
        assert HOLDER.secret.text.encode() not in one.read_bytes()
        assert WORDS.encode() not in one.read_bytes()
