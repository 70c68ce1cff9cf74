"""Sealing in place: what changes, what does not, and what a kill -9 at any step leaves."""

import os

import pytest

from secure_ipp.errors import CapabilityError, PrivateFileError, UsageError
from secure_ipp.keys.capability import Capability, LockedCapability, load_capability, read_capability
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.key_files import (
    KeyFileError,
    read_issuer_key,
    read_recipient_file,
    read_recipient_key,
    write_issuer_key,
    write_server_key,
)
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.keys.private_files import AlreadyThere, MissingFile, read_private, write_private
from secure_ipp.keys.recipients import RecipientKey
from secure_ipp.keys.sealed_files import (
    ByPassphrase,
    ToRecipient,
    make_recipient,
    read_secret_file,
    reseal,
    seal,
    unseal,
)
from secure_ipp.keys.sealing import Cost, SealError, open_by_recipient
from secure_ipp.keys.unlocking import Unlocker
from tests.keys.killing import killed_at
from tests.keys.test_capability import GOOD, SERVER, make

FIRST, SECOND = RecipientKey(b"\x11" * 32), RecipientKey(b"\x12" * 32)
WORDS = "a passphrase of some length"


def opened_by(*keys):
    """An `Unlock` with these recipients' keys."""
    def unlock(locked):
        key = next(one for one in keys if one.public() == locked.lock.sealed.recipient)
        return open_by_recipient(locked.lock.sealed, locked.subject, key)

    return unlock


ANY = opened_by(FIRST, SECOND)


@pytest.fixture
def path(tmp_path):
    write_private(tmp_path / "file.json", GOOD.to_file())
    return tmp_path / "file.json"


def test_a_file_is_sealed_sealed_anew_and_unsealed(path):
    before = read_private(path, 10_000)
    done = seal(path, ToRecipient(FIRST.public()))
    assert (done.path, done.lock.by, done.subject.public) == (path, "recipient", GOOD.public_key)
    assert load_capability(path, unlock=ANY) == GOOD
    assert reseal(path, ANY, ToRecipient(SECOND.public())).lock.sealed.recipient == SECOND.public()
    assert load_capability(path, unlock=opened_by(SECOND)) == GOOD
    assert unseal(path, ANY).lock is None
    assert read_private(path, 10_000) == before
    assert os.listdir(path.parent) == ["file.json"]
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_passphrase_and_its_cost_can_be_changed(path):
    seal(path, ByPassphrase(Passphrase.of(WORDS)))
    old = Unlocker(passphrase=lambda: WORDS)
    reseal(path, old, ByPassphrase(Passphrase.of(WORDS + " more"), Cost(128 * 1024)))
    assert old.used == Passphrase.of(WORDS)
    assert read_capability(path).sealed.memory == 128 * 1024
    with pytest.raises(SealError):
        load_capability(path, unlock=old)
    assert load_capability(path, unlock=Unlocker(passphrase=lambda: WORDS + " more")) == GOOD


def test_an_expired_file_can_be_sealed(path):
    write_private(path, make(expires=5).to_file(), exclusive=False)
    seal(path, ToRecipient(FIRST.public()))
    with pytest.raises(CapabilityError, match="expired"):
        load_capability(path, unlock=ANY)
    unseal(path, ANY)


def test_what_makes_no_sense_is_said(path):
    with pytest.raises(UsageError, match="not sealed"):
        unseal(path, ANY)
    with pytest.raises(UsageError, match="not sealed"):
        reseal(path, ANY, ToRecipient(FIRST.public()))
    seal(path, ToRecipient(FIRST.public()))
    with pytest.raises(UsageError, match="sealed already"):
        seal(path, ToRecipient(FIRST.public()))
    with pytest.raises(MissingFile):
        seal(path.parent / "nowhere", ToRecipient(FIRST.public()))


def test_the_doors_key_is_refused_and_so_is_what_is_no_file_of_ours(path):
    write_server_key(path.parent / "server.key", SERVER)
    with pytest.raises(UsageError, match="doors' key"):
        read_secret_file(path.parent / "server.key")
    for text in (b"", b"{}", b"[]", b"\xff", b'{"format": "x"}', b'{"format": 7}', b'{"format": ["a"]}'):
        write_private(path, text, exclusive=False)
        with pytest.raises(CapabilityError):
            read_secret_file(path)


def test_a_file_that_others_can_read_is_neither_sealed_nor_unsealed(path):
    os.chmod(path, 0o644)
    with pytest.raises(PrivateFileError):
        seal(path, ToRecipient(FIRST.public()))


