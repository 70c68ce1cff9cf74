"""Functions: named by their digest, kept while a live task names them, apart for each owner."""

from __future__ import annotations

import pytest

from secure_ipp import limits
from secure_ipp.errors import Refused
from secure_ipp.scheduler.functions import Functions
from secure_ipp.wire import messages
from tests.scheduler.world import World, code_of

CODE = b"def f(): ..."
DIGEST = code_of(CODE)


def test_a_digest_that_is_not_its_own_is_refused() -> None:
    functions = Functions()
    with pytest.raises(Refused) as caught:
        functions.put("alice", DIGEST, b"other code")
    assert caught.value.code == "digest"
    assert functions.get("alice", DIGEST) is None


def test_one_owner_has_nothing_of_anothers() -> None:
    functions = Functions()
    functions.put("alice", DIGEST, CODE)
    assert functions.get("bob", DIGEST) is None
    functions.forget("alice")
    assert functions.get("alice", DIGEST) is None and not functions._sizes


def test_what_no_task_names_makes_room_the_oldest_first() -> None:
    functions = Functions(bytes_per_owner=100)
    codes = [bytes([number]) * 30 for number in range(6)]
    for code in codes[:3]:
        functions.put("o", code_of(code), code)
    functions.hold("o", code_of(codes[0]))
    functions.put("o", code_of(codes[1]), codes[1])  # used again
    functions.put("o", code_of(codes[3]), codes[3])
    assert [functions.get("o", code_of(code)) is not None for code in codes[:4]] == [True, True, False, True]
    for code in (codes[1], codes[3]):
        functions.hold("o", code_of(code))
    for _ in range(3):
        with pytest.raises(Refused) as caught:
            functions.put("o", code_of(codes[4]), codes[4])
        assert caught.value.code == "quota"
    functions.release("o", code_of(codes[0]))
    functions.put("o", code_of(codes[4]), codes[4])
    assert functions._sizes["o"] == 90


def test_a_function_reaches_each_engine_once_before_its_first_task() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.say(messages.Function(DIGEST, CODE))
    client.submit("a", function=DIGEST)
    client.submit("b", function=DIGEST)
    kinds = [type(m) for m in engine.sink.got if isinstance(m, messages.EngineFunction | messages.Assign)]
    assert kinds == [messages.EngineFunction, messages.Assign, messages.Assign]
    engine.drain()
    assert not world.core.board.functions._held


def test_a_function_that_was_dropped_is_asked_for_and_order_is_kept() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.direct(["a"], [engine.id], function=DIGEST)
    client.direct(["b"], [engine.id])
    client.submit("c")
    assert engine.tasks == [] and [m.digest for m in client.sink.of(messages.NeedFunction)] == [DIGEST]
    client.say(messages.Function(DIGEST, CODE))
    assert engine.drain() == ["a", "b", "c"]


def test_abort_of_the_task_that_waits_for_its_function_lets_the_others_go_on() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.direct(["a", "a2"], [engine.id] * 2, function=DIGEST)
    client.submit("b")
    client.direct(["c", "d"], [engine.id] * 2)
    client.say(messages.Abort(1, ["a", "a2", "d"]))
    assert [client.status_of(task) for task in ("a", "a2", "d")] == ["aborted"] * 3
    assert sorted(engine.drain()) == ["b", "c"]
    assert client.peer.charges == {}


def test_too_many_functions_end_tasks_and_not_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(world.core.board.functions, "_limit", 20)
    (engine,) = world.engines(1)
    client = world.client()
    other = b"another function"
    client.say(messages.Function(DIGEST, CODE))
    client.submit("a", function=DIGEST)
    client.say(messages.Function(code_of(other), other))
    client.submit("b", function=code_of(other))
    client.submit("c")
    client.say(messages.Function(code_of(other), other))
    assert client.error_of("b") == "QuotaExceeded"
    assert engine.drain() == ["a", "c"]


def test_an_engine_that_dropped_a_function_gets_it_again() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.say(messages.Function(DIGEST, CODE))
    client.submit("a", function=DIGEST)
    engine.say(messages.EngineNeedsFunction("alice", DIGEST))
    assert len(engine.sink.of(messages.EngineFunction)) == 2


def test_what_was_sent_to_an_engine_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FUNCTIONS_SENT", 5)
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    for number in range(20):
        code = b"%d" % number
        client.say(messages.Function(code_of(code), code))
        client.submit(f"t{number}", function=code_of(code))
        engine.finish()
    sim = world.core.board.engines.by_uuid(engine.uuid)
    assert sim is not None and len(sim.functions) == 5


def test_functions_go_with_the_last_session() -> None:
    world = World()
    (engine,) = world.engines(1)
    client = world.client()
    client.say(messages.Function(DIGEST, CODE))
    client.submit("a", function=DIGEST)
    client.leave()
    assert world.core.board.functions.get("alice", DIGEST) == CODE
    engine.drain()
    world.client().leave()
    assert world.core.board.functions.get("alice", DIGEST) is None
