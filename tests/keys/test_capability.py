"""Capability files: what is accepted, and that everything else is one documented error that shows no secret."""

import base64
import copy
import json
import os
import pickle
import subprocess
import sys
import traceback

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.errors import CapabilityError
from secure_ipp.keys import fields
from secure_ipp.keys.capability import (
    Capability,
    dump_capability,
    load_capability,
    parse_capability,
    sign_capability,
)
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.private_files import MissingFile, write_private

ISSUER, SERVER, NEXT, HOLDER = IssuerKey.generate(), KeyPair.generate(), KeyPair.generate(), KeyPair.generate()


def make(**changes):
    values = {
        "cluster": "lab", "cluster_id": "A" * 22, "role": "client", "name": "ada", "rights": ("task", "direct"),
        "expires": 0, "server_keys": (SERVER.public,), "door": ("tcp://127.0.0.1:25001", "tcp://[fe80::1]:25001"),
    }
    return sign_capability(ISSUER, keys=HOLDER, **{**values, **changes})


GOOD = make()


def test_it_goes_round():
    assert parse_capability(dump_capability(GOOD)) == GOOD
    assert parse_capability(GOOD.as_dict()) == GOOD
    assert parse_capability(json.dumps(GOOD.as_dict(), indent=7).encode()) == GOOD


def test_what_it_holds():
    assert GOOD.keys == HOLDER
    assert GOOD.server_key == SERVER.public
    assert make(server_keys=(SERVER.public, NEXT.public)).server_key == SERVER.public
    assert GOOD.door == ("tcp://127.0.0.1:25001", "tcp://[fe80::1]:25001")
    assert json.loads(dump_capability(GOOD)).keys() == {
        "format", "cluster", "cluster_id", "role", "name", "rights", "expires", "server_keys", "issuer_key",
        "public_key", "secret_key", "door", "ssh", "curve", "signature",
    }


def test_s11_it_shows_and_pickles_no_secret():
    rich = repr(list(GOOD.__rich_repr__()))
    for text in (repr(GOOD), str(GOOD), f"{GOOD}", repr([GOOD]), rich):
        assert HOLDER.secret.text not in text
        assert HOLDER.public.fingerprint in text
    with pytest.raises(TypeError):
        pickle.dumps(GOOD)
    with pytest.raises(TypeError):
        msgspec.json.encode(GOOD)  # nothing writes it by accident
    assert copy.deepcopy(GOOD) == GOOD


def test_the_role_is_checked_with_advice():
    assert GOOD.require_role("client") is GOOD
    with pytest.raises(CapabilityError, match="here the engine file is needed") as caught:
        GOOD.require_role("engine")
    assert "ipcontroller-engine.json" in caught.value.advice
    engine = make(role="engine", rights=("join",))
    with pytest.raises(CapabilityError, match="here the client file is needed") as caught:
        engine.require_role("client")
    assert "ipcontroller-client.json" in caught.value.advice


@pytest.mark.parametrize(("now", "good"), [(0, True), (1999.9, True), (2000, False), (2e9, False)])
def test_expiry(now, good):
    data = dump_capability(make(expires=2000))
    if good:
        assert parse_capability(data, now=now).expires == 2000
        return
    with pytest.raises(CapabilityError, match="expired on 1970-01-01 00:33:20 UTC") as caught:
        parse_capability(data, now=now)
    assert caught.value.code == "capability-expired"
    assert "new one" in caught.value.advice


def test_the_clock_is_used_when_no_time_is_given():
    with pytest.raises(CapabilityError, match="expired"):
        parse_capability(dump_capability(make(expires=1)))
    assert parse_capability(dump_capability(make(expires=2**40)))


