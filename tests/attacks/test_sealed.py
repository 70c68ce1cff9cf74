"""A thief has the file, or may write it; a hostile file comes in (S13): the secret stays shut, and its user safe."""

import json
import os
import time

import msgspec
import pytest

from secure_ipp import limits
from secure_ipp.errors import CapabilityError, SecureIppError
from secure_ipp.keys import fields, owned
from secure_ipp.keys.capability import LockedCapability, load_capability, parse_capability, read_capability
from secure_ipp.keys.cluster_keys import init_cluster, load_issuer
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.key_files import KeyFileError, read_issuer_key, write_server_key
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import read_private, remove_private, write_private
from secure_ipp.keys.recipients import RecipientKey
from secure_ipp.keys.sealed_files import (
    ByPassphrase,
    ToRecipient,
    open_to_renew,
    seal,
    sealed_capability,
    unseal,
)
from secure_ipp.keys.sealing import SealError, WrongPassphrase, open_by_recipient
from secure_ipp.keys.unlocking import NobodyToAsk, Unlocker, refuse
from tests.attacks.canaries import Canaries
from tests.keys.test_capability import GOOD, HOLDER, ISSUER, NEXT, make

WORDS = "four words without sense"
OPENS = Unlocker(passphrase=lambda: WORDS)
RECIPIENT = RecipientKey(b"\x17" * 32)


@pytest.fixture(scope="module")
def sealed():
    return sealed_capability(GOOD, ByPassphrase(Passphrase.of(WORDS)))


@pytest.fixture(scope="module")
def sent():
    return sealed_capability(GOOD, ToRecipient(RECIPIENT.public()))


def to_recipient(locked):
    return open_by_recipient(locked.lock.sealed, locked.subject, RECIPIENT)


def test_s13_a_stolen_file_holds_no_secret_in_any_spelling(sealed, sent):
    secret = Canaries({"holder": HOLDER.secret.raw})
    assert secret.seen_in(GOOD.to_file())
    assert not secret.seen_in(sealed.to_file())
    assert not secret.seen_in(sent.to_file())


def test_s13_a_box_moved_into_another_file_opens_nothing(sealed, sent):
    """The thief may write: the user's box goes beside doors and an issuer of the thief's own, properly signed."""
    evil = make(door=("tcp://evil.example:1",), server_keys=(NEXT.public,))
    other_issuer = type(ISSUER).generate()
    evil = msgspec.structs.replace(evil, issuer_key=other_issuer.public())
    message = fields.canonical(evil, without=frozenset({"secret_key", "signature"}))
    evil = msgspec.structs.replace(evil, signature=fields.sign(other_issuer, "capability/1", message))
    assert parse_capability(evil.as_dict()).door == ("tcp://evil.example:1",)
    with pytest.raises(WrongPassphrase):
        parse_capability(json.loads(evil.with_lock(sealed.locked.lock).to_file()), unlock=OPENS)
    with pytest.raises(SealError, match="does not belong"):
        parse_capability(json.loads(evil.with_lock(sent.locked.lock).to_file()), unlock=to_recipient)


@pytest.mark.parametrize(("field", "value"), [
    ("door", ["tcp://evil.example:1"]), ("name", "eve"), ("expires", 2**40), ("server_keys", [NEXT.public.text]),
    ("rights", ["task", "direct", "admin"]), ("public_key", NEXT.public.text),
])
def test_s13_the_part_in_clear_is_as_signed_as_before(sealed, field, value):
    with pytest.raises(CapabilityError, match="changed after it was made"):
        parse_capability({**json.loads(sealed.to_file()), field: value}, unlock=refuse)


def test_s13_a_box_of_another_secret_is_refused_though_it_opens(sealed):
    """Somebody who knows the passphrase puts in another key: it is not the one that the issuer signed."""
    other = KeyPair.generate()
    box = ByPassphrase(Passphrase.of(WORDS)).close(other.secret, GOOD.subject)
    with pytest.raises(WrongPassphrase):
        parse_capability(json.loads(GOOD.with_lock(box).to_file()), unlock=OPENS)
    sent = ToRecipient(RECIPIENT.public()).close(other.secret, GOOD.subject)
    with pytest.raises(SealError):
        parse_capability(json.loads(GOOD.with_lock(sent).to_file()), unlock=to_recipient)


@pytest.mark.parametrize("cost", [
    {"memory": 2**31}, {"passes": 2**31}, {"lanes": 255}, {"memory": limits.SEAL_MOST_MEMORY_KIB, "passes": 16},
])
def test_s13_a_hostile_cost_costs_nothing(sealed, cost):
    plain = json.loads(sealed.to_file())
    begun = time.process_time()
    with pytest.raises(CapabilityError):
        parse_capability({**plain, "sealed": {**plain["sealed"], **cost}}, unlock=OPENS)
    assert time.process_time() - begun < 0.1


@pytest.mark.parametrize("cost", [{"memory": 8}, {"memory": limits.SEAL_MEMORY_KIB - 1}, {"passes": 1}])
def test_s13_a_doctored_cost_weakens_nothing(sealed, cost):
    """A file that says its passphrase is cheap is not opened, so that it is never sealed anew so cheaply."""
    plain = json.loads(sealed.to_file())
    with pytest.raises(CapabilityError):
        parse_capability({**plain, "sealed": {**plain["sealed"], **cost}}, unlock=OPENS)


