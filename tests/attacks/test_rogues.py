"""Rogue clients at a real, running cluster (S5, S8, S10, S14, S15, S18, S30).

Each holds a file that was issued to it, keeps to the handshake and breaks the rest.  Each test sees the refusal, the
incident on record where it is one, and an honest client's work going on all the while.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import msgspec
import psutil
import pytest

import secure_ipp as ipp
from secure_ipp import limits
from secure_ipp.keys.capability import Capability
from secure_ipp.wire import messages
from secure_ipp.wire.codec import decode_greeting_reply, encode_message
from tests.attacks.rogue import Rogue, Rogues, Trail, grant_id, issue, revoke, undisturbed
from tests.running import RunningCluster, wait_until

pytestmark = pytest.mark.live
HONEST = [0, 1]


@pytest.fixture(scope="module")
def town() -> Iterator[RunningCluster]:
    """A cluster of this module's own: what is issued here is issued to rogues."""
    cluster = RunningCluster(engines=2)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def honest(town: RunningCluster) -> Any:
    client = town.client()
    client.wait_for_engines(2, timeout=30)
    return client


@pytest.fixture(scope="module")
def mallory(town: RunningCluster, honest: Any) -> Capability:
    """A second identity, with what a collaborator has."""
    return issue(town.place, ("task", "direct"))


@pytest.fixture
def rogues(town: RunningCluster, honest: Any) -> Iterator[Rogues]:
    rogues = Rogues(town)
    with undisturbed(town, honest, HONEST):
        yield rogues
        rogues.close()


@pytest.fixture
def trail(town: RunningCluster) -> Trail:
    return Trail(town.place)


def ask(rogue: Rogue, request: int, body: bytes) -> Any:
    rogue.say(messages.Ask(request, body))
    return rogue.hear((messages.Answer, messages.Failure), lambda m: m.request == request)


def question(rogue: Rogue, request: int, message: messages.Message) -> Any:
    answer = ask(rogue, request, encode_message(message))
    return msgspec.msgpack.decode(answer.body) if isinstance(answer, messages.Answer) else answer


def slow_secret(secret: str, seconds: float) -> str:
    import time

    print(secret)
    time.sleep(seconds)
    return secret


# --- another's tasks ------------------------------------------------------------------------------------------


def test_s15_another_identitys_task_is_out_of_reach(rogues: Rogues, honest: Any, mallory: Capability) -> None:
    """Attach, abort, pull, credit, received and chunks: as if there were no such task."""
    task = honest[0].apply_async(slow_secret, "the-owners-word", 1.5)
    known, unknown = task.msg_ids[0], os.urandom(8).hex()
    rogue = rogues.of(mallory).come_in()
    answers = []
    for number, task_id in enumerate((known, unknown)):
        rogue.say(
            messages.Attach([task_id]), messages.Pull(task_id), messages.Credit(task_id, 1 << 20),
            messages.Received([task_id]), messages.Abort(number, [task_id]),
        )
        rogue.say(messages.Chunk(task_id, 0), frame=b"x")
        abort = rogue.hear(messages.Answer, lambda m, n=number: m.request == n)
        outcomes = [rogue.hear(messages.Outcome, lambda m, t=task_id, k=k: m.task == t and m.known == k)
                    for k in (False, True)]
        answers.append([str(found).replace(task_id, "ID") for found in (abort.body, *outcomes)])
    assert answers[0] == answers[1], "another's id must be answered exactly like an unknown one"
    assert question(rogue, 7, messages.ResultStatus([known, unknown]))["unknown"] == [known, unknown]
    assert question(rogue, 8, messages.History())["tasks"] == []
    status = question_status(rogue, 9)
    assert not any(engine["queue"] for engine in status["engines"].values()) and not status["unassigned"]
    assert task.get(30) == "the-owners-word"
    assert "the-owners-word" not in str(rogue.seen)
    assert not rogue.all(messages.Output) and not rogue.all(messages.Display)