OTHER = {
    "cluster": "other", "cluster_id": "B" * 22, "role": "engine", "name": "eve", "rights": ["task", "direct", "admin"],
    "expires": 5, "server_keys": [NEXT.public.text], "issuer_key": IssuerKey.generate().public().text,
    "public_key": NEXT.public.text, "door": ["tcp://evil.example:1"], "ssh": "eve@evil.example",
    "signature": "A" * 86, "secret_key": NEXT.secret.text, "curve": False,
}


@pytest.mark.parametrize("field", OTHER)
def test_every_field_is_protected(field):
    with pytest.raises(CapabilityError):
        parse_capability({**GOOD.as_dict(), field: OTHER[field]}, now=0)


def test_keys_of_another_holder_cannot_be_put_in():
    with pytest.raises(CapabilityError):
        parse_capability({**GOOD.as_dict(), "public_key": NEXT.public.text, "secret_key": NEXT.secret.text})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "secure-ipp-capability/2"), ("format", 1), ("format", ["secure-ipp-capability/1"]),
        ("cluster", "../up"), ("cluster", ""), ("cluster", None), ("cluster", "A"), ("cluster", "a\n"),
        ("cluster_id", "A" * 21), ("role", "admin"), ("role", "Client"), ("name", "x" * 65), ("name", "a\x1b[2J"),
        ("rights", ["root"]), ("rights", ["task", "task"]), ("rights", ["join"]), ("rights", "task"), ("rights", None),
        ("rights", ["task"] * 17), ("expires", -1), ("expires", 1.5), ("expires", "never"), ("expires", None),
        ("expires", True), ("expires", 2**63), ("server_keys", []), ("server_keys", [SERVER.public.text] * 3),
        ("server_keys", [SERVER.public.text + "="]), ("server_keys", SERVER.public.text), ("public_key", None),
        ("secret_key", HOLDER.secret.text[:-1]), ("secret_key", 7), ("secret_key", ""),
        ("door", []), ("door", ["tcp://*:1"]), ("door", ["ipc:///tmp/x"]), ("door", ["tcp://a:0"]),
        ("door", ["tcp://a:65536"]), ("door", ["tcp://a:1;tcp://b:2"]), ("door", ["tcp://a:1/x"]),
        ("door", ["tcp://user@a:1"]), ("door", ["tcp://a:01"]), ("door", ["tcp://-o:1"]), ("door", ["tcp://[a]:1"]),
        ("door", ["tcp://a:1\n"]), ("door", "tcp://a:1"), ("door", ["tcp://a:1"] * 33), ("door", ["pgm://a:1"]),
        ("ssh", "-oProxyCommand=x"), ("ssh", "a b"), ("ssh", "u@h;rm"), ("ssh", "u@h:99999"), ("ssh", None),
        ("curve", None), ("curve", 1), ("signature", ""), ("signature", "!" * 86),
    ],
)
def test_s8_each_field_is_read_strictly(field, value):
    with pytest.raises(CapabilityError) as caught:
        parse_capability({**GOOD.as_dict(), field: value})
    assert caught.value.advice
    assert str(caught.value).count("\n") == 1
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["command", "sshcmd", "x\x1b[31m", "X" * 5000, "sealed", ""])
def test_s8_unknown_fields_are_refused_and_shown_harmlessly(name):
    with pytest.raises(CapabilityError) as caught:
        parse_capability({**GOOD.as_dict(), name: "x"})
    assert len(str(caught.value)) < 600
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("missing", GOOD.as_dict())
def test_s8_no_field_may_be_missing(missing):
    plain = GOOD.as_dict()
    del plain[missing]
    with pytest.raises(CapabilityError):
        parse_capability(plain)


TEXT = dump_capability(GOOD)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"[]", b"{}", b"7", b"\xff", TEXT + b"x", TEXT + TEXT, TEXT[:-3], b"\xef\xbb\xbf" + TEXT,
        TEXT.replace(b'"expires": 0', b'"expires": NaN'), TEXT.replace(b'"expires": 0', b'"expires": 0, "expires": 0'),
        TEXT.replace(b'"expires": 0', b'"expires": ' + b"9" * 5000), b"[" * 60000,
        b'{"a":' * 10000, b" " * 70000 + TEXT,
        TEXT.decode().encode("utf-16"),
    ],
)
def test_s8_bytes_are_read_strictly(data):
    with pytest.raises(CapabilityError):
        parse_capability(data)