def test_a_failed_way_changes_nothing(path):
    class Broken:
        def close(self, secret, subject):
            raise UsageError("no")

    before = path.read_bytes()
    with pytest.raises(UsageError):
        seal(path, Broken())
    assert path.read_bytes() == before
    seal(path, ToRecipient(FIRST.public()))
    before = path.read_bytes()
    for attempt in (lambda: reseal(path, ANY, Broken()), lambda: unseal(path, Unlocker(recipient_key=path))):
        with pytest.raises((UsageError, KeyFileError)):
            attempt()
        assert path.read_bytes() == before


def test_the_issuers_key_is_sealed_too(tmp_path):
    issuer, path = IssuerKey.generate(), tmp_path / "issuer.key"
    write_issuer_key(path, issuer)
    before = path.read_bytes()
    seal(path, ToRecipient(FIRST.public()))
    assert issuer.text not in path.read_text()
    assert read_issuer_key(path, ANY) == issuer
    reseal(path, ANY, ToRecipient(SECOND.public()))
    unseal(path, ANY)
    assert path.read_bytes() == before
    assert read_issuer_key(path) == issuer


def test_a_recipients_key_is_made_once_and_may_be_sealed(tmp_path):
    path = tmp_path / "deep" / "recipient.key"
    public = make_recipient(path)
    assert (os.stat(path).st_mode & 0o777, os.stat(path.parent).st_mode & 0o777) == (0o600, 0o700)
    assert read_recipient_key(path).public() == public
    with pytest.raises(AlreadyThere):
        make_recipient(path)
    seal(path, ByPassphrase(Passphrase.of(WORDS)))
    assert read_recipient_file(path).public_key == public
    assert read_recipient_key(path, Unlocker(passphrase=lambda: WORDS)).public() == public


def test_a_recipients_key_opens_what_was_sealed_to_it(tmp_path, path, monkeypatch):
    public = make_recipient(tmp_path / "r" / "recipient.key")
    seal(path, ToRecipient(public))
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "none"))
    with pytest.raises(SealError, match="is not there") as caught:
        load_capability(path)
    assert "SECURE_IPP_RECIPIENT" in caught.value.advice
    monkeypatch.setenv("SECURE_IPP_RECIPIENT", str(tmp_path / "r" / "recipient.key"))
    assert load_capability(path) == GOOD
    monkeypatch.delenv("SECURE_IPP_RECIPIENT")
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "r"))
    assert load_capability(path) == GOOD
    assert load_capability(path, unlock=Unlocker(recipient_key=tmp_path / "r" / "recipient.key")) == GOOD


SWEEPS = {
    "seal": (Capability, LockedCapability, lambda path: seal(path, ToRecipient(SECOND.public()))),
    "unseal": (LockedCapability, Capability, lambda path: unseal(path, ANY)),
    "reseal": (LockedCapability, LockedCapability, lambda path: reseal(path, ANY, ToRecipient(SECOND.public()))),
}


@pytest.mark.parametrize("what", SWEEPS)
def test_s13_a_kill_at_any_step_leaves_the_old_or_the_new_file(what, tmp_path):
    old_kind, new_kind, act = SWEEPS[what]
    old = GOOD.to_file() if old_kind is Capability else GOOD.with_lock(
        ToRecipient(FIRST.public()).close(GOOD.secret_key, GOOD.subject)
    ).to_file()
    path, step, kinds = tmp_path / "file.json", 0, []
    while True:
        step += 1
        assert step < 60
        for left in tmp_path.iterdir():
            left.unlink()
        write_private(path, old)
        if not killed_at(step, lambda: act(path)):
            break
        found = read_capability(path)
        changed = path.read_bytes() != old
        assert isinstance(found, new_kind if changed else old_kind)
        assert load_capability(path, unlock=ANY) == GOOD
        kinds.append(changed)
        after(path)
    assert kinds[0] is False and kinds[-1] is True and len(kinds) > 4
    assert os.listdir(tmp_path) == ["file.json"]


def after(path):
    """Whatever the dead process left beside the file: the next seal removes it."""
    if isinstance(read_capability(path), Capability):
        seal(path, ToRecipient(FIRST.public()))
    else:
        reseal(path, ANY, ToRecipient(FIRST.public()))
    assert os.listdir(path.parent) == ["file.json"]
    assert GOOD.secret_key.text.encode() not in path.read_bytes()
