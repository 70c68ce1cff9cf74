"""Attacks on the hub: by the envelope, by the question in it, and at the control socket (S10, S14, S15, S30)."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.audit import record as audit
from secure_ipp.errors import ProtocolError, Refused
from secure_ipp.hub import questions
from secure_ipp.hub.control import ControlSocket, check_peer, parse_request, peer_uid
from secure_ipp.hub.grants import LiveGrants
from secure_ipp.store.memory import MemoryStore
from secure_ipp.wire import messages
from secure_ipp.wire.codec import decode_question, encode_message
from tests.hub.engines import client, join_key, live
from tests.store.records import task_record

NOW = 1000.0
GRANTS = live(
    client("alice", "task"), client("bob", "task"), client("boss", "control"),
    client("gone", "control", expires=NOW - 1), join_key(),
)


@pytest.fixture
def store() -> MemoryStore:
    kept = MemoryStore(started=0.0)
    kept.add([task_record("alice", "hers"), task_record("bob", "his")])
    return kept


def ask_bytes(store: MemoryStore, user: str, body: bytes, grants: LiveGrants | None = GRANTS) -> questions.Reply:
    return questions.answer(messages.Forward(user, b"s" * 16, 9, body), grants, store, NOW)


def ask(store: MemoryStore, user: str, question: messages.Message, grants: LiveGrants | None = GRANTS) -> Any:
    answer = ask_bytes(store, user, encode_message(question), grants).forwarded.answer
    return answer if isinstance(answer, messages.Failure) else msgspec.msgpack.decode(answer.body)


def is_whole(store: MemoryStore) -> bool:
    return sorted(store.owners()) == ["alice", "bob"] and store.size().records == 2


# --- the envelope (S30) ----------------------------------------------------------------------------------------


def test_s30_an_envelope_inside_an_envelope_is_refused(store: MemoryStore) -> None:
    purge = encode_message(messages.PurgeRecords([], everyone=True))
    nested = encode_message(messages.Forward("boss", b"s" * 16, 9, purge))
    reply = ask_bytes(store, "alice", nested)
    assert isinstance(reply.forwarded.answer, messages.Failure)
    assert reply.forwarded.answer.code == "malformed"
    [refused] = reply.records
    assert isinstance(refused, audit.QuestionRefused)
    assert (refused.user, refused.question) == ("alice", "unreadable")
    assert is_whole(store)


@pytest.mark.parametrize(
    "message",
    [
        messages.StopController("boss"), messages.Lookup(1, "bob", ["his"]), messages.Records(1, []),
        messages.HubRoster([]), messages.AuditEvent("admitted", 0.0, {}), messages.Ask(1, b""), messages.Goodbye(),
        messages.Shutdown(1, [], controller=True), messages.EngineLeft("e", "gone"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_s30_only_questions_are_heard_inside_an_envelope(store: MemoryStore, message: messages.Message) -> None:
    reply = ask_bytes(store, "boss", encode_message(message))
    assert isinstance(reply.forwarded.answer, messages.Failure)
    assert reply.forwarded.answer.code == "malformed"


def test_s30_no_question_has_a_field_that_names_its_asker() -> None:
    for question in (messages.ResultStatus, messages.History, messages.PurgeRecords, messages.Whois):
        assert not {"user", "owner", "session", "role", "rights"} & set(question.__struct_fields__)


def test_s30_extra_fields_that_name_somebody_else_are_refused(store: MemoryStore) -> None:
    for spoofed in (["history", 0, "bob"], ["purge_records", [], False, "bob"], ["whois", "boss"]):
        answer = ask_bytes(store, "alice", msgspec.msgpack.encode(spoofed)).forwarded.answer
        assert isinstance(answer, messages.Failure)
    assert is_whole(store)


def test_s30_identity_is_the_envelope_s_alone(store: MemoryStore) -> None:
    same = messages.History()
    assert ask(store, "alice", same)["tasks"] == ["hers"]
    assert ask(store, "bob", same)["tasks"] == ["his"]


def test_s30_the_answer_goes_to_the_session_that_the_envelope_names(store: MemoryStore) -> None:
    for body in (encode_message(messages.Whois()), b"garbage"):
        forwarded = ask_bytes(store, "alice", body).forwarded
        assert forwarded.session == b"s" * 16
        assert forwarded.answer.request == 9


# --- rights, again at the hub (S14, S30) ------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["nobody", "gone", "join-key", "", "ALICE"])
@pytest.mark.parametrize(
    "question", [messages.Whois(), messages.History(), messages.ResultStatus(["hers"]), messages.PurgeRecords([])],
    ids=lambda question: type(question).__name__,
)
def test_s14_no_grant_in_force_means_no_answer(store: MemoryStore, user: str, question: messages.Message) -> None:
    answer = ask(store, user, question)
    assert isinstance(answer, messages.Failure)
    assert answer.code == "no-grant"
    assert is_whole(store)


def test_s14_an_unreadable_registry_gives_nobody_a_right(store: MemoryStore) -> None:
    answer = ask(store, "boss", messages.Whois(), grants=None)
    assert isinstance(answer, messages.Failure)
    assert answer.code == "registry"


def test_s14_purging_others_needs_control_whatever_the_scheduler_thought(store: MemoryStore) -> None:
    for tasks in ([], ["his"]):
        reply = ask_bytes(store, "alice", encode_message(messages.PurgeRecords(tasks, everyone=True)))
        assert isinstance(reply.forwarded.answer, messages.Failure)
        assert reply.records
        assert is_whole(store)
    assert ask(store, "boss", messages.PurgeRecords([], everyone=True)) == {"purged": 2}


def test_s10_a_revoked_right_is_gone_at_the_next_question(store: MemoryStore) -> None:
    purge = messages.PurgeRecords(["his"], everyone=True)
    lesser = live(client("boss", "task"), version=2)
    assert isinstance(ask(store, "boss", purge, grants=lesser), messages.Failure)
    assert isinstance(ask(store, "boss", purge, grants=live(version=3)), messages.Failure)
    assert ask(store, "boss", purge) == {"purged": 1}


# --- another's tasks (S15) --------------------------------------------------------------------------------------


def test_s15_another_s_task_is_answered_exactly_like_an_unknown_one(store: MemoryStore) -> None:
    def answer(question: messages.Message) -> bytes:
        found = ask_bytes(store, "alice", encode_message(question)).forwarded.answer
        assert isinstance(found, messages.Answer)
        return found.body

    theirs, unknown = answer(messages.ResultStatus(["his"])), answer(messages.ResultStatus(["nil"]))
    assert theirs == unknown.replace(b"nil", b"his")
    assert answer(messages.PurgeRecords(["his"])) == answer(messages.PurgeRecords(["nil"]))
    assert is_whole(store)


def test_s15_the_same_task_id_under_two_identities_stays_two_tasks(store: MemoryStore) -> None:
    store.add([task_record("alice", "same"), task_record("bob", "same")])
    assert ask(store, "alice", messages.PurgeRecords(["same"])) == {"purged": 1}
    assert ask(store, "bob", messages.ResultStatus(["same"]))["completed"] == ["same"]


def test_s15_control_alone_does_not_show_another_s_tasks(store: MemoryStore) -> None:
    assert ask(store, "boss", messages.ResultStatus(["hers", "his"]))["unknown"] == ["hers", "his"]
    assert ask(store, "boss", messages.History())["tasks"] == []


# --- the question's bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xc1", b"\x91", b"\x91\xa7history\x00", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000, b"\x80\x04\x95",
        b"\x92\xadresult_status\x91\xa1\xff", encode_message(messages.Whois()) + b"\x00",
        msgspec.msgpack.encode(["history", -1]), msgspec.msgpack.encode(["history", True]),
        msgspec.msgpack.encode(["result_status", [""]]), msgspec.msgpack.encode(["result_status", ["x" * 65]]),
        msgspec.msgpack.encode(["result_status", ["x"] * (limits.TASKS_NAMED + 1)]),
        msgspec.msgpack.encode({"tag": "whois"}), msgspec.msgpack.encode(["purge_records", [], 1]),
        msgspec.msgpack.encode(["whois"]).replace(b"whois", b"who\xffs"),
    ],
    ids=range(17),
)
def test_s30_malformed_questions_are_refused_and_change_nothing(store: MemoryStore, body: bytes) -> None:
    reply = ask_bytes(store, "boss", body)
    assert isinstance(reply.forwarded.answer, messages.Failure)
    assert reply.forwarded.answer.code == "malformed"
    assert len(reply.forwarded.answer.reason) <= limits.TEXT_CHARS
    assert is_whole(store)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_question_or_a_protocol_error(body: bytes) -> None:
    try:
        question = decode_question(body)
    except ProtocolError:
        return
    assert isinstance(question, messages.ResultStatus | messages.History | messages.PurgeRecords | messages.Whois)


TAGS = st.sampled_from(["result_status", "history", "purge_records", "whois", "forward", "lookup"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=70)
    | st.binary(max_size=70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(tag=TAGS, fields=st.lists(VALUES, max_size=4), user=st.sampled_from(["alice", "nobody", "join-key"]))
def test_any_question_has_one_answer_and_touches_nobody_else(tag: str, fields: list[Any], user: str) -> None:
    store = MemoryStore(started=0.0)
    store.add([task_record("alice", "hers"), task_record("bob", "his")])
    forwarded = ask_bytes(store, user, msgspec.msgpack.encode([tag, *fields])).forwarded
    assert forwarded.session == b"s" * 16
    assert forwarded.answer.request == 9
    assert [task for _, task in store.ids("bob")] == ["his"]
    if user != "alice":
        assert isinstance(forwarded.answer, messages.Failure)
        assert is_whole(store)


# --- the control socket (S10) ---------------------------------------------------------------------------------------


@pytest.fixture
def turned_away() -> list[str]:
    return []


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "control")


@pytest.fixture
def control(path: str, turned_away: list[str]) -> Iterator[ControlSocket]:
    served = ControlSocket(path, commands={"status": lambda _: {"cluster": "work"}}, refused=turned_away.append)
    served.open()
    yield served
    served.close()


def talk(path: str, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(path)
        received = b""
        try:
            connection.sendall(data)
            while piece := connection.recv(65536):
                received += piece
        except (BrokenPipeError, ConnectionResetError):
            pass
        return received


def test_s10_the_kernel_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()


@pytest.mark.parametrize("uid", [0, 1, 65534, 2**32 - 1])
def test_s10_another_user_is_refused_even_root(uid: int) -> None:
    with pytest.raises(Refused) as caught:
        check_peer(uid, 1000)
    assert caught.value.code == "wrong-user"


def test_s10_a_process_of_another_user_gets_no_word_and_is_reported(path: str, turned_away: list[str]) -> None:
    control = ControlSocket(path, commands={}, refused=turned_away.append, uid=os.geteuid() + 1)
    control.open()
    try:
        assert talk(path, b'{"do":"status"}\n') == b""
    finally:
        control.close()
    assert turned_away == [f"a process of user {os.geteuid()} at the control socket"]


@pytest.mark.usefixtures("control")
@pytest.mark.parametrize(
    "line",
    [
        b"", b"null", b"[]", b"{}", b'{"do":"stop"}', b'{"do":"ping","as":"boss"}', b'{"do":"ping","do":"status"}',
        b"\xff\xfe", b"[" * 4000, b'{"do":"ping"}garbage', b"\x80\x04\x95", b'{"do":["ping"]}', b'{"do":"\\ud800"}',
        b'{"do":"ping"',
    ],
    ids=range(14),
)
def test_s10_garbage_gets_an_error_line_and_the_end(path: str, line: bytes) -> None:
    [answer] = talk(path, line + b'\n{"do":"ping"}\n').splitlines()
    told = json.loads(answer)
    assert told["code"] == "malformed"
    assert json.loads(talk(path, b'{"do":"ping"}\nx\n').splitlines()[0]) == {"pid": os.getpid()}


@pytest.mark.usefixtures("control")
def test_s10_an_oversize_line_is_refused_before_it_ends(path: str) -> None:
    [answer] = talk(path, b"x" * (limits.CONTROL_LINE_BYTES + 1)).splitlines()
    assert json.loads(answer)["code"] == "too-large"


@pytest.mark.usefixtures("control")
def test_s10_many_that_say_nothing_are_ended_in_time(path: str) -> None:
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(limits.CONTROL_CONNECTIONS)]
    try:
        for connection in silent:
            connection.connect(path)
        assert json.loads(talk(path, b'{"do":"ping"}\nx\n').splitlines()[0])["pid"] == os.getpid()
    finally:
        for connection in silent:
            connection.close()


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda text: json.dumps({"do": text}).encode()))
def test_any_line_is_a_request_or_a_protocol_error(line: bytes) -> None:
    try:
        assert parse_request(line).do in ("ping", "status")
    except ProtocolError:
        pass