@pytest.mark.parametrize("data", [None, "text", 7, [], bytearray(TEXT), [("format", "x")], {1: 2}, {None: b""}])
def test_what_is_no_bytes_and_no_mapping_is_refused(data):
    with pytest.raises(CapabilityError):
        parse_capability(data)


IPYPARALLEL = [
    {"ssh": "", "interface": "tcp://127.0.0.1", "registration": 41, "control": 42, "key": "a-b", "location": "node",
     "pack": "json", "unpack": "json", "signature_scheme": "hmac-sha256"},
    {"key": "x", "url": "tcp://127.0.0.1:5000", "ssh": "", "curve_serverkey": "y"},
]


@pytest.mark.parametrize("plain", IPYPARALLEL)
def test_a_file_of_ipyparallel_is_called_by_its_name(plain):
    with pytest.raises(CapabilityError, match="of ipyparallel") as caught:
        parse_capability(json.dumps(plain).encode())
    assert caught.value.code == "capability-ipyparallel"
    assert "secure-ipp keys init" in caught.value.advice


def test_a_later_format_says_which_version_is_needed():
    with pytest.raises(CapabilityError, match="capability/9") as caught:
        parse_capability({**GOOD.as_dict(), "format": "secure-ipp-capability/9"})
    assert caught.value.code == "capability-version"


SOCKET = "ipc:///home/ada/.secure-ipp/lab/run/client.door"
HOST_KEYS = tuple(f"SHA256:{letter * 42}A" for letter in "AB/")


def signed_again(**changes):
    """The issuer's own signature over what `sign_capability` would refuse."""
    draft = msgspec.structs.replace(GOOD, **changes)
    message = fields.canonical(draft, without=frozenset({"secret_key", "signature"}))
    return msgspec.structs.replace(draft, signature=fields.sign(ISSUER, "capability/1", message)).as_dict()


@pytest.mark.parametrize("doors", [GOOD.door, (SOCKET, "tcp://127.0.0.1:25001"), ("tcp://[::1]:1",)])
def test_s25_a_plain_connection_over_tcp_is_refused_by_name(doors):
    with pytest.raises(CapabilityError, match="a plain connection") as caught:
        parse_capability(signed_again(curve=False, door=doors))
    assert caught.value.code == "no-curve"


def test_s25_without_curve_there_are_sockets_and_nothing_else():
    made = parse_capability(dump_capability(make(curve=False, door=(SOCKET,))))
    assert (made.curve, made.tcp_doors, made.socket_doors) == (False, (), (SOCKET,))
    with pytest.raises(CapabilityError, match="names none"):
        parse_capability(signed_again(door=(SOCKET,)))


def test_s25_beside_curve_sockets_are_doors_too():
    made = parse_capability(dump_capability(make(door=(*GOOD.door, SOCKET))))
    assert made.tcp_doors == GOOD.door and made.socket_doors == (SOCKET,)
    assert make().socket_doors == ()


def test_what_is_not_said_of_ssh_does_not_stand_in_the_file_nor_under_the_signature():
    """So a file of an earlier time keeps its signature."""
    assert not {"ssh_host_keys", "post_quantum"} & json.loads(dump_capability(GOOD)).keys()
    assert b"post_quantum" not in fields.canonical(GOOD, without=frozenset())
    made = make(ssh="ada@login.example", ssh_host_keys=HOST_KEYS, post_quantum=True)
    read = parse_capability(dump_capability(made))
    assert (read.ssh_host_keys, read.post_quantum) == (HOST_KEYS, True)
    for field in ("ssh_host_keys", "post_quantum"):
        plain = made.as_dict()
        del plain[field]
        with pytest.raises(CapabilityError, match="changed after"):
            parse_capability(plain)


