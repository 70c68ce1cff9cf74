"""Curve keys: their form, what they show, what they refuse."""

import copy
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.keys import base64url
from secure_ipp.keys.curve import CurvePublicKey, CurveSecretKey, KeyPair
from secure_ipp.keys.issuer import BadSignature, IssuerKey, IssuerPublicKey

# RFC 7748, section 6.1: Bob's pair
BOB_SECRET = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")


def test_the_public_half_is_that_of_rfc_7748():
    assert CurveSecretKey(BOB_SECRET).public().raw == BOB_PUBLIC


def test_a_generated_pair_belongs_together_and_is_new():
    one, two = KeyPair.generate(), KeyPair.generate()
    assert one.secret.public() == one.public
    assert one.public != two.public


def test_text_goes_round():
    pair = KeyPair.generate()
    assert len(pair.public.text) == 43
    assert CurvePublicKey.from_text(pair.public.text) == pair.public
    assert CurveSecretKey.from_text(pair.secret.text) == pair.secret


def test_keys_of_different_kinds_are_never_equal():
    assert CurvePublicKey(BOB_SECRET) != CurveSecretKey(BOB_SECRET)
    assert IssuerPublicKey(BOB_PUBLIC) != CurvePublicKey(BOB_PUBLIC)


@pytest.mark.parametrize("kind", [CurveSecretKey, IssuerKey])
def test_s11_a_secret_shows_in_no_text(kind):
    secret = kind(BOB_SECRET)
    shown = repr(secret) + str(secret) + f"{secret}" + repr([secret]) + repr(getattr(secret, "__dict__", ""))
    assert secret.fingerprint in shown
    for spelling in (BOB_SECRET.hex(), secret.text, repr(BOB_SECRET)[2:-1]):
        assert spelling not in shown
    assert secret.fingerprint == secret.public().fingerprint


def test_s11_a_pair_shows_fingerprints_only():
    pair = KeyPair.generate()
    assert pair.secret.text not in repr(pair)
    assert pair.public.fingerprint in repr(pair)


@pytest.mark.parametrize("value", [CurveSecretKey(BOB_SECRET), CurvePublicKey(BOB_PUBLIC), IssuerKey(BOB_SECRET)])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_s11_keys_are_not_pickled(value, protocol):
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(value, protocol)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KeyPair.from_secret(CurveSecretKey(BOB_SECRET)), protocol)


def test_a_key_does_not_change():
    key = CurvePublicKey(BOB_PUBLIC)
    with pytest.raises(AttributeError):
        key._raw = BOB_SECRET
    with pytest.raises(AttributeError):
        del key._raw
    with pytest.raises(AttributeError):
        key.other = 1
    assert copy.deepcopy(key) is key
    assert copy.copy(key) is key


def test_a_secret_is_no_key_of_a_table():
    with pytest.raises(TypeError):
        hash(CurveSecretKey(BOB_SECRET))
    assert CurvePublicKey(BOB_PUBLIC) in {CurvePublicKey(BOB_PUBLIC)}


@pytest.mark.parametrize("raw", [b"", b"x" * 31, b"x" * 33, bytearray(32), "x" * 32, None])
def test_a_key_has_32_bytes(raw):
    with pytest.raises(ValueError, match="32 bytes"):
        CurvePublicKey(raw)


@given(st.text(max_size=60))
def test_reading_a_text_gives_the_same_text_or_a_value_error(text):
    try:
        key = CurveSecretKey.from_text(text)
    except ValueError as error:
        assert len(text) < 4 or text not in str(error)
    else:
        assert key.text == text


@given(st.binary(min_size=32, max_size=32), st.integers(1, 3))
def test_one_value_has_one_text(raw, bits):
    text = base64url.encode(raw)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = text[:-1] + alphabet[alphabet.index(text[-1]) | bits]
    if other != text:
        with pytest.raises(ValueError):
            base64url.decode(other, 32)


@pytest.mark.parametrize(
    "change", [lambda t: t + "=", lambda t: " " + t[1:], lambda t: t[:-1] + "\n", lambda t: "+" + t[1:]]
)
def test_text_is_read_strictly_and_not_quoted(change):
    text = change(KeyPair.generate().secret.text)
    with pytest.raises(ValueError) as caught:
        CurveSecretKey.from_text(text)
    assert text.strip("= \n") not in "".join(traceback.format_exception(caught.value))


def test_the_issuer_signs_for_one_purpose():
    issuer = IssuerKey.generate()
    signature = issuer.sign("grant/1", b"text")
    issuer.public().verify("grant/1", b"text", signature)
    for purpose, message, by in [
        ("registry/1", b"text", issuer),
        ("grant/1", b"text2", issuer),
        ("grant/1", b"text", IssuerKey.generate()),
    ]:
        with pytest.raises(BadSignature):
            by.public().verify(purpose, message, signature)
    for bad in (b"", signature[:-1], signature + b"\0", bytes(64)):
        with pytest.raises(BadSignature):
            issuer.public().verify("grant/1", b"text", bad)


def test_a_purpose_cannot_run_into_the_message():
    issuer = IssuerKey.generate()
    with pytest.raises(ValueError):
        issuer.sign("grant\0", b"x")