def test_s13_each_try_costs_the_thief_what_it_costs_the_owner(sealed):
    begun = time.process_time()
    with pytest.raises(WrongPassphrase):
        parse_capability(json.loads(sealed.to_file()), unlock=Unlocker(passphrase=lambda: "a guess of many"))
    assert time.process_time() - begun > 0.03


def test_s13_a_sealed_file_never_falls_back_to_anything(sealed, monkeypatch):
    monkeypatch.delenv("SECURE_IPP_PASSPHRASE_FD", raising=False)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(NobodyToAsk, match="no terminal to ask at") as caught:
        parse_capability(json.loads(sealed.to_file()))
    assert "SECURE_IPP_PASSPHRASE_FD" in caught.value.advice


@pytest.fixture(scope="module")
def owners(tmp_path_factory):
    """A cluster whose issuer's key is sealed."""
    place = ClusterPlace("default", tmp_path_factory.mktemp("home"))
    os.chmod(place.home, 0o700)
    init_cluster(place, hosts=("127.0.0.1",), bind="127.0.0.1")
    issuer = load_issuer(place)
    seal(place.issuer_key, ByPassphrase(Passphrase.of(WORDS)))
    return place, issuer


def test_s13_the_issuers_key_is_sealed_and_serves_who_knows_the_passphrase(owners):
    place, issuer = owners
    assert not Canaries({"issuer": issuer.raw}).seen_in(read_private(place.issuer_key, 10_000))
    with pytest.raises(WrongPassphrase):
        load_issuer(place, unlock=Unlocker(passphrase=lambda: "not these four words"))
    assert load_issuer(place, unlock=OPENS) == issuer


def test_s13_the_issuers_box_fits_no_other_kind_of_file(owners, tmp_path):
    place, issuer = owners
    plain = json.loads(read_private(place.issuer_key, 10_000))
    for changes in (
        {"format": "secure-ipp-recipient-key/1"}, {"format": "secure-ipp-server-key/1"},
        {"secret_key": issuer.text}, {"secret_key": None}, {"extra": 1}, {"sealed": None},
    ):
        remove_private(tmp_path / "some.key")
        write_private(tmp_path / "some.key", json.dumps({**plain, **changes}).encode())
        with pytest.raises(KeyFileError):
            read_issuer_key(tmp_path / "some.key", OPENS)


def test_s19_made_here_needs_the_doors_secret_when_the_issuers_is_sealed(owners, monkeypatch):
    """What a stranger can plant, the public half with a box that nobody opens, makes no file this user's own."""
    place, _ = owners
    monkeypatch.setenv("SECURE_IPP_HOME", str(place.home))
    client = load_capability(place.client_file)
    assert owned.made_here(client)
    keep = read_private(place.server_key, 10_000)
    remove_private(place.server_key)
    try:
        assert not owned.made_here(client)
        write_server_key(place.server_key, KeyPair.generate())
        assert not owned.made_here(client)
    finally:
        write_private(place.server_key, keep, exclusive=False)
    assert owned.made_here(client)


def test_s13_the_doors_key_is_not_sealed_by_mistake(owners):
    place, _ = owners
    with pytest.raises(SecureIppError, match="when nobody is there"):
        seal(place.server_key, ByPassphrase(Passphrase.of(WORDS)))


def test_s13_a_file_that_was_open_once_leaves_nothing_beside_it(tmp_path):
    """A process that died while it wrote the secret in clear: the next seal removes what it left."""
    path = tmp_path / "file.json"
    write_private(path, GOOD.to_file())
    left = tmp_path / ".file.json.0123456789abcdef.new"
    left.write_bytes(GOOD.to_file())
    other = tmp_path / ".other.json.0123456789abcdef.new"
    other.write_bytes(b"x")
    seal(path, ToRecipient(RECIPIENT.public()))
    assert not left.exists()
    assert other.exists()
    assert isinstance(read_capability(path), LockedCapability)
    secret = Canaries({"holder": HOLDER.secret.raw})
    assert not any(secret.seen_in(one.read_bytes()) for one in tmp_path.iterdir())
    unseal(path, to_recipient)
    assert load_capability(path) == GOOD


def test_s13_a_renewed_file_is_as_sealed_as_it_was(sealed, sent, tmp_path):
    """Renewing opens a file; it does not leave it open."""
    later = make(expires=2**39)
    for number, (locked, unlock) in enumerate(((sealed, Unlocker(passphrase=lambda: WORDS)), (sent, to_recipient))):
        path = tmp_path / f"{number}.json"
        write_private(path, locked.to_file())
        if unlock is to_recipient:
            unlock.used = None
        text = open_to_renew(path, unlock).to_file(later)
        assert not Canaries({"holder": HOLDER.secret.raw}).seen_in(text)
        assert json.loads(text)["expires"] == 2**39
        assert parse_capability(text, unlock=unlock) == later
        assert json.loads(text)["sealed"]["box"] != locked.sealed.box