@pytest.mark.parametrize("door", [
    "ipc://relative", "ipc://", "ipc:///", "ipc:///a/", "ipc:////a", "ipc:///a//b", "ipc:///a/../b", "ipc:///..",
    "ipc:///a/./b", "ipc:///a b", "ipc:///a\n", "ipc:///a\x00b", "ipc:///a\x1b[2J", "ipc:///a%h", "ipc:///a:b",
    "ipc:///$HOME/x", "ipc:///a;x", "ipc:///`x`", "ipc:///~/x", "ipc:///\u00e4", "ipc://@abstract", "ipc:/a", "IPC:///a",
    "ipc:///a?x", "ipc:///a*", "ipc:///'a'", 'ipc:///"a"', "ipc:///a\\b", "ipc:///" + "a" * 107, "unix:///a", "/a",
])
def test_s22_the_path_of_a_door_is_one_plain_path(door):
    with pytest.raises(CapabilityError) as caught:
        make(door=(*GOOD.door, door))
    assert caught.value.advice and "\x1b" not in str(caught.value)


def test_s22_a_path_may_be_as_long_as_a_socket_s():
    assert make(door=(*GOOD.door, "ipc:///" + "a" * 106)).socket_doors


@pytest.mark.parametrize("keys", [
    ["SHA256:" + "A" * 42], ["SHA256:" + "A" * 44], ["SHA256:" + "A" * 43 + "="], ["SHA256:" + "A" * 42 + "B"],
    ["MD5:" + "A" * 43], ["sha256:" + "A" * 43], ["SHA256:" + "A" * 42 + "\n"], [" SHA256:" + "A" * 43], "SHA256", None,
    ["SHA256:" + "A" * 43] * 2, [f"SHA256:{'A' * 41}{chr(65 + n)}A" for n in range(limits.SSH_HOST_KEYS + 1)], [7],
    ["SHA256:" + "A" * 41 + "-A"], ["-oProxyCommand=x"],
])
def test_s22_a_fingerprint_is_one_as_ssh_keygen_prints_it(keys):
    with pytest.raises(CapabilityError):
        parse_capability({**GOOD.as_dict(), "ssh_host_keys": keys})


plain_text = st.text(alphabet=st.sampled_from([*"aZ09_.,+=@-/:%~ \\'\"$;\n\x00\u00e4"]), max_size=40)


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=60), plain_text.map("ipc://".__add__), plain_text.map("ipc:///".__add__)))
def test_any_text_is_a_door_or_no_door(text):
    """What is one is a path that the system takes as it is written, and whose words no ssh option takes for others."""
    try:
        assert fields.check_door(text) == text
    except ValueError:
        return
    if fields.is_socket_door(text):
        path = fields.socket_path(text)
        assert os.path.isabs(path) and os.path.normpath(path) == path and len(os.fsencode(path)) <= 107
        assert not set(path) & set(" :%~\\'\"$;\n\x00") and path.isascii() and path.isprintable()


of_bytes = st.binary(max_size=40).map(lambda raw: "SHA256:" + base64.b64encode(raw).decode())


@given(st.one_of(st.text(max_size=60), of_bytes, of_bytes.map(lambda text: text.rstrip("="))))
def test_any_text_is_a_fingerprint_or_none(text):
    """What is one is 32 bytes, in their one spelling."""
    try:
        assert fields.check_host_key(text) == text
    except ValueError:
        return
    raw = base64.b64decode(text.removeprefix("SHA256:") + "=", validate=True)
    assert len(raw) == 32 and text == "SHA256:" + base64.b64encode(raw).decode().rstrip("=")