def question_status(rogue: Rogue, request: int) -> Any:
    rogue.say(messages.QueueStatus(request, [], True))
    return msgspec.msgpack.decode(rogue.hear(messages.Answer, lambda m: m.request == request).body)


def test_s15_a_second_identity_sees_nothing_of_the_first(
    rogues: Rogues, town: RunningCluster, honest: Any, mallory: Capability
) -> None:
    """The same through the client that everybody uses."""
    done = honest[1].apply_async(slow_secret, "a-finished-word", 0)
    assert done.get(20) == "a-finished-word"
    running = honest[0].apply_async(slow_secret, "a-running-word", 1.0)
    with ipp.Client(str(town.place.dir / f"{mallory.name}.json"), timeout=20) as other:
        for task in (done, running):
            with pytest.raises(KeyError):
                other.result_status(task.msg_ids)
            with pytest.raises(Exception) as caught:
                other.get_result(task.msg_ids[0], block=False).get(10)
            assert "word" not in str(caught.value)
        assert not set(other.hub_history()) & {*done.msg_ids, *running.msg_ids}
        assert all(not entry["queue"] for key, entry in other.queue_status(verbose=True).items() if key != "unassigned")
        other.abort(running.msg_ids)
        other.purge_hub_results("all")
        assert other[1].apply_sync(pow, 2, 3) == 8
    assert running.get(20) == "a-running-word"
    assert honest.get_result(done.msg_ids[0]).get(20) == "a-finished-word"


def test_s15_one_task_id_of_two_identities_is_two_tasks(rogues: Rogues, honest: Any, mallory: Capability) -> None:
    task = honest[0].apply_async(slow_secret, "mine", 1.0)
    same = task.msg_ids[0]
    rogue = rogues.of(mallory).come_in()
    rogue.say(messages.Direct([same], [1], "execute", b"", [b"1 + 1", b"{}"], [], 0.0))
    outcome = rogue.hear(messages.Outcome, lambda m: m.task == same)
    assert outcome.engine == 1 and outcome.known
    assert task.get(20) == "mine"


# --- rights ---------------------------------------------------------------------------------------------------


def test_s14_without_control_nobody_signals_stops_or_purges(
    rogues: Rogues, town: RunningCluster, trail: Trail, mallory: Capability
) -> None:
    rogue = rogues.of(mallory).come_in()
    for number, message in enumerate((
        messages.Signal(0, [], 9), messages.Signal(1, HONEST, 2), messages.Shutdown(2, []),
        messages.Shutdown(3, HONEST, False, True), messages.Shutdown(4, [], True),
    )):
        rogue.say(message)
        failure = rogue.hear(messages.Failure, lambda m, n=number: m.request == n)
        assert failure.code == "no-right" and "control" in failure.reason
    purge = question(rogue, 9, messages.PurgeRecords([], True))
    assert isinstance(purge, messages.Failure) and purge.code == "no-right"
    trail.wait("forbidden", user=grant_id(town.place, mallory.name), message="Signal")
    trail.wait("question_refused", user=grant_id(town.place, mallory.name), question="PurgeRecords")
    assert not [line for line in trail.lines() if line["event"] == "stop_asked"]


@pytest.mark.parametrize("has, lacks", [("task", "direct"), ("direct", "task")])
def test_s14_one_right_is_not_another(
    rogues: Rogues, town: RunningCluster, trail: Trail, honest: Any, has: str, lacks: str
) -> None:
    capability = issue(town.place, (has,))
    rogue = rogues.of(capability).come_in()
    code = [b"raise SystemExit", b"{}"]
    said = {
        "direct": messages.Direct(["a", "b"], HONEST, "execute", b"", code, [], 0.0),
        "task": messages.Submit("a", "execute", b"", code, [], 0.0),
    }
    rogue.say(said[lacks])
    outcome = rogue.hear(messages.Outcome, lambda m: m.task == "a")
    assert outcome.status == "error" and outcome.error.ename == "Refused" and lacks in outcome.error.evalue
    trail.wait("forbidden", user=grant_id(town.place, capability.name))


