"""Boxes: what opens, what does not, and that the format is what docs/sealing.md says, byte for byte."""

import hashlib
import json
import pickle

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.errors import CapabilityError, SecureIppError, UsageError
from secure_ipp.keys import base64url
from secure_ipp.keys.capability import LockedCapability, parse_capability, read_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.keys.private_files import write_private
from secure_ipp.keys.recipients import RecipientKey, RecipientPublicKey
from secure_ipp.keys.sealed_files import ByPassphrase, ToRecipient, at_least, sealed_capability
from secure_ipp.keys.sealing import (
    Cost,
    SealError,
    WrongPassphrase,
    open_by_passphrase,
    open_by_recipient,
    seal_by_passphrase,
)
from secure_ipp.keys.unlocking import NobodyToAsk, Unlocker, refuse
from tests.keys.test_capability import GOOD, HOLDER, json_values, make, shown_with_variables

WORDS = "correct horse battery staple"
PASSPHRASE = Passphrase.of(WORDS)
RECIPIENT = RecipientKey(bytes(range(32)))
SEALED = sealed_capability(GOOD, ByPassphrase(PASSPHRASE))
SENT = sealed_capability(GOOD, ToRecipient(RECIPIENT.public()))
PLAIN = json.loads(SEALED.to_file())


def changed(**fields):
    """The sealed file with another box."""
    return {**PLAIN, "sealed": {**PLAIN["sealed"], **fields}}


def given_words(words=WORDS):
    return Unlocker(passphrase=lambda: words)


# --- it goes round --------------------------------------------------------------------------------------


def test_a_passphrase_opens_what_it_sealed():
    assert parse_capability(SEALED.to_file(), unlock=given_words()) == GOOD
    assert parse_capability(PLAIN, unlock=given_words()) == GOOD


def test_a_recipient_opens_what_was_sealed_to_it():
    plain = json.loads(SENT.to_file())
    assert plain["sealed"].keys() == {"by", "suite", "recipient", "box"}
    assert parse_capability(plain, unlock=lambda locked: open_by_recipient(
        locked.lock.sealed, locked.subject, RECIPIENT)) == GOOD


def test_everything_but_the_secret_stays_in_clear():
    clear = json.loads(GOOD.to_file())
    secret = clear.pop("secret_key")
    for sealed in (SEALED, SENT):
        plain = json.loads(sealed.to_file())
        assert {name: plain[name] for name in clear} == clear
        assert plain.keys() - clear.keys() == {"sealed"}
        assert secret not in sealed.to_file().decode()


def test_a_sealed_file_is_read_without_being_opened(tmp_path):
    write_private(tmp_path / "file.json", SEALED.to_file())
    found = read_capability(tmp_path / "file.json")
    assert isinstance(found, LockedCapability)
    assert found.require_role("client").name == "ada"
    assert (found.locked.lock.by, GOOD.locked) == ("passphrase", None)
    with pytest.raises(CapabilityError, match="here the engine file"):
        found.require_role("engine")
    assert HOLDER.public.fingerprint in repr(found)


def test_two_seals_of_one_secret_have_nothing_in_common():
    again = sealed_capability(GOOD, ByPassphrase(PASSPHRASE)).sealed
    assert not {again.salt, again.nonce, again.box} & {SEALED.sealed.salt, SEALED.sealed.nonce, SEALED.sealed.box}
    assert sealed_capability(GOOD, ToRecipient(RECIPIENT.public())).sealed.box != SENT.sealed.box


# --- the format, told a second time ---------------------------------------------------------------------


