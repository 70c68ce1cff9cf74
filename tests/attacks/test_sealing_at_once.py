"""Two commands at one file, a keyring that lies, a disk that is full (S13): no secret is lost or shown."""

from __future__ import annotations

import os
import sys
import threading

import keyring.core
import pytest

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, SecureIppError, UsageError
from secure_ipp.keys.capability import Capability, LockedCapability, load_capability, read_capability
from secure_ipp.keys.issuing import issue
from secure_ipp.keys.keyring_store import BACKEND_VARIABLE, Keyring, NoKeyring
from secure_ipp.keys.locks import LockHeld
from secure_ipp.keys.orders import make_order
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import write_private
from secure_ipp.keys.recipients import RecipientKey, RecipientPublicKey
from secure_ipp.keys.renewal import renew_in_place
from secure_ipp.keys.rewriting import rewrite_files
from secure_ipp.keys.sealed_files import ByPassphrase, InKeyring, ToRecipient, reseal, seal, unseal
from secure_ipp.keys.sealing import open_by_recipient
from secure_ipp.keys.unlocking import (
    DESCRIPTOR_VARIABLE,
    RECIPIENT_VARIABLE,
    Unlocker,
    from_descriptor,
    recipient_path,
)
from tests.keys.desks import new_desk
from tests.keys.fake_keyrings import Chain, InClear
from tests.keys.test_capability import GOOD, HOLDER, shown_with_variables

RECIPIENT = RecipientKey(b"\x17" * 32)
SECRET = HOLDER.secret.text


class Trusted(InClear):
    """As a back end that is known to encrypt."""


Trusted.__module__ = "keyring.backends.SecretService"