def test_s10_a_right_that_was_taken_away_is_gone_at_the_next_message(
    rogues: Rogues, town: RunningCluster, trail: Trail
) -> None:
    """Rights are those of the live grant; a session that lost its grant is cut."""
    capability = issue(town.place, ("task", "direct"))
    rogue = rogues.of(capability).come_in()
    assert question(rogue, 1, messages.Whois())["rights"] == ["task", "direct"]
    revoke(town.place, capability)
    assert rogue.refused().code in ("revoked", "key-refused")
    again = rogues.of(capability)
    assert again.refused().code == "key-refused" and again.welcome is None
    trail.wait("gate", door="client", status="400", reason="unknown key")


# --- questions for the hub ------------------------------------------------------------------------------------


def forgeries(owner: str) -> list[bytes]:
    asked = encode_message(messages.History())
    nested = encode_message(messages.Forward(owner, b"", 1, asked))
    record = messages.TaskRecord(
        owner, "apply", b"", "direct", "",
        messages.Outcome("forged", "ok", 0, "", 0.0, 0.0, 0.0, [b"forged"], []), b"",
    )
    return [
        nested, encode_message(messages.Forward(owner, b"", 1, nested)),
        encode_message(messages.Records(1, [record])), encode_message(messages.StopController(owner)),
        encode_message(messages.AuditEvent("admitted", 0.0, {"user": owner})), encode_message(messages.HubRoster([])),
        encode_message(messages.Lookup(1, owner, ["forged"])), b"", b"\xc1", os.urandom(500),
        b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", msgspec.msgpack.encode(["history", 0, owner]),
        msgspec.msgpack.encode(["whois", owner]), bytes(limits.FRAME_BYTES - 64),
    ]


def test_s30_nothing_but_a_question_is_heard_inside_a_question(
    rogues: Rogues, town: RunningCluster, trail: Trail, honest: Any, mallory: Capability
) -> None:
    rogue = rogues.of(mallory).come_in()
    owner = grant_id(town.place, rogues.owner.name)
    for number, body in enumerate(forgeries(owner)):
        assert isinstance(ask(rogue, number, body), messages.Failure), body[:40]
    trail.wait("question_refused", user=grant_id(town.place, mallory.name))
    assert "forged" not in honest.hub_history()
    assert question(rogue, 99, messages.Whois())["name"] == mallory.name, "the session goes on"


def test_s18_questions_without_end_are_answered_or_refused_each(rogues: Rogues, mallory: Capability) -> None:
    rogue = rogues.of(mallory).come_in()
    body, count = encode_message(messages.History()), 3 * limits.QUESTIONS
    rogue.say(*(messages.Ask(number, body) for number in range(count)))
    wait_until(lambda: len(rogue.all(messages.Answer)) + len(rogue.all(messages.Failure)) == count, 30)
    assert {failure.code for failure in rogue.all(messages.Failure)} <= {"quota"}


# --- floods ---------------------------------------------------------------------------------------------------


def test_s18_tasks_beyond_the_quota_end_the_session_alone(
    rogues: Rogues, town: RunningCluster, trail: Trail, mallory: Capability
) -> None:
    rogue = rogues.of(mallory).come_in()
    digest = hashlib.sha256(b"never sent").digest()
    rogue.say(*(
        messages.Submit(f"t{number}", "apply", digest, [], [], 0.0) for number in range(2 * limits.OWNER_TASKS + 2)
    ))
    assert rogue.refused().code == "quota"
    trail.wait("cut", user=grant_id(town.place, mallory.name), code="quota")
    rogues.of(mallory).come_in()  # the identity may come back, and starts from nothing
    status = question_status(rogues.of(mallory).come_in(), 1)
    assert len(status["unassigned"]) == 0