def associated(plain):
    """The public part, as docs/sealing.md says it is bound: written here with nothing of the package."""
    public = {name: value for name, value in plain.items()
              if name not in ("secret_key", "sealed", "keyring", "signature")}
    text = json.dumps(public, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return b"secure-ipp sealed secret/1\0capability/1\0" + text.encode()


def test_a_box_that_was_made_by_hand_opens():
    plain, salt, nonce = GOOD.as_dict(), bytes(range(16)), bytes(range(100, 112))
    del plain["secret_key"]
    key = Argon2id(salt=salt, length=32, iterations=4, lanes=2, memory_cost=65536).derive("Zürich".encode())
    box = ChaCha20Poly1305(key).encrypt(nonce, HOLDER.secret.raw, associated(plain))
    plain["sealed"] = {
        "by": "passphrase", "kdf": "argon2id", "memory": 65536, "passes": 4, "lanes": 2,
        "salt": base64url.encode(salt), "nonce": base64url.encode(nonce), "box": base64url.encode(box),
    }
    decomposed = "Zu\u0308rich"
    assert parse_capability(json.dumps(plain).encode(), unlock=given_words(decomposed)) == GOOD


def test_fixed_randomness_makes_the_box_that_the_format_says():
    made = seal_by_passphrase(HOLDER.secret, GOOD.subject, PASSPHRASE, Cost(), randomness=lambda size: b"\x07" * size)
    key = Argon2id(salt=b"\x07" * 16, length=32, iterations=3, lanes=4, memory_cost=65536).derive(WORDS.encode())
    box = ChaCha20Poly1305(key).encrypt(b"\x07" * 12, HOLDER.secret.raw, associated(GOOD.as_dict()))
    assert (made.box, made.memory, made.passes, made.lanes) == (base64url.encode(box), 65536, 3, 4)


def test_a_recipients_box_that_was_made_by_hand_opens():
    name = b"hpke-base-x25519-hkdf-sha256-chacha20poly1305"
    info = b"secure-ipp sealed secret/1\0" + name + b"\0" + hashlib.sha256(associated(GOOD.as_dict())).digest()
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    public = X25519PublicKey.from_public_bytes(RECIPIENT.public().raw)
    box = base64url.encode(suite.encrypt(HOLDER.secret.raw, public, info=info))
    plain = json.loads(SENT.to_file())
    plain["sealed"]["box"] = box
    assert parse_capability(plain, unlock=by_recipient) == GOOD
    ours = base64url.decode(SENT.sealed.box, 80)
    secret = X25519PrivateKey.from_private_bytes(RECIPIENT.raw)
    assert suite.decrypt(ours, secret, info=info) == HOLDER.secret.raw


def by_recipient(locked, key=RECIPIENT):
    return open_by_recipient(locked.lock.sealed, locked.subject, key)


# --- what does not open ---------------------------------------------------------------------------------


def test_another_passphrase_does_not_open_it():
    with pytest.raises(WrongPassphrase, match="client file of 'ada' in cluster 'lab'") as caught:
        parse_capability(PLAIN, unlock=given_words("correct horse battery stapler"))
    assert caught.value.code == "wrong-passphrase"


def test_another_recipient_does_not_open_it():
    other = RecipientKey(b"\x01" * 32)
    with pytest.raises(SealError, match="is sealed to the recipient") as caught:
        parse_capability(json.loads(SENT.to_file()), unlock=lambda locked: by_recipient(locked, other))
    assert RECIPIENT.public().fingerprint in str(caught.value)
    assert other.fingerprint in str(caught.value)


def test_nobody_is_asked_where_nobody_is():
    with pytest.raises(NobodyToAsk):
        parse_capability(PLAIN, unlock=refuse)


@pytest.mark.parametrize("locked", [SEALED, SENT])
def test_a_file_needs_one_secret_or_one_lock(locked):
    plain = json.loads(locked.to_file())
    for wrong in (
        {**plain, "secret_key": HOLDER.secret.text}, {**plain, "secret_key": None}, {**plain, "sealed": None},
        {name: value for name, value in plain.items() if name != "sealed"},
        {**GOOD.as_dict(), "sealed": plain["sealed"]},
        {**GOOD.as_dict(), "keyring": {"service": "secure-ipp", "account": "x"}},
    ):
        with pytest.raises(CapabilityError):
            parse_capability(wrong, unlock=given_words())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("by", "password"), ("by", None), ("by", ""), ("kdf", "scrypt"), ("kdf", None), ("kdf", "argon2i"),
        ("memory", 8), ("memory", limits.SEAL_MEMORY_KIB - 1), ("memory", limits.SEAL_MOST_MEMORY_KIB + 1),
        ("memory", 2**40), ("memory", "65536"), ("memory", 65536.0), ("memory", True), ("memory", None),
        ("passes", 2), ("passes", 0), ("passes", -1), ("passes", limits.SEAL_MOST_PASSES + 1), ("passes", 2**63),
        ("lanes", 0), ("lanes", limits.SEAL_MOST_LANES + 1), ("lanes", None),
        ("salt", ""), ("salt", "A" * 21), ("salt", "A" * 23), ("salt", "!" * 22), ("salt", "A" * 21 + "B"),
        ("nonce", "A" * 15), ("nonce", "A" * 5000), ("nonce", None), ("box", "A" * 63), ("box", "A" * 65), ("box", ""),
        ("box", ["A"]), ("extra", 1), ("command", "x"),
    ],
)
def test_s8_each_field_of_a_box_is_read_strictly(field, value):
    with pytest.raises(CapabilityError) as caught:
        parse_capability(changed(**{field: value}), unlock=refuse)
    assert str(caught.value).count("\n") == 1


