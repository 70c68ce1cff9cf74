"""Keys whose secret never travels: request, approve, accept, and every way to make them mean something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.errors import CapabilityError, PrivateFileError, SecureIppError, UsageError
from secure_ipp.keys import fields
from secure_ipp.keys.accepting import accept
from secure_ipp.keys.capability import dump_capability, load_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.desk import Desk
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.orders import make_order
from secure_ipp.keys.pending import read_pending
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import AlreadyThere, MissingFile
from secure_ipp.keys.registry import Registry, RegistryError
from secure_ipp.keys.renewal import renew_by_answer, rotate_by_request
from secure_ipp.keys.requests import (
    PURPOSE,
    Request,
    RequestError,
    approve,
    check_fingerprint,
    make_request,
    parse_answer,
    parse_request,
    read_request,
)
from secure_ipp.keys.ways import make_ways
from tests.keys.desks import files, names, new_desk

NOW = 1_900_000_000.0


@pytest.fixture
def desk(place: ClusterPlace) -> Desk:
    return new_desk(place)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    path = tmp_path / "collaborator"
    path.mkdir(mode=0o700)
    return path


def ask(theirs: Path, name: str = "ada.request", **wish: Any) -> Request:
    values = {"name": "ada", "role": "client", "rights": ("task",), "now": NOW, **wish}
    return make_request(theirs / name, **values)[0]


def order(name: str = "ada", **values: Any) -> Any:
    return make_order(name, now=NOW, **values)


def grant_it(desk: Desk, theirs: Path, answer: str = "ada.answer", request: str = "ada.request", **values: Any) -> Any:
    return approve(desk, read_request(theirs / request), order(**values), theirs / answer, NOW)


def everything_in(*directories: Path) -> bytes:
    return b"".join(path.read_bytes() for one in directories for path in one.rglob("*") if path.is_file())


def test_the_secret_stays_where_it_was_made(desk: Desk, theirs: Path, tmp_path: Path) -> None:
    request = ask(theirs)
    secret = read_pending(theirs / "ada.request.key").secret
    travels = tmp_path / "mail"
    travels.mkdir()
    (travels / "ada.request").write_bytes((theirs / "ada.request").read_bytes())
    issued = approve(desk, read_request(travels / "ada.request"), order(expires="7d"), tmp_path / "ada.answer", NOW)
    (travels / "ada.answer").write_bytes((tmp_path / "ada.answer").read_bytes())
    assert secret.text.encode() not in everything_in(travels, desk.place.dir)
    accepted = accept(travels / "ada.answer", theirs / "ada.json", key=theirs / "ada.request.key", now=NOW)
    file = load_capability(theirs / "ada.json", now=NOW)
    assert file == accepted.capability and file.secret_key == secret
    assert Registry.load(desk.place).named("ada") == issued.grant
    assert (issued.grant.key, issued.grant.signing_key) == (request.public_key, request.signing_key)
    assert issued.grant.signing_key == HolderKey.of(secret).public()
    assert files(theirs) == ["ada.json", "ada.request"] and accepted.removed.endswith("ada.request.key")


def test_the_owner_decides_whatever_is_wished(desk: Desk, theirs: Path) -> None:
    ask(theirs, name="wish.request", rights=("task", "control", "admin"))
    issued = grant_it(desk, theirs, request="wish.request", expires="1d", quotas="tasks=5")
    file = accept(theirs / "ada.answer", theirs / "ada.json", now=NOW).capability
    assert file.rights == issued.grant.rights == ("task", "direct")
    assert file.expires == issued.grant.expires == int(NOW) + 86400


def test_an_engine_host_may_ask_too(desk: Desk, theirs: Path) -> None:
    ask(theirs, role="engine", rights=("join",))
    with pytest.raises(UsageError, match="role"):
        grant_it(desk, theirs)
    issued = grant_it(desk, theirs, role="engine", joins=1)
    assert accept(theirs / "ada.answer", theirs / "lab.json", now=NOW).capability.role == "engine"
    assert issued.grant.signing_key is None


def test_a_request_overwrites_nothing_and_leaves_nothing(theirs: Path) -> None:
    (theirs / "ada.request").write_text("mine")
    with pytest.raises(AlreadyThere):
        ask(theirs)
    assert files(theirs) == ["ada.request"]
    (theirs / "ben.request.key").write_text("mine")
    with pytest.raises(AlreadyThere):
        ask(theirs, "ben.request")
    assert files(theirs) == ["ada.request", "ben.request.key"]
    with pytest.raises(SecureIppError):
        ask(theirs, "nowhere/x")


def test_the_key_file_is_private_and_of_its_kind(theirs: Path) -> None:
    ask(theirs)
    path = theirs / "ada.request.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(PrivateFileError):
        read_pending(path)
    path.chmod(0o600)
    path.write_text("{}")
    with pytest.raises(SecureIppError) as caught:
        read_pending(path)
    assert caught.value.code == "key-file"


REQUEST_KEYS = KeyPair.generate()


def signed(**changes: Any) -> Request:
    holder = HolderKey.of(REQUEST_KEYS.secret)
    values: dict[str, Any] = {
        "format": "secure-ipp-request/1", "role": "client", "name": "ada", "rights": ("task",), "made": 5,
        "public_key": REQUEST_KEYS.public, "signing_key": holder.public(), "signature": "", **changes,
    }
    draft = Request(**values)
    message = fields.canonical(draft, without=frozenset({"signature"}))
    return msgspec.structs.replace(draft, signature=fields.sign(holder, PURPOSE, message))


TEXT = fields.to_file(signed())


def test_a_request_goes_round() -> None:
    assert parse_request(TEXT) == signed()


@pytest.mark.parametrize("changes", [
    {"name": "eve"}, {"rights": ("admin",)}, {"role": "engine"}, {"public_key": KeyPair.generate().public},
    {"signing_key": HolderKey.generate().public()}, {"made": 6},
])
def test_a_changed_request_is_nobodys(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        parse_request(fields.to_file(msgspec.structs.replace(signed(), **changes)))


@pytest.mark.parametrize(
    "changes", [{"rights": ("join",)}, {"rights": ("root",)}, {"role": "engine"}, {"name": "../x"}]
)
def test_a_signed_request_for_what_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        parse_request(fields.to_file(signed(**changes)))


@given(st.one_of(st.binary(max_size=300), st.builds(
    lambda at, put, cut: TEXT[:at] + put + TEXT[at + cut :], st.integers(0, len(TEXT)), st.binary(max_size=3),
    st.integers(0, 3),
)))
def test_any_bytes_are_the_request_or_a_documented_error(data: bytes) -> None:
    try:
        assert parse_request(data) == signed()
    except RequestError as error:
        assert error.advice


def test_files_that_came_are_bounded_and_regular(theirs: Path) -> None:
    (theirs / "long").write_bytes(TEXT + b" " * 20_000)
    for path in (theirs / "long", theirs, Path("/dev/zero")):
        with pytest.raises(RequestError):
            read_request(path)
    with pytest.raises(MissingFile):
        read_request(theirs / "none")
    (theirs / "open").write_bytes(TEXT)
    (theirs / "open").chmod(0o644)  # a request is no secret
    assert read_request(theirs / "open") == signed()


def test_a_fingerprint_that_was_told_must_be_the_keys() -> None:
    found = REQUEST_KEYS.fingerprint
    check_fingerprint(f" {found}\n", found)
    for told in ("", found[:-1], KeyPair.generate().fingerprint):
        with pytest.raises(UsageError) as caught:
            check_fingerprint(told, found)
        assert caught.value.code == "fingerprint"


def test_a_key_is_granted_once(desk: Desk, theirs: Path) -> None:
    ask(theirs)
    grant_it(desk, theirs)
    with pytest.raises(RegistryError) as caught:
        grant_it(desk, theirs, "second.answer", name="ben")
    assert caught.value.code == "key-reused" and "second.answer" not in files(theirs)
    assert names(desk.place) == ["owner", "engines", "ada"]


# --- answers ----------------------------------------------------------------------------------------------------


def test_an_answer_needs_the_secret_that_it_is_for(desk: Desk, theirs: Path, tmp_path: Path) -> None:
    ask(theirs)
    grant_it(desk, theirs)
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    ask(other)
    (other / "ada.answer").write_bytes((theirs / "ada.answer").read_bytes())
    with pytest.raises(RequestError) as caught:
        accept(other / "ada.answer", other / "ada.json", now=NOW)
    assert caught.value.code == "no-secret"
    with pytest.raises(RequestError, match="is for key"):
        accept(other / "ada.answer", other / "ada.json", key=other / "ada.request.key", now=NOW)
    assert files(other) == ["ada.answer", "ada.request", "ada.request.key"]


def test_the_issuer_must_be_the_one_expected(desk: Desk, theirs: Path) -> None:
    ask(theirs)
    issued = grant_it(desk, theirs)
    with pytest.raises(RequestError) as caught:
        accept(theirs / "ada.answer", theirs / "ada.json", issuer=KeyPair.generate().fingerprint, now=NOW)
    assert caught.value.code == "issuer" and "ada.json" not in files(theirs)
    assert accept(theirs / "ada.answer", theirs / "ada.json", issuer=issued.issuer, now=NOW).capability.name == "ada"


@pytest.mark.parametrize("changes", [
    {"rights": ["admin"]}, {"expires": 0}, {"door": ["tcp://192.0.2.1:99"]}, {"cluster": "eve"}, {"curve": False},
    {"secret_key": KeyPair.generate().secret.text}, {"public_key": 7}, {"more": 1}, {"signature": "A" * 86},
])
def test_an_answer_changed_on_its_way_is_refused(desk: Desk, theirs: Path, changes: dict[str, Any]) -> None:
    ask(theirs)
    grant_it(desk, theirs, expires="7d")
    plain = json.loads((theirs / "ada.answer").read_bytes())
    plain["capability"].update(changes)
    (theirs / "ada.answer").write_text(json.dumps(plain))
    with pytest.raises((RequestError, CapabilityError)):
        accept(theirs / "ada.answer", theirs / "ada.json", now=NOW)
    assert files(theirs) == ["ada.answer", "ada.request", "ada.request.key"]


@given(st.binary(max_size=200) | st.dictionaries(
    st.sampled_from(["format", "capability", "x"]),
    st.sampled_from(["secure-ipp-answer/1", 1, None, {}, {"public_key": "x"},
                     {"public_key": REQUEST_KEYS.public.text}]),
).map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_answer_or_a_documented_error(data: bytes) -> None:
    try:
        key, public = parse_answer(data)
    except RequestError:
        return
    assert key == REQUEST_KEYS.public and "secret_key" not in public


def test_an_answer_goes_over_no_other_file(desk: Desk, theirs: Path) -> None:
    ask(theirs)
    grant_it(desk, theirs)
    (theirs / "own.json").write_bytes(dump_capability(load_capability(desk.place.client_file)))
    (theirs / "own.json").chmod(0o600)
    (theirs / "note.txt").write_text("mine")
    (theirs / "note.txt").chmod(0o600)
    for name in ("own.json", "note.txt"):
        before = (theirs / name).read_bytes()
        with pytest.raises(SecureIppError):
            accept(theirs / "ada.answer", theirs / name, now=NOW)
        assert (theirs / name).read_bytes() == before
    assert "ada.request.key" in files(theirs)


# --- renewal and rotation ---------------------------------------------------------------------------------------


def test_a_renewal_is_accepted_onto_the_old_file(desk: Desk, theirs: Path) -> None:
    ask(theirs)
    grant_it(desk, theirs, expires="1d")
    old = accept(theirs / "ada.answer", theirs / "ada.json", now=NOW).capability
    renew_by_answer(desk, "ada", int(NOW) + 10**6, theirs / "renewed", ways=make_ways(ssh="ada@gate.example"), now=NOW)
    later = NOW + 2 * 86400  # its old end is past
    accepted = accept(theirs / "renewed", theirs / "ada.json", now=later)
    file = load_capability(theirs / "ada.json", now=later)
    assert accepted.renewed and file.secret_key == old.secret_key
    assert (file.expires, file.ssh) == (int(NOW) + 10**6, "ada@gate.example")


def test_a_renewal_by_another_issuer_is_refused(
    desk: Desk, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask(theirs)
    grant_it(desk, theirs, expires="1d")
    accept(theirs / "ada.answer", theirs / "ada.json", now=NOW)
    before = (theirs / "ada.json").read_bytes()
    attacker = new_desk(ClusterPlace("default", tmp_path / "attacker"))
    approve(attacker, request, order(), theirs / "false.answer", NOW)
    with pytest.raises(RequestError) as caught:
        accept(theirs / "false.answer", theirs / "ada.json", now=NOW)
    assert caught.value.code == "issuer" and (theirs / "ada.json").read_bytes() == before


def test_a_holder_may_make_its_next_key_itself(desk: Desk, theirs: Path) -> None:
    ask(theirs)
    old = grant_it(desk, theirs, quotas="tasks=3").grant
    request = ask(theirs, "next.request")
    new = rotate_by_request(desk, "ada", request, theirs / "next.answer", now=NOW).grant
    assert (new.id, new.key, new.quotas) == (old.id, request.public_key, old.quotas)
    assert Registry.load(desk.place).retired == (old.key,)
    assert accept(theirs / "next.answer", theirs / "next.json", now=NOW).capability.public_key == new.key
    with pytest.raises(UsageError):
        rotate_by_request(desk, "engines", request, theirs / "x", now=NOW)


def test_s11_no_error_shows_a_secret(desk: Desk, theirs: Path) -> None:
    ask(theirs)
    secret = read_pending(theirs / "ada.request.key").secret.text
    path = theirs / "ada.request.key"
    path.write_bytes(path.read_bytes().replace(b'"format"', b'"farmat"'))
    try:
        read_pending(path)
    except SecureIppError as error:
        trace, shown = error.__traceback__, [str(error)]
        while trace is not None:
            if "tests" not in trace.tb_frame.f_code.co_filename:
                shown.append(repr(trace.tb_frame.f_locals))
            trace = trace.tb_next
        assert not any(secret in text for text in shown)
    else:
        pytest.fail("it was read")