def test_s18_functions_beyond_the_quota_take_no_memory(
    rogues: Rogues, town: RunningCluster, mallory: Capability
) -> None:
    scheduler = psutil.Process(town.pids()["scheduler"])
    before = scheduler.memory_info().rss
    rogue = rogues.of(mallory).come_in()
    for number in range(3 * limits.FUNCTIONS_PER_OWNER_BYTES // limits.FUNCTION_BYTES):
        code = number.to_bytes(8, "big") * (limits.FUNCTION_BYTES // 8)
        rogue.say(messages.Function(hashlib.sha256(code).digest(), code))
    assert question(rogue, 1, messages.Whois())["name"] == mallory.name
    grown = scheduler.memory_info().rss - before
    assert grown < 2 * limits.FUNCTIONS_PER_OWNER_BYTES, f"{grown / limits.MIB:.0f} MiB"


def test_s15_a_poisoned_digest_ends_the_session(
    rogues: Rogues, town: RunningCluster, trail: Trail, mallory: Capability
) -> None:
    rogue = rogues.of(mallory).come_in()
    rogue.say(messages.Function(hashlib.sha256(b"what others use").digest(), b"something else"))
    assert rogue.refused().code == "digest"
    trail.wait("cut", user=grant_id(town.place, mallory.name), code="digest")


def test_s18_tiny_packets_that_are_never_read_back_disturb_nobody(rogues: Rogues, mallory: Capability) -> None:
    raw = rogues.raw(mallory)
    decode_greeting_reply(raw.greet("client"))
    for number in range(1, 30_001):
        raw.send(raw.packet(number=number))


@pytest.mark.parametrize(
    "frames",
    [
        [b""], [b"\x93"], [os.urandom(2000)], [bytes(limits.FRAME_BYTES)], [b"packet"] * 70,
        [b"\x93\xcf" + b"\xff" * 8 + b"\xcf" + b"\0" * 8 + b"\xdd\xff\xff\xff\xff"],
    ],
    ids=["empty", "short", "random", "large", "many frames", "huge array"],
)
def test_s5_garbage_ends_its_connection_alone(
    rogues: Rogues, town: RunningCluster, trail: Trail, mallory: Capability, frames: list[bytes]
) -> None:
    raw = rogues.raw(mallory)
    raw.greet("client")
    raw.send(*frames)
    trail.wait("cut", door="client", user=grant_id(town.place, mallory.name), code="malformed")


# --- roles and sessions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["agent", "engine", "scheduler", "probe"])
def test_s5_a_client_that_says_it_is_something_else_is_refused(
    rogues: Rogues, town: RunningCluster, trail: Trail, mallory: Capability, role: str
) -> None:
    rogue = rogues.of(mallory, role)
    assert rogue.refused().code == "role" and rogue.welcome is None
    trail.wait("cut", door="client", user=grant_id(town.place, mallory.name), code="role")


def test_s12_a_client_file_opens_no_engine_door(rogues: Rogues, trail: Trail, mallory: Capability) -> None:
    for role in ("agent", "engine", "client"):
        rogue = rogues.of(mallory, role, doors=rogues.host.door, patience=2.0)
        rogue.refused()
        assert rogue.welcome is None
    trail.wait("gate", door="engine", reason="unknown key")


def test_s5_another_identitys_session_is_not_resumed(
    rogues: Rogues, town: RunningCluster, trail: Trail, mallory: Capability
) -> None:
    """Even with its token, which is told to nobody else."""
    victim = rogues.of(rogues.owner).come_in()
    assert victim.welcome is not None
    raw = rogues.raw(mallory)
    hello = messages.Hello(limits.PROTOCOL, "client", ipp.__version__, "3.11.0", resume=victim.welcome.session)
    raw.send(encode_message(hello))
    reply = decode_greeting_reply(raw.hear())
    assert isinstance(reply, messages.Refusal) and reply.code == "identity"
    trail.wait("cut", user=grant_id(town.place, mallory.name), code="identity")
    assert question(victim, 1, messages.Whois())["name"] == rogues.owner.name and not victim.lost