def test_s13_no_file_makes_its_reader_work_without_end():
    dear = changed(memory=limits.SEAL_MOST_MEMORY_KIB, passes=limits.SEAL_MOST_PASSES)
    with pytest.raises(CapabilityError, match="cost is more than"):
        parse_capability(dear, unlock=refuse)


@pytest.mark.parametrize(
    ("field", "value"),
    [("suite", "hpke-null"), ("suite", None), ("recipient", "A" * 42), ("recipient", 7), ("recipient", "recipient:x"),
     ("box", "A" * 106), ("box", ""), ("box", None), ("by", "passphrase"), ("memory", 65536)],
)
def test_s8_each_field_of_a_recipients_box_is_read_strictly(field, value):
    plain = json.loads(SENT.to_file())
    plain["sealed"][field] = value
    with pytest.raises(CapabilityError):
        parse_capability(plain, unlock=refuse)


@pytest.mark.parametrize(
    "keyring",
    [
        None, {}, {"service": "secure-ipp"}, {"service": "secure-ipp", "account": "secret.capability.other"},
        {"service": "https://bank.example", "account": "ada"}, {"service": "secure-ipp", "account": 7},
        {"service": "secure-ipp", "account": GOOD.subject.entry("passphrase").account},
        {"service": "secure-ipp", "account": GOOD.subject.entry("secret").account, "backend": "os.system"},
    ],
)
def test_s13_a_file_names_no_entry_but_its_own(keyring):
    plain = {name: value for name, value in PLAIN.items() if name != "sealed"}
    with pytest.raises(CapabilityError):
        parse_capability({**plain, "keyring": keyring}, unlock=refuse)


def test_a_file_may_name_its_own_entry():
    plain = {name: value for name, value in PLAIN.items() if name != "sealed"}
    entry = GOOD.subject.entry("secret")
    with pytest.raises(NobodyToAsk):
        parse_capability({**plain, "keyring": {"service": entry.service, "account": entry.account}}, unlock=refuse)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from([*PLAIN["sealed"], "x"]), json_values | st.binary(max_size=5), max_size=4))
def test_a_changed_box_is_refused_or_the_same(changes):
    try:
        parse_capability(changed(**changes), unlock=refuse, now=0.0)
    except (CapabilityError, NobodyToAsk):
        pass