@pytest.fixture
def path(home, monkeypatch):
    for variable in (BACKEND_VARIABLE, DESCRIPTOR_VARIABLE, "PYTHON_KEYRING_BACKEND"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(InClear, "kept", {})
    monkeypatch.setattr(keyring.core, "_keyring_backend", Trusted())
    monkeypatch.setattr(limits, "CHANGING_SECONDS", 0.05)
    (home / "files").mkdir(mode=0o700)
    write_private(home / "files" / "file.json", GOOD.to_file())
    return home / "files" / "file.json"


def opened(locked):
    return open_by_recipient(locked.lock.sealed, locked.subject, RECIPIENT)


def full(descriptor):
    raise OSError(28, "No space left on device")


def test_s13_a_seal_in_the_middle_of_an_unseal_does_not_lose_the_secret(path, monkeypatch):
    """The file has its secret again, and the keyring is about to forget it, when another command puts it back there."""
    seal(path, InKeyring(Keyring()))
    tried = []

    def forget_later(self, service, username):
        with pytest.raises(LockHeld, match="another command is changing") as caught:
            seal(path, InKeyring(Keyring()))
        tried.append(caught.value.advice)
        InClear.kept.pop((service, username))

    monkeypatch.setattr(Trusted, "delete_password", forget_later)
    unseal(path, Unlocker())
    assert tried and load_capability(path) == GOOD


@pytest.mark.parametrize("how", ["rewrite", "renew"])
def test_s13_a_file_that_is_sealed_meanwhile_is_not_written_back_in_clear(path, home, how):
    desk = new_desk(ClusterPlace("work"))
    issue(desk, make_order("ada", now=0.0), home / "files" / "ada.json", now=0.0)
    file, tried = home / "files" / "ada.json", []

    def seal_now():
        try:
            seal(file, ToRecipient(RECIPIENT.public()))
        except LockHeld as error:
            tried.append(error)

    def changes(found):
        seal_now()
        return {"name": "bea"}

    class Apply:
        def __call__(self, place, issuer, change):
            seal_now()
            return real(place, issuer, change)

    if how == "rewrite":
        rewrite_files(desk, desk.issuer(), [file], changes)
    else:
        real = desk.apply
        renew_in_place(type(desk)(desk.place, Apply()), "ada", 2**39, file, now=1.0)
    said_sealed = not tried
    assert isinstance(read_capability(file), LockedCapability if said_sealed else Capability) and tried
    seal(file, ToRecipient(RECIPIENT.public()))
    assert isinstance(read_capability(file), LockedCapability)


def test_s13_a_full_disk_leaves_the_passphrase_in_the_keyring_that_opens_the_file(path, monkeypatch):
    seal(path, ByPassphrase(Passphrase.of("the first of two phrases"), remember=Keyring()))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(EnvironmentProblem, match="No space"):
            reseal(path, Unlocker(), ByPassphrase(Passphrase.of("the second of two phrases"), remember=Keyring()))
    assert list(InClear.kept.values()) == ["the first of two phrases"]
    assert load_capability(path) == GOOD


def test_s11_a_disk_that_is_full_puts_no_secret_into_a_traceback(path, home, monkeypatch):
    desk = new_desk(ClusterPlace("work"))
    owner = load_capability(desk.place.client_file)
    seal(path, ToRecipient(RECIPIENT.public()))
    monkeypatch.setattr(os, "fsync", full)
    for secret, act in (
        (SECRET, lambda: unseal(path, opened)),
        (owner.secret_key.text, lambda: renew_in_place(desk, "owner", 2**39, desk.place.client_file, now=1.0)),
    ):
        with pytest.raises(SecureIppError, match="No space") as caught:
            act()
        shown = shown_with_variables(caught.value)
        assert "write_private" in shown and secret[:20] not in shown


def test_s13_what_others_leave_beside_a_file_stops_nothing(path):
    """In /tmp anybody may make what looks like something of ours; here it cannot even be removed."""
    (path.parent / ".file.json.0123456789abcdef.new").mkdir()
    os.symlink("/etc/passwd", path.parent / ".file.json.1123456789abcdef.new")
    seal(path, InKeyring(Keyring()))
    unseal(path, Unlocker())
    assert not InClear.kept and load_capability(path) == GOOD


@pytest.mark.parametrize("point", [0, 1, 2**255 - 20], ids=["zero", "one", "minus one"])
def test_s13_nothing_is_sealed_to_a_key_that_hides_nothing(path, point):
    before = path.read_bytes()
    with pytest.raises(UsageError, match="anybody could open"):
        seal(path, ToRecipient(RecipientPublicKey(point.to_bytes(32, "little"))))
    assert path.read_bytes() == before


@pytest.mark.parametrize("answer", [5, b"bytes", ["a" * 43], 1.5, True])
def test_s13_a_keyring_that_answers_with_no_text_is_an_error(path, monkeypatch, answer):
    seal(path, InKeyring(Keyring()))
    before = path.read_bytes()
    monkeypatch.setattr(Trusted, "get_password", lambda *args: answer)
    for act in (lambda: load_capability(path), lambda: unseal(path, Unlocker())):
        with pytest.raises(NoKeyring, match="no text"):
            act()
    assert path.read_bytes() == before


def test_s11_a_keyring_that_quotes_what_it_was_given_is_not_quoted(path, monkeypatch):
    def quoting(self, service, username, password):
        raise RuntimeError(f"{'x' * 150} could not run tool {password}")

    monkeypatch.setattr(Trusted, "set_password", quoting)
    with pytest.raises(NoKeyring) as caught:
        seal(path, InKeyring(Keyring()))
    assert SECRET[:8] not in shown_with_variables(caught.value)
    assert load_capability(path) == GOOD


def test_s13_a_chain_that_cannot_be_listed_is_an_error(path, monkeypatch):
    class Torn(Chain):
        @property
        def backends(self):
            raise RuntimeError("no bus\x1b[2J")

    Torn.__module__ = Chain.__module__
    monkeypatch.setattr(keyring.core, "_keyring_backend", Torn())
    with pytest.raises(NoKeyring, match="no bus") as caught:
        Keyring()
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("given", [b"the words that open it", 5, None, ["the words that open it"]])
def test_s11_what_is_no_text_is_refused_as_a_passphrase_and_not_shown(path, given):
    """`subprocess.check_output` gives bytes."""
    seal(path, ByPassphrase(Passphrase.of("the words that open it")))
    with pytest.raises(UsageError, match="a passphrase is text") as caught:
        load_capability(path, unlock=Unlocker(passphrase=lambda: given))
    assert "the words" not in shown_with_variables(caught.value)


def test_s13_a_descriptor_that_does_not_block_is_waited_for(monkeypatch):
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    monkeypatch.setenv(DESCRIPTOR_VARIABLE, str(reading))
    late = threading.Timer(0.05, lambda: (os.write(writing, b"a phrase that came late\n"), os.close(writing)))
    late.start()
    found = from_descriptor(DESCRIPTOR_VARIABLE)
    late.join()
    assert found == Passphrase.of("a phrase that came late")


def test_s13_a_home_of_nobody_is_an_error(monkeypatch):
    monkeypatch.setenv(RECIPIENT_VARIABLE, "~nobody-of-this-name/recipient.key")
    assert recipient_path().name == "recipient.key"