@given(st.binary(min_size=32, max_size=32))
def test_every_fingerprint_is_taken(raw):
    assert fields.check_host_key("SHA256:" + base64.b64encode(raw).decode().rstrip("="))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from([*GOOD.as_dict(), "x"]), json_values | st.binary(max_size=5), max_size=4))
def test_a_changed_capability_is_refused_or_the_same(changes):
    try:
        assert parse_capability({**GOOD.as_dict(), **changes}, now=0.0) == GOOD
    except CapabilityError:
        pass


@settings(max_examples=300)
@given(st.integers(0, len(TEXT) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_bytes_are_refused_or_the_same(at, put, cut):
    try:
        assert parse_capability(TEXT[:at] + put + TEXT[at + cut :], now=0.0) == GOOD
    except CapabilityError:
        pass


@given(st.binary(max_size=200))
def test_any_bytes_raise_capability_errors_only(data):
    with pytest.raises(CapabilityError):
        parse_capability(data)


def shown_with_variables(error):
    """What IPython's verbose tracebacks show: the variables of every frame of the package, and of all causes."""
    texts, seen = [], error
    while seen is not None:
        captured = traceback.TracebackException(type(seen), seen, seen.__traceback__, capture_locals=True)
        texts += [f"{frame.line} {frame.locals}" for frame in captured.stack if "secure_ipp/" in frame.filename]
        texts.append(str(seen))
        seen = seen.__cause__ or seen.__context__
    return "\n".join(texts)


FLAWS = [
    {"expires": -1}, {"door": ["x"]}, {"signature": "A" * 86}, {"expires": 1}, {"extra": 1},
    {"public_key": NEXT.public.text}, {"secret_key": HOLDER.secret.text + "A"}, {"format": "x"},
]


@pytest.mark.parametrize("flaw", FLAWS)
def test_s11_no_traceback_of_a_refusal_holds_the_secret(flaw, tmp_path):
    data = json.dumps({**GOOD.as_dict(), **flaw}).encode()
    write_private(tmp_path / "file.json", data)
    for refuse in (lambda: parse_capability(data), lambda: load_capability(tmp_path / "file.json")):
        with pytest.raises(CapabilityError) as caught:
            refuse()
        assert HOLDER.secret.text[:20] not in shown_with_variables(caught.value)


def test_a_file_is_loaded_and_named_in_errors(tmp_path):
    path = tmp_path / "file.json"
    with pytest.raises(MissingFile, match="is not there"):
        load_capability(path)
    write_private(path, TEXT)
    assert load_capability(path) == GOOD
    assert load_capability(str(path)) == GOOD
    write_private(path, TEXT + b"x", exclusive=False)
    with pytest.raises(CapabilityError, match=str(path)):
        load_capability(path)


def test_a_file_that_is_too_long_is_not_read(tmp_path):
    path = tmp_path / "file.json"
    write_private(path, b" " * (limits.CAPABILITY_BYTES + 1))
    with pytest.raises(Exception, match="longer than"):
        load_capability(path)


@pytest.mark.parametrize(
    "changes", [{"rights": ("root",)}, {"cluster": "X"}, {"door": ()}, {"ssh": "-x"}, {"curve": False}]
)
def test_nothing_is_signed_that_would_not_be_read(changes):
    with pytest.raises(CapabilityError):
        make(**changes)


def test_the_signature_covers_the_purpose():
    plain = GOOD.as_dict()
    message = fields.canonical(GOOD, without=frozenset({"secret_key", "signature"}))
    with pytest.raises(CapabilityError, match="changed after"):
        parse_capability({**plain, "signature": fields.sign(ISSUER, "grant/1", message)})


def test_importing_it_loads_no_cryptography():
    code = "import sys, secure_ipp.keys.capability, secure_ipp.keys.owned; print('cryptography' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}, timeout=60,
    )
    assert result.stdout.strip() == "False"


def test_it_is_frozen():
    with pytest.raises(AttributeError):
        GOOD.role = "engine"
    assert isinstance(GOOD, Capability)