@settings(max_examples=200)
@given(st.integers(0, len(SEALED.to_file()) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_bytes_are_refused_or_locked(at, put, cut):
    text = SEALED.to_file()
    with pytest.raises((CapabilityError, NobodyToAsk)):
        parse_capability(text[:at] + put + text[at + cut :], unlock=refuse, now=0.0)


@settings(max_examples=100)
@given(st.binary(min_size=80, max_size=80))
def test_any_bytes_in_a_recipients_box_are_an_error(data):
    plain = json.loads(SENT.to_file())
    plain["sealed"]["box"] = base64url.encode(data)
    with pytest.raises(SealError):
        parse_capability(plain, unlock=by_recipient)


# --- costs, passphrases, recipients ---------------------------------------------------------------------


@pytest.mark.parametrize("values", [(8, 3, 4), (65536, 1, 4), (65536, 3, 0), (65536, 3, 5), (2**21, 3, 4),
                                    (2**20, 5, 4), (65536, 17, 4)])
def test_no_cost_is_below_the_least_or_beyond_the_greatest(values):
    with pytest.raises(ValueError):
        Cost(*values)


def test_sealing_anew_never_costs_less_than_before():
    dear = msgspec.structs.replace(SEALED, sealed=msgspec.structs.replace(SEALED.sealed, memory=131072))
    assert at_least(Cost(), dear) == Cost(131072)
    assert at_least(Cost(262144), dear) == Cost(262144)
    assert at_least(Cost(), SEALED) == at_least(Cost(), SENT) == at_least(Cost(), GOOD) == Cost()


@pytest.mark.parametrize("text", ["", "a\nb", "a\tb", "\x00", "x" * (limits.PASSPHRASE_CHARS + 1), "\ud800"])
def test_what_is_no_passphrase_is_refused(text):
    with pytest.raises(UsageError) as caught:
        Passphrase.of(text)
    if len(text) > 1:
        assert text not in str(caught.value)


def test_a_short_passphrase_seals_nothing():
    with pytest.raises(UsageError, match="at least"):
        Passphrase.of("x" * (limits.NEW_PASSPHRASE_CHARS - 1)).check_new()
    assert Passphrase.of("x" * limits.NEW_PASSPHRASE_CHARS).check_new()


@given(st.text(max_size=30))
def test_any_text_is_a_passphrase_or_a_documented_error(text):
    try:
        assert Passphrase.of(text) == Passphrase.of(text)
    except SecureIppError:
        pass


@pytest.mark.parametrize("secret", [PASSPHRASE, RECIPIENT])
def test_s11_secrets_show_nothing_and_are_not_pickled(secret):
    for text in (repr(secret), str(secret), f"{secret}", repr([secret])):
        assert WORDS not in text
        assert base64url.encode(RECIPIENT.raw) not in text
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        hash(secret)
    with pytest.raises(AttributeError):
        secret._text = "x"


def test_a_recipients_word_goes_round_and_nothing_else_is_one():
    word = RECIPIENT.public().word
    assert RecipientPublicKey.of_word(word) == RECIPIENT.public()
    for wrong in ("", "recipient:", word + "A", word[:-1], word.upper(), KeyPair.generate().public.text, " " + word):
        with pytest.raises(UsageError, match="a recipient is named by"):
            RecipientPublicKey.of_word(wrong)


@pytest.mark.parametrize("words", ["correct horse battery stapled", "x" * 2000])
def test_s11_no_traceback_of_a_wrong_passphrase_holds_it(words):
    with pytest.raises(SecureIppError) as caught:
        parse_capability(PLAIN, unlock=Unlocker(passphrase=lambda: words))
    shown = shown_with_variables(caught.value)
    assert words not in shown
    assert words[:20] not in shown


def test_s13_a_box_does_not_open_beside_another_public_part():
    other = make(door=("tcp://evil.example:1",))
    assert open_by_passphrase(SEALED.sealed, GOOD.subject, PASSPHRASE) == HOLDER.secret
    with pytest.raises(WrongPassphrase):
        open_by_passphrase(SEALED.sealed, other.subject, PASSPHRASE)
    with pytest.raises(SealError, match="does not belong there"):
        open_by_recipient(SENT.sealed, other.subject, RECIPIENT)
